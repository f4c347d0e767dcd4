//! The only door to the operating system.
//!
//! Everything that changes a file system goes through a function of this module, relative to
//! an open directory. With the feature `crash_testing` each of them passes [`record`], which
//! logs it and can make it fail; without the feature that code does not exist.

/// Performs one state-changing call, by way of the recorder where there is one, and again if a signal
/// interrupts it. A recorder that lets a call fail with `EINTR` shows what comes of one that is not repeated.
#[cfg(unix)]
macro_rules! record {
    ($op:expr, $call:expr) => {
        record_once!($op, crate::sys::retry(|| $call))
    };
}

/// Performs one state-changing call that a signal ends.
#[cfg(all(feature = "crash_testing", any(target_os = "linux", target_os = "android")))]
macro_rules! record_once {
    ($op:expr, $call:expr) => {{
        #[allow(unused_imports, reason = "some calls name no operation by itself")]
        use crate::sys::recorder::Op;
        crate::sys::recorder::perform(|| $op, || $call)
    }};
}
#[cfg(all(unix, not(all(feature = "crash_testing", any(target_os = "linux", target_os = "android")))))]
macro_rules! record_once {
    ($op:expr, $call:expr) => {
        $call
    };
}

mod common;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux;
#[cfg(target_vendor = "apple")]
mod macos;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod not_linux;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_vendor = "apple"))))]
mod plain_unix;
mod process_mark;
mod random;
#[cfg(all(feature = "crash_testing", any(target_os = "linux", target_os = "android")))]
pub(crate) mod recorder;
#[cfg(feature = "signals")]
mod signals;
mod types;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(not(any(unix, windows)))]
compile_error!("durafile knows Unix and Windows");

pub(crate) use common::absent;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) use linux::*;
#[cfg(target_vendor = "apple")]
pub(crate) use macos::*;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use not_linux::*;
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android", target_vendor = "apple"))))]
pub(crate) use plain_unix::*;
pub(crate) use process_mark::ProcessMark;
pub(crate) use random::{prepare_random_bits, random_bits};
#[cfg(feature = "signals")]
pub(crate) use signals::cancel_on_termination;
pub(crate) use types::*;
#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;

/// Wraps the body of a new thread, so that it records where the thread that starts it does.
#[cfg(all(feature = "crash_testing", any(target_os = "linux", target_os = "android")))]
pub(crate) use recorder::inherit;
#[cfg(not(all(feature = "crash_testing", any(target_os = "linux", target_os = "android"))))]
pub(crate) fn inherit<T>(body: impl FnOnce() -> T) -> impl FnOnce() -> T {
    body
}
