//! Stopping saves cleanly.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;

/// Stops saves cleanly: a switch that its clones share, and that is never turned off again.
///
/// A save that was given the token ([`WriteOptions::cancel`](crate::WriteOptions::cancel)) looks at
/// it before each piece of content that it takes (1 MiB at most) and once more right before the
/// rename. If the token is cancelled by then, the save fails with [`Cancelled`](ErrorKind::Cancelled), the target is as
/// it was, and nothing is left behind. From the rename on, the save completes.
///
/// What is under way when the token is cancelled is finished first: the write of one piece, or
/// the sync of what is not on the device yet. While a long save streams, the disk is kept busy
/// with what was written already, so that at most 16 MiB wait for it at any time: that, and
/// freeing what was written, bound the time until a save gives up. A reader or serialiser of the caller's that blocks
/// is not interrupted. A reader may look at the token itself and fail with any error: the save is `Cancelled` all
/// the same.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("export.csv");
/// use durafile::{CancelToken, ErrorKind, WriteOptions};
///
/// let token = CancelToken::new();
/// let button = token.clone();
/// std::thread::spawn(move || button.cancel()).join().unwrap();
///
/// let saved = WriteOptions::new().cancel(&token).write(&path, "1;2;3");
/// assert_eq!(saved.unwrap_err().kind(), ErrorKind::Cancelled);
/// assert!(!path.exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelToken(Arc<AtomicBool>);

impl CancelToken {
    /// A token that is not cancelled.
    ///
    /// ```
    /// let token = durafile::CancelToken::new();
    /// assert!(!token.is_cancelled());
    /// ```
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Stops every save that was given this token or a clone of it, now and later.
    ///
    /// ```
    /// let token = durafile::CancelToken::new();
    /// let clone = token.clone();
    /// token.cancel();
    /// assert!(clone.is_cancelled());
    /// ```
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether [`cancel`](CancelToken::cancel) was called, or a signal came.
    ///
    /// ```
    /// # let token = durafile::CancelToken::new();
    /// for chunk in ["one", "two"] {
    ///     if token.is_cancelled() {
    ///         break;
    ///     }
    ///     println!("{chunk}");
    /// }
    /// ```
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// The error of an operation on `path` that must stop now.
    pub(crate) fn check(token: Option<&CancelToken>, path: &Path) -> Result<()> {
        match token {
            Some(token) if token.is_cancelled() => Err(Error::new(ErrorKind::Cancelled, "save", path)),
            _ => Ok(()),
        }
    }
}

/// The exit status of a program that was asked to end by a signal and saved nothing.
///
/// For `main`: when a save fails with [`Cancelled`](ErrorKind::Cancelled), end with this.
///
/// ```
/// use std::process::ExitCode;
///
/// use durafile::{EXIT_CANCELLED, Error, ErrorKind};
///
/// fn exit_code(failed: &Error) -> ExitCode {
///     match failed.kind() {
///         ErrorKind::Cancelled => ExitCode::from(EXIT_CANCELLED),
///         _ => ExitCode::FAILURE,
///     }
/// }
/// # let failed = durafile::write("", "").unwrap_err();
/// # assert_eq!(exit_code(&failed), ExitCode::FAILURE);
/// ```
#[cfg(feature = "signals")]
pub const EXIT_CANCELLED: u8 = 14;

#[cfg(feature = "signals")]
impl CancelToken {
    /// The token that SIGTERM and SIGINT (Ctrl-C) cancel; the same one at each call.
    ///
    /// For programs, once at their start. The library never calls it by itself, for it changes
    /// what the whole process does: from now on the first of the two signals no longer ends
    /// it, so the program must look at the token, or at the errors of its saves, and end by itself,
    /// with [`EXIT_CANCELLED`] as its status. A second signal ends the process at once, as it would
    /// have without this; a save that is cut short so leaves its target as it was all the same.
    ///
    /// A handler that another part of the program installed before is called too. Signals that
    /// the process was started to ignore, as shells do for jobs in the background, are not
    /// ignored any more. The process keeps handling the signals until it ends.
    ///
    /// On Windows, Ctrl-C counts as SIGINT, and nothing as SIGTERM: the closing of a console is not
    /// noticed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("backup.tar");
    /// use durafile::{CancelToken, WriteOptions};
    ///
    /// let token = CancelToken::on_termination()?;
    /// WriteOptions::new().cancel(&token).write(&path, "content")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// A whole program, with its exit code:
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    ///
    /// use durafile::{CancelToken, EXIT_CANCELLED, ErrorKind, WriteOptions};
    ///
    /// fn main() -> ExitCode {
    ///     let token = CancelToken::on_termination().expect("signals can be handled");
    ///     match WriteOptions::new().cancel(&token).write_from("backup.tar", std::io::stdin()) {
    ///         Ok(_) => ExitCode::SUCCESS,
    ///         Err(e) if e.kind() == ErrorKind::Cancelled => ExitCode::from(EXIT_CANCELLED),
    ///         Err(_) => ExitCode::FAILURE,
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// If the system refuses a handler.
    pub fn on_termination() -> Result<CancelToken> {
        static TOKEN: std::sync::Mutex<Option<CancelToken>> = std::sync::Mutex::new(None);
        let mut known = TOKEN.lock().unwrap_or_else(|broken| broken.into_inner());
        if let Some(token) = &*known {
            return Ok(token.clone());
        }
        let token = CancelToken::new();
        crate::sys::cancel_on_termination(&token.0)
            .map_err(|(signal, e)| Error::io("handle the signal", Path::new(signal), e))?;
        Ok(known.insert(token).clone())
    }
}

/// The pauses between two looks at a lock that somebody else has: short ones first, for who is about to give it up.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) const fn new() -> Backoff {
        Backoff(Duration::from_millis(1))
    }

    /// Waits before the next look, and no longer than what is left of the caller's time.
    pub(crate) fn pause(&mut self, left: Duration) {
        const LONGEST: Duration = Duration::from_millis(20);
        std::thread::sleep(self.0.min(left));
        self.0 = LONGEST.min(self.0 * 2);
    }
}
