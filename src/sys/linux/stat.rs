//! `statx`, `O_PATH` and attributes: what stands at a name.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, OFlags, StatxAttributes, StatxFlags};

use super::file_system::fs_kind;
use super::unnamed::proc_path;
use crate::sys::unix::xattr::{read_listed, read_names};
use crate::sys::unix::{fingerprint_from, fingerprint_with, from_stat};
use crate::sys::unix::{is_not_found, is_stale, kind_of_mode, knows_no_statx, open_at, retry};
use crate::sys::{Dir, File, FileId, Fingerprint, Kind, LastingId, OwnerNames, Stat, TargetMeta, Xattrs};

/// `STATX_MNT_ID_UNIQUE`, Linux 6.8: a mount id that is never used again.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Since Linux 6.13 asking for a file's times makes the next change of it stamp, and so dirty, its
/// inode anew: a quarter of the cost of a small save.
const WITHOUT_TIMES: StatxFlags =
    StatxFlags::BASIC_STATS.difference(StatxFlags::MTIME.union(StatxFlags::CTIME).union(StatxFlags::ATIME));

/// `AT_STATX_FORCE_SYNC`, which has no name on Android.
const FORCE_SYNC: AtFlags = AtFlags::from_bits_retain(0x2000);

pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    stat_path(fd, OsStr::new(""), AtFlags::EMPTY_PATH)
}

pub(crate) fn stat_path(fd: BorrowedFd<'_>, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    let wanted = WITHOUT_TIMES.union(MNT_ID_UNIQUE);
    match retry(|| fs::statx(fd, path, flags | AtFlags::NO_AUTOMOUNT, wanted)) {
        Err(e) if knows_no_statx(&e) => stat_without_statx(fd, path, flags),
        found => Ok(from_statx(&found?)),
    }
}

fn from_statx(found: &fs::Statx) -> Stat {
    let mode = u32::from(found.stx_mode);
    let unique = found.stx_mask & MNT_ID_UNIQUE.bits() != 0;
    Stat {
        kind: kind_of_mode(mode),
        id: FileId { dev: fs::makedev(found.stx_dev_major, found.stx_dev_minor), ino: found.stx_ino },
        size: found.stx_size,
        nlink: u64::from(found.stx_nlink),
        mode: mode & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        mount: unique.then_some(found.stx_mnt_id),
        mount_root: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        tells_mount_root: found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT),
        is_encrypted: found.stx_attributes.contains(StatxAttributes::ENCRYPTED),
        is_immutable_or_append_only: found
            .stx_attributes
            .intersects(StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND)),
    }
}

/// Looks again where another machine has replaced what the name led to, between two requests to the server
/// (`ESTALE`). What is replaced all the time is told as it is.
fn unless_stale<T>(look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    const LOOKS: usize = 16;
    for _ in 1..LOOKS {
        match look() {
            Err(e) if is_stale(&e) => {}
            looked => return looked,
        }
    }
    look()
}

/// Asked of the server, where there is one: what was saved a moment ago must not look untouched.
pub(crate) fn fingerprint(dir: &Dir, name: &OsStr) -> io::Result<Fingerprint> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let ask = || retry(|| fs::statx(dir, name, flags | FORCE_SYNC, StatxFlags::BASIC_STATS));
    let found = match unless_stale(ask) {
        Err(e) if knows_no_statx(&e) => {
            return Ok(fingerprint_from(&retry(|| fs::statat(dir, name, flags))?));
        }
        found => found?,
    };
    let stat = from_statx(&found);
    Ok(fingerprint_with(&stat, (found.stx_mtime.tv_sec as u64, u64::from(found.stx_mtime.tv_nsec))))
}

/// The number of an inode that it still has after a crash. A crash test puts its disks together
/// from new inodes; there it is the number that the test knows the file by.
pub(crate) fn lasting_ino(id: FileId) -> u64 {
    #[cfg(feature = "crash_testing")]
    if let Some(session) = crate::sys::recorder::current() {
        return session.lasting_ino(id);
    }
    id.ino
}

