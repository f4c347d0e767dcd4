//! System calls for sets of files: moves between directories, locks on directories, whole file
//! systems.

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, FlockOperation};
use rustix::io::Errno;

use super::unix::{locked, mode_of, rename_new};
use super::{Dir, Kind, Lock};

impl Dir {
    /// Renames into another directory, replacing what is at `to`.
    pub(crate) fn rename_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        record!(Op::Rename { dir: self, from, to_dir, to }, Ok(fs::renameat(self, from, to_dir, to)?))
    }

    /// The same, unless something is at `to`.
    pub(crate) fn rename_new_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        record!(
            Op::RenameNew { dir: self, from, to_dir, to },
            rename_new(self.as_fd(), from, to_dir.as_fd(), to)
        )
    }

    /// A second name for a file, in another directory.
    pub(crate) fn link_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        record!(
            Op::Link { dir: self, from, to_dir, to },
            Ok(fs::linkat(self, from, to_dir, to, AtFlags::empty())?)
        )
    }

    /// Opens a directory in this one, not through a link.
    pub(crate) fn open_child(&self, name: &OsStr) -> io::Result<Dir> {
        Dir::open_exact(self.as_fd(), name)
    }

    /// Fails if the caller may not create and remove names here.
    pub(crate) fn may_change(&self) -> io::Result<()> {
        let access = fs::Access::WRITE_OK.union(fs::Access::EXEC_OK);
        match fs::accessat(self, c".", access, AtFlags::EACCESS) {
            Err(e @ (Errno::ACCESS | Errno::ROFS)) => Err(e.into()),
            // Before Linux 5.8 it can't always be asked.
            _ => Ok(()),
        }
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        record!(Op::SetDirMode { dir: self, mode }, Ok(fs::fchmod(self, mode_of(mode))?))
    }

    /// Adds permission bits to a directory that can't be opened for lack of them.
    pub(crate) fn add_mode(&self, name: &OsStr, bits: u32) -> io::Result<()> {
        let stat = self.stat_at(name)?;
        if stat.kind != Kind::Dir {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mode = mode_of(stat.mode | bits);
        Ok(fs::chmodat(self, name, mode, AtFlags::empty())?)
    }

    pub(crate) fn rmdir(&self, name: &OsStr) -> io::Result<()> {
        record!(Op::Rmdir { dir: self, name }, Ok(fs::unlinkat(self, name, AtFlags::REMOVEDIR)?))
    }

    /// Takes the exclusive lock that belongs to this open directory, without waiting.
    pub(crate) fn try_lock(&self) -> io::Result<Lock> {
        locked(record!(
            Op::LockDir { dir: self },
            Ok(fs::flock(self, FlockOperation::NonBlockingLockExclusive)?)
        ))
    }

    /// Takes a shared one, without waiting.
    pub(crate) fn try_lock_shared(&self) -> io::Result<Lock> {
        locked(record!(
            Op::LockDir { dir: self },
            Ok(fs::flock(self, FlockOperation::NonBlockingLockShared)?)
        ))
    }
}
