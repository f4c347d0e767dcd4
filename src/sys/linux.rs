//! What only Linux has: files without a name, `O_PATH`, `statx`, kinds of file systems.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags, Mode, OFlags, RenameFlags, ResolveFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;

use super::tree::{TO_READ, with_stat};
use super::unix::{kind_of_mode, read_names, read_value};
use super::{Dir, Existing, Family, File, FileId, Fingerprint, FsKind, Kind, Stat, Xattrs};

/// `STATX_MNT_ID_UNIQUE`, Linux 6.8: a mount id that is never used again.
const MNT_ID_UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);

/// Since Linux 6.13 asking for a file's times makes the next change of it stamp, and so dirty, its
/// inode anew: a quarter of the cost of a small save.
const WITHOUT_TIMES: StatxFlags =
    StatxFlags::BASIC_STATS.difference(StatxFlags::MTIME.union(StatxFlags::CTIME).union(StatxFlags::ATIME));

pub(crate) fn stat_fd(fd: BorrowedFd<'_>) -> io::Result<Stat> {
    stat_path(fd, OsStr::new(""), AtFlags::EMPTY_PATH)
}

pub(crate) fn stat_path(fd: BorrowedFd<'_>, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    match fs::statx(fd, path, flags | AtFlags::NO_AUTOMOUNT, WITHOUT_TIMES.union(MNT_ID_UNIQUE)) {
        // Sandboxes that filter statx, and kernels before 4.11.
        Err(Errno::NOSYS) => stat_without_statx(fd, path, flags),
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
        is_fixed: found.stx_attributes.intersects(StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND)),
    }
}

/// When content or metadata last changed, which nobody can set back.
pub(crate) fn changed_at(dir: &Dir, name: &OsStr) -> io::Result<SystemTime> {
    let found = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(time_of(found.st_ctime as i64, found.st_ctime_nsec as u32))
}

/// Tells a file from one that was saved at the same name later.
pub(crate) fn fingerprint(dir: &Dir, name: &OsStr) -> io::Result<Fingerprint> {
    let found = fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let is_dir = kind_of_mode(found.st_mode) == Kind::Dir;
    let ino = lasting_ino(FileId { dev: found.st_dev, ino: found.st_ino });
    #[cfg(feature = "crash_testing")]
    if super::record::current().is_some() {
        return Ok(Fingerprint { ino, is_dir, ..Fingerprint::default() });
    }
    let seconds = u64::try_from(found.st_mtime as i64).unwrap_or(0);
    Ok(Fingerprint { ino, seconds, nanoseconds: found.st_mtime_nsec as u64, is_dir })
}

/// The number of an inode that it still has after a crash. A crash test puts its disks together
/// from new inodes; there it is the number that the test knows the file by.
pub(crate) fn lasting_ino(id: FileId) -> u64 {
    #[cfg(feature = "crash_testing")]
    if let Some(session) = super::record::current() {
        return session.lasting_ino(id);
    }
    id.ino
}

/// Times before 1970 count as 1970: very old.
fn time_of(seconds: i64, nanoseconds: u32) -> SystemTime {
    let since = Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds);
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn stat_without_statx(fd: BorrowedFd<'_>, path: &OsStr, flags: AtFlags) -> io::Result<Stat> {
    let found = fs::statat(fd, path, flags)?;
    Ok(Stat {
        kind: kind_of_mode(found.st_mode),
        id: FileId { dev: found.st_dev, ino: found.st_ino },
        size: u64::try_from(found.st_size).unwrap_or(0),
        nlink: found.st_nlink as _,
        mode: found.st_mode & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
        mount: None,
        mount_root: false,
        is_fixed: false,
    })
}

impl Dir {
    pub(crate) fn look(&self, name: &OsStr, with_xattrs: bool) -> io::Result<Existing> {
        self.look_and_hold(name, with_xattrs).map(|(existing, _)| existing)
    }