/// A server may make up the time of creation: Samba takes the oldest of the others, which a write changes.
pub(crate) fn lasting_id(file: &File) -> io::Result<LastingId> {
    let wanted = WITHOUT_TIMES | MNT_ID_UNIQUE | StatxFlags::BTIME;
    let found = match retry(|| fs::statx(file, c"", AtFlags::EMPTY_PATH, wanted)) {
        Err(e) if knows_no_statx(&e) => return Ok(LastingId { ino: lasting_ino(file.stat()?.id), born: 0 }),
        found => found?,
    };
    let stat = from_statx(&found);
    let ino = lasting_ino(stat.id);
    #[cfg(feature = "crash_testing")]
    if crate::sys::recorder::current().is_some() {
        return Ok(LastingId { ino, born: 0 });
    }
    if found.stx_mask & StatxFlags::BTIME.bits() == 0 || fs_kind(file, &stat).is_ok_and(|kind| kind.remote) {
        return Ok(LastingId { ino, born: 0 });
    }
    let seconds = found.stx_btime.tv_sec as u64;
    let born = seconds.wrapping_mul(1_000_000_000).wrapping_add(found.stx_btime.tv_nsec.into());
    Ok(LastingId { ino, born })
}

fn stat_without_statx(fd: BorrowedFd<'_>, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    Ok(from_stat(&retry(|| fs::statat(fd, path, flags.difference(FORCE_SYNC)))?))
}

impl Dir {
    /// Asks what stands at a name now: a network file system may remember for seconds what it was.
    pub(crate) fn stat_now(&self, name: &OsStr) -> io::Result<Stat> {
        unless_stale(|| stat_path(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW | FORCE_SYNC))
    }

    pub(crate) fn lookup(&self, name: &OsStr, with_xattrs: bool) -> io::Result<TargetMeta> {
        self.lookup_pinned(name, with_xattrs).map(|(existing, _)| existing)
    }

    /// Looks at one inode, so that stat and attributes belong together. As long as the handle is
    /// open, a file keeps its blocks, whatever becomes of its name.
    pub(crate) fn lookup_pinned(
        &self,
        name: &OsStr,
        with_xattrs: bool,
    ) -> io::Result<(TargetMeta, Option<File>)> {
        unless_stale(|| self.lookup_once(name, with_xattrs))
    }

    fn lookup_once(&self, name: &OsStr, with_xattrs: bool) -> io::Result<(TargetMeta, Option<File>)> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = open_at(self.as_fd(), name, flags)?;
        // What a network file system remembers may be seconds old: the mode that the new file is to keep, or the
        // number of links.
        let mut stat = stat_path(fd.as_fd(), OsStr::new(""), AtFlags::EMPTY_PATH | FORCE_SYNC)?;
        // What is put into an encrypted directory is encrypted by it; no plain file can be renamed into one (`EXDEV`),
        // so that one staged elsewhere is copied.
        stat.is_encrypted = stat.is_encrypted && !self.stat()?.is_encrypted;
        let wanted = with_xattrs && stat.kind == Kind::File;
        let (xattrs, is_complete) =
            if wanted { self.xattrs_at(&fd, name, &stat)? } else { Default::default() };
        let owner_names = if wanted { self.owner_names_of(name, &stat) } else { OwnerNames::BOTH };
        Ok((TargetMeta { stat, xattrs, is_complete, owner_names }, Some(File { fd })))
    }

    /// Opens what is at the name, which keeps its blocks as long as the descriptor is open.
    pub(crate) fn pin(&self, name: &OsStr) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        open_at(self.as_fd(), name, flags).ok()
    }

    /// The attributes of a file, and whether these are all.
    fn xattrs_at(&self, fd: &OwnedFd, name: &OsStr, stat: &Stat) -> io::Result<(Xattrs, bool)> {
        let by_proc = proc_path(fd.as_fd());
        match read_names(&|buffer| fs::listxattr(by_proc.as_c_str(), buffer)) {
            Err(e) if is_not_found(&e) => self.xattrs_without_proc(name, stat.id),
            names => read_listed(names, &|name, buffer| fs::getxattr(by_proc.as_c_str(), name, buffer)),
        }
    }

    fn xattrs_without_proc(&self, name: &OsStr, id: FileId) -> io::Result<(Xattrs, bool)> {
        match self.open_file(name) {
            Ok(file) if file.stat()?.id == id => file.xattrs(),
            // Replaced meanwhile, or not readable: nothing that could be kept.
            _ => Ok((Vec::new(), false)),
        }
    }
}
