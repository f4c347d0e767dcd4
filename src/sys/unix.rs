//! Handles and system calls on Unix.

use std::ffi::{CString, OsStr, OsString};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::{Kind, Stat};
use crate::ErrorKind;

#[cfg(target_os = "linux")]
pub(crate) use super::linux::*;
#[cfg(target_vendor = "apple")]
pub(crate) use super::macos::*;

/// An open directory; everything happens relative to one.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    /// False if it may not be opened for reading; then it can't be synced or listed either.
    syncable: bool,
}

/// An open regular file.
#[derive(Debug)]
pub(crate) struct File {
    pub(super) fd: OwnedFd,
}

/// What stands at a name, found without side effects on FIFOs and devices.
#[derive(Clone, Debug)]
pub(crate) struct Existing {
    pub(crate) stat: Stat,
    /// As far as the caller may read them; none unless asked for, and only of a regular file.
    pub(crate) xattrs: Xattrs,
}

/// Extended attributes, ACLs among them.
pub(crate) type Xattrs = Vec<(CString, Vec<u8>)>;

/// The access ACL, as Linux stores it.
pub(crate) const ACL: &std::ffi::CStr = c"system.posix_acl_access";

/// What a directory hands on to what is created in it.
pub(crate) const DEFAULT_ACL: &std::ffi::CStr = c"system.posix_acl_default";

