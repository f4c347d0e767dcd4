//! The one error type of the crate, and the only place with message text.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in a form that programs can match on.
///
/// The table below is complete for Linux; other errnos are [`Io`](ErrorKind::Io).
/// *Transient* is what [`Error::is_transient`] answers.
///
/// | errno | kind | transient |
/// | --- | --- | --- |
/// | `ENOENT` | `NotFound` | no |
/// | `EACCES`, `EPERM` | `PermissionDenied` | no |
/// | `EEXIST`, `ENOTEMPTY` | `AlreadyExists` | no |
/// | `ENOSPC` | `StorageFull` | no |
/// | `EDQUOT` | `QuotaExceeded` | no |
/// | `EROFS` | `ReadOnlyFilesystem` | no |
/// | `ENAMETOOLONG`, `EILSEQ`, `ELOOP` | `InvalidPath` | no |
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
/// | 2, 3: file or path not found | `NotFound` | no |
/// | 5: access denied | `PermissionDenied` | no |
/// | 80, 183, 145: exists, directory not empty | `AlreadyExists` | no |
/// | 39, 112: disk full | `StorageFull` | no |
/// | 1295: quota exceeded | `QuotaExceeded` | no |
/// | 19: write-protected | `ReadOnlyFilesystem` | no |
/// | 123, 161, 206, 1921: invalid or too long a name, a link in the way | `InvalidPath` | no |
/// | 336 | `IsADirectory` | no |
/// | 267 | `NotADirectory` | no |
/// | 223: file too large | `TooLarge` | no |
/// | 32, 33, 170, 303: sharing or lock violation, busy, being deleted | `Busy` | yes |
/// | 17: another device | `CrossDevice` | no |
/// | 121, 258, 1460: timed out | `TimedOut` | yes |
/// | 1, 50, 120: not supported | `Unsupported` | no |
/// | 4, 8, 14, 1450: too few handles, memory or resources | `Io` | yes |
/// | all others | `Io` | no |
///
/// `Busy` is what is left when a program has had the target open, in a way that forbids replacing
/// it, for a second.
///
/// Kinds without an errno: `Locked` and `TimedOut` (another writer is at work; transient),
/// `Cancelled`, `TooLarge` (the caller's own limit), `Corrupt`, `Serialize`, `Reader`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The parent directory, or something that had to exist, is missing.
    NotFound,
    /// The system refused access.
    PermissionDenied,
    /// Something has that name already.
    AlreadyExists,
    /// The file system has no space left.
    StorageFull,
    /// The user's or group's quota is used up.
    QuotaExceeded,
    /// The file system is mounted read-only.
    ReadOnlyFilesystem,
    /// The path can't name a file to save: empty, `.` or `..` last, a trailing slash, a link
    /// loop, a refused link, a FIFO, socket or device, a name that is too long.
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
    /// The two places are on different file systems.
    CrossDevice,
    /// Another writer holds the lock.
    Locked,
    /// A wait ended without success.
    TimedOut,
    /// The file system or the platform can't do this.
    Unsupported,
    /// Recorded data doesn't match its checksum, or can't be understood.
    Corrupt,
    /// The value could not be serialised.
    Serialize,
    /// The caller's own reader failed, or a stream was dropped unfinished.
    Reader,
    /// Any other input/output error.
    Io,
}

