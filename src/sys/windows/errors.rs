//! What Windows' error codes mean, as `winerror.h` numbers them.

use std::io;

use crate::ErrorKind;

const INVALID_FUNCTION: i32 = 1;
const FILE_NOT_FOUND: i32 = 2;
const PATH_NOT_FOUND: i32 = 3;
const TOO_MANY_OPEN_FILES: i32 = 4;
pub(super) const ACCESS_DENIED: i32 = 5;
const NOT_ENOUGH_MEMORY: i32 = 8;
const OUT_OF_MEMORY: i32 = 14;
const NOT_SAME_DEVICE: i32 = 17;
const WRITE_PROTECT: i32 = 19;
pub(super) const SHARING_VIOLATION: i32 = 32;
const LOCK_VIOLATION: i32 = 33;
const HANDLE_DISK_FULL: i32 = 39;
const NOT_SUPPORTED: i32 = 50;
const UNEXPECTED_NETWORK_ERROR: i32 = 59;
const NETWORK_NAME_DELETED: i32 = 64;
const FILE_EXISTS: i32 = 80;
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
const WAIT_TIMEOUT: i32 = 258;
const NOT_A_DIRECTORY: i32 = 267;
pub(super) const DELETE_PENDING: i32 = 303;
const DIRECTORY_NOT_SUPPORTED: i32 = 336;
const TOO_MANY_LINKS: i32 = 1142;
const DISK_QUOTA_EXCEEDED: i32 = 1295;
const NO_SYSTEM_RESOURCES: i32 = 1450;
const TIMEOUT: i32 = 1460;
const CANT_RESOLVE_FILENAME: i32 = 1921;

/// A link where none may be, or too many of them.
pub(super) fn link_in_the_way() -> io::Error {
    io::Error::from_raw_os_error(CANT_RESOLVE_FILENAME)
}

/// Somebody has it open.
pub(super) fn in_use() -> io::Error {
    io::Error::from_raw_os_error(SHARING_VIOLATION)
}

/// The kind of an error code; see the table at [`ErrorKind`].
pub(crate) fn kind_of_code(e: &io::Error) -> Option<ErrorKind> {
    Some(match e.raw_os_error()? {
        FILE_NOT_FOUND | PATH_NOT_FOUND => ErrorKind::NotFound,
        ACCESS_DENIED => ErrorKind::PermissionDenied,
        FILE_EXISTS | ALREADY_EXISTS | DIR_NOT_EMPTY => ErrorKind::AlreadyExists,
        HANDLE_DISK_FULL | DISK_FULL => ErrorKind::StorageFull,
        DISK_QUOTA_EXCEEDED => ErrorKind::QuotaExceeded,
        WRITE_PROTECT => ErrorKind::ReadOnlyFilesystem,
        INVALID_NAME | BAD_PATHNAME | FILENAME_TOO_LONG | CANT_RESOLVE_FILENAME => ErrorKind::InvalidPath,
        DIRECTORY_NOT_SUPPORTED => ErrorKind::IsADirectory,
        NOT_A_DIRECTORY => ErrorKind::NotADirectory,
        FILE_TOO_LARGE => ErrorKind::TooLarge,
        SHARING_VIOLATION | LOCK_VIOLATION | BUSY | DELETE_PENDING => ErrorKind::Busy,
        NOT_SAME_DEVICE => ErrorKind::CrossDevice,
        SEMAPHORE_TIMEOUT | WAIT_TIMEOUT | TIMEOUT => ErrorKind::TimedOut,
        INVALID_FUNCTION | NOT_SUPPORTED | CALL_NOT_IMPLEMENTED => ErrorKind::Unsupported,
        _ => ErrorKind::Io,
    })
}

fn is_one_of(e: &io::Error, codes: &[i32]) -> bool {
    e.raw_os_error().is_some_and(|code| codes.contains(&code))
}

pub(crate) fn is_transient(e: &io::Error) -> bool {
    is_one_of(e, &[TOO_MANY_OPEN_FILES, NOT_ENOUGH_MEMORY, OUT_OF_MEMORY, NO_SYSTEM_RESOURCES])
}

/// After this error a rename or link has certainly not happened. Over a network, a reply can
/// be lost and the request repeated: then the second attempt finds its own work in the way.
pub(crate) fn is_not_done(e: &io::Error, remote: bool) -> bool {
    const REPLY_LOST: [i32; 5] =
        [UNEXPECTED_NETWORK_ERROR, NETWORK_NAME_DELETED, SEMAPHORE_TIMEOUT, WAIT_TIMEOUT, TIMEOUT];
    const PERHAPS_OURS: [i32; 4] = [FILE_NOT_FOUND, PATH_NOT_FOUND, FILE_EXISTS, ALREADY_EXISTS];
    match kind_of_code(e) {
        None => is_unsupported(e),
        _ if is_one_of(e, &REPLY_LOST) => false,
        _ if is_one_of(e, &PERHAPS_OURS) => !remote,
        Some(ErrorKind::Io) => false,
        Some(_) => true,
    }
}

/// The file system or Windows itself doesn't know this way of renaming.
pub(crate) fn is_unsupported(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::Unsupported
        || is_one_of(e, &[INVALID_FUNCTION, NOT_SUPPORTED, CALL_NOT_IMPLEMENTED])
}

/// The file system has no hard links, or no more of them for this file.
pub(crate) fn cannot_link(e: &io::Error) -> bool {
    is_unsupported(e) || is_one_of(e, &[TOO_MANY_LINKS])
}

/// The rights or the medium forbid it; trying again doesn't help.
pub(crate) fn is_forbidden(e: &io::Error) -> bool {
    is_one_of(e, &[ACCESS_DENIED, WRITE_PROTECT])
}

/// What was a directory a moment ago is none any more. Names are looked at before they are used: an
/// invalid one was renamed in the middle of a call.
pub(crate) fn is_gone(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || is_one_of(e, &[NOT_A_DIRECTORY, CANT_RESOLVE_FILENAME, INVALID_NAME])
}

/// Somebody has it open in a way that forbids what was asked.
pub(super) fn is_in_use(e: &io::Error) -> bool {
    is_one_of(e, &[SHARING_VIOLATION, LOCK_VIOLATION, DELETE_PENDING])
}

pub(super) fn is_denied(e: &io::Error) -> bool {
    is_one_of(e, &[ACCESS_DENIED])
}
