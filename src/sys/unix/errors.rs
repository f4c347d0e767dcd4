//! The crate's one table of what errnos mean.
//!
//! Each question is asked by errno. The kinds of `std::io::ErrorKind` won't do: Rust 1.85 has none for
//! `EOPNOTSUPP`, no version has one for macOS's `ENOTSUP`, and some hold errnos together that mean different
//! things to a save. An error that the crate makes by itself has a kind and no errno; it counts as the errno
//! that the system would have given ([`errno_of`]).
//!
//! "Not supported" has two numbers on macOS (`ENOTSUP`, 45, and `EOPNOTSUPP`, 102), and both are in use
//! there. On Linux they are one.

use std::io;

use rustix::io::Errno;

use crate::error_kind::ErrorKind;

fn errno_of(e: &io::Error) -> Option<Errno> {
    if e.raw_os_error().is_some() {
        return Errno::from_io_error(e);
    }
    Some(match e.kind() {
        io::ErrorKind::NotFound => Errno::NOENT,
        io::ErrorKind::PermissionDenied => Errno::ACCESS,
        io::ErrorKind::AlreadyExists => Errno::EXIST,
        io::ErrorKind::DirectoryNotEmpty => Errno::NOTEMPTY,
        io::ErrorKind::IsADirectory => Errno::ISDIR,
        io::ErrorKind::NotADirectory => Errno::NOTDIR,
        io::ErrorKind::StorageFull => Errno::NOSPC,
        io::ErrorKind::QuotaExceeded => Errno::DQUOT,
        io::ErrorKind::ReadOnlyFilesystem => Errno::ROFS,
        io::ErrorKind::ResourceBusy => Errno::BUSY,
        io::ErrorKind::CrossesDevices => Errno::XDEV,
        io::ErrorKind::InvalidInput => Errno::INVAL,
        io::ErrorKind::Unsupported => Errno::OPNOTSUPP,
        _ => return None,
    })
}

fn is_one_of(e: &io::Error, errnos: &[Errno]) -> bool {
    errno_of(e).is_some_and(|errno| errnos.contains(&errno))
}

/// The kind of an errno; see the table at [`ErrorKind`]. An error without an errno has none.
pub(crate) fn kind_of_code(e: &io::Error) -> Option<ErrorKind> {
    let errno = Errno::from_io_error(e)?;
    if is_unsupported(e) {
        return Some(ErrorKind::Unsupported);
    }
    Some(match errno {
        Errno::NOENT => ErrorKind::NotFound,
        Errno::ACCESS | Errno::PERM => ErrorKind::PermissionDenied,
        Errno::EXIST | Errno::NOTEMPTY => ErrorKind::AlreadyExists,
        Errno::NOSPC => ErrorKind::StorageFull,
        Errno::DQUOT => ErrorKind::QuotaExceeded,
        Errno::ROFS => ErrorKind::ReadOnlyFilesystem,
        Errno::NAMETOOLONG | Errno::ILSEQ => ErrorKind::InvalidName,
        Errno::LOOP => ErrorKind::InvalidPath,
        Errno::ISDIR => ErrorKind::IsADirectory,
        Errno::NOTDIR => ErrorKind::NotADirectory,
        Errno::FBIG => ErrorKind::TooLarge,
        Errno::BUSY | Errno::TXTBSY => ErrorKind::Busy,
        Errno::XDEV => ErrorKind::CrossDevice,
        Errno::TIMEDOUT => ErrorKind::TimedOut,
        _ => ErrorKind::Io,
    })
}

/// A repeated call may succeed after a pause: what was short may be free again (`EAGAIN`, `EMFILE`, `ENFILE`,
/// `ENOMEM`, `ENOBUFS`, `ENOLCK`), a signal came between (`EINTR`), or a network file system replaced what
/// was open (`ESTALE`).
pub(crate) fn is_transient(e: &io::Error) -> bool {
    is_one_of(
        e,
        &[
            Errno::AGAIN,
            Errno::INTR,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::NOBUFS,
            Errno::NOLCK,
            Errno::STALE,
        ],
    )
}

