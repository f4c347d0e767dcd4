//! macOS's own calls, in the place of those that only Linux has.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs;
pub(super) use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use super::unix::{cannot_flush_device, retry};
use super::{Dir, Family, FsKind, Kind, Stat, TargetMeta};

impl Dir {
    /// Looks at one inode, so that stat and attributes belong together. No descriptor can be had
    /// of a file that may not be read: its attributes are none that could be kept.
    pub(crate) fn lookup(&self, name: &OsStr, with_xattrs: bool) -> io::Result<TargetMeta> {
        let stat = self.stat_at(name)?;
        if with_xattrs && stat.kind == Kind::File {
            if let Ok(file) = self.open_file(name) {
                let found = file.existing()?;
                if found.stat.id == stat.id {
                    return Ok(found);
                }
            }
        }
        Ok(TargetMeta::of(stat))
    }
}

/// `fsync` leaves the data in the device's cache; this empties it. Where that can't be asked for,
/// on some network and foreign file systems, `fsync` is all there is.
pub(super) fn sync_fd(fd: BorrowedFd<'_>) -> io::Result<()> {
    match retry(|| fs::fcntl_fullfsync(fd)) {
        Err(e) if cannot_flush_device(&e) => retry(|| fs::fsync(fd)),
        synced => synced,
    }
}

/// The last word of a save: no less than emptying the cache will do, or the answer is that the
/// directory can't be synced.
pub(super) fn sync_dir_fd(fd: BorrowedFd<'_>) -> io::Result<()> {
    match retry(|| fs::fcntl_fullfsync(fd)) {
        Err(e) if cannot_flush_device(&e) => Err(Errno::NOTSUP.into()),
        synced => synced,
    }
}

/// The guarantees of the file system that holds an open file.
pub(crate) fn fs_kind(fd: impl AsFd, _stat: &Stat) -> io::Result<FsKind> {
    /// `MNT_LOCAL` of `sys/mount.h`.
    const LOCAL: u32 = 0x1000;
    let remote = retry(|| fs::fstatfs(&fd))?.f_flags & LOCAL == 0;
    Ok(FsKind { memory_backed: false, remote, family: Family::Other })
}
