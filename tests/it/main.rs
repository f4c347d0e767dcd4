//! The integration tests: everything here goes through the public interface, on real file
//! systems. One binary, so that it links once. The folders are named as those in `src`, and for what
//! they prove; each says it at its top.
//!
//! `DURAFILE_TEST_DIR` moves all test directories to another file system; a test that the
//! machine cannot run says `SKIPPED`, and fails instead when `DURAFILE_REQUIRE_ALL` is set. What takes
//! long is tried in part, and says `SHORTENED`; it is tried whole when `DURAFILE_LONG` is set.

mod support;

#[cfg(all(feature = "crash_testing", target_os = "linux"))]
mod crash;
#[cfg(target_os = "linux")]
mod dir;
#[cfg(target_os = "linux")]
mod disks;
#[cfg(target_os = "linux")]
mod fs_ops;
#[cfg(target_os = "linux")]
mod health;
#[cfg(target_os = "linux")]
mod hostile;
mod house;
#[cfg(target_os = "linux")]
mod lock;
#[cfg(target_os = "linux")]
mod overwrite;
#[cfg(target_os = "linux")]
mod places;
mod portable;
#[cfg(target_os = "linux")]
mod recover;
#[cfg(target_os = "linux")]
mod save;
#[cfg(target_os = "linux")]
mod set;
#[cfg(all(feature = "signals", target_os = "linux"))]
mod signals;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod transaction;
#[cfg(target_os = "linux")]
mod update;
