//! What macOS has in the place of Linux's own calls.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags, RenameFlags};
use rustix::io::Errno;

use super::unix::kind_of_mode;
use super::{Dir, Existing, Family, File, FileId, Fingerprint, FsKind, Kind, Stat};

pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(from_stat(&fs::fstat(fd)?))
}

pub(crate) fn stat_path(fd: BorrowedFd<'_>, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    Ok(from_stat(&fs::statat(fd, path, flags)?))
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
        is_fixed: found.st_flags & FIXED != 0,
    }
}

/// When content or metadata last changed, which nobody can set back.
pub(crate) fn changed_at(dir: &Dir, name: &OsStr) -> io::Result<SystemTime> {
    let found = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let seconds = u64::try_from(found.st_ctime).unwrap_or(0);
    let since = Duration::new(seconds, u32::try_from(found.st_ctime_nsec).unwrap_or(0));
    Ok(SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Tells a file from one that was saved at the same name later.
pub(crate) fn fingerprint(dir: &Dir, name: &OsStr) -> io::Result<Fingerprint> {
    let found = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(Fingerprint {
        ino: found.st_ino,
        seconds: u64::try_from(found.st_mtime).unwrap_or(0),
        nanoseconds: u64::try_from(found.st_mtime_nsec).unwrap_or(0),
        is_dir: kind_of_mode(u32::from(found.st_mode)) == Kind::Dir,
    })
}

/// The number of an inode that it still has after a crash.
pub(crate) fn lasting_ino(id: FileId) -> u64 {
    id.ino
}

impl Dir {
    /// Looks at one inode, so that stat and attributes belong together. No descriptor can be had
    /// of a file that may not be read: its attributes are none that could be kept.
    pub(crate) fn look(&self, name: &OsStr, with_xattrs: bool) -> io::Result<Existing> {
        let stat = self.stat_at(name)?;
        if with_xattrs && stat.kind == Kind::File {
            if let Ok(file) = self.open_file(name) {
                let found = file.existing()?;
                if found.stat.id == stat.id {
                    return Ok(found);
                }
            }
        }
        Ok(Existing { stat, xattrs: Vec::new() })
    }

    /// The same. Nothing has to be held: a file system here does not give blocks away early.
    pub(crate) fn look_and_hold(
        &self,
        name: &OsStr,
        with_xattrs: bool,
    ) -> io::Result<(Existing, Option<File>)> {
        Ok((self.look(name, with_xattrs)?, None))
    }

    /// Opens whatever is at a path for reading; links are not followed.
    pub(crate) fn open_within(&self, path: &Path) -> io::Result<(OwnedFd, Stat)> {
        self.open_without_links(path)
    }
}

pub(super) fn create_unnamed(_dir: BorrowedFd<'_>, _mode: u32) -> io::Result<OwnedFd> {
    Err(Errno::NOTSUP.into())
}

/// No file system has files without a name.
pub(super) fn cannot_be_unnamed(e: &io::Error) -> bool {
    Errno::from_io_error(e) == Some(Errno::NOTSUP)
}

pub(super) fn rename_new(
    dir: BorrowedFd<'_>,
    from: &OsStr,
    to_dir: BorrowedFd<'_>,
    to: &OsStr,
) -> io::Result<()> {
    Ok(fs::renameat_with(dir, from, to_dir, to, RenameFlags::NOREPLACE)?)
}

/// `fsync` leaves the data in the device's cache; this empties it. Where that can't be asked for,
/// on some network and foreign file systems, `fsync` is all there is.
pub(super) fn sync_fd(fd: BorrowedFd<'_>) -> io::Result<()> {
    match fs::fcntl_fullfsync(fd) {
        Err(Errno::NOTSUP | Errno::INVAL | Errno::NOTTY) => Ok(fs::fsync(fd)?),
        synced => Ok(synced?),
    }
}

/// The last word of a save: no less than emptying the cache will do, or the answer is that the
/// directory can't be synced.
pub(super) fn sync_dir_fd(fd: BorrowedFd<'_>) -> io::Result<()> {
    match fs::fcntl_fullfsync(fd) {
        Err(Errno::NOTTY) => Err(Errno::NOTSUP.into()),
        synced => Ok(synced?),
    }
}

impl File {
    /// Can this unnamed file be given a name? There is none.
    pub(crate) fn can_be_linked(&self, _dir: &Dir) -> bool {
        false
    }

    pub(crate) fn link_as(&self, _dir: &Dir, _name: &OsStr) -> io::Result<()> {
        Err(Errno::NOTSUP.into())
    }

    /// There is no call that starts the writing of a range.
    pub(crate) fn begin_write_out(&self) {}

    /// Nothing to wait for.
    pub(crate) fn write_out(&self, _offset: u64, _len: u64, _wait: bool) -> io::Result<()> {
        Ok(())
    }

    /// Only a sync waits for everything.
    pub(crate) fn written_out(&self) -> io::Result<()> {
        self.sync()
    }

    /// Lets this empty file share the content of another: only a new file can, by `fclonefileat`.
    pub(crate) fn share_content_of(&self, _other: &File) -> io::Result<bool> {
        Ok(false)
    }

    /// [`fs_kind`] of this file.
    pub(crate) fn fs_kind(&self, stat: &Stat) -> io::Result<FsKind> {
        fs_kind(self, stat)
    }
}

/// What a file system can be trusted with.
pub(crate) fn fs_kind(fd: impl AsFd, _stat: &Stat) -> io::Result<FsKind> {
    /// `MNT_LOCAL` of `sys/mount.h`.
    const LOCAL: u32 = 0x1000;
    let remote = fs::fstatfs(fd)?.f_flags & LOCAL == 0;
    Ok(FsKind { volatile: false, remote, family: Family::Other })
}

/// What the file system under a directory is, and whether it is known to exchange names: each is
/// tried.
pub(super) fn look_at_volume(dir: &Dir) -> io::Result<(FsKind, bool)> {
    Ok((fs_kind(dir, &dir.stat()?)?, false))
}