    /// Looks at one inode, so that stat and attributes belong together. As long as the handle is
    /// open, a file keeps its blocks, whatever becomes of its name.
    pub(crate) fn look_and_hold(
        &self,
        name: &OsStr,
        with_xattrs: bool,
    ) -> io::Result<(Existing, Option<File>)> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(self, name, flags, Mode::empty())?;
        let stat = stat_fd(fd.as_fd())?;
        let wanted = with_xattrs && stat.kind == Kind::File;
        let xattrs = if wanted { self.xattrs_at(&fd, name, &stat)? } else { Vec::new() };
        Ok((Existing { stat, xattrs }, Some(File { fd })))
    }

    /// As long as this is open, what is at the name keeps its blocks.
    pub(crate) fn hold(&self, name: &OsStr) -> Option<OwnedFd> {
        fs::openat(self, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    fn xattrs_at(&self, fd: &OwnedFd, name: &OsStr, stat: &Stat) -> io::Result<Xattrs> {
        let by_proc = proc_path(fd.as_fd());
        match read_names(|buffer| fs::listxattr(by_proc.as_c_str(), buffer)) {
            Ok(names) => read_all(names, |name, buffer| fs::getxattr(by_proc.as_c_str(), name, buffer)),
            Err(e) if Errno::from_io_error(&e) == Some(Errno::NOENT) => {
                self.xattrs_without_proc(name, stat.id)
            }
            Err(e) if no_xattrs(&e) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    fn xattrs_without_proc(&self, name: &OsStr, id: FileId) -> io::Result<Xattrs> {
        match self.open_file(name) {
            Ok(file) if file.stat()?.id == id => match file.xattr_names() {
                Ok(names) => read_all(names, |name, buffer| fs::fgetxattr(&file, name, buffer)),
                Err(e) if no_xattrs(&e) => Ok(Vec::new()),
                Err(e) => Err(e),
            },
            // Replaced meanwhile, or not readable: nothing that could be kept.
            _ => Ok(Vec::new()),
        }
    }
}

impl Dir {
    /// Opens whatever is at a path for reading. Links are followed as long as they stay beneath
    /// this directory; before Linux 5.6, not at all.
    pub(crate) fn open_within(&self, path: &Path) -> io::Result<(OwnedFd, Stat)> {
        const TRIES: usize = 128;
        let within = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
        for _ in 0..TRIES {
            match fs::openat2(self, path, TO_READ, Mode::empty(), within) {
                // Something was renamed meanwhile, and a link goes upwards.
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS | Errno::PERM) => return self.open_without_links(path),
                opened => return with_stat(opened),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

/// The file system or a sandbox has no extended attributes for us.
fn no_xattrs(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::NOTSUP | Errno::NOSYS | Errno::ACCESS | Errno::PERM))
}

fn read_all(
    names: Vec<CString>,
    get: impl Fn(&CString, &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Xattrs> {
    let mut all = Vec::with_capacity(names.len());
    for name in names {
        match read_value(|buffer| get(&name, buffer)) {
            Ok(value) => all.push((name, value)),
            // Not readable for the caller, or removed since the list was read.
            Err(e) if no_xattrs(&e) || Errno::from_io_error(&e) == Some(Errno::NODATA) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(all)
}

pub(super) fn create_unnamed(dir: BorrowedFd<'_>, mode: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    Ok(fs::openat(dir, c".", flags, Mode::from_raw_mode(mode))?)
}

/// The file system has no files without a name.
pub(super) fn cannot_be_unnamed(e: &io::Error) -> bool {
    // EISDIR and ENOENT: a kernel that takes O_TMPFILE for O_DIRECTORY; EINVAL: gVisor.
    let errno = Errno::from_io_error(e);
    matches!(errno, Some(Errno::NOTSUP | Errno::ISDIR | Errno::NOSYS | Errno::INVAL))
}

pub(super) fn rename_new(
    dir: BorrowedFd<'_>,
    from: &OsStr,
    to_dir: BorrowedFd<'_>,
    to: &OsStr,
) -> io::Result<()> {
    Ok(fs::renameat_with(dir, from, to_dir, to, RenameFlags::NOREPLACE)?)
}

pub(super) fn sync_fd(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fs::fsync(fd)?)
}

pub(super) use sync_fd as sync_dir_fd;

impl File {
    /// Can this unnamed file be given a name? Asked before anything is written.
    pub(crate) fn can_be_linked(&self, dir: &Dir) -> bool {
        #[cfg(feature = "crash_testing")]
        if crate::sys::record::refuses_links_by_descriptor() {
            return false;
        }
        links_by_descriptor()
            // Without the right the answer is ENOENT; with it, "." is there already.
            || fs::linkat(self, c"", dir, c".", AtFlags::EMPTY_PATH) == Err(Errno::EXIST)
            || fs::stat(proc_path(self.as_fd())).is_ok()
    }

    /// Gives an unnamed file its name, unless something has it.
    pub(crate) fn link_as(&self, dir: &Dir, name: &OsStr) -> io::Result<()> {
        record!(Op::LinkUnnamed { file: self, dir, name }, {
            match fs::linkat(self, c"", dir, name, AtFlags::EMPTY_PATH) {
                // Not allowed by descriptor (a kernel before 6.10), or the directory is gone.
                Err(Errno::NOENT) => {
                    let by_proc = proc_path(self.as_fd());
                    Ok(fs::linkat(fs::CWD, by_proc, dir, name, AtFlags::SYMLINK_FOLLOW)?)
                }
                linked => Ok(linked?),
            }
        })
    }

    /// Starts writing everything to the device, so that the sync has less to wait for. Makes nothing
    /// durable. Errors are left to the sync, which is told of them.
    pub(crate) fn begin_write_out(&self) {
        let _ = self.write_out(0, 0, false);
    }

    /// Starts writing a range to the device; with `wait`, waits for it. Makes nothing durable. An error
    /// that was waited for is not told again by a sync (`file_check_and_advance_wb_err` in
    /// the kernel's `mm/filemap.c`).
    pub(crate) fn write_out(&self, offset: u64, len: u64, wait: bool) -> io::Result<()> {
        let written: io::Result<()> = record!(
            Op::WriteOut { file: self, offset, len, wait },
            super::write_out::write_out(self.as_fd(), offset, len, wait)
        );
        // Only the sync is needed.
        if written.as_ref().is_err_and(no_write_out) { Ok(()) } else { written }
    }

    /// Writes everything to the device and waits. With all three flags the kernel waits for each
    /// page, and reports what went wrong. Where there is no such call, a sync does it.
    pub(crate) fn written_out(&self) -> io::Result<()> {
        let written: io::Result<()> = record!(
            Op::WriteOut { file: self, offset: 0, len: u64::MAX, wait: true },
            super::write_out::write_out(self.as_fd(), 0, 0, true)
        );
        if written.as_ref().is_err_and(no_write_out) { self.sync() } else { written }
    }

    /// Lets this empty file share the content of another. False where that can't be had.
    pub(crate) fn share_content_of(&self, other: &File) -> io::Result<bool> {
        #[cfg(feature = "crash_testing")]
        if crate::sys::record::current().is_some() {
            // The recorder has no word for it.
            return Ok(false);
        }
        match fs::ioctl_ficlone(self, other) {
            Ok(()) => Ok(true),
            Err(e @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => Err(e.into()),
            Err(_) => Ok(false),
        }
    }

    /// [`fs_kind`] of this file.
    pub(crate) fn fs_kind(&self, stat: &Stat) -> io::Result<FsKind> {
        fs_kind(self, stat)
    }
}

/// What a file system can be trusted with. Cached by mount where mounts have ids that are never
/// reused.
pub(crate) fn fs_kind(fd: impl AsFd, stat: &Stat) -> io::Result<FsKind> {
    #[cfg(feature = "crash_testing")]
    if let Some(assumed) = crate::sys::record::assumed_fs_kind() {
        return Ok(assumed);
    }
    static CACHE: Mutex<Vec<(u64, FsKind)>> = Mutex::new(Vec::new());
    let ask = || Ok(fs_kind_of(fs::fstatfs(&fd)?.f_type as u64));
    let Some(mount) = stat.mount else { return ask() };
    let mut cache = CACHE.lock().unwrap_or_else(|broken| broken.into_inner());
    if let Some((_, kind)) = cache.iter().find(|(known, _)| *known == mount) {
        return Ok(*kind);
    }
    let kind = ask()?;
    if cache.len() == 64 {
        cache.remove(0);
    }
    cache.push((mount, kind));
    Ok(kind)
}

/// No such call here, or a sandbox that forbids it.
fn no_write_out(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::NOSYS | Errno::PERM | Errno::NOTSUP | Errno::SPIPE))
}

fn proc_path(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// Since Linux 6.10 a descriptor can be linked by whoever opened it, without `/proc`.
fn links_by_descriptor() -> bool {
    linux_since(6, 10)
}

/// Is the kernel at least this one?
pub(crate) fn linux_since(major: u32, minor: u32) -> bool {
    static RUNNING: OnceLock<(u32, u32)> = OnceLock::new();
    let running = RUNNING.get_or_init(|| {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    });
    *running >= (major, minor)
}

/// The magic numbers are those of `linux/magic.h` and of each file system's own header.
fn fs_kind_of(magic: u64) -> FsKind {
    const VOLATILE: [u64; 2] = [/* tmpfs */ 0x0102_1994, /* ramfs */ 0x8584_58f6];
    const REMOTE: [u64; 12] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x6573_5546, // FUSE: a server, near or far
        0x0102_1997, // 9P
        0x00c3_6400, // Ceph
        0x5346_414f, // OpenAFS
        0x6b41_4653, // kAFS
        0x7375_7245, // Coda
        0x0bd0_0bd0, // Lustre
        0x786f_4256, // VirtualBox shared folder
    ];
    // statfs fields are signed on some architectures and 32 bits wide.
    let magic = magic & 0xffff_ffff;
    FsKind { volatile: VOLATILE.contains(&magic), remote: REMOTE.contains(&magic), family: Family::of(magic) }
}

/// What the file system under a directory is, and whether it is known to exchange names.
pub(super) fn look_at_volume(dir: &Dir) -> io::Result<(FsKind, bool)> {
    let magic = fs::fstatfs(dir)?.f_type as u64;
    Ok((fs_kind_of(magic), is_known_to_exchange(magic)))
}

fn is_known_to_exchange(magic: u64) -> bool {
    const KNOWN: [u64; 7] = [
        0xef53,      // ext4
        0x5846_5342, // XFS
        0x9123_683e, // btrfs
        0x0102_1994, // tmpfs
        0x794c_7630, // overlay, as far as its upper layer is one of these
        0xf2f5_2010, // F2FS
        0xca45_1a4e, // bcachefs
    ];
    // statfs fields are signed on some architectures and 32 bits wide.
    KNOWN.contains(&(magic & 0xffff_ffff))
}
