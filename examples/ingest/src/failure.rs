//! What can go wrong, in one shape for the worker, the HTTP interface and the command line.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;

use durafile::{EXIT_CANCELLED, ErrorKind, TargetState};

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A save, a lock or a recovery failed.
    #[error(transparent)]
    Save(#[from] durafile::Error),
    /// The recording itself can't be read from the disk.
    #[error("could not read the recording")]
    Input(#[source] io::Error),
    /// Something on the disk could not be looked at, moved or removed.
    #[error("could not use the data directory")]
    Disk(#[source] io::Error),
    #[error("less is free than has to be")]
    LittleRoom,
    #[error("could not use the ledger")]
    Ledger(#[from] rusqlite::Error),
    /// Nothing was sent.
    #[error("the body is empty")]
    Empty,
    /// The recording is not what it should be.
    #[error("the recording was refused")]
    Invalid(Invalid, #[source] Option<hound::Error>),
    #[error("the stage {0} took too long")]
    TimedOut(&'static str),
    #[error("the stage {0} broke down")]
    Panicked(&'static str),
    #[error("the work was stopped")]
    Cancelled,
    /// It was begun so often without ever coming to an end that it may be the cause.
    #[error("processing was cut short {0} times")]
    Interrupted(u32),
    #[error("there is no such recording among the failed ones: {}", .0.display())]
    NotFailed(PathBuf),
    #[error("could not start the server")]
    Server(#[source] io::Error),
    #[error("the {0} ended unexpectedly")]
    Ended(&'static str),
}

/// What a recording may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalid {
    TooSmall,
    NotWav,
    TooShort,
    TooLong,
}

impl Invalid {
    const ALL: [Invalid; 4] = [Invalid::TooSmall, Invalid::NotWav, Invalid::TooShort, Invalid::TooLong];

    /// Whether this word says that the content itself is refused: trying again can't succeed.
    pub(crate) fn is_meant_by(word: &str) -> bool {
        Invalid::ALL.iter().any(|invalid| invalid.kind() == word)
    }

    fn kind(self) -> &'static str {
        match self {
            Invalid::TooSmall => "too_small",
            Invalid::NotWav => "not_a_wav",
            Invalid::TooShort => "too_short",
            Invalid::TooLong => "too_long",
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Invalid::TooSmall => "The recording has less than 100 bytes; there is nothing in it.",
            Invalid::NotWav => "The recording is not a complete WAV file; convert it or send it again.",
            Invalid::TooShort => "The recording is shorter than one second.",
            Invalid::TooLong => "The recording is longer than two hours; split it.",
        }
    }
}

/// What a failure says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// A pause may help.
    Retry,
    /// The disk can't take anything just now: not this item's fault, and somebody has to act.
    Wait,
    /// It was stopped on purpose.
    Stop,
    /// It would fail again.
    GiveUp,
}

impl Failure {
    /// A stable word for programs.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Failure::Save(e) => e.kind().as_str(),
            Failure::Input(_) => "unreadable",
            Failure::Disk(e) => disk_kind(e).as_str(),
            Failure::LittleRoom => ErrorKind::StorageFull.as_str(),
            Failure::Empty => "empty",
            Failure::Ledger(e) => ledger_kind(e).map_or("ledger", ErrorKind::as_str),
            Failure::Invalid(what, _) => what.kind(),
            Failure::TimedOut(_) => "timed_out",
            Failure::Panicked(_) => "broken_down",
            Failure::Cancelled => "cancelled",
            Failure::Interrupted(_) => "interrupted",
            Failure::NotFailed(_) => "not_failed",
            Failure::Server(_) => "server",
            Failure::Ended(part) => part,
        }
    }

    /// One sentence for people: what happened and what to do. It names no path and no system text.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Failure::Save(e) => e.hint(),
            Failure::Input(_) => "The recording can't be read; check its permissions and the disk.",
            Failure::Disk(e) => match disk_kind(e) {
                ErrorKind::StorageFull => "The disk is full; free some space.",
                ErrorKind::PermissionDenied => "The data directory does not permit this; check its owner.",
                ErrorKind::NotFound => "A part of the data directory is missing; restore it.",
                ErrorKind::AlreadyExists => {
                    "Another recording of that name is in the way; try again in a moment."
                }
                _ => "The disk reported an error; check its health.",
            },
            Failure::LittleRoom => "The disk is almost full; free some space.",
            Failure::Empty => "The request has no body; send the WAV file as its body.",
            Failure::Ledger(e) => match ledger_kind(e) {
                Some(ErrorKind::StorageFull) => "The disk is full; free some space.",
                Some(ErrorKind::Locked) => "The ledger is in use; try again in a moment.",
                _ => "The ledger can't be used; check the disk and the permissions of its file.",
            },
            Failure::Invalid(what, _) => what.hint(),
            Failure::TimedOut(_) => "Processing took too long; retry it when the machine is less busy.",
            Failure::Panicked(_) => {
                "The recording could not be processed; its content is unusual or damaged."
            }
            Failure::Cancelled => "The work was stopped; nothing was changed.",
            Failure::Interrupted(_) => "Processing was cut short too often; the recording was set aside.",
            Failure::NotFailed(_) => "There is no failed recording of that name.",
            Failure::Server(_) => "The server can't listen on that address; choose another port.",
            Failure::Ended(_) => "The service broke down; start it again.",
        }
    }

    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Failure::Save(e) if e.kind() == ErrorKind::Cancelled => Remedy::Stop,
            Failure::Save(e) if e.is_transient() => Remedy::Retry,
            // In place, and nobody knows for how long: it is saved again.
            Failure::Save(e) if e.target() != TargetState::Unchanged => Remedy::Retry,
            Failure::Save(e) if is_of_the_disk(e.kind()) => Remedy::Wait,
            Failure::Disk(_) | Failure::LittleRoom => Remedy::Wait,
            Failure::Ledger(e) if ledger_kind(e) == Some(ErrorKind::Locked) => Remedy::Retry,
            Failure::Ledger(_) => Remedy::Wait,
            Failure::TimedOut(_) => Remedy::Retry,
            Failure::Cancelled => Remedy::Stop,
            _ => Remedy::GiveUp,
        }
    }

    /// What failed, on what, and why, on one line: for the log alone.
    pub(crate) fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut next = self.source();
        while let Some(cause) = next {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            next = cause.source();
        }
        line
    }

    /// The table in the README.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Empty | Failure::Invalid(..) | Failure::Panicked(_) => 3,
            Failure::Input(_) => 5,
            Failure::NotFailed(_) => 6,
            Failure::Cancelled => EXIT_CANCELLED,
            Failure::TimedOut(_) => 10,
            Failure::Save(e) if e.target() != TargetState::Unchanged => 11,
            Failure::Save(e) => exit_code_of(e.kind()),
            Failure::Disk(e) => exit_code_of(disk_kind(e)),
            Failure::LittleRoom => exit_code_of(ErrorKind::StorageFull),
            Failure::Ledger(e) => ledger_kind(e).map_or(1, exit_code_of),
            Failure::Interrupted(_) | Failure::Server(_) | Failure::Ended(_) => 1,
        }
    }
}