impl ErrorKind {
    /// A stable name in snake case, such as `"storage_full"`, for logs and metrics.
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
            ErrorKind::Io => "io",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "The folder to save in does not exist; create it or choose another.",
            ErrorKind::PermissionDenied => {
                "Saving here is not permitted; check who owns the file and its folder, or choose another place."
            }
            ErrorKind::AlreadyExists => "A file of that name exists already; choose another name.",
            ErrorKind::StorageFull => "The disk is full; free some space and save again.",
            ErrorKind::QuotaExceeded => {
                "Your disk quota is used up; delete something of yours and save again."
            }
            ErrorKind::ReadOnlyFilesystem => "The disk is mounted read-only; choose another place.",
            ErrorKind::InvalidPath => {
                "A file can't be saved under that name, or through the link that is there; choose another."
            }
            ErrorKind::IsADirectory => "A folder has that name; choose another.",
            ErrorKind::NotADirectory => "A part of the path is a file and not a folder; check the path.",
            ErrorKind::TooLarge => "The content is larger than allowed; nothing was saved.",
            ErrorKind::Cancelled => "The save was cancelled; nothing was changed.",
            ErrorKind::Busy => "The file is in use by the system; try again later.",
            ErrorKind::CrossDevice => {
                "The file can't be moved between two disks; choose a place on the same disk."
            }
            ErrorKind::Locked => "Another program is saving here; try again in a moment.",
            ErrorKind::TimedOut => "The disk or another program took too long; try again.",
            ErrorKind::Unsupported => "The file system can't do this; choose a place on another disk.",
            ErrorKind::Corrupt => "Saved data is damaged; restore it from a backup.",
            ErrorKind::Serialize => "The data can't be written in this format; nothing was saved.",
            ErrorKind::Reader => "The input could not be read to its end; nothing was saved.",
            ErrorKind::Io => {
                "The disk reported an error; check its health, and save elsewhere if it goes on."
            }
        }
    }

    fn io_kind(self) -> io::ErrorKind {
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
            ErrorKind::Corrupt | ErrorKind::Serialize => io::ErrorKind::InvalidData,
            ErrorKind::Cancelled | ErrorKind::Reader | ErrorKind::Io => io::ErrorKind::Other,
        }
    }

    pub(crate) fn of(cause: &io::Error) -> ErrorKind {
        if let Some(kind) = crate::sys::kind_of_code(cause) {
            return kind;
        }
        match cause.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty => ErrorKind::AlreadyExists,
            io::ErrorKind::StorageFull => ErrorKind::StorageFull,
            io::ErrorKind::QuotaExceeded => ErrorKind::QuotaExceeded,
            io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::InvalidInput => ErrorKind::InvalidPath,
            io::ErrorKind::IsADirectory => ErrorKind::IsADirectory,
            io::ErrorKind::NotADirectory => ErrorKind::NotADirectory,
            io::ErrorKind::FileTooLarge => ErrorKind::TooLarge,
            io::ErrorKind::ResourceBusy | io::ErrorKind::ExecutableFileBusy => ErrorKind::Busy,
            io::ErrorKind::CrossesDevices => ErrorKind::CrossDevice,
            io::ErrorKind::TimedOut => ErrorKind::TimedOut,
            io::ErrorKind::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Io,
        }
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the target holds after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TargetState {
    /// The old content, or still nothing; nothing of the failed save is left behind.
    Unchanged,
    /// The complete new content, but it isn't known to be durable: a power cut may bring back
    /// the old content.
    Replaced,
    /// The save is decided and not all applied yet; [`recover`](crate::recover) will finish it.
    Pending,
    /// Complete old or complete new content; the system did not say which (a network file
    /// system lost the answer). Nothing was removed.
    Unknown,
}

/// Why an operation failed, on which path, and what the target holds now.
///
/// [`Display`](std::fmt::Display) names the operation and the path; the cause is in
/// [`source`](std::error::Error::source) only, so that a report that walks the chain prints it
/// once. One pointer in size; clones share the details.
///
/// # Going on after `Replaced`
///
/// After the rename a failed sync of the directory is still an error: the new content is in
/// place, and a power cut may undo it. An application that prefers to go on says so:
///
/// ```
/// use durafile::TargetState;
/// # fn save(text: &str) -> durafile::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("settings.toml");
/// match durafile::write(&path, text) {
///     Ok(_) => {}
///     Err(e) if e.target() == TargetState::Replaced => eprintln!("saved, perhaps not durably: {e}"),
///     Err(e) => return Err(e),
/// }
/// # Ok(()) }
/// # save("").unwrap();
/// ```
#[derive(Clone, thiserror::Error)]
#[error(transparent)]
pub struct Error(Arc<Inner>);

type Cause = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Clone, Debug, thiserror::Error)]
#[error("could not {operation} {path:?}")]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    path: PathBuf,
    target: TargetState,
    files: Vec<(PathBuf, TargetState)>,
    #[source]
    cause: Option<Cause>,
}

