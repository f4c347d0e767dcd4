//! Handles and system calls on Unix.

mod dir;
mod errors;
mod file;
mod lock;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod not_linux;
mod process;
mod stat;
mod tree;
mod volume;
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(super) mod xattr;

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{self, Mode, OFlags};

use super::Kind;

pub(crate) use dir::Dir;
pub(crate) use errors::*;
pub(crate) use file::File;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) use not_linux::*;
pub(crate) use process::{boot_id, host_name, name_space, uptime};
pub(crate) use stat::*;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use tree::TO_READ;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use tree::with_stat;
pub(crate) use tree::{copy_times, std_file};

/// Calls until no signal interrupts: the one place where `EINTR` is met.
///
/// Every call of this module passes it but two kinds. `close` gives the descriptor back on Linux
/// whatever it answers, so that a second call could close somebody else's. Exchanging two names
/// twice is as good as never.
///
/// A sync may be repeated. What must never be called again is a sync that has told of lost data, for the
/// second one says `Ok`; those errors are `EIO` and `ENOSPC`. `EINTR` says that the wait was cut
/// short: NFS keeps the pages dirty then (`nfs_error_is_fatal_on_server` in `fs/nfs/internal.h`).
pub(in crate::sys) fn retry<T, E: Into<io::Error>>(mut call: impl FnMut() -> Result<T, E>) -> io::Result<T> {
    loop {
        match call().map_err(E::into) {
            Err(e) if is_interrupted(&e) => {}
            done => return done,
        }
    }
}

/// Opens what has this name, or is at this path, in an open directory.
pub(in crate::sys) fn open_at(at: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> io::Result<OwnedFd> {
    retry(|| fs::openat(at, name, flags, Mode::empty()))
}

/// [`retry`] for a call that gives or takes away a name. A network file system may have carried out what
/// a signal interrupted. The next attempt then finds the old name gone, or the new one taken, which
/// would count as "nothing happened" ([`is_not_done`]). So the answer is the interruption, after which
/// callers look at what is there.
pub(in crate::sys) fn retry_naming<E: Into<io::Error>>(
    mut call: impl FnMut() -> Result<(), E>,
) -> io::Result<()> {
    // Compiled once, and not for each call.
    fn repeat(call: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        let mut interrupted = None;
        loop {
            match (call(), interrupted) {
                (Err(e), _) if is_interrupted(&e) => interrupted = Some(e),
                (Err(e), Some(before)) if is_not_found(&e) || already_exists(&e) => return Err(before),
                (done, _) => return done,
            }
        }
    }
    repeat(&mut || call().map_err(E::into))
}

/// Makes a file or a directory durable. macOS has a call of its own for each.
#[cfg(not(target_vendor = "apple"))]
pub(super) fn sync_fd(fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
    fs::fsync(fd)
}

#[cfg(not(target_vendor = "apple"))]
pub(super) use sync_fd as sync_dir_fd;

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

/// The permission bits that were asked for.
pub(crate) fn mode_of_permissions(permissions: &Permissions) -> u32 {
    permissions.mode() & 0o7777
}

/// Rights for the owner only.
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

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    /// A call that gives these answers, one after the other.
    fn answers(errnos: &[Errno]) -> impl FnMut() -> Result<(), Errno> + '_ {
        let mut errnos = errnos.iter();
        move || errnos.next().map_or(Ok(()), |errno| Err(*errno))
    }

    fn errno(done: io::Result<()>) -> Option<Errno> {
        done.err().map(|e| Errno::from_io_error(&e).unwrap())
    }

    #[test]
    fn a_call_is_repeated_until_no_signal_interrupts_it() {
        assert_eq!(errno(retry(answers(&[Errno::INTR, Errno::INTR]))), None);
        assert_eq!(errno(retry(answers(&[Errno::INTR, Errno::IO]))), Some(Errno::IO));
    }

    #[test]
    fn a_name_that_a_repeated_call_finds_changed_says_only_that_it_was_interrupted() {
        for found in [Errno::NOENT, Errno::EXIST] {
            assert_eq!(errno(retry_naming(answers(&[Errno::INTR, found]))), Some(Errno::INTR));
            assert_eq!(errno(retry_naming(answers(&[found]))), Some(found));
        }
        assert_eq!(errno(retry_naming(answers(&[Errno::INTR]))), None);
        assert_eq!(errno(retry_naming(answers(&[Errno::INTR, Errno::ACCESS]))), Some(Errno::ACCESS));
    }
}
