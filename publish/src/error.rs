//! The one error type of the crate.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of every fallible operation of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, in a form that programs can match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another version was published than the one that the caller expected to replace. Nothing was published.
    Conflict,
    /// There is no such version: it was never published, or [`collect`](crate::Published::collect) removed it.
    NotFound,
    /// Something in the store doesn't match its hash, is missing though nobody collected it, or can't be
    /// a valid version. [`Error::object`] names the object. Nothing local was changed.
    Corrupt,
    /// The store did not say whether the version was published. Look with
    /// [`latest`](crate::Published::latest), or publish again.
    Unknown,
    /// The store refused or failed. Nothing was published or pulled.
    Store,
    /// This machine failed: the disk is full, a file can't be read, another pull is at work. [`Error::local`] says what.
    Local,
    /// The tree has something in it that can't be published, named by [`Error::path`]. Nothing was published.
    Refused,
    /// The caller's token was cancelled. Nothing was published or pulled.
    Cancelled,
    /// The store lacks what the protocol needs: see [`check_store`](crate::Published::check_store).
    Unsupported,
}

impl ErrorKind {
    /// A stable name in snake case, for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Conflict => "conflict",
            ErrorKind::NotFound => "not_found",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Unknown => "unknown",
            ErrorKind::Store => "store",
            ErrorKind::Local => "local",
            ErrorKind::Refused => "refused",
            ErrorKind::Cancelled => "cancelled",
            ErrorKind::Unsupported => "unsupported",
        }
    }
}

/// Why an operation failed, and on what.
///
/// [`Display`](std::fmt::Display) says what was done to which object or path; the cause is in
/// [`source`](std::error::Error::source) only. Clones share the details.
#[derive(Clone, thiserror::Error)]
#[error(transparent)]
pub struct Error(Arc<Inner>);

type Cause = Arc<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Inner {
    kind: ErrorKind,
    message: String,
    object: Option<String>,
    path: Option<PathBuf>,
    local: Option<durafile::ErrorKind>,
    transient: bool,
    #[source]
    cause: Option<Cause>,
}

impl Error {
    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The key of the object that the failure is about.
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// The local path, or the path inside the tree, that the failure is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// What failed on this machine, if the kind is [`Local`](ErrorKind::Local).
    pub fn local(&self) -> Option<durafile::ErrorKind> {
        self.0.local
    }