/// The file system does not take the name that this call would have given: `EINVAL`, of file systems that keep
/// to the rules of Windows. Of other calls it says something else.
pub(crate) fn is_refused_name(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::INVAL])
}

/// This process (`EMFILE`) or the system (`ENFILE`) has too many files open.
pub(crate) fn is_short_of_handles(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::MFILE, Errno::NFILE])
}

/// The system is short of memory (`ENOMEM`, `ENOBUFS`).
pub(crate) fn is_short_of_memory(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NOMEM, Errno::NOBUFS])
}

/// Not the rights are in the way (`EACCES`), but a mark on the file or a policy of the system (`EPERM`).
pub(crate) fn is_forbidden_by_policy(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::PERM])
}

/// What keeps the file can't be reached now: a server, or the program behind a FUSE mount (`ECONNABORTED` when it dies, and
/// `ENOTCONN` from then on).
pub(crate) fn is_out_of_reach(e: &io::Error) -> bool {
    is_one_of(
        e,
        &[
            Errno::NOTCONN,
            Errno::CONNABORTED,
            Errno::CONNRESET,
            Errno::HOSTDOWN,
            Errno::HOSTUNREACH,
            Errno::NETDOWN,
            Errno::NETUNREACH,
        ],
    )
}

/// A signal came before the call was done (`EINTR`).
pub(crate) fn is_interrupted(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::INTR])
}

/// After this error a rename or link has certainly not happened. Whether it has is open after an error of the
/// device or the connection (`EIO`, `ETIMEDOUT`, `ESTALE`, [`is_out_of_reach`]), after a signal (`EINTR`), and where
/// there is no errno. Over a network a reply can be lost and the request repeated: then the second attempt
/// finds its own work in the way (`ENOENT`, `EEXIST`).
pub(crate) fn is_not_done(e: &io::Error, remote: bool) -> bool {
    match errno_of(e) {
        None | Some(Errno::IO | Errno::INTR | Errno::TIMEDOUT | Errno::STALE) => false,
        _ if is_out_of_reach(e) => false,
        Some(Errno::NOENT | Errno::EXIST) => !remote,
        Some(_) => true,
    }
}

/// The open file was removed, through another client of a network file system (`ESTALE`).
pub(crate) fn is_stale(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::STALE])
}

/// Nothing has this name (`ENOENT`).
pub(crate) fn is_not_found(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NOENT])
}

/// Something has this name already (`EEXIST`), or there is something in the directory that has it
/// (`ENOTEMPTY`): a rename of a directory may say either.
pub(crate) fn already_exists(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::EXIST, Errno::NOTEMPTY])
}

/// The caller has no right to it (`EACCES`), or only somebody with more privileges has (`EPERM`, which is
/// also what an immutable file and a sandbox say).
pub(crate) fn is_denied(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::ACCESS, Errno::PERM])
}

/// The rights (`EACCES`, `EPERM`) or the mount (`EROFS`) forbid it; trying again doesn't help.
pub(crate) fn is_forbidden(e: &io::Error) -> bool {
    is_denied(e) || is_one_of(e, &[Errno::ROFS])
}

/// A directory of a moment ago is none any more: its name is gone (`ENOENT`), or belongs to a file
/// (`ENOTDIR`) or to a link, which is not followed (`ELOOP`).
pub(crate) fn is_gone(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NOENT, Errno::NOTDIR, Errno::LOOP])
}

/// What has this name can't be opened as a file: a socket, or a device that nothing drives (`ENXIO`, `ENODEV`).
pub(crate) fn is_no_file(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NXIO, Errno::NODEV])
}

/// Something else is in use there: a mount point above all (`EBUSY`).
pub(crate) fn is_busy(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::BUSY])
}

/// The two names are on different file systems or mounts, or in different projects of a quota (`EXDEV`).
pub(crate) fn crosses_devices(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::XDEV])
}

/// The disk is full (`ENOSPC`) or the caller's quota of it (`EDQUOT`).
pub(crate) fn is_out_of_space(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NOSPC, Errno::DQUOT])
}

/// The kernel has no such call (`ENOSYS`), or the file system doesn't know it (`ENOTSUP`, `EOPNOTSUPP`).
pub(crate) fn is_unsupported(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP])
}

