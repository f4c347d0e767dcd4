//! Windows: what the standard library gives, and two crates for what it lacks.
//!
//! Nothing can be opened relative to an open directory, so a [`Dir`] is a path. One that may be
//! renamed while it is in use, such as a version of a directory, is known by its identity too, and
//! is found again under its new name. No handle of a directory is kept: while anything in it is
//! open, Windows doesn't rename a directory.
//!
//! What `flock` does elsewhere, modes of sharing do here: they end with the process, too.

mod dir;
mod dir_lock;
mod errors;
mod file;
mod names;
mod open;
mod process;
mod tree;
mod volume;
mod wait;

use std::ffi::{CStr, CString, OsStr};
use std::fs::Permissions;
use std::io;
use std::time::SystemTime;

use super::{FileId, Fingerprint, Kind, Stat};

pub(crate) use dir::Dir;
pub(crate) use errors::*;
pub(crate) use file::File;
pub(crate) use process::{Process, boot_id, host_name, name_space, uptime};
pub(crate) use tree::{absolute, copy_times, std_file};
pub(crate) use volume::{Volume, fs_kind};

/// What stands at a name.
#[derive(Clone, Debug)]
pub(crate) struct Existing {
    pub(crate) stat: Stat,
    /// None here: access rights come from the directory.
    pub(crate) xattrs: Xattrs,
}

pub(crate) type Xattrs = Vec<(CString, Vec<u8>)>;

/// No file has it here.
pub(crate) const ACL: &CStr = c"system.posix_acl_access";

/// No file has it here.
pub(crate) const DEFAULT_ACL: &CStr = c"system.posix_acl_default";

/// What came of trying to take a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Held,
    Elsewhere,
    /// Never: every file system has modes of sharing.
    #[allow(dead_code, reason = "the core asks for it on every platform")]
    Unsupported,
}

/// How many may hold a lock at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// One, and nobody else.
    Exclusive,
    /// Any number.
    Shared,
}

/// Who owns a file can't be told: all count as the caller's.
pub(crate) fn effective_uid() -> u32 {
    open::OWNER
}

/// The permission bits that stand for what was asked for.
pub(crate) fn mode_of_permissions(permissions: &Permissions) -> u32 {
    if permissions.readonly() { 0o400 } else { 0o600 }
}

/// None but those that the directory hands on.
pub(crate) fn private_permissions() -> Option<Permissions> {
    None
}

/// A name that was written down as bytes. Only names that are text are ever accepted.
pub(crate) fn name_of_bytes(bytes: &[u8]) -> Option<&OsStr> {
    std::str::from_utf8(bytes).ok().map(OsStr::new)
}

/// The number of a file that it still has after a crash.
pub(crate) fn lasting_ino(id: FileId) -> u64 {
    id.ino
}

/// When the content last changed, or the file was created: the later of the two.
pub(crate) fn changed_at(dir: &Dir, name: &OsStr) -> io::Result<SystemTime> {
    let found = open::to_inspect(&dir.at(name)?)?.metadata()?;
    let created = found.created().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(found.modified().unwrap_or(SystemTime::UNIX_EPOCH).max(created))
}

/// Tells a file from one that was saved at the same name later.
pub(crate) fn fingerprint(dir: &Dir, name: &OsStr) -> io::Result<Fingerprint> {
    const TICKS: u64 = 10_000_000;
    let handle = open::to_inspect(&dir.at(name)?)?;
    let stat = open::stat(&handle)?;
    let changed = winapi_util::file::information(&handle)?.last_write_time().unwrap_or(0);
    Ok(Fingerprint {
        ino: stat.id.ino,
        seconds: changed / TICKS,
        nanoseconds: changed % TICKS * 100,
        is_dir: stat.kind == Kind::Dir,
    })
}
