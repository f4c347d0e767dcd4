//! System calls for whole trees: copies that keep everything, links, opening within bounds.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Gid, OFlags, Timestamps, Uid};

use super::{Dir, File, open_at, retry};
use crate::sys::{Stat, TargetMeta, stat_fd};

impl Dir {
    /// This directory as something that has metadata.
    pub(crate) fn as_inode(&self) -> io::Result<File> {
        Ok(File { fd: retry(|| rustix::io::fcntl_dupfd_cloexec(self, 0))? })
    }

    pub(crate) fn symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        record!(Op::Symlink { dir: self, name, target }, fs::symlinkat(target, self, name))
    }

    /// Gives a link the owner and the times of another one, as far as the system permits.
    pub(crate) fn copy_link_times(&self, name: &OsStr, stat: &Stat, from: (&Dir, &OsStr)) {
        let (uid, gid) = (Uid::from_raw(stat.uid), Gid::from_raw(stat.gid));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if retry(|| fs::chownat(self, name, Some(uid), Some(gid), flags)).is_err() {
            let _ = retry(|| fs::chownat(self, name, None, Some(gid), flags));
        }
        if let Ok(found) = retry(|| fs::statat(from.0, from.1, flags)) {
            let _ = retry(|| fs::utimensat(self, name, &times_of(&found), flags));
        }
    }

    /// Opens whatever is at a path below this directory for reading; no link on the way is followed.
    pub(in crate::sys) fn open_without_links(&self, path: &Path) -> io::Result<(OwnedFd, Stat)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => &self.open_beneath(parent)?,
            _ => self,
        };
        with_stat(open_at(parent.as_fd(), name, TO_READ | OFlags::NOFOLLOW))
    }
}

/// Opens without waiting for a FIFO or taking a terminal.
pub(in crate::sys) const TO_READ: OFlags =
    OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

pub(in crate::sys) fn with_stat(opened: io::Result<OwnedFd>) -> io::Result<(OwnedFd, Stat)> {
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
    let times = times_of(&retry(|| fs::fstat(from))?);
    retry(|| fs::futimens(to, &times))
}

impl File {
    /// The attributes as far as the caller may read them, which are never all: an ACL is no attribute here.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn xattrs(&self) -> io::Result<(crate::sys::Xattrs, bool)> {
        let names = match self.xattr_names() {
            Err(e) if super::errors::no_xattrs(&e) => Vec::new(),
            names => names?,
        };
        // What may not be read, or is gone again, could not be kept.
        let read = |name: std::ffi::CString| Some((name.clone(), self.xattr(&name).ok()?));
        Ok((names.into_iter().filter_map(read).collect(), false))
    }

    /// Describes an open file or directory, with its attributes.
    pub(crate) fn existing(&self) -> io::Result<TargetMeta> {
        let stat = self.stat()?;
        let (xattrs, is_complete) = self.xattrs()?;
        let owner_names = self.owner_names(&stat);
        Ok(TargetMeta { stat, xattrs, is_complete, owner_names })
    }
}

/// A standard handle; it keeps its file open by itself.
pub(crate) fn std_file(fd: OwnedFd) -> std::fs::File {
    std::fs::File::from(fd)
}
