//! The one error type of the crate, and the only place with message text.

use std::borrow::Cow;
use std::error::Error as _;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error_kind::ErrorKind;
use crate::sys::{self, Dir};

/// The result of every fallible operation of this crate.
///
/// ```
/// fn save_settings(text: &str) -> durafile::Result<()> {
///     durafile::write("settings.toml", text)?;
///     Ok(())
/// }
/// # let dir = tempfile::tempdir().unwrap();
/// # std::env::set_current_dir(&dir).unwrap();
/// # save_settings("").unwrap();
/// ```
pub type Result<T> = std::result::Result<T, Error>;

/// What the target holds after an error.
///
/// ```
/// use durafile::TargetState;
///
/// let refused = durafile::write("no-such-folder/a.txt", "hello").unwrap_err();
/// assert_eq!(refused.target(), TargetState::Unchanged);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TargetState {
    /// The old content, or still nothing; nothing of the failed save is left behind.
    Unchanged,
    /// The complete new content, but it isn't known to be durable: a power cut may bring back
    /// the old content.
    Replaced,
    /// The save is decided, but not all of it is applied yet; [`recover`](crate::recover) will finish it. Where the file was
    /// [overwritten in place](crate::InPlace::Fallback), it may hold a mixture, and `recover` will bring the old content
    /// back.
    Pending,
    /// The complete old or the complete new content; the system did not say which (a network file
    /// system lost the answer). Nothing was removed.
    Unknown,
}

/// Why an operation failed, on which path, and what the target holds now.
///
/// [`Display`](std::fmt::Display) names the operation and the path; the cause is in
/// [`source`](std::error::Error::source) only, so that a report that walks the chain prints it
/// once. A program that prints nothing but the error can use `{:#}`, which adds the causes. An `Error` has the size of one
/// pointer, and clones share the details.
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

/// No error by itself: `source()` gives what is inside, which can then be downcast.
#[derive(Clone, Debug)]
struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl std::ops::Deref for Cause {
    type Target = dyn std::error::Error + Send + Sync;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Cause {
    fn from(error: E) -> Cause {
        Cause(Arc::new(error))
    }
}

#[derive(Clone, Debug, thiserror::Error)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    path: PathBuf,
    target: TargetState,
    files: Vec<(PathBuf, TargetState)>,
    #[source]
    cause: Option<Cause>,
}