/// This way of renaming can't be had: the file system or kernel doesn't know it (a flag that it doesn't know is
/// `EINVAL`), or it may not be used (`EPERM`, `EACCES`), which a sandbox says of calls that it doesn't know. An
/// ordinary rename, or a link, may be permitted.
pub(crate) fn rename_unsupported(e: &io::Error) -> bool {
    is_unsupported(e) || is_denied(e) || is_one_of(e, &[Errno::INVAL])
}

/// The file system has no hard links (`EPERM`, as `link(2)` says, or "not supported"), or no more of them for
/// this file (`EMLINK`); or a sandbox permits none (`EACCES` for the programs of Android). Where the directory's
/// rights are in the way, what is tried instead meets them too.
pub(crate) fn cannot_link(e: &io::Error) -> bool {
    is_unsupported(e) || is_denied(e) || is_one_of(e, &[Errno::MLINK])
}

/// An unnamed file was refused a name: by the file system, by the rights, by a sandbox, or because there is no
/// `/proc` to link it by. An ordinary file may be allowed what this one isn't, unless the name is taken, there
/// is no room for it, or the device or the connection failed.
pub(crate) fn is_link_refused(e: &io::Error) -> bool {
    let meets_others_too = already_exists(e) || is_out_of_space(e) || is_transient(e);
    is_not_done(e, false) && !meets_others_too
}

/// Some network shares rename and remove no file that is open (`ETXTBSY`, `EBUSY`, `EACCES`).
pub(crate) fn is_refused_while_open(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::TXTBSY, Errno::BUSY, Errno::ACCESS])
}

/// The file system has no way to sync a directory, and says so by `EINVAL` (`fsync(2)`), "not supported" of
/// the file system alone, or `EBADF`, as some network file systems do. A kernel without the call at all
/// (`ENOSYS`) is an error.
pub(super) fn cannot_sync(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::INVAL, Errno::NOTSUP, Errno::OPNOTSUPP, Errno::BADF])
}

/// Somebody else has the lock (`EWOULDBLOCK`, which is `EAGAIN`).
pub(super) fn is_locked_elsewhere(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::WOULDBLOCK])
}

/// There are no locks here: `ENOLCK` of NFS without its lock server, "not supported", or `EINVAL` of file systems
/// that don't know `flock`; or a sandbox permits none (`EACCES` of AppArmor without the permission `k`, `EPERM`).
pub(super) fn cannot_lock(e: &io::Error) -> bool {
    is_unsupported(e) || is_denied(e) || is_one_of(e, &[Errno::NOLCK, Errno::INVAL])
}

/// The file system has no extended attributes ("not supported"), or a sandbox or the rights keep them from
/// the caller (`EPERM`, `EACCES`).
#[cfg(any(test, not(any(target_os = "linux", target_os = "android"))))]
pub(super) fn no_xattrs(e: &io::Error) -> bool {
    is_unsupported(e) || is_denied(e)
}

/// The attribute is not there (`ENODATA`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn no_such_xattr(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NODATA])
}

/// The answer does not fit into the buffer (`ERANGE`).
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(super) fn is_too_long(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::RANGE])
}

/// Without this right (`EACCES`) or on this mount (`EROFS`) no name can be created. Other answers, such as
/// the `EINVAL` of Linux before 5.8 for `AT_EACCESS`, say that the question can't be asked.
pub(super) fn may_not_change(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::ACCESS, Errno::ROFS])
}

/// No process has this number (`ESRCH`). One that belongs to somebody else is there (`EPERM`).
pub(super) fn is_no_process(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::SRCH])
}

/// The kernel checked both names and found nothing, so that it knows the flag (`ENOENT`).
pub(super) fn knows_the_flag(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NOENT])
}

/// The directory may be used, but not read (`EACCES`): `O_PATH` opens it all the same.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn may_not_be_read(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::ACCESS])
}

/// The directory was opened without the right to read it, by `O_PATH`, so that it tells nothing of itself (`EBADF`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn was_not_opened_to_read(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::BADF])
}

