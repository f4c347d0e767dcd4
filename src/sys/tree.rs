//! System calls for whole trees: copies that keep everything, links, opening within bounds.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FlockOperation, Gid, Mode, OFlags, Timestamps, Uid};

use super::{Dir, Existing, File, Stat, stat_fd};

impl Dir {
    /// This directory as something that has metadata.
    pub(crate) fn as_inode(&self) -> io::Result<File> {
        Ok(File { fd: rustix::io::fcntl_dupfd_cloexec(self, 0)? })
    }

    /// Gives up the lock of this open directory.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        Ok(fs::flock(self, FlockOperation::Unlock)?)
    }

    pub(crate) fn symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        record!(Op::Symlink { dir: self, name, target }, Ok(fs::symlinkat(target, self, name)?))
    }

    /// Gives a link the owner and the times of another one, as far as the system permits.
    pub(crate) fn liken_link(&self, name: &OsStr, stat: &Stat, from: (&Dir, &OsStr)) {
        let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if fs::chownat(self, name, Some(uid), Some(gid), flags).is_err() {
            let _ = fs::chownat(self, name, None, Some(gid), flags);
        }
        if let Ok(found) = fs::statat(from.0, from.1, flags) {
            let _ = fs::utimensat(self, name, &times_of(&found), flags);
        }
    }

    /// Opens whatever is at a path below this directory for reading; no link on the way is followed.
    pub(super) fn open_without_links(&self, path: &Path) -> io::Result<(OwnedFd, Stat)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => &self.open_beneath(parent)?,
            _ => self,
        };
        with_stat(fs::openat(parent, name, TO_READ | OFlags::NOFOLLOW, Mode::empty()))
    }
}

/// Without waiting for a FIFO or taking a terminal.
pub(super) const TO_READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

pub(super) fn with_stat(opened: rustix::io::Result<OwnedFd>) -> io::Result<(OwnedFd, Stat)> {
    let fd = opened?;
    let stat = stat_fd(fd.as_fd())?;
    Ok((fd, stat))
}

fn times_of(found: &fs::Stat) -> Timestamps {
    let time = |seconds, nanoseconds| fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    Timestamps {
        last_access: time(found.st_atime as _, found.st_atime_nsec as _),
        last_modification: time(found.st_mtime as _, found.st_mtime_nsec as _),
    }
}

/// Gives an inode the times of another.
pub(crate) fn copy_times(from: &File, to: &File) -> io::Result<()> {
    Ok(fs::futimens(to, &times_of(&fs::fstat(from)?))?)
}

impl File {
    /// What an open file or directory is, with its attributes.
    pub(crate) fn existing(&self) -> io::Result<Existing> {
        let stat = self.stat()?;
        let names = match self.xattr_names() {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => Vec::new(),
            names => names?,
        };
        // One that may not be read, or is gone again, is none that could be kept.
        let read = |name: std::ffi::CString| Some((name.clone(), self.xattr(&name).ok()?));
        Ok(Existing { stat, xattrs: names.into_iter().filter_map(read).collect() })
    }
}

/// The same path from the root of the file system, if the current directory can be told.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A standard handle; it keeps its file open by itself.
pub(crate) fn std_file(fd: OwnedFd) -> std::fs::File {
    std::fs::File::from(fd)
}
