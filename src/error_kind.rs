//! What can go wrong, in a form that programs can match on. A leaf: `sys` names these kinds, and
//! `error` carries them.

use std::io;

/// What went wrong, in a form that programs can match on.
///
/// The table below is complete for Linux; other errnos are [`Io`](ErrorKind::Io).
/// *Transient* is what [`Error::is_transient`](crate::Error::is_transient) answers.
///
/// | errno | kind | transient |
/// | --- | --- | --- |
/// | `ENOENT` | `NotFound` | no |
/// | `EACCES`, `EPERM` | `PermissionDenied` | no |
/// | `EEXIST`, `ENOTEMPTY` | `AlreadyExists` | no |
/// | `ENOSPC` | `StorageFull` | no |
/// | `EDQUOT` | `QuotaExceeded` | no |
/// | `EROFS` | `ReadOnlyFilesystem` | no |
/// | `ENAMETOOLONG`, `EILSEQ`, and `EINVAL` of a call that gives a name | `InvalidName` | no |
/// | `ELOOP` | `InvalidPath` | no |
/// | `EISDIR` | `IsADirectory` | no |
/// | `ENOTDIR` | `NotADirectory` | no |
/// | `EFBIG` (`RLIMIT_FSIZE`, or the file system's own limit) | `TooLarge` | no |
/// | `EBUSY`, `ETXTBSY` | `Busy` | yes, but not for a mount point |
/// | `EXDEV` | `CrossDevice` | no |
/// | `ETIMEDOUT` | `TimedOut` | yes |
/// | `EOPNOTSUPP`, `ENOSYS` | `Unsupported` | no |
/// | `EAGAIN`, `EINTR`, `EMFILE`, `ENFILE`, `ENOMEM`, `ENOBUFS`, `ENOLCK`, `ESTALE` | `Io` | yes |
/// | `EIO` and all others | `Io` | no |
///
/// On Windows:
///
/// | code | kind | transient |
/// | --- | --- | --- |
/// | 2, 3, 15, 53, 67: no such file, path, drive, server or share | `NotFound` | no |
/// | 5, 225, 226, 386, 395: access denied, by a virus scanner or a cloud too | `PermissionDenied` | no |
/// | 80, 183, 145: exists, directory not empty | `AlreadyExists` | no |
/// | 39, 112: disk full | `StorageFull` | no |
/// | 1295: quota exceeded | `QuotaExceeded` | no |
/// | 19, 381: write-protected | `ReadOnlyFilesystem` | no |
/// | 123, 161, 206: invalid or too long a name | `InvalidName` | no |
/// | 1921: a link in the way | `InvalidPath` | no |
/// | 336 | `IsADirectory` | no |
/// | 267 | `NotADirectory` | no |
/// | 223: file too large | `TooLarge` | no |
/// | 32, 33, 170, 303, 391, 397, 1224: sharing or lock violation, busy, being deleted, mapped | `Busy` | yes |
/// | 17: another device | `CrossDevice` | no |
/// | 121, 258, 426, 1460: timed out | `TimedOut` | yes |
/// | 1, 50, 120, 379, 396: not supported | `Unsupported` | no |
/// | 4, 8, 14, 387, 1450: too few handles, memory or resources | `Io` | yes |
/// | 21, 55, 59, 64, 362, 388, 393, 398, 404: drive, network or cloud out of reach | `Io` | yes |
/// | all others | `Io` | no |
///
/// A save is `Busy` when another program has had the target open for a second
/// ([`busy_timeout`](crate::WriteOptions::busy_timeout)) in a way that forbids replacing it.
///
/// Kinds without an errno: `Locked` and `TimedOut` (another writer is at work; transient),
/// `Cancelled`, `TooLarge` (the caller's own limit), `Corrupt`, `Serialize`, `Reader`, `Changed`,
/// `HardLinked`, `Untrusted`; none of these is transient.
///
/// ```
/// use durafile::ErrorKind;
///
/// match durafile::write("no-such-folder/a.txt", "hello") {
///     Ok(_) => println!("saved"),
///     Err(e) if e.kind() == ErrorKind::NotFound => println!("the folder is missing"),
///     Err(e) if e.kind() == ErrorKind::StorageFull => println!("the disk is full"),
///     Err(e) => println!("{e}"),
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The parent directory, or something that had to exist, is missing.
    NotFound,
    /// The system refused access.
    PermissionDenied,
    /// Something with that name already exists.
    AlreadyExists,
    /// The file system has no space left.
    StorageFull,
    /// The user's or group's quota is used up.
    QuotaExceeded,
    /// The file system is mounted read-only.
    ReadOnlyFilesystem,
    /// The path can't name a file to save: empty, `.` or `..` last, a trailing slash, a link loop, a refused link, a
    /// FIFO, socket or device, or a name that [`recover`](crate::recover()) would remove
    /// ([`is_remnant`](crate::is_remnant)).
    InvalidPath,
    /// The target is a directory.
    IsADirectory,
    /// A directory was needed and something else is there.
    NotADirectory,
    /// The content passed the caller's size limit, or the system's limit on file sizes.
    TooLarge,
    /// The caller's token was cancelled before anything was published.
    Cancelled,
    /// The target is in use in a way that forbids replacing it, such as a mount point.
    Busy,
    /// The two paths are on different file systems.
    CrossDevice,
    /// Another writer holds the lock.
    Locked,
    /// The time that the caller, or the system, was willing to wait has passed.
    TimedOut,
    /// The file system or the platform can't do this.
    Unsupported,
    /// Recorded data doesn't match its checksum, or can't be understood.
    Corrupt,
    /// The value could not be serialised.
    Serialize,
    /// The caller's own code failed: a reader, the closure of an [`update`](crate::update()), or a stream that was
    /// dropped unfinished.
    Reader,
    /// Another save came between: the file isn't the version that the caller expected.
    Changed,
    /// The file has other hard links, which would keep the old content, and the caller asked for a refusal then
    /// ([`HardLinks::Refuse`](crate::HardLinks::Refuse)).
    HardLinked,
    /// A record or remnant that somebody else owns, or may write to, is in the way. It is left alone
    /// until its owner or an administrator settles it.
    Untrusted,
    /// The file system refuses the name: a character that it can't store, or too long.
    InvalidName,
    /// Any other input/output error.
    Io,
}