    /// Is it worth trying again, unchanged, after a pause?
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// One sentence for the end user: what happened and what to do.
    pub fn hint(&self) -> &'static str {
        match self.0.kind {
            ErrorKind::Conflict => {
                "Somebody else published meanwhile; pull that version, then publish again."
            }
            ErrorKind::NotFound => "There is no such version in the store; list the versions that are there.",
            ErrorKind::Corrupt => "The store returned damaged or invalid data; publish the content again.",
            ErrorKind::Unknown => {
                "The store did not say whether it was published; look at the newest version."
            }
            ErrorKind::Store if self.0.transient => "The store could not be reached; try again later.",
            ErrorKind::Store => "The store refused the request; check the address and the credentials.",
            ErrorKind::Local => match self.0.local {
                Some(durafile::ErrorKind::StorageFull) => "The disk is full; free some space and try again.",
                Some(durafile::ErrorKind::Locked | durafile::ErrorKind::TimedOut) => {
                    "Another program is writing this directory; try again when it is done."
                }
                _ => "The local directory can't be read or written; check its path and permissions.",
            },
            ErrorKind::Refused => {
                "Something in the directory can't be published; remove it or publish without it."
            }
            ErrorKind::Cancelled => "Stopped as asked; nothing was changed.",
            ErrorKind::Unsupported => "This store can't keep versions apart safely; use another one.",
        }
    }

    fn build(kind: ErrorKind, message: impl Into<String>) -> Inner {
        Inner {
            kind,
            message: message.into(),
            object: None,
            path: None,
            local: None,
            transient: false,
            cause: None,
        }
    }

    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Arc::new(Error::build(kind, message)))
    }

    /// What is wrong with an object of the store.
    pub(crate) fn corrupt(object: impl Into<String>, what: impl std::fmt::Display) -> Error {
        let object = object.into();
        let inner = Error::build(ErrorKind::Corrupt, format!("the object {object} is not valid: {what}"));
        Error(Arc::new(Inner { object: Some(object), ..inner }))
    }

    /// What of a tree can't be published.
    pub(crate) fn refused(path: impl Into<PathBuf>, why: &str) -> Error {
        let path = path.into();
        let inner = Error::build(ErrorKind::Refused, format!("{} can't be published: {why}", path.display()));
        Error(Arc::new(Inner { path: Some(path), ..inner }))
    }

    pub(crate) fn cancelled() -> Error {
        Error::new(ErrorKind::Cancelled, "cancelled")
    }

    /// A request to the store that failed.
    pub(crate) fn store(
        operation: &str,
        object: &object_store::path::Path,
        cause: object_store::Error,
    ) -> Error {
        Error::of_store(ErrorKind::Store, operation, object, cause)
    }

    /// The commit's request failed, and nobody can say whether it was carried out.
    pub(crate) fn unknown(object: &object_store::path::Path, cause: object_store::Error) -> Error {
        Error::of_store(ErrorKind::Unknown, "commit", object, cause)
    }

    fn of_store(
        kind: ErrorKind,
        operation: &str,
        object: &object_store::path::Path,
        cause: object_store::Error,
    ) -> Error {
        let inner = Error::build(kind, format!("could not {operation} the object {object}"));
        let transient = !is_refusal(&cause);
        Error(Arc::new(Inner {
            object: Some(object.to_string()),
            transient,
            cause: Some(Arc::new(cause)),
            ..inner
        }))
    }

    /// A failure of this machine's.
    pub(crate) fn io(operation: &str, path: &Path, cause: io::Error) -> Error {
        let local = kind_of(&cause);
        let inner = Error::build(ErrorKind::Local, format!("could not {operation} {}", path.display()));
        Error(Arc::new(Inner {
            path: Some(path.to_owned()),
            local: Some(local),
            cause: Some(Arc::new(cause)),
            ..inner
        }))
    }
}

/// The library's kind for what the system says.
fn kind_of(error: &io::Error) -> durafile::ErrorKind {
    use durafile::ErrorKind as K;
    match error.kind() {
        io::ErrorKind::NotFound => K::NotFound,
        io::ErrorKind::PermissionDenied => K::PermissionDenied,
        io::ErrorKind::AlreadyExists => K::AlreadyExists,
        io::ErrorKind::StorageFull => K::StorageFull,
        io::ErrorKind::QuotaExceeded => K::QuotaExceeded,
        io::ErrorKind::ReadOnlyFilesystem => K::ReadOnlyFilesystem,
        io::ErrorKind::IsADirectory => K::IsADirectory,
        io::ErrorKind::NotADirectory => K::NotADirectory,
        io::ErrorKind::FileTooLarge => K::TooLarge,
        io::ErrorKind::InvalidFilename => K::InvalidPath,
        _ => K::Io,
    }
}

/// Did the store answer that it won't, whoever asks how often?
pub(crate) fn is_refusal(error: &object_store::Error) -> bool {
    use object_store::Error as E;
    matches!(
        error,
        E::NotFound { .. }
            | E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::PermissionDenied { .. }
            | E::Unauthenticated { .. }
            | E::UnknownConfigurationKey { .. }
    )
}

impl From<durafile::Error> for Error {
    fn from(cause: durafile::Error) -> Error {
        let kind = match cause.kind() {
            durafile::ErrorKind::Cancelled => ErrorKind::Cancelled,
            _ => ErrorKind::Local,
        };
        let inner = Error::build(kind, cause.to_string());
        let (path, local, transient) =
            (Some(cause.path().to_owned()), Some(cause.kind()), cause.is_transient());
        // The cause's own text is this error's: what it was caused by comes next.
        Error(Arc::new(Inner { path, local, transient, cause: Some(Arc::new(Beneath(cause))), ..inner }))
    }
}

/// Passes over the text that was taken already.
#[derive(Debug)]
struct Beneath(durafile::Error);

impl std::fmt::Display for Beneath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::error::Error::source(&self.0) {
            Some(cause) => std::fmt::Display::fmt(cause, f),
            None => f.write_str(self.0.kind().as_str()),
        }
    }
}

impl std::error::Error for Beneath {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0)?.source()
    }
}

impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
