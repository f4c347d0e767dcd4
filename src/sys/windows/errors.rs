//! The meaning of Windows' error codes, as `winerror.h` numbers them: the crate's one table there.
//!
//! Each question is asked by code. An error that the crate or the standard library makes by itself has a kind
//! and no code; it counts as the code that Windows would have given ([`code_of`]).

use std::io;

use crate::error_kind::ErrorKind;

const INVALID_FUNCTION: i32 = 1;
const FILE_NOT_FOUND: i32 = 2;
const PATH_NOT_FOUND: i32 = 3;
const TOO_MANY_OPEN_FILES: i32 = 4;
const ACCESS_DENIED: i32 = 5;
const NOT_ENOUGH_MEMORY: i32 = 8;
const OUT_OF_MEMORY: i32 = 14;
const INVALID_DRIVE: i32 = 15;
const NOT_SAME_DEVICE: i32 = 17;
const WRITE_PROTECT: i32 = 19;
const NOT_READY: i32 = 21;
const SHARING_VIOLATION: i32 = 32;
const LOCK_VIOLATION: i32 = 33;
const HANDLE_DISK_FULL: i32 = 39;
const NOT_SUPPORTED: i32 = 50;
const BAD_NET_PATH: i32 = 53;
const DEVICE_NOT_EXIST: i32 = 55;
const UNEXPECTED_NETWORK_ERROR: i32 = 59;
const NETWORK_NAME_DELETED: i32 = 64;
const BAD_NET_NAME: i32 = 67;
const FILE_EXISTS: i32 = 80;
const INVALID_PARAMETER: i32 = 87;
const DISK_FULL: i32 = 112;
const CALL_NOT_IMPLEMENTED: i32 = 120;
const SEMAPHORE_TIMEOUT: i32 = 121;
const INVALID_NAME: i32 = 123;
const DIR_NOT_EMPTY: i32 = 145;
const BAD_PATHNAME: i32 = 161;
const BUSY: i32 = 170;
const ALREADY_EXISTS: i32 = 183;
const FILENAME_TOO_LONG: i32 = 206;
const FILE_TOO_LARGE: i32 = 223;
const VIRUS_INFECTED: i32 = 225;
const VIRUS_DELETED: i32 = 226;
const WAIT_TIMEOUT: i32 = 258;
const NOT_A_DIRECTORY: i32 = 267;
const DELETE_PENDING: i32 = 303;
const DIRECTORY_NOT_SUPPORTED: i32 = 336;
const CLOUD_PROVIDER_NOT_RUNNING: i32 = 362;
const CLOUD_NOT_SUPPORTED: i32 = 379;
const CLOUD_READ_ONLY_VOLUME: i32 = 381;
const CLOUD_AUTHENTICATION_FAILED: i32 = 386;
const CLOUD_INSUFFICIENT_RESOURCES: i32 = 387;
const CLOUD_NETWORK_UNAVAILABLE: i32 = 388;
const CLOUD_IN_USE: i32 = 391;
const CLOUD_REQUEST_ABORTED: i32 = 393;
const CLOUD_ACCESS_DENIED: i32 = 395;
const CLOUD_INCOMPATIBLE_HARD_LINKS: i32 = 396;
const CLOUD_PROPERTY_LOCK_CONFLICT: i32 = 397;
const CLOUD_REQUEST_CANCELED: i32 = 398;
const CLOUD_PROVIDER_TERMINATED: i32 = 404;
const CLOUD_REQUEST_TIMEOUT: i32 = 426;
const TOO_MANY_LINKS: i32 = 1142;
const USER_MAPPED_FILE: i32 = 1224;
const DISK_QUOTA_EXCEEDED: i32 = 1295;
const NO_SYSTEM_RESOURCES: i32 = 1450;
const TIMEOUT: i32 = 1460;
const CANT_RESOLVE_FILENAME: i32 = 1921;

/// The codes that say that there is nothing of this name.
const NO_SUCH_NAME: [i32; 5] = [FILE_NOT_FOUND, PATH_NOT_FOUND, INVALID_DRIVE, BAD_NET_PATH, BAD_NET_NAME];

/// The codes that say that what keeps the file can't be reached now: a drive without a medium, a server or a
/// share, the service of a file in a cloud.
const OUT_OF_REACH: [i32; 11] = [
    NOT_READY,
    BAD_NET_PATH,
    DEVICE_NOT_EXIST,
    UNEXPECTED_NETWORK_ERROR,
    NETWORK_NAME_DELETED,
    BAD_NET_NAME,
    CLOUD_PROVIDER_NOT_RUNNING,
    CLOUD_NETWORK_UNAVAILABLE,
    CLOUD_REQUEST_ABORTED,
    CLOUD_REQUEST_CANCELED,
    CLOUD_PROVIDER_TERMINATED,
];

