//! System calls for lock files.

use std::ffi::OsStr;
use std::io;

use rustix::fs::{self, FlockOperation, Mode, OFlags};

use super::unix::locked;
use super::{Dir, File, Lock};

/// How many may hold a lock at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// One, and nobody else.
    Exclusive,
    /// Any number.
    Shared,
}

impl Dir {
    /// Opens a file for reading and writing. A link at its name is not followed, a FIFO or
    /// device not waited for.
    pub(crate) fn open_file_to_lock(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(File { fd: fs::openat(self, name, flags, Mode::empty())? })
    }
}

impl File {
    /// Takes the lock that belongs to this open file, without waiting.
    pub(crate) fn try_lock_as(&self, share: Share) -> io::Result<Lock> {
        let operation = match share {
            Share::Exclusive => FlockOperation::NonBlockingLockExclusive,
            Share::Shared => FlockOperation::NonBlockingLockShared,
        };
        locked(record!(Op::Lock { file: self }, Ok(fs::flock(self, operation)?)))
    }

    /// The same, and waits for it. Not recorded: a lock changes nothing on disk, and a recorder
    /// performs one call at a time, that of the holder which unlocks among them.
    pub(crate) fn wait_for_lock(&self, share: Share) -> io::Result<Lock> {
        let operation = match share {
            Share::Exclusive => FlockOperation::LockExclusive,
            Share::Shared => FlockOperation::LockShared,
        };
        locked(rustix::io::retry_on_intr(|| fs::flock(self, operation)).map_err(io::Error::from))
    }

    /// Gives up the lock of this open file, for every process that has inherited it too.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        Ok(fs::flock(self, FlockOperation::Unlock)?)
    }

    pub(crate) fn truncate(&self, len: u64) -> io::Result<()> {
        record!(Op::Truncate { file: self, len }, Ok(fs::ftruncate(self, len)?))
    }
}
