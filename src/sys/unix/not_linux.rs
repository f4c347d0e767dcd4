//! Calls that macOS and every other Unix but Linux have in common.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags};

use super::stat::{fingerprint_from, from_stat};
use super::{Dir, File, retry};
use crate::sys::{Fingerprint, FsKind, OwnerNames, Stat};

pub(in crate::sys) fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(from_stat(&retry(|| fs::fstat(fd))?))
}

pub(in crate::sys) fn stat_path(fd: BorrowedFd<'_>, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    Ok(from_stat(&retry(|| fs::statat(fd, path, flags))?))
}

/// Tells a file from one that was saved at the same name later.
pub(crate) fn fingerprint(dir: &Dir, name: &OsStr) -> io::Result<Fingerprint> {
    Ok(fingerprint_from(&retry(|| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?))
}

/// The kind of file system under a directory, and whether it is known to exchange names: none is.
pub(in crate::sys) fn look_at_volume(dir: &Dir) -> io::Result<(FsKind, bool)> {
    Ok((dir.fs_kind()?, false))
}

impl Dir {
    /// Opens whatever is at a path for reading; links are not followed.
    pub(crate) fn open_within(&self, path: &Path) -> io::Result<(OwnedFd, Stat)> {
        self.open_without_links(path)
    }
}

impl File {
    /// There are no user namespaces.
    pub(super) fn owner_names(&self, _stat: &Stat) -> OwnerNames {
        OwnerNames::BOTH
    }

    /// A sync is the only call that waits for everything.
    pub(crate) fn written_out(&self) -> io::Result<()> {
        self.sync()
    }
}