/// A link where none may be, or too many of them.
pub(super) fn link_in_the_way() -> io::Error {
    io::Error::from_raw_os_error(CANT_RESOLVE_FILENAME)
}

/// Somebody has it open.
pub(super) fn in_use() -> io::Error {
    io::Error::from_raw_os_error(SHARING_VIOLATION)
}

fn code_of(e: &io::Error) -> Option<i32> {
    if let Some(code) = e.raw_os_error() {
        return Some(code);
    }
    Some(match e.kind() {
        io::ErrorKind::NotFound => FILE_NOT_FOUND,
        io::ErrorKind::PermissionDenied => ACCESS_DENIED,
        io::ErrorKind::AlreadyExists => ALREADY_EXISTS,
        io::ErrorKind::DirectoryNotEmpty => DIR_NOT_EMPTY,
        io::ErrorKind::IsADirectory => DIRECTORY_NOT_SUPPORTED,
        io::ErrorKind::NotADirectory => NOT_A_DIRECTORY,
        io::ErrorKind::StorageFull => DISK_FULL,
        io::ErrorKind::QuotaExceeded => DISK_QUOTA_EXCEEDED,
        io::ErrorKind::ReadOnlyFilesystem => WRITE_PROTECT,
        io::ErrorKind::ResourceBusy => BUSY,
        io::ErrorKind::CrossesDevices => NOT_SAME_DEVICE,
        io::ErrorKind::InvalidInput => INVALID_PARAMETER,
        io::ErrorKind::Unsupported => NOT_SUPPORTED,
        _ => return None,
    })
}

fn is_one_of(e: &io::Error, codes: &[i32]) -> bool {
    code_of(e).is_some_and(|code| codes.contains(&code))
}

/// The kind of an error code; see the table at [`ErrorKind`]. An error without a code has none.
pub(crate) fn kind_of_code(e: &io::Error) -> Option<ErrorKind> {
    Some(match e.raw_os_error()? {
        code if NO_SUCH_NAME.contains(&code) => ErrorKind::NotFound,
        ACCESS_DENIED
        | VIRUS_INFECTED
        | VIRUS_DELETED
        | CLOUD_AUTHENTICATION_FAILED
        | CLOUD_ACCESS_DENIED => ErrorKind::PermissionDenied,
        FILE_EXISTS | ALREADY_EXISTS | DIR_NOT_EMPTY => ErrorKind::AlreadyExists,
        HANDLE_DISK_FULL | DISK_FULL => ErrorKind::StorageFull,
        DISK_QUOTA_EXCEEDED => ErrorKind::QuotaExceeded,
        WRITE_PROTECT | CLOUD_READ_ONLY_VOLUME => ErrorKind::ReadOnlyFilesystem,
        INVALID_NAME | BAD_PATHNAME | FILENAME_TOO_LONG => ErrorKind::InvalidName,
        CANT_RESOLVE_FILENAME => ErrorKind::InvalidPath,
        DIRECTORY_NOT_SUPPORTED => ErrorKind::IsADirectory,
        NOT_A_DIRECTORY => ErrorKind::NotADirectory,
        FILE_TOO_LARGE => ErrorKind::TooLarge,
        SHARING_VIOLATION | LOCK_VIOLATION | BUSY | DELETE_PENDING | USER_MAPPED_FILE => ErrorKind::Busy,
        CLOUD_IN_USE | CLOUD_PROPERTY_LOCK_CONFLICT => ErrorKind::Busy,
        NOT_SAME_DEVICE => ErrorKind::CrossDevice,
        SEMAPHORE_TIMEOUT | WAIT_TIMEOUT | CLOUD_REQUEST_TIMEOUT | TIMEOUT => ErrorKind::TimedOut,
        INVALID_FUNCTION | NOT_SUPPORTED | CALL_NOT_IMPLEMENTED => ErrorKind::Unsupported,
        CLOUD_NOT_SUPPORTED | CLOUD_INCOMPATIBLE_HARD_LINKS => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    })
}