impl Dir {
    /// Opens a directory by its path; the empty path is the current directory.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        Dir::open_from(fs::CWD, path)
    }

    /// The same, relative to this directory.
    pub(crate) fn open_at(&self, path: &Path) -> io::Result<Dir> {
        Dir::open_from(self.fd.as_fd(), path)
    }

    fn open_from(at: BorrowedFd<'_>, path: &Path) -> io::Result<Dir> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let readable = || fs::openat(at, path, flags | OFlags::RDONLY, Mode::empty());
        match rustix::io::retry_on_intr(readable) {
            #[cfg(target_os = "linux")]
            Err(Errno::ACCESS) => {
                let fd = fs::openat(at, path, flags | OFlags::PATH, Mode::empty())?;
                Ok(Dir { fd, syncable: false })
            }
            opened => Ok(Dir { fd: opened?, syncable: true }),
        }
    }

    /// Opens a directory for reading, by a name that is no link.
    pub(super) fn open_exact(at: BorrowedFd<'_>, name: &OsStr) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Dir { fd: fs::openat(at, name, flags, Mode::empty())?, syncable: true })
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        stat_fd(self.fd.as_fd())
    }

    pub(crate) fn stat_at(&self, name: &OsStr) -> io::Result<Stat> {
        stat_path(self.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// What a name leads to in the end.
    pub(crate) fn stat_through(&self, path: &OsStr) -> io::Result<Stat> {
        stat_path(self.fd.as_fd(), path, AtFlags::empty())
    }

    pub(crate) fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        let target = fs::readlinkat(&self.fd, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Opens a file for reading, without following a link at its name.
    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File { fd: fs::openat(&self.fd, name, flags, Mode::empty())? })
    }

    /// The same for writing.
    pub(crate) fn open_file_to_write(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File { fd: fs::openat(&self.fd, name, flags, Mode::empty())? })
    }

    /// Opens a directory below this one without following a link anywhere on the way.
    pub(crate) fn open_beneath(&self, path: &Path) -> io::Result<Dir> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        #[cfg(target_os = "linux")]
        match fs::openat2(
            &self.fd,
            path,
            flags,
            Mode::empty(),
            fs::ResolveFlags::BENEATH | fs::ResolveFlags::NO_SYMLINKS,
        ) {
            // Before Linux 5.6, and under some sandboxes.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return Ok(Dir { fd: opened?, syncable: true }),
        }
        let mut fd = fs::openat(&self.fd, c".", flags, Mode::empty())?;
        for part in path.components() {
            fd = fs::openat(&fd, part.as_os_str(), flags, Mode::empty())?;
        }
        Ok(Dir { fd, syncable: true })
    }

    /// Creates a file that has no name yet; none where the file system can't.
    pub(crate) fn create_unnamed(&self, mode: u32) -> io::Result<Option<File>> {
        match record!(Op::CreateUnnamed { dir: self, mode }, create_unnamed(self.fd.as_fd(), mode)) {
            Err(e) if cannot_be_unnamed(&e) => Ok(None),
            created => Ok(Some(File { fd: created? })),
        }
    }

    /// Creates a file under a name that nothing has, not even a dangling link.
    pub(crate) fn create_new(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = record!(
            Op::Create { dir: self, name },
            fs::openat(&self.fd, name, flags, mode_of(mode)).map_err(io::Error::from)
        )?;
        Ok(File { fd })
    }

    pub(crate) fn mkdir(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        record!(Op::Mkdir { dir: self, name }, Ok(fs::mkdirat(&self.fd, name, mode_of(mode))?))
    }

    /// Renames within this directory, replacing what is at `to`.
    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        record!(
            Op::Rename { dir: self, from, to_dir: self, to },
            Ok(fs::renameat(&self.fd, from, &self.fd, to)?)
        )
    }

    /// Renames within this directory unless something is at `to`.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        record!(
            Op::RenameNew { dir: self, from, to_dir: self, to },
            rename_new(self.fd.as_fd(), from, self.fd.as_fd(), to)
        )
    }

    pub(crate) fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        record!(
            Op::Link { dir: self, from, to_dir: self, to },
            Ok(fs::linkat(&self.fd, from, &self.fd, to, AtFlags::empty())?)
        )
    }

    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        record!(Op::Unlink { dir: self, name }, Ok(fs::unlinkat(&self.fd, name, AtFlags::empty())?))
    }

    /// A directory whose own name can't be made durable, and so nothing in it.
    pub(crate) fn never_durable(self) -> Dir {
        Dir { syncable: false, ..self }
    }

    /// Whether `sync` has a chance.
    pub(crate) fn can_be_synced(&self) -> bool {
        self.syncable
    }

    /// Makes this directory's entries durable. False where the file system can't do that, or
    /// the directory may not be opened for reading.
    pub(crate) fn sync(&self) -> io::Result<bool> {
        if !self.syncable {
            return Ok(false);
        }
        match record!(Op::SyncDir { dir: self }, sync_dir_fd(self.fd.as_fd())) {
            Err(e) if cannot_sync(&e) => Ok(false),
            synced => synced.map(|()| true),
        }
    }

    /// The names in this directory, in the order the system gives them, and what each is where
    /// the file system says so without another call.
    pub(crate) fn entries(&self) -> io::Result<impl Iterator<Item = io::Result<(OsString, Option<Kind>)>>> {
        let entries = fs::Dir::read_from(&self.fd)?;
        Ok(entries.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                let dots = name == b"." || name == b"..";
                (!dots).then(|| Ok((OsStr::from_bytes(name).to_owned(), kind_of(entry.file_type()))))
            }
            Err(e) => Some(Err(e.into())),
        }))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl File {
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        stat_fd(self.fd.as_fd())
    }

    /// One write; may be short.
    pub(crate) fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        record!(
            Op::Write { file: self, offset, data },
            Ok(rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.fd, data, offset))?)
        )
    }

    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::pread(&self.fd, &mut *into, offset))?)
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        record!(Op::SetMode { file: self, mode }, Ok(fs::fchmod(&self.fd, mode_of(mode))?))
    }

    pub(crate) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (owner, group) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        record!(Op::SetOwner { file: self, uid, gid }, Ok(fs::fchown(&self.fd, owner, group)?))
    }

    pub(crate) fn xattr_names(&self) -> io::Result<Vec<CString>> {
        read_names(|buffer| fs::flistxattr(&self.fd, buffer))
    }

    pub(crate) fn xattr(&self, name: &CString) -> io::Result<Vec<u8>> {
        read_value(|buffer| fs::fgetxattr(&self.fd, name.as_c_str(), buffer))
    }

    pub(crate) fn set_xattr(&self, name: &CString, value: &[u8]) -> io::Result<()> {
        record!(
            Op::SetXattr { file: self, name, value },
            Ok(fs::fsetxattr(&self.fd, name.as_c_str(), value, fs::XattrFlags::empty())?)
        )
    }

    pub(crate) fn remove_xattr(&self, name: &std::ffi::CStr) -> io::Result<()> {
        record!(Op::RemoveXattr { file: self, name }, Ok(fs::fremovexattr(&self.fd, name)?))
    }

    /// Takes the exclusive lock that belongs to this open file, without waiting.
    pub(crate) fn try_lock(&self) -> io::Result<Lock> {
        locked(record!(
            Op::Lock { file: self },
            Ok(fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive)?)
        ))
    }

    /// Whatever is open can be synced.
    pub(crate) fn can_be_synced(&self) -> bool {
        true
    }

    /// Makes content and metadata durable. Never called twice for the data of one save: after a
    /// failure the kernel may have dropped the dirty pages, and a second call would say `Ok`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        record!(Op::SyncFile { file: self }, sync_fd(self.fd.as_fd()))
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What came of trying to take a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Held,
    Elsewhere,
    Unsupported,
}

