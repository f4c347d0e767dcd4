//! The integration tests: everything here goes through the public interface, on real file
//! systems. One binary, so that it links once.
//!
//! `DURAFILE_TEST_DIR` moves all test directories to another file system; a test that the
//! machine cannot run says `SKIPPED`, and fails instead when `DURAFILE_REQUIRE_ALL` is set.

mod support;

#[cfg(target_os = "linux")]
mod adaptive;
#[cfg(target_os = "linux")]
mod batch;
#[cfg(target_os = "linux")]
mod cancel;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_adaptive;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_case;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_conformance;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_dirs;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_faults;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_kill;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_mutants;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_proof;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_random;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_sets;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash_table;
#[cfg(target_os = "linux")]
mod dir_calls;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod dir_meanwhile;
#[cfg(target_os = "linux")]
mod dir_model;
#[cfg(target_os = "linux")]
mod dir_overlay;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod dir_random;
#[cfg(target_os = "linux")]
mod dir_rules;
#[cfg(target_os = "linux")]
mod dir_scale;
#[cfg(target_os = "linux")]
mod dir_snapshot;
mod dir_writers;
#[cfg(target_os = "linux")]
mod filesystems;
#[cfg(target_os = "linux")]
mod full_disks;
#[cfg(target_os = "linux")]
mod full_recovery;
#[cfg(target_os = "linux")]
mod health;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod hostile_removal;
#[cfg(target_os = "linux")]
mod hostile_trees;
#[cfg(target_os = "linux")]
mod lock;
#[cfg(target_os = "linux")]
mod lock_limits;
#[cfg(target_os = "linux")]
mod marks;
#[cfg(target_os = "linux")]
mod operations;
mod portable;
mod portable_dirs;
mod portable_killed;
#[cfg(windows)]
mod portable_windows;
#[cfg(target_os = "linux")]
mod property;
#[cfg(target_os = "linux")]
mod quotas;
mod races;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod random_programs;
#[cfg(target_os = "linux")]
mod recover_hostile;
#[cfg(target_os = "linux")]
mod rules_content;
mod rules_errors;
#[cfg(target_os = "linux")]
mod rules_links;
#[cfg(target_os = "linux")]
mod rules_machine;
#[cfg(target_os = "linux")]
mod rules_metadata;
#[cfg(target_os = "linux")]
mod rules_paths;
#[cfg(target_os = "linux")]
mod rules_xattrs;
#[cfg(target_os = "linux")]
mod save_program;
#[cfg(target_os = "linux")]
mod set_calls;
#[cfg(target_os = "linux")]
mod set_kill;
#[cfg(all(feature = "signals", target_os = "linux"))]
mod signals;
#[cfg(target_os = "linux")]
mod single_flush;
#[cfg(target_os = "linux")]
mod strace;
// The same files in both builds: once is enough.
#[cfg(feature = "crash_testing")]
mod tidy;
#[cfg(target_os = "linux")]
mod trace;
#[cfg(target_os = "linux")]
mod trace_faults;
#[cfg(target_os = "linux")]
mod transaction;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod transaction_crash;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod transaction_meanwhile;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod transaction_random;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod transaction_record;
