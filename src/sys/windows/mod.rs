//! Windows: what the standard library gives, and two crates for what it lacks.
//!
//! Nothing can be opened relative to an open directory, so a [`Dir`] is a path. One that may be
//! renamed while it is in use, such as a version of a directory, is known by its identity too, and
//! is found again under its new name. No handle of a directory is kept: while anything in it is
//! open, Windows doesn't rename a directory.
//!
//! Modes of sharing do what `flock` does elsewhere: they end with the process, too.

mod dir;
mod errors;
mod file;
mod lock;
mod names;
mod open;
mod process;
mod tree;
mod volume;
mod wait;

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::time::SystemTime;

use super::{Fingerprint, Kind};

pub(crate) use dir::Dir;
pub(crate) use errors::*;
pub(crate) use file::File;
pub(crate) use process::{boot_id, host_name, name_space, uptime};
pub(crate) use tree::{copy_times, std_file};
pub(crate) use volume::fs_kind;

/// The owner that every file counts as having: owners can't be told on Windows.
pub(crate) fn effective_uid() -> u32 {
    open::OWNER
}

/// The permission bits that stand for what was asked for.
pub(crate) fn mode_of_permissions(permissions: &Permissions) -> u32 {
    if permissions.readonly() { 0o400 } else { 0o600 }
}

/// There are no rights but those that the directory hands on.
pub(crate) fn private_permissions() -> Option<Permissions> {
    None
}

/// A name that was written down as bytes. Only names that are text are ever accepted.
pub(crate) fn name_of_bytes(bytes: &[u8]) -> Option<&OsStr> {
    std::str::from_utf8(bytes).ok().map(OsStr::new)
}

/// When the content last changed, or the file was created: the later of the two.
pub(crate) fn changed_at(dir: &Dir, name: &OsStr) -> io::Result<SystemTime> {
    let found = open::to_inspect(&dir.at(name)?)?.metadata()?;
    let created = found.created().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok(found.modified().unwrap_or(SystemTime::UNIX_EPOCH).max(created))
}

/// Tells a file from one that was saved at the same name later.
pub(crate) fn fingerprint(dir: &Dir, name: &OsStr) -> io::Result<Fingerprint> {
    fingerprint_from(&open::to_inspect(&dir.at(name)?)?)
}

/// Tells an open file from one that was saved at its name later.
pub(crate) fn fingerprint_of(file: &File) -> io::Result<Fingerprint> {
    fingerprint_from(file.handle().get()?)
}

fn fingerprint_from(handle: &std::fs::File) -> io::Result<Fingerprint> {
    const TICKS: u64 = 10_000_000;
    let stat = open::stat(handle)?;
    let changed = winapi_util::file::information(handle)?.last_write_time().unwrap_or(0);
    Ok(Fingerprint {
        ino: stat.id.ino,
        size: stat.size,
        seconds: changed / TICKS,
        nanoseconds: changed % TICKS * 100,
        is_dir: stat.kind == Kind::Dir,
    })
}