fn exit_code_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::NotFound
        | ErrorKind::InvalidPath
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory
        | ErrorKind::Unsupported => 6,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => 8,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => 9,
        ErrorKind::AlreadyExists | ErrorKind::Busy | ErrorKind::Locked | ErrorKind::TimedOut => 10,
        ErrorKind::Cancelled => EXIT_CANCELLED,
        _ => 1,
    }
}

fn is_of_the_disk(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::Unsupported
            | ErrorKind::Io
    )
}

fn disk_kind(e: &io::Error) -> ErrorKind {
    match e.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        io::ErrorKind::AlreadyExists => ErrorKind::AlreadyExists,
        io::ErrorKind::StorageFull => ErrorKind::StorageFull,
        io::ErrorKind::QuotaExceeded => ErrorKind::QuotaExceeded,
        io::ErrorKind::ReadOnlyFilesystem => ErrorKind::ReadOnlyFilesystem,
        _ => ErrorKind::Io,
    }
}

fn ledger_kind(e: &rusqlite::Error) -> Option<ErrorKind> {
    use rusqlite::ErrorCode;
    match e.sqlite_error_code()? {
        ErrorCode::DiskFull => Some(ErrorKind::StorageFull),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Some(ErrorKind::Locked),
        ErrorCode::PermissionDenied => Some(ErrorKind::PermissionDenied),
        ErrorCode::ReadOnly => Some(ErrorKind::ReadOnlyFilesystem),
        ErrorCode::CannotOpen => Some(ErrorKind::NotFound),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(ErrorKind::Corrupt),
        _ => None,
    }
}