impl std::fmt::Display for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "could not {} {:?}", self.operation, self.path)?;
        let mut cause = self.source().filter(|_| f.alternate());
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The cause of an error that the system had no part in.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Reason(Cow<'static, str>);

/// The operation name of an error that a mount point caused: it is busy, and stays so.
const MOUNT_POINT: &str = "replace the mount point";

impl Error {
    /// The operation name of an error of a staged file that couldn't be made, or given a name.
    pub(crate) const CREATE_BESIDE: &str = "create a file beside";

    /// The operation name of an error of the rename or link that publishes.
    pub(crate) const PUBLISH: &str = "put the new content in place at";

    /// What went wrong: see [`ErrorKind`].
    ///
    /// ```
    /// use durafile::ErrorKind;
    ///
    /// let refused = durafile::write("no-such-folder/a.txt", "hello").unwrap_err();
    /// assert_eq!(refused.kind(), ErrorKind::NotFound);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The path that the caller gave, or the path below it that the failure is about.
    ///
    /// ```
    /// let refused = durafile::write("no-such-folder/a.txt", "hello").unwrap_err();
    /// assert_eq!(refused.path(), "no-such-folder/a.txt");
    /// ```
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What the library was doing, as a verb phrase that is followed by the path: `"sync"`,
    /// `"open the directory of"`. It is meant for messages, and its wording may change.
    ///
    /// ```
    /// let refused = durafile::write("no-such-folder/a.txt", "hello").unwrap_err();
    /// println!("could not {} {}", refused.operation(), refused.path().display());
    /// ```
    pub fn operation(&self) -> &str {
        self.0.operation
    }

    /// What the target holds now: see [`TargetState`].
    ///
    /// ```
    /// use durafile::TargetState;
    ///
    /// let refused = durafile::write("no-such-folder/a.txt", "hello").unwrap_err();
    /// match refused.target() {
    ///     TargetState::Unchanged => println!("the old version is still there"),
    ///     TargetState::Replaced => println!("the new version is there, but a power cut may undo it"),
    ///     other => println!("look at the file: {other:?}"),
    /// }
    /// ```
    pub fn target(&self) -> TargetState {
        self.0.target
    }

    /// For an operation on many files: the state of each file, in the order in which they were added. Empty
    /// for an operation on one file.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::{Batch, TargetState};
    ///
    /// # #[cfg(feature = "crash_testing")] {
    /// let mut batch = Batch::new();
    /// batch.write(dir.join("a.txt"), "hello")?;
    /// # let _full = durafile::crash_testing::fail_saves(durafile::ErrorKind::StorageFull);
    /// let failed = batch.commit().unwrap_err(); // the disk is full
    /// assert_eq!(failed.files(), [(dir.join("a.txt"), TargetState::Unchanged)]);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn files(&self) -> &[(PathBuf, TargetState)] {
        &self.0.files
    }

    /// The operating system's error, if there was one.
    ///
    /// ```
    /// let refused = durafile::write("no-such-folder/a.txt", "hello").unwrap_err();
    /// let cause = refused.io_error().expect("the system refused");
    /// assert_eq!(cause.kind(), std::io::ErrorKind::NotFound);
    /// ```
    pub fn io_error(&self) -> Option<&io::Error> {
        self.0.cause.as_deref()?.downcast_ref()
    }

    /// The number of the operating system's error (on Unix an errno), if there was one.
    ///
    /// ```
    /// let refused = durafile::write("no-such-folder/a.txt", "hello").unwrap_err();
    /// assert!(refused.raw_os_error().is_some()); // ENOENT on Unix
    ///
    /// let refused = durafile::write("", "hello").unwrap_err();
    /// assert_eq!(refused.raw_os_error(), None); // the system was not asked
    /// ```
    pub fn raw_os_error(&self) -> Option<i32> {
        self.io_error()?.raw_os_error()
    }

    /// Whether it is worth trying the same operation again after a pause.
    ///
    /// See the table at [`ErrorKind`]. A full disk is not transient: somebody has to act.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::time::Duration;
    ///
    /// let save = || durafile::write(dir.join("settings.toml"), "theme = 'dark'");
    /// let mut saved = save();
    /// for _ in 0..3 {
    ///     match &saved {
    ///         Err(e) if e.is_transient() => std::thread::sleep(Duration::from_millis(100)),
    ///         _ => break,
    ///     }
    ///     saved = save();
    /// }
    /// assert!(saved.is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_transient(&self) -> bool {
        match self.0.kind {
            ErrorKind::Locked | ErrorKind::TimedOut => true,
            ErrorKind::Busy => self.0.operation != MOUNT_POINT,
            ErrorKind::Io => self.io_error().is_some_and(sys::is_transient),
            _ => false,
        }
    }

    /// One sentence for the end user: what happened and what to do. It names no path and no
    /// system text.
    ///
    /// ```
    /// let refused = durafile::write("no-such-folder/a.txt", "hello").unwrap_err();
    /// assert_eq!(refused.hint(), "A file or folder in the path does not exist; check the path.");
    /// ```
    pub fn hint(&self) -> &'static str {
        match self.0.target {
            TargetState::Replaced => {
                "The new content is in place, but the disk has not confirmed it; save again to be sure."
            }
            TargetState::Pending => {
                "The save is not finished; it is completed or undone when the program next recovers or saves here."
            }
            TargetState::Unknown => {
                "It is not known whether the save succeeded; look at the file and save again."
            }
            TargetState::Unchanged if self.0.operation == MOUNT_POINT => {
                "The file is a mount point and can't be replaced; save beside it or change the mount."
            }
            TargetState::Unchanged => self.shortage().unwrap_or_else(|| self.0.kind.hint()),
        }
    }

    /// The hint for what the kind does not tell: that the disk is not to blame.
    fn shortage(&self) -> Option<&'static str> {
        let cause = self.io_error()?;
        if sys::is_short_of_handles(cause) {
            Some("Too many files are open; close some files or programs and save again.")
        } else if sys::is_short_of_memory(cause) {
            Some("The system is short of memory; close other programs and save again.")
        } else if sys::is_out_of_reach(cause) {
            Some(
                "The drive, server or cloud that keeps the file can't be reached; check the connection and save again.",
            )
        } else if sys::is_forbidden_by_policy(cause) {
            Some(
                "The system forbids this change: the file or folder may be marked as immutable or append-only, or a \
                 security policy or a virus scanner protects it.",
            )
        } else {
            None
        }
    }

    /// Was a name refused that a save was to create or replace: by a mount point (`EBUSY`), the rights (`EACCES`,
    /// `EPERM`) or the mount (`EROFS`)?
    pub(crate) fn is_refused_replacement(&self) -> bool {
        let is_of_a_name = [Error::CREATE_BESIDE, Error::PUBLISH].contains(&self.0.operation);
        let is_forbidden = matches!(self.0.kind, ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem);
        let is_refused = self.0.operation == MOUNT_POINT || is_of_a_name && is_forbidden;
        is_refused && self.0.target == TargetState::Unchanged
    }

    fn build(kind: ErrorKind, operation: &'static str, path: &Path, cause: Option<Cause>) -> Error {
        let (path, target) = (path.to_owned(), TargetState::Unchanged);
        Error(Arc::new(Inner { kind, operation, path, target, files: Vec::new(), cause }))
    }

    /// An error that this crate finds without asking the system. Its cause is the usual reason for that
    /// kind, unless [`because`](Error::because) says more.
    pub(crate) fn new(kind: ErrorKind, operation: &'static str, path: &Path) -> Error {
        Error::build(kind, operation, path, Some(Reason(kind.reason().into()).into()))
    }

    /// Adds the reason in words, as the cause.
    pub(crate) fn because(mut self, reason: impl Into<Cow<'static, str>>) -> Error {
        Arc::make_mut(&mut self.0).cause = Some(Reason(reason.into()).into());
        self
    }

    /// An error of the system; one of ours that travelled inside an `io::Error` is unwrapped.
    pub(crate) fn io(operation: &'static str, path: &Path, cause: io::Error) -> Error {
        match cause.downcast::<Error>() {
            Ok(ours) => ours,
            Err(cause) => Error::build(ErrorKind::of(&cause), operation, path, Some(cause.into())),
        }
    }

    /// An error of a call that gives something a name: there `EINVAL` means the name.
    pub(crate) fn naming(operation: &'static str, path: &Path, cause: io::Error) -> Error {
        match cause.downcast::<Error>() {
            Ok(ours) => ours,
            Err(e) if sys::is_refused_name(&e) => Error::caused(ErrorKind::InvalidName, operation, path, e),
            Err(e) => Error::io(operation, path, e),
        }
    }

    /// An error of a known kind with its cause.
    pub(crate) fn caused(
        kind: ErrorKind,
        operation: &'static str,
        path: &Path,
        cause: impl std::error::Error + Send + Sync + 'static,
    ) -> Error {
        Error::build(kind, operation, path, Some(cause.into()))
    }

    /// An error that the caller's own code failed with.
    pub(crate) fn of_caller(
        operation: &'static str,
        path: &Path,
        cause: Box<dyn std::error::Error + Send + Sync>,
    ) -> Error {
        Error::build(ErrorKind::Reader, operation, path, Some(Cause(Arc::from(cause))))
    }

    /// Refuses content of this length if it is beyond the limit.
    pub(crate) fn check_size(len: u64, limit: Option<u64>, path: &Path) -> Result<()> {
        match limit.filter(|limit| len > *limit) {
            Some(limit) => {
                let reason = format!("the content is longer than the limit of {limit} bytes");
                Err(Error::new(ErrorKind::TooLarge, "write", path).because(reason))
            }
            None => Ok(()),
        }
    }

    /// The target is a mount point: busy for as long as it is mounted.
    pub(crate) fn mount_point(path: &Path, cause: Option<io::Error>) -> Error {
        Error::build(ErrorKind::Busy, MOUNT_POINT, path, cause.map(Cause::from))
    }

    /// A call that was to change what has this name failed. `EBUSY` means a mount point only where one is; the rest of the
    /// time another program is in the way.
    pub(crate) fn refused(what: &'static str, path: &Path, at: (&Dir, &OsStr), cause: io::Error) -> Error {
        let is_mount_point = || at.0.stat_at(at.1).is_ok_and(|found| found.mount_root);
        match cause {
            cause if sys::is_busy(&cause) && is_mount_point() => Error::mount_point(path, Some(cause)),
            cause => Error::naming(what, path, cause),
        }
    }

    /// Adds the state of each file of a set. Another holder of this error, such as the
    /// caller of a failed write, keeps the one without.
    pub(crate) fn with_files(mut self, files: Vec<(PathBuf, TargetState)>) -> Error {
        Arc::make_mut(&mut self.0).files = files;
        self
    }

    /// Replaces the path by the one that the caller gave.
    pub(crate) fn with_path(mut self, path: &Path) -> Error {
        Arc::make_mut(&mut self.0).path = path.to_owned();
        self
    }

    /// Says what the target holds.
    pub(crate) fn with_target(mut self, target: TargetState) -> Error {
        Arc::make_mut(&mut self.0).target = target;
        self
    }
}

