//! Directories: what is opened, created, renamed, removed and synced in them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{self, AtFlags, OFlags};

use super::errors::{cannot_sync, is_not_found, knows_the_flag, may_not_change};
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::errors::{knows_no_such_call, may_not_be_read};
use super::{File, kind_of, mode_of, open_at, retry, retry_naming};
#[cfg(any(target_os = "linux", target_os = "android"))]
use crate::sys::proc_path;
use crate::sys::{Kind, RenameFlags, Stat, renameat_with, stat_fd, stat_path, sync_dir_fd};

/// Opens a directory for reading, not through a link.
const EXACT: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open directory; everything happens relative to one.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    /// False if it may not be opened for reading; then it can't be synced or listed either.
    syncable: bool,
}

impl Dir {
    /// Opens a directory by its path; the empty path is the current directory.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        Dir::open_from(fs::CWD, path)
    }

    /// Opens a directory by its path relative to this one.
    pub(crate) fn open_at(&self, path: &Path) -> io::Result<Dir> {
        Dir::open_from(self.fd.as_fd(), path)
    }

    fn open_from(at: BorrowedFd<'_>, path: &Path) -> io::Result<Dir> {
        let path = if path.as_os_str().is_empty() { OsStr::new(".") } else { path.as_os_str() };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open_at(at, path, flags | OFlags::RDONLY) {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Err(e) if may_not_be_read(&e) => {
                let fd = open_at(at, path, flags | OFlags::PATH)?;
                Ok(Dir { fd, syncable: false })
            }
            opened => Ok(Dir { fd: opened?, syncable: true }),
        }
    }

    /// Changes nothing: a program that has a file open is in nobody's way here.
    pub(crate) fn with_patience(self, _patience: Option<Duration>) -> Dir {
        self
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        stat_fd(self.fd.as_fd())
    }

    pub(crate) fn stat_at(&self, name: &OsStr) -> io::Result<Stat> {
        stat_path(self.fd.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Follows a name to what it leads to in the end.
    pub(crate) fn stat_through(&self, path: &OsStr) -> io::Result<Stat> {
        stat_path(self.fd.as_fd(), path, AtFlags::empty())
    }

    pub(crate) fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        let target = retry(|| fs::readlinkat(&self.fd, name, Vec::new()))?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    /// Opens a file for reading, without following a link at its name.
    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File { fd: open_at(self.as_fd(), name, flags)? })
    }

    /// Opens a file for writing, without following a link at its name.
    pub(crate) fn open_file_to_write(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Ok(File { fd: open_at(self.as_fd(), name, flags)? })
    }

    /// Opens a directory below this one without following a link anywhere on the way; the empty path is this one.
    pub(crate) fn open_beneath(&self, path: &Path) -> io::Result<Dir> {
        if path.as_os_str().is_empty() {
            return self.open_at(path);
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match self.open_in_one_call(path, fs::ResolveFlags::empty()) {
            Err(e) if knows_no_such_call(&e) => {}
            opened => return opened,
        }
        let mut fd = open_at(self.as_fd(), OsStr::new("."), EXACT)?;
        for part in path.components() {
            fd = open_at(fd.as_fd(), part.as_os_str(), EXACT)?;
        }
        Ok(Dir { fd, syncable: true })
    }

    /// Opens a directory below this one, which Linux does in one call since 5.6.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn open_in_one_call(&self, path: &Path, within: fs::ResolveFlags) -> io::Result<Dir> {
        let within = within | fs::ResolveFlags::BENEATH | fs::ResolveFlags::NO_SYMLINKS;
        let fd = retry(|| fs::openat2(&self.fd, path, EXACT, fs::Mode::empty(), within))?;
        Ok(Dir { fd, syncable: true })
    }

    /// Opens a directory below this one if nothing is mounted at it or on the way there; else the error is `EXDEV`, and the
    /// mount is not asked anything.
    pub(crate) fn open_on_this_mount(&self, path: &Path) -> io::Result<Dir> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        match self.open_in_one_call(path, fs::ResolveFlags::NO_XDEV) {
            Err(e) if knows_no_such_call(&e) => {}
            opened => return opened,
        }
        let dir = self.open_beneath(path)?;
        let is_same = self.stat()?.mount_key() == dir.stat()?.mount_key();
        if is_same { Ok(dir) } else { Err(rustix::io::Errno::XDEV.into()) }
    }

    /// Some file systems (exfat-fuse) say `ENOENT` of a name that they don't take. Where this directory is there,
    /// and so is what was to get the name, nothing else can be meant: then it is `EINVAL`, as others say.
    fn refused_name(&self, e: io::Error, from: Option<(&Dir, &OsStr)>) -> io::Error {
        let is_here = || self.stat().is_ok_and(|found| found.nlink > 0);
        let is_there = || from.is_none_or(|(dir, name)| dir.stat_at(name).is_ok());
        if is_not_found(&e) && is_here() && is_there() { rustix::io::Errno::INVAL.into() } else { e }
    }

    /// Creates a file under a name that nothing has, not even a dangling link.
    pub(crate) fn create_new(&self, name: &OsStr, mode: u32) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = record!(Op::Create { dir: self, name }, fs::openat(&self.fd, name, flags, mode_of(mode)));
        Ok(File { fd: fd.map_err(|e| self.refused_name(e, None))? })
    }

    pub(crate) fn mkdir(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        record!(Op::Mkdir { dir: self, name }, fs::mkdirat(&self.fd, name, mode_of(mode)))
            .map_err(|e| self.refused_name(e, None))
    }

    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        record!(Op::Unlink { dir: self, name }, fs::unlinkat(&self.fd, name, AtFlags::empty()))
    }

    /// A directory whose own name can't be made durable, and so nothing in it.
    pub(crate) fn without_dir_sync(self) -> Dir {
        Dir { syncable: false, ..self }
    }

    /// Says whether `sync` has a chance.
    pub(crate) fn can_be_synced(&self) -> bool {
        self.syncable
    }

    /// Makes this directory's entries durable. False where the file system can't do that, or
    /// the directory may not be opened for reading.
    pub(crate) fn sync_names(&self) -> io::Result<bool> {
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
        let entries = retry(|| fs::Dir::read_from(&self.fd))?;
        Ok(entries.filter_map(|entry| match entry {
            Ok(entry) => {
                let name = entry.file_name().to_bytes();
                let dots = name == b"." || name == b"..";
                (!dots).then(|| Ok((OsStr::from_bytes(name).to_owned(), kind_of(entry.file_type()))))
            }
            Err(e) => Some(Err(e.into())),
        }))
    }

    /// Renames into another directory, replacing what is at `to`.
    pub(crate) fn rename_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        record_once!(
            Op::Rename { dir: self, from, to_dir, to },
            retry_naming(|| fs::renameat(self, from, to_dir, to))
        )
        .map_err(|e| to_dir.refused_name(e, Some((self, from))))
    }

    /// Renames into another directory, unless something is at `to`.
    pub(crate) fn rename_new_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        record_once!(
            Op::RenameNew { dir: self, from, to_dir, to },
            retry_naming(|| renameat_with(self, from, to_dir, to, RenameFlags::NOREPLACE))
        )
        .map_err(|e| to_dir.refused_name(e, Some((self, from))))
    }

    /// A second name for a file, in another directory.
    pub(crate) fn link_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        record_once!(
            Op::Link { dir: self, from, to_dir, to },
            retry_naming(|| fs::linkat(self, from, to_dir, to, AtFlags::empty()))
        )
        .map_err(|e| to_dir.refused_name(e, Some((self, from))))
    }

    /// Opens a directory in this one, not through a link.
    pub(crate) fn open_child(&self, name: &OsStr) -> io::Result<Dir> {
        Ok(Dir { fd: open_at(self.as_fd(), name, EXACT)?, syncable: true })
    }

    /// Fails if the caller may not create and remove names here.
    pub(crate) fn may_change(&self) -> io::Result<()> {
        let access = fs::Access::WRITE_OK.union(fs::Access::EXEC_OK);
        // Android can't be asked on behalf of the effective user, who is the real one there.
        #[cfg(target_os = "android")]
        let as_whom = AtFlags::empty();
        #[cfg(not(target_os = "android"))]
        let as_whom = AtFlags::EACCESS;
        match retry(|| fs::accessat(self, c".", access, as_whom)) {
            Err(e) if may_not_change(&e) => Err(e),
            _ => Ok(()),
        }
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        record!(Op::SetDirMode { dir: self, mode }, fs::fchmod(self, mode_of(mode)))
    }

    /// Adds permission bits to a directory that can't be opened for lack of them.
    ///
    /// A stranger may put a link in its place at any moment, and the link may lead to something of ours. So what is
    /// changed is a descriptor's directory. Without the right to read, only `O_PATH` gives one, which `fchmod` doesn't
    /// take, but `chmod` by way of `/proc` does. Where there is no `/proc`, it is changed by its name if `is_private` says
    /// that no stranger can give that to anything. (`fchmodat2`, from Linux 6.6 on, is not in rustix.)
    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(crate) fn add_mode(&self, name: &OsStr, bits: u32, is_private: bool) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = open_at(self.as_fd(), name, flags)?;
        let mode = mode_of(stat_fd(held.as_fd())?.mode | bits);
        match retry(|| fs::chmodat(fs::CWD, proc_path(held.as_fd()), mode, AtFlags::empty())) {
            Err(e) if is_not_found(&e) && is_private => {
                retry(|| fs::chmodat(self, name, mode, AtFlags::empty()))
            }
            Err(e) if is_not_found(&e) => Err(rustix::io::Errno::ACCESS.into()),
            changed => changed,
        }
    }

    /// Adds permission bits to a directory that can't be opened for lack of them.
    ///
    /// A stranger may put something else in its place at any moment. A link is not followed; another name of a file of
    /// ours would be, and so nobody but the owner gets any rights.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn add_mode(&self, name: &OsStr, bits: u32, _is_private: bool) -> io::Result<()> {
        const OWNER: u32 = 0o700;
        let stat = self.stat_at(name)?;
        if stat.kind != Kind::Dir {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mode = mode_of((stat.mode & OWNER) | bits);
        retry(|| fs::chmodat(self, name, mode, AtFlags::SYMLINK_NOFOLLOW))
    }

    pub(crate) fn rmdir(&self, name: &OsStr) -> io::Result<()> {
        record!(Op::Rmdir { dir: self, name }, fs::unlinkat(self, name, AtFlags::REMOVEDIR))
    }

    /// Do kernel and mount let names be exchanged at all? Asked with two names that don't exist:
    /// the answer comes before the file system is asked, which may refuse all the same.
    pub(crate) fn may_exchange(&self, absent: &OsStr, other: &OsStr) -> bool {
        retry(|| renameat_with(self, absent, self, other, RenameFlags::EXCHANGE))
            .is_err_and(|e| knows_the_flag(&e))
    }

    /// Exchanges two names of this directory.
    pub(crate) fn try_exchange(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        // The call is not repeated after a signal: a second exchange would undo a first one that was carried
        // out.
        record_once!(
            Op::Exchange { dir: self, from, to_dir: self, to },
            renameat_with(self, from, self, to, RenameFlags::EXCHANGE).map_err(io::Error::from)
        )
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
