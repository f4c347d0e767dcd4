//! Locks on open files and directories, and lock files.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, FlockOperation, OFlags};

use super::errors::{cannot_lock, is_locked_elsewhere};
use super::{Dir, File, open_at, retry};
use crate::sys::{Lock, Share};

impl Dir {
    /// Opens a file for reading and writing. A link at its name is not followed, a FIFO or
    /// device not waited for.
    pub(crate) fn open_file_to_lock(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File { fd: open_at(self.as_fd(), name, flags)? })
    }

    /// Takes the exclusive lock that belongs to this open directory, without waiting.
    pub(crate) fn try_lock(&self) -> io::Result<Lock> {
        locked(record!(Op::LockDir { dir: self }, fs::flock(self, FlockOperation::NonBlockingLockExclusive)))
    }

    /// Takes a shared lock of this open directory, without waiting.
    pub(crate) fn try_lock_shared(&self) -> io::Result<Lock> {
        locked(record!(Op::LockDir { dir: self }, fs::flock(self, FlockOperation::NonBlockingLockShared)))
    }

    /// Gives up the lock of this open directory.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        retry(|| fs::flock(self, FlockOperation::Unlock))
    }
}

impl File {
    /// Takes the lock that belongs to this open file, without waiting.
    pub(crate) fn try_lock_as(&self, share: Share) -> io::Result<Lock> {
        let operation = match share {
            Share::Exclusive => FlockOperation::NonBlockingLockExclusive,
            Share::Shared => FlockOperation::NonBlockingLockShared,
        };
        locked(record!(Op::Lock { file: self }, fs::flock(self, operation)))
    }

    /// Waits for the lock that belongs to this open file. The call is not recorded: a lock changes nothing
    /// on disk, and a recorder performs one call at a time, that of the holder which unlocks among them.
    pub(crate) fn wait_for_lock(&self, share: Share) -> io::Result<Lock> {
        let operation = match share {
            Share::Exclusive => FlockOperation::LockExclusive,
            Share::Shared => FlockOperation::LockShared,
        };
        locked(retry(|| fs::flock(self, operation)))
    }

    /// Gives up the lock of this open file, for every process that has inherited it too.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        retry(|| fs::flock(self, FlockOperation::Unlock))
    }
}

fn locked(done: io::Result<()>) -> io::Result<Lock> {
    match done {
        Ok(()) => Ok(Lock::Held),
        Err(e) if is_locked_elsewhere(&e) => Ok(Lock::Elsewhere),
        Err(e) if cannot_lock(&e) => Ok(Lock::Unsupported),
        Err(e) => Err(e),
    }
}