/// A repeated call may succeed after a pause: handles (`TOO_MANY_OPEN_FILES`) or memory
/// (`NOT_ENOUGH_MEMORY`, `OUTOFMEMORY`, `NO_SYSTEM_RESOURCES`, `CLOUD_FILE_INSUFFICIENT_RESOURCES`) may be free
/// again, and what can't be reached may come back. A server or share that isn't there is not found.
pub(crate) fn is_transient(e: &io::Error) -> bool {
    let is_away = is_out_of_reach(e) && !is_not_found(e);
    is_away
        || is_short_of_handles(e)
        || is_short_of_memory(e)
        || is_one_of(e, &[CLOUD_INSUFFICIENT_RESOURCES])
}

/// The device or server that keeps the file can't be reached now.
pub(crate) fn is_out_of_reach(e: &io::Error) -> bool {
    is_one_of(e, &OUT_OF_REACH)
}

/// A name that isn't taken has codes of its own.
pub(crate) fn is_refused_name(_e: &io::Error) -> bool {
    false
}

/// Too many files are open.
pub(crate) fn is_short_of_handles(e: &io::Error) -> bool {
    is_one_of(e, &[TOO_MANY_OPEN_FILES])
}

/// The system is short of memory.
pub(crate) fn is_short_of_memory(e: &io::Error) -> bool {
    is_one_of(e, &[NOT_ENOUGH_MEMORY, OUT_OF_MEMORY, NO_SYSTEM_RESOURCES])
}

/// A virus scanner forbids it (`VIRUS_INFECTED`, `VIRUS_DELETED`). For all else that is not permitted Windows has one code.
pub(crate) fn is_forbidden_by_policy(e: &io::Error) -> bool {
    is_one_of(e, &[VIRUS_INFECTED, VIRUS_DELETED])
}

/// No call ends because of a signal on Windows.
pub(crate) fn is_interrupted(_e: &io::Error) -> bool {
    false
}

/// An open handle keeps its file on Windows.
pub(crate) fn is_stale(_e: &io::Error) -> bool {
    false
}

/// After this error a rename or link has certainly not happened. Whether it has is open after an error of
/// the device or the connection ([`OUT_OF_REACH`], the timeouts, whatever has no kind of its own) and where there is no code but "not supported". Over a network
/// a reply can be lost and the request repeated: then the second attempt finds its own work in the way
/// (`FILE_NOT_FOUND`, `PATH_NOT_FOUND`, `FILE_EXISTS`, `ALREADY_EXISTS`).
pub(crate) fn is_not_done(e: &io::Error, remote: bool) -> bool {
    const PERHAPS_OURS: [i32; 4] = [FILE_NOT_FOUND, PATH_NOT_FOUND, FILE_EXISTS, ALREADY_EXISTS];
    match kind_of_code(e) {
        None => rename_unsupported(e),
        Some(ErrorKind::TimedOut) => false,
        _ if is_out_of_reach(e) => false,
        _ if is_one_of(e, &PERHAPS_OURS) => !remote,
        Some(ErrorKind::Io) => false,
        Some(_) => true,
    }
}

/// Nothing has this name (`FILE_NOT_FOUND`), or there is no way to it: no such directory, drive, server or
/// share (`PATH_NOT_FOUND`, `INVALID_DRIVE`, `BAD_NETPATH`, `BAD_NET_NAME`).
pub(crate) fn is_not_found(e: &io::Error) -> bool {
    is_one_of(e, &NO_SUCH_NAME)
}

/// Something has this name already (`FILE_EXISTS` and `ALREADY_EXISTS`, by the call), or there is something
/// in the directory that has it (`DIR_NOT_EMPTY`).
pub(crate) fn already_exists(e: &io::Error) -> bool {
    is_one_of(e, &[FILE_EXISTS, ALREADY_EXISTS, DIR_NOT_EMPTY])
}

/// The caller has no right to it, or Windows has no better word for the reason (`ACCESS_DENIED`).
pub(crate) fn is_denied(e: &io::Error) -> bool {
    is_one_of(e, &[ACCESS_DENIED])
}

/// The rights (`ACCESS_DENIED`) or the medium (`WRITE_PROTECT`) forbid it; trying again doesn't help.
pub(crate) fn is_forbidden(e: &io::Error) -> bool {
    is_one_of(e, &[ACCESS_DENIED, WRITE_PROTECT])
}

/// A directory of a moment ago is none any more: its name is gone, belongs to a file (`DIRECTORY`), or
/// to a link, which is not followed (`CANT_RESOLVE_FILENAME`). Names are looked at before they are used, so
/// that an invalid one (`INVALID_NAME`) was renamed in the middle of a call.
pub(crate) fn is_gone(e: &io::Error) -> bool {
    is_not_found(e) || is_one_of(e, &[NOT_A_DIRECTORY, CANT_RESOLVE_FILENAME, INVALID_NAME])
}

