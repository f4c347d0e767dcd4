//! Every other Unix: only calls that all of them have. There are no files without a name, no attributes, and no way
//! to exchange two names or to rename without replacing; a link and two renames stand in for these.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags};
use rustix::io::Errno;

use super::unix::{kind_of_mode, retry};
use super::{Dir, Family, File, FileId, Fingerprint, FsKind, Kind, OwnerNames, Stat, TargetMeta};

pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    Ok(from_stat(&retry(|| fs::fstat(fd))?))
}

pub(crate) fn stat_path(fd: BorrowedFd<'_>, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    Ok(from_stat(&retry(|| fs::statat(fd, path, flags))?))
}

#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the types of these fields differ by system"
)]
fn from_stat(found: &fs::Stat) -> Stat {
    let mode = u32::from(found.st_mode);
    Stat {
        kind: kind_of_mode(mode),
        id: FileId { dev: found.st_dev as u64, ino: found.st_ino as u64 },
        size: u64::try_from(found.st_size).unwrap_or(0),
        nlink: found.st_nlink as u64,
        mode: mode & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
        mount: None,
        // A rename tells, by EBUSY.
        mount_root: false,
        // A rename tells, by EPERM.
        is_immutable_or_append_only: false,
        is_encrypted: false,
    }
}

/// When content or metadata last changed, which nobody can set back.
pub(crate) fn changed_at(dir: &Dir, name: &OsStr) -> io::Result<SystemTime> {
    let found = retry(|| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
    let since = Duration::from_secs(u64::try_from(found.st_ctime).unwrap_or(0));
    Ok(SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Tells a file from one that was saved at the same name later.
pub(crate) fn fingerprint(dir: &Dir, name: &OsStr) -> io::Result<Fingerprint> {
    Ok(fingerprint_from(&retry(|| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?))
}

/// Tells an open file from one that was saved at its name later.
pub(crate) fn fingerprint_of(file: &File) -> io::Result<Fingerprint> {
    Ok(fingerprint_from(&retry(|| fs::fstat(file))?))
}

fn fingerprint_from(found: &fs::Stat) -> Fingerprint {
    let stat = from_stat(found);
    Fingerprint {
        ino: stat.id.ino,
        size: stat.size,
        seconds: found.st_mtime as u64,
        nanoseconds: found.st_mtime_nsec as u64,
        is_dir: stat.kind == Kind::Dir,
    }
}

impl Dir {
    /// Attributes are not looked at, and so none is known to be kept.
    pub(crate) fn lookup(&self, name: &OsStr, _with_xattrs: bool) -> io::Result<TargetMeta> {
        let stat = self.stat_at(name)?;
        Ok(TargetMeta { stat, xattrs: Vec::new(), is_complete: false, owner_names: OwnerNames::BOTH })
    }

    /// Opens whatever is at a path for reading; links are not followed.
    pub(crate) fn open_within(&self, path: &Path) -> io::Result<(OwnedFd, Stat)> {
        self.open_without_links(path)
    }
}

impl File {
    pub(super) fn owner_names(&self, _stat: &Stat) -> OwnerNames {
        OwnerNames::BOTH
    }

    /// A sync is the only call that waits for everything.
    pub(crate) fn written_out(&self) -> io::Result<()> {
        self.sync()
    }

    /// [`fs_kind`] of this file.
    pub(crate) fn fs_kind(&self, stat: &Stat) -> io::Result<FsKind> {
        fs_kind(self, stat)
    }

    pub(crate) fn xattr_names(&self) -> io::Result<Vec<CString>> {
        Ok(Vec::new())
    }

    pub(crate) fn xattr(&self, _name: &CString) -> io::Result<Vec<u8>> {
        Err(Errno::NOTSUP.into())
    }

    pub(crate) fn set_xattr(&self, _name: &CString, _value: &[u8]) -> io::Result<()> {
        Err(Errno::NOTSUP.into())
    }

    pub(crate) fn remove_xattr(&self, _name: &CStr) -> io::Result<()> {
        Err(Errno::NOTSUP.into())
    }
}

/// How a rename treats what has the new name.
pub(super) struct RenameFlags;

impl RenameFlags {
    pub(super) const NOREPLACE: RenameFlags = RenameFlags;
    pub(super) const EXCHANGE: RenameFlags = RenameFlags;
}

pub(super) fn renameat_with(
    _from_dir: &Dir,
    _from: &OsStr,
    _to_dir: &Dir,
    _to: &OsStr,
    _flags: RenameFlags,
) -> rustix::io::Result<()> {
    Err(Errno::NOTSUP)
}

pub(super) fn create_unnamed(_dir: BorrowedFd<'_>, _mode: u32) -> rustix::io::Result<OwnedFd> {
    Err(Errno::NOTSUP)
}

pub(super) fn sync_fd(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    fs::fsync(fd)
}

pub(super) use sync_fd as sync_dir_fd;

/// The guarantees of a file system. Nothing is known of it: a reply may be lost as over a network, and
/// then only the inode at the target's name proves what happened.
pub(crate) fn fs_kind(_fd: impl AsFd, _stat: &Stat) -> io::Result<FsKind> {
    Ok(FsKind { memory_backed: false, remote: true, family: Family::Other })
}

/// The kind of file system under a directory, and whether it is known to exchange names: it can't.
pub(super) fn look_at_volume(dir: &Dir) -> io::Result<(FsKind, bool)> {
    Ok((fs_kind(dir, &dir.stat()?)?, false))
}