impl ErrorKind {
    /// The kind of an `io::Error`: of the [`Error`] that it wraps, of its errno, or of its own
    /// [`io::ErrorKind`] where it has neither.
    ///
    /// ```
    /// use durafile::ErrorKind;
    ///
    /// let refused = durafile::write("", "text").unwrap_err();
    /// assert_eq!(ErrorKind::of(&std::io::Error::from(refused)), ErrorKind::InvalidPath);
    /// ```
    pub fn of(error: &io::Error) -> ErrorKind {
        if let Some(ours) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return ours.kind();
        }
        if let Some(kind) = sys::kind_of_code(error) {
            return kind;
        }
        match error.kind() {
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

impl std::fmt::Debug for Error {
    /// The message, its causes and, where it isn't what it was, the state of the target: what `main`
    /// prints when it returns the error.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:#}")?;
        match self.0.target {
            TargetState::Unchanged => Ok(()),
            TargetState::Replaced => f.write_str(" (the new content is in place, perhaps not durably)"),
            TargetState::Pending => {
                f.write_str(" (the change is not finished; recovery completes or undoes it)")
            }
            TargetState::Unknown => f.write_str(" (the system did not say whether it was replaced)"),
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps everything: the kind as an [`io::ErrorKind`], the rest inside, where
    /// [`io::Error::downcast`] finds it.
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind().io_kind(), error)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io;
    use std::path::Path;

    use crate::error::Error;

    #[test]
    fn a_hint_blames_the_disk_only_where_nothing_else_is_known() {
        for (errno, reason) in [
            (/* EIO */ 5, "disk"),
            (/* EMFILE */ 24, "files are open"),
            (/* ENOMEM */ 12, "short of memory"),
            (/* EPERM */ 1, "security policy"),
            (/* ENOTCONN */ 107, "connection"),
            (/* EHOSTUNREACH */ 113, "connection"),
        ] {
            let hint = Error::io("write", Path::new("a"), io::Error::from_raw_os_error(errno)).hint();
            assert!(hint.contains(reason), "{errno}: {hint}");
            assert_eq!(hint.contains("disk"), reason == "disk", "{errno}: {hint}");
        }
    }
}