impl ErrorKind {
    /// A stable name in snake case, such as `"storage_full"`, for logs and metrics.
    ///
    /// ```
    /// assert_eq!(durafile::ErrorKind::StorageFull.as_str(), "storage_full");
    /// ```
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "not_found",
            ErrorKind::PermissionDenied => "permission_denied",
            ErrorKind::AlreadyExists => "already_exists",
            ErrorKind::StorageFull => "storage_full",
            ErrorKind::QuotaExceeded => "quota_exceeded",
            ErrorKind::ReadOnlyFilesystem => "read_only_filesystem",
            ErrorKind::InvalidPath => "invalid_path",
            ErrorKind::IsADirectory => "is_a_directory",
            ErrorKind::NotADirectory => "not_a_directory",
            ErrorKind::TooLarge => "too_large",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Busy => "busy",
            ErrorKind::CrossDevice => "cross_device",
            ErrorKind::Locked => "locked",
            ErrorKind::TimedOut => "timed_out",
            ErrorKind::Unsupported => "unsupported",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Serialize => "serialize",
            ErrorKind::Reader => "reader",
            ErrorKind::Changed => "changed",
            ErrorKind::HardLinked => "hard_linked",
            ErrorKind::Untrusted => "untrusted",
            ErrorKind::InvalidName => "invalid_name",
            ErrorKind::Io => "io",
        }
    }

    pub(crate) fn hint(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "A file or folder in the path does not exist; check the path.",
            ErrorKind::PermissionDenied => {
                "Access is not permitted; check who owns the file and its folder, or choose another place."
            }
            ErrorKind::AlreadyExists => "Something with that name already exists; choose another name.",
            ErrorKind::StorageFull => "The disk is full; free some space and save again.",
            ErrorKind::QuotaExceeded => {
                "Your disk quota is used up; delete some of your files and save again."
            }
            ErrorKind::ReadOnlyFilesystem => "The disk is mounted read-only; choose another place.",
            ErrorKind::InvalidPath => {
                "That path, or the link that is there, can't be used for this; choose another path."
            }
            ErrorKind::IsADirectory => "That path leads to a folder, not to a file; check the path.",
            ErrorKind::NotADirectory => {
                "The path, or a part of it, leads to a file, not to a folder; check the path."
            }
            ErrorKind::TooLarge => "The content is larger than allowed; nothing was saved.",
            ErrorKind::Cancelled => "The save was cancelled; nothing was changed.",
            ErrorKind::Busy => "The file is in use by another program; close it there and try again.",
            ErrorKind::CrossDevice => {
                "The file can't be moved between two disks; choose a place on the same disk."
            }
            ErrorKind::Locked => "Another program is saving here; try again in a moment.",
            ErrorKind::TimedOut => "Waiting for another program or for the disk took too long; try again.",
            ErrorKind::Unsupported => {
                "The disk, or the way in which this program saves, does not allow this; try a place on another disk."
            }
            ErrorKind::Corrupt => "Saved data is damaged; restore it from a backup.",
            ErrorKind::Serialize => "The data can't be written in this format; nothing was saved.",
            ErrorKind::Reader => {
                "The new content is incomplete, because producing it failed; nothing was saved."
            }
            ErrorKind::Changed => {
                "Another program has saved this file in the meantime; load it again before you save."
            }
            ErrorKind::HardLinked => {
                "The file has a second name, which would keep the old content; choose another name to save under."
            }
            ErrorKind::Untrusted => {
                "Another user's interrupted save is in the way; that user or an administrator has to recover it."
            }
            ErrorKind::InvalidName => {
                "The disk does not accept that name; choose one without special characters, or a shorter one."
            }
            ErrorKind::Io => {
                "The disk reported an error; check its health, and save elsewhere if this keeps happening."
            }
        }
    }

    /// The reason that an error of this kind gives if it has no other cause.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "it does not exist",
            ErrorKind::PermissionDenied => "access is not permitted",
            ErrorKind::AlreadyExists => "something with that name already exists",
            ErrorKind::StorageFull => "no space is left",
            ErrorKind::QuotaExceeded => "the quota is used up",
            ErrorKind::ReadOnlyFilesystem => "the file system is mounted read-only",
            ErrorKind::InvalidPath => "the path can't be used for this",
            ErrorKind::IsADirectory => "it is a directory",
            ErrorKind::NotADirectory => "it is not a directory",
            ErrorKind::TooLarge => "the content is longer than the limit",
            ErrorKind::Cancelled => "it was cancelled",
            ErrorKind::Busy => "it is in use",
            ErrorKind::CrossDevice => "it is on another file system",
            ErrorKind::Locked => "another writer holds the lock",
            ErrorKind::TimedOut => "the lock did not become free in time",
            ErrorKind::Unsupported => "the file system can't do this",
            ErrorKind::Corrupt => "the recorded data is damaged",
            ErrorKind::Serialize => "the value can't be written in this format",
            ErrorKind::Reader => "the new content is incomplete",
            ErrorKind::Changed => "another save came between",
            ErrorKind::HardLinked => "the file has other names",
            ErrorKind::Untrusted => "somebody else owns it or may write to it",
            ErrorKind::InvalidName => "the file system does not accept the name",
            ErrorKind::Io => "the system reported an error",
        }
    }

    pub(crate) fn io_kind(self) -> io::ErrorKind {
        match self {
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::AlreadyExists => io::ErrorKind::AlreadyExists,
            ErrorKind::StorageFull => io::ErrorKind::StorageFull,
            ErrorKind::QuotaExceeded => io::ErrorKind::QuotaExceeded,
            ErrorKind::ReadOnlyFilesystem => io::ErrorKind::ReadOnlyFilesystem,
            ErrorKind::InvalidPath => io::ErrorKind::InvalidInput,
            ErrorKind::IsADirectory => io::ErrorKind::IsADirectory,
            ErrorKind::NotADirectory => io::ErrorKind::NotADirectory,
            ErrorKind::TooLarge => io::ErrorKind::FileTooLarge,
            ErrorKind::Busy => io::ErrorKind::ResourceBusy,
            ErrorKind::CrossDevice => io::ErrorKind::CrossesDevices,
            ErrorKind::Locked => io::ErrorKind::WouldBlock,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Unsupported => io::ErrorKind::Unsupported,
            ErrorKind::Untrusted => io::ErrorKind::PermissionDenied,
            ErrorKind::InvalidName => io::ErrorKind::InvalidInput,
            ErrorKind::Corrupt | ErrorKind::Serialize => io::ErrorKind::InvalidData,
            ErrorKind::Cancelled
            | ErrorKind::Reader
            | ErrorKind::Changed
            | ErrorKind::HardLinked
            | ErrorKind::Io => io::ErrorKind::Other,
        }
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
