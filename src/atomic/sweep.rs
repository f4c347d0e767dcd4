//! Judging one remnant: whose it is, whether its writer lives, and what to do with it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::{Duration, SystemTime};

use super::names::{self, Role};
use super::remove::remove_opened;
use crate::sys::{self, Dir, File, Kind, Lock, Stat};

/// What became of a remnant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not ours to judge, or gone meanwhile.
    Ignored,
    /// Its writer lives, or may live.
    InUse,
    /// It was an orphan and is gone.
    Removed,
    /// It can't be opened or removed with the caller's rights.
    Unreadable,
    /// It is an orphan that may be somebody's last copy, and has this name now.
    SetAside(OsString),
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
        let orphan = self.orphan(dir, name, Kind::File, || {
            let file = open_file(dir, name)?;
            Ok((file.try_lock()?, file.stat()?, file))
        });
        self.remove(orphan, |_| dir.unlink(name))
    }

    /// Settles a directory in which files of a set were staged.
    pub(crate) fn settle_stage_dir(self, dir: &Dir, name: &OsStr) -> io::Result<Verdict> {
        let orphan = self.orphan(dir, name, Kind::Dir, || {
            let stage = dir.open_child(name)?;
            Ok((stage.try_lock()?, stage.stat()?, stage))
        });
        self.remove(orphan, |stage| remove_opened(dir, name, stage))
    }

    /// Settles a version of a directory that is not the target yet, or not any more. `is_needed` is
    /// asked once no writer can have it any more.
    pub(crate) fn settle_tree(
        self,
        dir: &Dir,
        name: &OsStr,
        is_needed: impl FnOnce() -> io::Result<bool>,
    ) -> io::Result<Verdict> {
        let orphan = self.orphan(dir, name, Kind::Dir, || {
            let tree = dir.open_child(name)?;
            Ok((tree.try_lock()?, tree.stat()?, tree))
        });
        if orphan.is_ok() && is_needed()? {
            return Ok(Verdict::InUse);
        }
        self.remove(orphan, |tree| {
            // The swap that brought it here may not be durable: until then a power cut may make
            // this version the target again.
            dir.sync()?;
            remove_opened(dir, name, tree)
        })
    }

    /// Moves what can't be judged out of the way of everything.
    pub(crate) fn set_aside(self, dir: &Dir, name: &OsStr) -> io::Result<Verdict> {
        let kind = match dir.stat_at(name) {
            Err(e) => return verdict_of(e),
            Ok(found) => found.kind,
        };
        let orphan = self.orphan(dir, name, kind, || {
            if kind == Kind::Dir {
                let tree = dir.open_child(name)?;
                return Ok((tree.try_lock()?, tree.stat()?, (None, Some(tree))));
            }
            let file = open_file(dir, name)?;
            Ok((file.try_lock()?, file.stat()?, (Some(file), None)))
        });
        let aside = names::fresh(Role::Quarantined);
        match orphan {
            Err(verdict) => verdict,
            Ok(_) if self.dry_run => Ok(Verdict::SetAside(name.to_owned())),
            Ok(_held) => match dir.rename(name, &aside) {
                Ok(()) => Ok(Verdict::SetAside(aside)),
                Err(e) => verdict_of(e),
            },
        }
    }

    /// Locks a remnant whose writer is dead: `Ok` holds the lock.
    fn orphan<T>(
        self,
        dir: &Dir,
        name: &OsStr,
        kind: Kind,
        lock: impl FnOnce() -> io::Result<(Lock, Stat, T)>,
    ) -> Result<T, io::Result<Verdict>> {
        let found = dir.stat_at(name).map_err(verdict_of)?;
        if !is_ours(&found, kind) {
            return Err(Ok(Verdict::Ignored));
        }
        if self.is_young(dir, name).map_err(verdict_of)? {
            return Err(Ok(Verdict::InUse));
        }
        let (locked, stat, held) = lock().map_err(verdict_of)?;
        match locked {
            Lock::Held => {}
            Lock::Elsewhere => return Err(Ok(Verdict::InUse)),
            // Only age can tell; none was given, or `is_young` has looked at it.
            Lock::Unsupported if self.min_age.is_zero() => return Err(Ok(Verdict::InUse)),
            Lock::Unsupported => {}
        }
        // Between finding and locking, the writer may have renamed it: then the lock is on the
        // target, and the name is gone.
        match dir.stat_at(name) {
            Ok(now) if now.id == stat.id => Ok(held),
            // Somebody uses it; or the file system doesn't know its own files.
            Ok(_) => Err(Ok(Verdict::InUse)),
            Err(_) => Err(Ok(Verdict::Ignored)),
        }
    }

    fn remove<T>(
        self,
        orphan: Result<T, io::Result<Verdict>>,
        remove: impl FnOnce(&T) -> io::Result<()>,
    ) -> io::Result<Verdict> {
        match orphan {
            Err(verdict) => verdict,
            Ok(_) if self.dry_run => Ok(Verdict::Removed),
            Ok(held) => remove(&held).map(|()| Verdict::Removed).or_else(verdict_of),
        }
    }

    pub(crate) fn is_young(self, dir: &Dir, name: &OsStr) -> io::Result<bool> {
        if self.min_age.is_zero() {
            return Ok(false);
        }
        let changed = sys::changed_at(dir, name)?;
        Ok(SystemTime::now().duration_since(changed).unwrap_or_default() < self.min_age)
    }
}

fn verdict_of(e: io::Error) -> io::Result<Verdict> {
    match e.kind() {
        io::ErrorKind::NotFound => Ok(Verdict::Ignored),
        _ if sys::is_forbidden(&e) => Ok(Verdict::Unreadable),
        _ => Err(e),
    }
}

/// Anyone can give a file our kind of name. What another user owns or could have written is left.
fn is_ours(found: &Stat, kind: Kind) -> bool {
    const WRITABLE_BY_OTHERS: u32 = 0o002;
    found.kind == kind && found.uid == sys::effective_uid() && found.mode & WRITABLE_BY_OTHERS == 0
}

/// The staged copy of a file that its owner may only write is opened for writing.
pub(super) fn open_file(dir: &Dir, name: &OsStr) -> io::Result<File> {
    match dir.open_file(name) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => dir.open_file_to_write(name),
        opened => opened,
    }
}