/// The kernel is older than the call (`ENOSYS`), or a sandbox forbids what it doesn't know (`EPERM`): so of
/// `openat2`, which came with Linux 5.6.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn knows_no_such_call(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NOSYS, Errno::PERM])
}

/// `statx` is missing before Linux 4.11, and under sandboxes that filter it (`ENOSYS`). `EPERM` is not among
/// them: it may be the directory's answer.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn knows_no_statx(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::NOSYS])
}

/// Something was renamed while a link that goes upwards was followed (`EAGAIN` of `openat2`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn was_renamed_meanwhile(e: &io::Error) -> bool {
    is_one_of(e, &[Errno::AGAIN])
}

/// The file system has no files without a name ("not supported"), the kernel takes `O_TMPFILE` for the
/// `O_DIRECTORY` that it contains (`EISDIR`, before Linux 3.11), gVisor doesn't know it (`EINVAL`), or a sandbox
/// forbids it (`EPERM`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn cannot_be_unnamed(e: &io::Error) -> bool {
    is_unsupported(e) || is_one_of(e, &[Errno::ISDIR, Errno::INVAL, Errno::PERM])
}

/// There is no `sync_file_range` here ("not supported", `EINVAL`, `ESPIPE` of what is no file or block device), or a
/// sandbox forbids it (`EPERM`, `EACCES`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn no_write_out(e: &io::Error) -> bool {
    is_unsupported(e) || is_denied(e) || is_one_of(e, &[Errno::INVAL, Errno::SPIPE])
}

/// The file system can't reserve room ("not supported", `EINVAL` of one that knows no `KEEP_SIZE`), or a sandbox
/// forbids it (`EPERM`).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn cannot_reserve(e: &io::Error) -> bool {
    is_unsupported(e) || is_one_of(e, &[Errno::INVAL, Errno::PERM])
}

/// The clone of a file failed for a reason that a copy would meet too (`ENOSPC`, `EDQUOT`, `EIO`). Any other
/// means that blocks can't be shared here.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(in crate::sys) fn would_fail_a_copy(e: &io::Error) -> bool {
    is_out_of_space(e) || is_one_of(e, &[Errno::IO])
}

/// The device's cache can't be emptied by `F_FULLFSYNC`: network and foreign file systems say "not
/// supported", `EINVAL` or `ENOTTY`.
#[cfg(target_vendor = "apple")]
pub(in crate::sys) fn cannot_flush_device(e: &io::Error) -> bool {
    is_unsupported(e) || is_one_of(e, &[Errno::INVAL, Errno::NOTTY])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(errno.raw_os_error())
    }

    #[test]
    fn both_numbers_of_not_supported_are_unsupported() {
        for errno in [Errno::NOTSUP, Errno::OPNOTSUPP, Errno::NOSYS] {
            let e = error(errno);
            let questions = [is_unsupported, rename_unsupported, cannot_link, cannot_lock, no_xattrs];
            assert!(questions.iter().all(|asked| asked(&e)), "{e}");
            assert_eq!(kind_of_code(&e), Some(ErrorKind::Unsupported));
        }
    }

    #[test]
    fn an_error_of_our_own_counts_as_the_errno_that_the_system_would_give() {
        let own = |kind: io::ErrorKind| io::Error::from(kind);
        assert!(is_not_found(&own(io::ErrorKind::NotFound)));
        assert!(already_exists(&own(io::ErrorKind::AlreadyExists)));
        assert!(is_denied(&own(io::ErrorKind::PermissionDenied)));
        assert!(is_unsupported(&own(io::ErrorKind::Unsupported)));
        assert!(crosses_devices(&own(io::ErrorKind::CrossesDevices)));
        assert!(!is_not_found(&own(io::ErrorKind::Other)));
        assert_eq!(kind_of_code(&own(io::ErrorKind::NotFound)), None, "it has no errno");
    }

    #[test]
    fn what_was_interrupted_may_be_done() {
        assert!(!is_not_done(&error(Errno::INTR), false));
        assert!(is_not_done(&error(Errno::NOENT), false));
        assert!(!is_not_done(&error(Errno::NOENT), true));
    }
}
