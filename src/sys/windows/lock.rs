//! Locks, by modes of sharing: on files the file itself is open in one.
//!
//! A directory that is open in a way that excludes others could not be used
//! either, and one with something open in it can't be renamed. So the lock is an empty file beside
//! it, with a name that follows from what the directory *is*, whatever its name becomes.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::dir::stat_path;
use super::errors::{is_denied, is_in_use, is_not_found};
use super::file::{Access, Handle};
use super::wait::{or_removed, set_read_only, within};
use super::{Dir, File, open};
use crate::name_format::{Role, for_target, role_of};
use crate::sys::{FileId, Lock, Share};

/// A holder that gives up a shared lock excludes everybody for an instant, to remove the file; and scanners and backups open
/// files for some milliseconds.
const GRACE: Duration = Duration::from_millis(20);

/// A lock that is given up when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    share: Share,
    path: PathBuf,
    /// Open as long as the lock is held.
    file: Option<fs::File>,
}

impl Held {
    /// Takes the lock of the directory at `path`, without waiting.
    pub(super) fn take(path: &Path, id: FileId, share: Share) -> io::Result<Result<Held, Lock>> {
        let name = for_target(Role::Lock, format!("{:x}-{:x}", id.dev, id.ino).as_ref());
        let path = path.with_file_name(name);
        let open = |path: &Path| match share {
            Share::Exclusive => open::exclusively_for_now(path),
            Share::Shared => open::shared_for_now(path),
        };
        match within(GRACE, || or_removed(&path, open(&path))) {
            Ok(file) => Ok(Ok(Held { share, path, file: Some(file) })),
            Err(e) if is_in_use(&e) => Ok(Err(Lock::Elsewhere)),
            Err(e) => Err(e),
        }
    }

    pub(super) fn share(&self) -> Share {
        self.share
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.file = None;
        if self.share == Share::Shared {
            // The last one out removes it: nobody else can have it open then.
            drop(open::exclusively_for_now(&self.path));
        }
    }
}

impl Dir {
    /// Opens a file that can be locked, and then written to.
    pub(crate) fn open_file_to_lock(&self, name: &OsStr) -> io::Result<File> {
        self.open_file(name)
    }

    /// Takes the exclusive lock that belongs to this open directory, without waiting. A shared one
    /// that it has is given up for it.
    pub(crate) fn try_lock(&self) -> io::Result<Lock> {
        self.lock_as(Share::Exclusive)
    }

    /// Takes a shared lock of this open directory, without waiting.
    pub(crate) fn try_lock_shared(&self) -> io::Result<Lock> {
        self.lock_as(Share::Shared)
    }

    fn lock_as(&self, share: Share) -> io::Result<Lock> {
        let mut held = self.held();
        if held.as_ref().is_some_and(|held| held.share() == share) {
            return Ok(Lock::Held);
        }
        *held = None;
        let found = self.path().and_then(|path| Ok((stat_path(&path)?, path)));
        let (stat, path) = match found {
            // The directory is gone. Whoever takes its lock finds that out by a look afterwards.
            Err(e) if is_not_found(&e) => return Ok(Lock::Held),
            found => found?,
        };
        Ok(match Held::take(&path, stat.id, share)? {
            Ok(taken) => {
                *held = Some(taken);
                Lock::Held
            }
            Err(why_not) => why_not,
        })
    }

    /// Gives up the lock of this open directory.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        *self.held() = None;
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

impl File {
    /// Takes the lock that belongs to this open file, without waiting.
    pub(crate) fn try_lock_as(&self, share: Share) -> io::Result<Lock> {
        let mut handle = self.handle();
        if handle.access == Access::Locked(share) {
            return Ok(Lock::Held);
        }
        if handle.access != Access::Read {
            // An open handle for writing would be in the way of the new one.
            handle.file = None;
        }
        let opened = match self.open_as(share) {
            Err(e) if is_denied(&e) && self.make_writable().is_ok() => self.open_as(share),
            opened => opened,
        };
        match opened.and_then(|file| Ok((open::stat(&file)?.id, file))) {
            Ok((id, file)) if id == self.id => {
                *handle = Handle { file: Some(Arc::new(file)), access: Access::Locked(share) };
                Ok(Lock::Held)
            }
            // Its name is gone, or another file's: whoever took its lock looks for that.
            Ok(_) => self.free(&mut handle).map(|()| Lock::Held),
            Err(e) if is_not_found(&e) => Ok(Lock::Held),
            Err(e) if is_in_use(&e) => self.free(&mut handle).map(|()| Lock::Elsewhere),
            Err(e) => self.free(&mut handle).and(Err(e)),
        }
    }

    /// A scanner or a backup that has it open for a moment is no holder of a lock.
    fn open_as(&self, share: Share) -> io::Result<fs::File> {
        let open = || match share {
            Share::Exclusive => open::exclusively(&self.path),
            Share::Shared => open::shared(&self.path),
        };
        within(GRACE, || or_removed(&self.path, open()))
    }

    /// Makes a remnant writable, which a crash may have left marked read-only.
    fn make_writable(&self) -> io::Result<()> {
        match self.path.file_name().and_then(role_of) {
            Some(_) => set_read_only(&self.path, false),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Opens the file anew without a lock, unless it is open so.
    fn free(&self, handle: &mut Handle) -> io::Result<()> {
        if handle.file.is_none() || handle.access != Access::Read {
            *handle = Handle { file: None, access: Access::Read };
            match open::to_read(&self.path) {
                Ok(file) if open::stat(&file)?.id == self.id => handle.file = Some(Arc::new(file)),
                Ok(_) => {}
                Err(e) if is_not_found(&e) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Waits for the lock that belongs to this open file. Windows has no call for that: the lock is tried
    /// again and again.
    pub(crate) fn wait_for_lock(&self, share: Share) -> io::Result<Lock> {
        const PAUSE: Duration = Duration::from_millis(10);
        loop {
            match self.try_lock_as(share)? {
                Lock::Elsewhere => std::thread::sleep(PAUSE),
                lock => return Ok(lock),
            }
        }
    }

    /// Gives up the lock of this open file.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        self.free(&mut self.handle())
    }
}