pub(super) fn locked(done: io::Result<()>) -> io::Result<Lock> {
    match done {
        Ok(()) => Ok(Lock::Held),
        Err(e) => match Errno::from_io_error(&e) {
            Some(Errno::WOULDBLOCK) => Ok(Lock::Elsewhere),
            Some(Errno::NOLCK | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(Lock::Unsupported),
            _ => Err(e),
        },
    }
}

pub(super) fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as fs::RawMode)
}

fn kind_of(file_type: fs::FileType) -> Option<Kind> {
    match file_type {
        fs::FileType::RegularFile => Some(Kind::File),
        fs::FileType::Directory => Some(Kind::Dir),
        fs::FileType::Symlink => Some(Kind::Symlink),
        fs::FileType::Unknown => None,
        _ => Some(Kind::Other),
    }
}

pub(super) fn kind_of_mode(mode: u32) -> Kind {
    kind_of(fs::FileType::from_raw_mode(mode as fs::RawMode)).unwrap_or(Kind::Other)
}

/// A file system that has no way to sync a directory says so with one of these.
fn cannot_sync(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::INVAL | Errno::NOTSUP | Errno::BADF))
}

/// Reads a list of NUL-terminated names; most files have few or none.
pub(super) fn read_names(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<CString>> {
    let list = read_value(call)?;
    let names = list.split(|&b| b == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

/// Calls with a buffer that grows until the answer fits; Linux bounds both lists and values
/// at 64 KiB.
pub(super) fn read_value(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    let mut small = [0u8; 512];
    match call(&mut small) {
        Ok(len) => return Ok(small[..len].to_vec()),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e.into()),
    }
    let mut large = vec![0u8; 64 << 10];
    let len = call(&mut large)?;
    large.truncate(len);
    Ok(large)
}

/// The kind of an errno; see the table at [`ErrorKind`].
pub(crate) fn kind_of_code(e: &io::Error) -> Option<ErrorKind> {
    Some(match Errno::from_io_error(e)? {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::ACCESS | Errno::PERM => ErrorKind::PermissionDenied,
        Errno::EXIST | Errno::NOTEMPTY => ErrorKind::AlreadyExists,
        Errno::NOSPC => ErrorKind::StorageFull,
        Errno::DQUOT => ErrorKind::QuotaExceeded,
        Errno::ROFS => ErrorKind::ReadOnlyFilesystem,
        Errno::NAMETOOLONG | Errno::ILSEQ | Errno::LOOP => ErrorKind::InvalidPath,
        Errno::ISDIR => ErrorKind::IsADirectory,
        Errno::NOTDIR => ErrorKind::NotADirectory,
        Errno::FBIG => ErrorKind::TooLarge,
        Errno::BUSY | Errno::TXTBSY => ErrorKind::Busy,
        Errno::XDEV => ErrorKind::CrossDevice,
        Errno::TIMEDOUT => ErrorKind::TimedOut,
        Errno::NOTSUP | Errno::NOSYS => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    })
}

pub(crate) fn is_transient(e: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(e),
        Some(
            Errno::AGAIN
                | Errno::INTR
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::NOBUFS
                | Errno::NOLCK
                | Errno::STALE
        )
    )
}

/// After this error a rename or link has certainly not happened. Over a network, a reply can
/// be lost and the request repeated: then the second attempt finds its own work in the way.
pub(crate) fn is_not_done(e: &io::Error, remote: bool) -> bool {
    match Errno::from_io_error(e) {
        None | Some(Errno::IO | Errno::INTR | Errno::TIMEDOUT | Errno::STALE | Errno::CONNRESET) => false,
        Some(Errno::NOENT | Errno::EXIST) => !remote,
        Some(_) => true,
    }
}

/// The file system or kernel doesn't know this way of renaming.
pub(crate) fn is_unsupported(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP))
}

/// The file system has no hard links, or no more of them for this file.
pub(crate) fn cannot_link(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::MLINK))
}

/// The rights or the mount forbid it; trying again doesn't help.
pub(crate) fn is_forbidden(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::ACCESS | Errno::PERM | Errno::ROFS))
}

/// What was a directory a moment ago is none any more.
pub(crate) fn is_gone(e: &io::Error) -> bool {
    matches!(Errno::from_io_error(e), Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

/// The permission bits that were asked for.
pub(crate) fn mode_of_permissions(permissions: &Permissions) -> u32 {
    permissions.mode() & 0o7777
}

/// For the owner only.
pub(crate) fn private_permissions() -> Option<Permissions> {
    Some(Permissions::from_mode(0o600))
}

/// A name that was written down as bytes.
pub(crate) fn name_of_bytes(bytes: &[u8]) -> Option<&OsStr> {
    Some(OsStr::from_bytes(bytes))
}

pub(crate) fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
