//! The integration tests: everything here goes through the public interface, on real file
//! systems. One binary, so that it links once.
//!
//! `DURAFILE_TEST_DIR` moves all test directories to another file system; a test that the
//! machine cannot run says `SKIPPED`, and fails instead when `DURAFILE_REQUIRE_ALL` is set.
#![cfg(target_os = "linux")]
// Clippy allows it in tests, but not in what they share.
#![allow(clippy::unwrap_used)]

mod support;

mod batch;
mod cancel;
#[cfg(feature = "crash_testing")]
mod crash_case;
#[cfg(feature = "crash_testing")]
mod crash_conformance;
#[cfg(feature = "crash_testing")]
mod crash_dirs;
#[cfg(feature = "crash_testing")]
mod crash_faults;
#[cfg(feature = "crash_testing")]
mod crash_kill;
#[cfg(feature = "crash_testing")]
mod crash_mutants;
#[cfg(feature = "crash_testing")]
mod crash_proof;
#[cfg(feature = "crash_testing")]
mod crash_random;
#[cfg(feature = "crash_testing")]
mod crash_sets;
#[cfg(feature = "crash_testing")]
mod crash_table;
mod dir_calls;
mod dir_model;
mod dir_overlay;
mod dir_rules;
mod dir_scale;
mod dir_snapshot;
mod dir_writers;
mod filesystems;
mod full_disks;
mod health;
mod hostile;
mod hostile_trees;
mod lock;
mod lock_limits;
mod marks;
mod operations;
mod property;
mod races;
mod recover_hostile;
mod rules_content;
mod rules_errors;
mod rules_links;
mod rules_machine;
mod rules_metadata;
mod rules_paths;
mod rules_xattrs;
mod save_program;
mod set_calls;
#[cfg(feature = "signals")]
mod signals;
mod single_flush;
mod strace;
// The same files in both builds: once is enough.
#[cfg(feature = "crash_testing")]
mod tidy;
mod trace;
mod trace_faults;
mod transaction;
#[cfg(feature = "crash_testing")]
mod transaction_crash;
#[cfg(feature = "crash_testing")]
mod transaction_random;
#[cfg(feature = "crash_testing")]
mod transaction_record;