/// What has this name can't be opened as a file. Here no name of a directory leads to such a thing.
pub(crate) fn is_no_file(_: &io::Error) -> bool {
    false
}

/// Something else is in use there (`BUSY`). A file that somebody has open is another matter ([`is_in_use`]).
pub(crate) fn is_busy(e: &io::Error) -> bool {
    is_one_of(e, &[BUSY])
}

/// The two names are on different volumes (`NOT_SAME_DEVICE`).
pub(crate) fn crosses_devices(e: &io::Error) -> bool {
    is_one_of(e, &[NOT_SAME_DEVICE])
}

/// The file system or Windows itself doesn't know this request (`INVALID_FUNCTION`, `NOT_SUPPORTED`,
/// `CALL_NOT_IMPLEMENTED`).
pub(crate) fn is_unsupported(e: &io::Error) -> bool {
    is_one_of(e, &[INVALID_FUNCTION, NOT_SUPPORTED, CALL_NOT_IMPLEMENTED])
}

/// The file system or Windows itself doesn't know this way of renaming.
pub(crate) fn rename_unsupported(e: &io::Error) -> bool {
    is_unsupported(e)
}

/// The file system has no hard links, or no more of them for this file (`TOO_MANY_LINKS`).
pub(crate) fn cannot_link(e: &io::Error) -> bool {
    is_unsupported(e) || is_one_of(e, &[TOO_MANY_LINKS])
}

/// Somebody has it open in a way that forbids what was asked (`SHARING_VIOLATION`, `LOCK_VIOLATION`,
/// `CLOUD_FILE_IN_USE`), has it mapped (`USER_MAPPED_FILE`), or has it open still after it was removed (`DELETE_PENDING`).
pub(super) fn is_in_use(e: &io::Error) -> bool {
    is_one_of(e, &[SHARING_VIOLATION, LOCK_VIOLATION, DELETE_PENDING, CLOUD_IN_USE, USER_MAPPED_FILE])
}

/// The disk is full, or the caller's quota of it.
pub(crate) fn is_out_of_space(e: &io::Error) -> bool {
    is_one_of(e, &[HANDLE_DISK_FULL, DISK_FULL, DISK_QUOTA_EXCEEDED])
}

/// There are no files without a name.
pub(crate) fn is_link_refused(_e: &io::Error) -> bool {
    false
}

/// A staged file is opened so that it can be renamed.
pub(crate) fn is_refused_while_open(_e: &io::Error) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_kind_that_a_user_can_act_on() {
        for (code, kind, transient) in [
            (USER_MAPPED_FILE, ErrorKind::Busy, false),
            (CLOUD_IN_USE, ErrorKind::Busy, false),
            (VIRUS_INFECTED, ErrorKind::PermissionDenied, false),
            (CLOUD_ACCESS_DENIED, ErrorKind::PermissionDenied, false),
            (CLOUD_READ_ONLY_VOLUME, ErrorKind::ReadOnlyFilesystem, false),
            (CLOUD_NOT_SUPPORTED, ErrorKind::Unsupported, false),
            (CLOUD_REQUEST_TIMEOUT, ErrorKind::TimedOut, false),
            (BAD_NET_PATH, ErrorKind::NotFound, false),
            (NOT_READY, ErrorKind::Io, true),
            (DEVICE_NOT_EXIST, ErrorKind::Io, true),
            (CLOUD_PROVIDER_NOT_RUNNING, ErrorKind::Io, true),
            (CLOUD_INSUFFICIENT_RESOURCES, ErrorKind::Io, true),
        ] {
            let e = io::Error::from_raw_os_error(code);
            assert_eq!((kind_of_code(&e), is_transient(&e)), (Some(kind), transient), "{code}");
        }
    }

    #[test]
    fn where_the_answer_may_be_lost_nothing_is_known_to_be_undone() {
        for code in [NOT_READY, BAD_NET_PATH, CLOUD_PROVIDER_TERMINATED, CLOUD_REQUEST_TIMEOUT, TIMEOUT] {
            assert!(!is_not_done(&io::Error::from_raw_os_error(code), false), "{code}");
        }
        assert!(is_not_done(&io::Error::from_raw_os_error(USER_MAPPED_FILE), true));
    }
}