/// The operation name of an error that a mount point caused: it is busy, and stays so.
const MOUNT_POINT: &str = "replace the mount point";

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path that the caller gave, or the one beneath it that the failure is about.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What was being done, as a verb phrase that the path can follow: `"sync"`,
    /// `"open the directory of"`. For messages; the wording may change.
    pub fn operation(&self) -> &str {
        self.0.operation
    }

    /// What the target holds now.
    pub fn target(&self) -> TargetState {
        self.0.target
    }

    /// For an operation on many files: the state of each, in the order they were added. Empty
    /// for an operation on one file.
    pub fn files(&self) -> &[(PathBuf, TargetState)] {
        &self.0.files
    }

    /// The system's error, where there was one.
    pub fn io_error(&self) -> Option<&io::Error> {
        self.0.cause.as_ref()?.downcast_ref()
    }

    /// Is it worth trying again, unchanged, after a pause?
    ///
    /// See the table at [`ErrorKind`]. A full disk is not transient: somebody has to act.
    pub fn is_transient(&self) -> bool {
        match self.0.kind {
            ErrorKind::Locked | ErrorKind::TimedOut => true,
            ErrorKind::Busy => self.0.operation != MOUNT_POINT,
            ErrorKind::Io => self.io_error().is_some_and(crate::sys::is_transient),
            _ => false,
        }
    }

    /// One sentence for the end user: what happened and what to do. It names no path and no
    /// system text.
    pub fn hint(&self) -> &'static str {
        match self.0.target {
            TargetState::Replaced => {
                "The new content is in place, but the disk has not confirmed it; save again to be sure."
            }
            TargetState::Pending => "The save will be completed when the program starts next.",
            TargetState::Unknown => {
                "The disk did not say whether the save succeeded; look at the file and save again."
            }
            TargetState::Unchanged if self.0.operation == MOUNT_POINT => {
                "The file is a mount point and can't be replaced; save beside it or change the mount."
            }
            TargetState::Unchanged => self.0.kind.hint(),
        }
    }

    fn build(kind: ErrorKind, operation: &'static str, path: &Path, cause: Option<Cause>) -> Error {
        let (path, target) = (path.to_owned(), TargetState::Unchanged);
        Error(Arc::new(Inner { kind, operation, path, target, files: Vec::new(), cause }))
    }

    /// An error without a cause of its own.
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, path: &Path) -> Error {
        Error::build(kind, operation, path, None)
    }

    /// An error of the system; one of ours that travelled inside an `io::Error` is unwrapped.
    pub(crate) fn io(operation: &'static str, path: &Path, cause: io::Error) -> Error {
        match cause.downcast::<Error>() {
            Ok(ours) => ours,
            Err(cause) => Error::build(ErrorKind::of(&cause), operation, path, Some(Arc::new(cause))),
        }
    }

    /// An error of a known kind with its cause.
    pub(crate) fn caused(
        kind: ErrorKind,
        operation: &'static str,
        path: &Path,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        Error::build(kind, operation, path, Some(Arc::new(cause)))
    }

    /// The target is a mount point: busy for as long as it is mounted.
    pub(crate) fn mount_point(path: &Path, cause: Option<io::Error>) -> Error {
        Error::build(ErrorKind::Busy, MOUNT_POINT, path, cause.map(|cause| Arc::new(cause) as Cause))
    }

    /// The rename or link that publishes failed.
    pub(crate) fn publish(path: &Path, cause: io::Error) -> Error {
        match cause.kind() {
            io::ErrorKind::ResourceBusy => Error::mount_point(path, Some(cause)),
            _ => Error::io("put the new content in place at", path, cause),
        }
    }

    /// The same error with the state of each file of a set. Another holder of it, such as the
    /// caller of a failed write, keeps the one without.
    pub(crate) fn with_files(mut self, files: Vec<(PathBuf, TargetState)>) -> Error {
        Arc::make_mut(&mut self.0).files = files;
        self
    }

    /// The same error, saying what the target holds.
    pub(crate) fn with_target(mut self, target: TargetState) -> Error {
        Arc::make_mut(&mut self.0).target = target;
        self
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Error> for io::Error {
    /// Keeps everything: the kind as an [`io::ErrorKind`], the rest inside, where
    /// [`io::Error::downcast`] finds it.
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind().io_kind(), error)
    }
}
