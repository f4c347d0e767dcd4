//! macOS's own calls, in the place of those that only Linux has.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags};
pub(super) use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use super::unix::{cannot_flush_device, kind_of_mode, retry};
use super::{Dir, Family, File, FileId, Fingerprint, FsKind, Kind, OwnerNames, Stat, TargetMeta};

pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(from_stat(&retry(|| fs::fstat(fd))?))
}

pub(crate) fn stat_path(fd: BorrowedFd<'_>, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    Ok(from_stat(&retry(|| fs::statat(fd, path, flags))?))
}

fn from_stat(found: &fs::Stat) -> Stat {
    /// `UF_IMMUTABLE`, `UF_APPEND`, `SF_IMMUTABLE` and `SF_APPEND` of `sys/stat.h`.
    const FIXED: u32 = 0x2 | 0x4 | 0x2_0000 | 0x4_0000;
    let mode = u32::from(found.st_mode);
    Stat {
        kind: kind_of_mode(mode),
        id: FileId { dev: found.st_dev as u64, ino: found.st_ino },
        size: u64::try_from(found.st_size).unwrap_or(0),
        nlink: u64::from(found.st_nlink),
        mode: mode & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
        mount: None,
        // A rename tells, by EBUSY.
        mount_root: false,
        is_immutable_or_append_only: found.st_flags & FIXED != 0,
        is_encrypted: false,
    }
}

/// When content or metadata last changed, which nobody can set back.
pub(crate) fn changed_at(dir: &Dir, name: &OsStr) -> io::Result<SystemTime> {
    let found = retry(|| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
    let seconds = u64::try_from(found.st_ctime).unwrap_or(0);
    let since = Duration::new(seconds, u32::try_from(found.st_ctime_nsec).unwrap_or(0));
    Ok(SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Tells a file from one that was saved at the same name later.
pub(crate) fn fingerprint(dir: &Dir, name: &OsStr) -> io::Result<Fingerprint> {
    Ok(fingerprint_from(retry(|| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?))
}

/// Tells an open file from one that was saved at its name later.
pub(crate) fn fingerprint_of(file: &File) -> io::Result<Fingerprint> {
    Ok(fingerprint_from(retry(|| fs::fstat(file))?))
}

fn fingerprint_from(found: fs::Stat) -> Fingerprint {
    Fingerprint {
        ino: found.st_ino,
        size: u64::try_from(found.st_size).unwrap_or(0),
        seconds: found.st_mtime as u64,
        nanoseconds: u64::try_from(found.st_mtime_nsec).unwrap_or(0),
        is_dir: kind_of_mode(u32::from(found.st_mode)) == Kind::Dir,
    }
}

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
        Ok(TargetMeta { stat, xattrs: Vec::new(), is_complete: false, owner_names: OwnerNames::BOTH })
    }

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
}

pub(super) fn create_unnamed(_dir: BorrowedFd<'_>, _mode: u32) -> rustix::io::Result<OwnedFd> {
    Err(Errno::NOTSUP)
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

impl File {
    /// A sync is the only call that waits for everything.
    pub(crate) fn written_out(&self) -> io::Result<()> {
        self.sync()
    }

    /// [`fs_kind`] of this file.
    pub(crate) fn fs_kind(&self, stat: &Stat) -> io::Result<FsKind> {
        fs_kind(self, stat)
    }
}

/// The guarantees of the file system that holds an open file.
pub(crate) fn fs_kind(fd: impl AsFd, _stat: &Stat) -> io::Result<FsKind> {
    /// `MNT_LOCAL` of `sys/mount.h`.
    const LOCAL: u32 = 0x1000;
    let remote = retry(|| fs::fstatfs(&fd))?.f_flags & LOCAL == 0;
    Ok(FsKind { memory_backed: false, remote, family: Family::Other })
}

/// The kind of file system under a directory, and whether it is known to exchange names: each is
/// tried.
pub(super) fn look_at_volume(dir: &Dir) -> io::Result<(FsKind, bool)> {
    Ok((fs_kind(dir, &dir.stat()?)?, false))
}
