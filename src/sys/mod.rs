//! The only door to the operating system.
//!
//! Everything that changes a file system goes through a function of this module, relative to
//! an open directory. With the feature `crash_testing` each of them passes [`record`], which
//! logs it and can make it fail; without the feature that code does not exist.

/// Performs one state-changing call, by way of the recorder where there is one.
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
macro_rules! record {
    ($op:expr, $call:expr) => {{
        #[allow(unused_imports, reason = "some calls name no operation by itself")]
        use crate::sys::record::Op;
        crate::sys::record::perform(|| $op, || $call)
    }};
}
#[cfg(all(unix, not(all(feature = "crash_testing", target_os = "linux"))))]
macro_rules! record {
    ($op:expr, $call:expr) => {
        crate::sys::perform(|| $call)
    };
}

/// A function of its own, so that a `?` in the call ends the call and not its caller.
#[cfg(all(unix, not(all(feature = "crash_testing", target_os = "linux"))))]
#[inline(always)]
fn perform<T>(call: impl FnOnce() -> std::io::Result<T>) -> std::io::Result<T> {
    call()
}

#[cfg(all(feature = "crash_testing", target_os = "linux"))]
pub(crate) mod record;

#[cfg(target_os = "linux")]
mod dirty;
#[cfg(unix)]
mod health;
#[cfg(target_os = "linux")]
mod journal;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(unix)]
mod lock;
#[cfg(target_vendor = "apple")]
mod macos;
#[cfg(unix)]
mod process;
#[cfg(unix)]
mod sets;
#[cfg(feature = "signals")]
mod signals;
#[cfg(unix)]
mod tree;
#[cfg(unix)]
mod unix;
#[cfg(not(target_os = "linux"))]
mod unordered;
#[cfg(windows)]
mod windows;
#[cfg(target_os = "linux")]
mod write_out;

#[cfg(not(any(target_os = "linux", target_vendor = "apple", windows)))]
compile_error!("durafile knows Linux, macOS and Windows");

#[cfg(target_os = "linux")]
pub(crate) use dirty::others_are_quiet;
#[cfg(unix)]
pub(crate) use health::Volume;
#[cfg(target_os = "linux")]
pub(crate) use journal::*;
#[cfg(unix)]
pub(crate) use lock::Share;
#[cfg(unix)]
pub(crate) use process::{Process, boot_id, host_name, name_space, uptime};
#[cfg(feature = "signals")]
pub(crate) use signals::cancel_on_termination;
#[cfg(unix)]
pub(crate) use tree::{absolute, copy_times, std_file};
#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(not(target_os = "linux"))]
pub(crate) use unordered::*;
#[cfg(windows)]
pub(crate) use windows::*;

/// Wraps the body of a new thread, so that it records where the thread that starts it does.
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
pub(crate) use record::inherit;
#[cfg(not(all(feature = "crash_testing", target_os = "linux")))]
pub(crate) fn inherit<T>(body: impl FnOnce() -> T) -> impl FnOnce() -> T {
    body
}

/// What kind of thing a name leads to, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    /// Windows has no such things in directories.
    #[cfg_attr(windows, allow(dead_code, reason = "the core asks for it on every platform"))]
    Other,
}

/// What makes two handles the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) nlink: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// A mount, by an id that is never reused while the system runs; none where the kernel is
    /// older than 6.8.
    pub(crate) mount: Option<u64>,
    /// Something is mounted on this very name.
    pub(crate) mount_root: bool,
    /// It can't be changed by anybody, or only appended to.
    pub(crate) is_fixed: bool,
}

/// An inode and when its content was last changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) ino: u64,
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u64,
    pub(crate) is_dir: bool,
}

impl Fingerprint {
    pub(crate) fn is_no_later_than(self, other: Fingerprint) -> bool {
        (self.seconds, self.nanoseconds) <= (other.seconds, other.nanoseconds)
    }
}

/// What a file system can be trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FsKind {
    /// It lives in memory: nothing survives power loss.
    pub(crate) volatile: bool,
    /// A reply can be lost, so that the outcome of a rename isn't known from its error.
    pub(crate) remote: bool,
    pub(crate) family: Family,
}
