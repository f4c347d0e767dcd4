//! Judging one remnant: whose it is, whether its writer lives, and what to do with it.

use std::ffi::OsStr;
use std::io;
use std::time::{Duration, SystemTime};

use crate::sys::{self, Dir, File, Kind, Lock, Stat};

/// What became of a remnant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not ours to judge, or gone meanwhile.
    Ignored,
    /// Its writer lives, or may live.
    InUse,
    /// It was an orphan and is gone.
    Removed,
    /// It can't be opened or removed with the caller's rights.
    Unreadable,
}

/// How to judge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge {
    pub(crate) min_age: Duration,
    pub(crate) dry_run: bool,
}

impl Judge {
    /// Settles the staged file of a single save.
    pub(crate) fn settle_stage(self, dir: &Dir, name: &OsStr) -> io::Result<Verdict> {
        let found = match dir.stat_at(name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Verdict::Ignored),
            found => found?,
        };
        if !is_ours(&found) {
            return Ok(Verdict::Ignored);
        }
        if self.is_young(&found) {
            return Ok(Verdict::InUse);
        }
        let file = match open(dir, name) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Verdict::Ignored),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(Verdict::Unreadable),
            opened => opened?,
        };
        match file.try_lock()? {
            Lock::Held => {}
            Lock::Elsewhere => return Ok(Verdict::InUse),
            // Only age can tell; none was given, or `is_young` has looked at it.
            Lock::Unsupported if self.min_age.is_zero() => return Ok(Verdict::InUse),
            Lock::Unsupported => {}
        }
        self.remove_locked(dir, name, &file)
    }

    /// Between finding and locking, the writer may have renamed it: then the lock is on the
    /// target, and the name is gone.
    fn remove_locked(self, dir: &Dir, name: &OsStr, file: &File) -> io::Result<Verdict> {
        let locked = file.stat()?.id;
        if dir.stat_at(name).map_or(true, |now| now.id != locked) {
            return Ok(Verdict::Ignored);
        }
        if self.dry_run {
            return Ok(Verdict::Removed);
        }
        match dir.unlink(name) {
            Ok(()) => Ok(Verdict::Removed),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Verdict::Ignored),
            Err(e) if sys::is_forbidden(&e) => Ok(Verdict::Unreadable),
            Err(e) => Err(e),
        }
    }

    fn is_young(self, found: &Stat) -> bool {
        let age = SystemTime::now().duration_since(found.changed).unwrap_or_default();
        age < self.min_age
    }
}

/// Anyone can give a file our kind of name. What another user owns or could have written is left.
fn is_ours(found: &Stat) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o002;
    found.kind == Kind::File && found.uid == sys::effective_uid() && found.mode & WRITABLE_BY_OTHERS == 0
}

/// The staged copy of a file that its owner may only write is opened for writing.
fn open(dir: &Dir, name: &OsStr) -> io::Result<File> {
    match dir.open_file(name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => dir.open_file_to_write(name),
        opened => opened,
    }
}
