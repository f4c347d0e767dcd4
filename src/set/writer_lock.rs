//! One writer at a time for a name: a lock file beside it, with a name that follows from it.
//!
//! The file is removed while its lock is held. Whoever waits for it has it open by then, and so makes sure
//! after locking that the name still leads to what it locked. It bears its name only once it is locked, where
//! files can be made without a name: then a lock file that nobody holds is a dead writer's.
//!
//! A recovery takes the same lock, and before it a second one of the same kind, by which a writer that finds the first one taken
//! can tell the two apart: another writer is an answer for the caller, a recovery is waited for. Both locks are exclusive,
//! so that whoever removes the lock files of dead writers leaves them alone. It asks for a shared lock; so a writer that
//! is refused asks for one, too, to tell such a look from another writer.
//!
//! The file may belong to anybody: what a user's program leaves when it is killed keeps nobody out. Where
//! others than its owner can create names in the directory, it has mode 0666, so that each of them can open
//! and lock it. Whoever can open the directory can do that, too, but not before its holder is dead.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::atomic::outcome::{Outcome, outcome_of_link};
use crate::atomic::staged::TRIES;
use crate::cancel::{Backoff, CancelToken};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::{self, Role};
use crate::remnant::trust::{is_lock_file, is_private};
use crate::sys::{self, Dir, File, Kind, Lock, ProcessMark, Share, Stat};

/// How long a recovery at work is waited for. It takes as long as finishing what a crash interrupted.
const OF_RECOVERIES: Duration = Duration::from_secs(30);

/// How long a caller waits for another writer, what ends the wait before, and the path to tell it of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience<'a> {
    pub(crate) path: &'a Path,
    pub(crate) timeout: Duration,
    pub(crate) cancel: Option<&'a CancelToken>,
}

/// The right to be the only writer; given up, with its file, when dropped.
#[derive(Debug)]
pub(crate) struct WriterLock {
    dir: Arc<Dir>,
    name: OsString,
    /// Open and locked.
    file: File,
    made_by: ProcessMark,
}

/// The right to recover what a dead writer left: no writer is at work, and no other recovery.
#[derive(Debug)]
pub(crate) struct RecoveryLock {
    /// Dropped first.
    _writers: WriterLock,
    _recoveries: WriterLock,
}

/// The outcome of trying to take a lock.
#[derive(Debug)]
enum Tried {
    Taken(WriterLock),
    /// A writer has it.
    Held,
    /// A recovery is at work, or others are asking, too.
    HeldForNow,
}

impl WriterLock {
    /// Takes the lock for `target` in `dir`.
    ///
    /// The error is `Locked` if there was no time to wait, `TimedOut` once it has passed, and
    /// `Unsupported` where the file system has no locks.
    pub(crate) fn take(dir: &Arc<Dir>, target: &OsStr, patience: &Patience<'_>) -> Result<WriterLock> {
        WriterLock::wait(&|| WriterLock::attempt(dir, target), patience)
    }

    /// Takes the lock for a target of which a crash may leave more than one file: also waits for a recovery that is
    /// at work on what a dead writer has left.
    pub(crate) fn take_for_set(
        dir: &Arc<Dir>,
        target: &OsStr,
        patience: &Patience<'_>,
    ) -> Result<WriterLock> {
        let attempt = || match WriterLock::attempt(dir, target)? {
            Tried::Held if is_recovering(dir, target) => Ok(Tried::HeldForNow),
            // A recovery gives up this lock before its own, and may have ended between the two looks.
            Tried::Held => WriterLock::attempt(dir, target),
            tried => Ok(tried),
        };
        WriterLock::wait(&attempt, patience)
    }

    fn wait(attempt: &dyn Fn() -> io::Result<Tried>, patience: &Patience<'_>) -> Result<WriterLock> {
        let Patience { path, timeout, cancel } = *patience;
        // None is later than any clock can tell: there is no deadline then.
        let begun = Instant::now();
        let (deadline, recovered) =
            (begun.checked_add(timeout), begun.checked_add(timeout.max(OF_RECOVERIES)));
        let mut backoff = Backoff::new();
        loop {
            CancelToken::check(cancel, path)?;
            let end = match attempt().map_err(|e| Error::io("lock", path, e))? {
                Tried::Taken(lock) => return Ok(lock),
                Tried::Held => deadline,
                Tried::HeldForNow => recovered,
            };
            let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() && timeout.is_zero() {
                return Err(Error::new(ErrorKind::Locked, "lock", path));
            }
            if left.is_zero() {
                return Err(Error::new(ErrorKind::TimedOut, "wait for the writer of", path));
            }
            backoff.pause(left);
        }
    }

    /// Has a writer the lock for `target`? Without locks nobody can tell: then it counts as held.
    pub(crate) fn is_held(dir: &Dir, target: &OsStr) -> io::Result<bool> {
        WriterLock::is_file_held(dir, &names::for_target(Role::Lock, target))
    }

    /// Has somebody the lock that is a file of this name, whatever its target is?
    pub(crate) fn is_file_held(dir: &Dir, name: &OsStr) -> io::Result<bool> {
        match open_existing(dir, name) {
            Err(e) if sys::is_gone(&e) => Ok(false),
            Err(e) => Err(e),
            Ok(None) => Ok(true),
            Ok(Some(file)) => Ok(!asks_in_vain(&file)?),
        }
    }

    /// Takes the lock for `target` in `dir`; none if somebody else has it.
    pub(crate) fn try_take(dir: &Arc<Dir>, target: &OsStr) -> io::Result<Option<WriterLock>> {
        match WriterLock::attempt(dir, target)? {
            Tried::Taken(lock) => Ok(Some(lock)),
            Tried::Held | Tried::HeldForNow => Ok(None),
        }
    }

    /// The name of the lock file.
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Gives it up, and leaves the file.
    pub(crate) fn leave_file(mut self) {
        self.name.clear();
    }

    fn attempt(dir: &Arc<Dir>, target: &OsStr) -> io::Result<Tried> {
        let name = names::for_target(Role::Lock, target);
        for _ in 0..TRIES * TRIES {
            let created = create(dir, &name)?;
            let is_new = created.is_some();
            let (file, is_locked) = match created {
                Some(created) => created,
                None => match open_existing(dir, &name) {
                    // Removed by its last holder between the two attempts to open it.
                    Err(e) if sys::is_gone(&e) => continue,
                    Err(e) => return Err(e),
                    // Nobody can tell whether its holder lives.
                    Ok(None) => return Ok(Tried::Held),
                    Ok(Some(file)) => (file, false),
                },
            };
            let stat = match file.stat() {
                // Removed by its last holder, on another machine.
                Err(e) if sys::is_stale(&e) => continue,
                found => found?,
            };
            let tried = if is_locked { Ok(Lock::Held) } else { file.try_lock() };
            match tried {
                Ok(Lock::Held) => {}
                Err(e) if sys::is_stale(&e) => continue,
                Ok(Lock::Elsewhere) if asks_in_vain(&file)? => return Ok(Tried::HeldForNow),
                Ok(Lock::Elsewhere) => return Ok(Tried::Held),
                Ok(Lock::Unsupported) => {
                    // A server of locks may be away for a moment, or this process alone may be refused: somebody else
                    // may have a file locked that was there before.
                    if is_new {
                        let _ = dir.unlink(&name);
                    }
                    return Err(io::ErrorKind::Unsupported.into());
                }
                Err(e) => {
                    let is_ours = || dir.leads_to(&name, stat.id).unwrap_or(false);
                    if matches!(file.try_lock(), Ok(Lock::Held)) && is_ours() {
                        let _ = dir.unlink(&name);
                    }
                    return Err(e);
                }
            }
            if is_locked || dir.leads_to(&name, stat.id).unwrap_or(false) {
                let made_by = ProcessMark::this();
                return Ok(Tried::Taken(WriterLock { dir: Arc::clone(dir), name, file, made_by }));
            }
        }
        // The file system doesn't know its own files, or the directory itself is gone.
        let is_there = dir.stat_at(&name).is_ok();
        Err(if is_there { io::ErrorKind::Unsupported } else { io::ErrorKind::NotFound }.into())
    }
}

impl RecoveryLock {
    /// Takes the right to recover what is left of `target` in `dir`; none if a writer or another recovery is
    /// at work.
    pub(crate) fn try_take(dir: &Arc<Dir>, target: &OsStr) -> io::Result<Option<RecoveryLock>> {
        let Some(_recoveries) = WriterLock::try_take(dir, &of_recoveries(target))? else { return Ok(None) };
        let writers = WriterLock::try_take(dir, target)?;
        Ok(writers.map(|_writers| RecoveryLock { _writers, _recoveries }))
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        if !self.made_by.is_this() {
            return;
        }
        if !self.name.is_empty() {
            // While it is held. If this fails, recovery removes the file.
            let _ = self.dir.unlink(&self.name);
        }
        // Not by closing: a child that is being started may have it open for a moment.
        let _ = self.file.unlock();
    }
}

/// Asks for a shared lock and gives it up again: is there no holder that excludes all others?
fn asks_in_vain(file: &File) -> io::Result<bool> {
    let is_free = file.try_lock_as(Share::Shared)? == Lock::Held;
    if is_free {
        let _ = file.unlock();
    }
    Ok(is_free)
}

/// Is a recovery at work on what is left of this target? Where it can't be told, a writer is.
fn is_recovering(dir: &Dir, target: &OsStr) -> bool {
    let name = names::for_target(Role::Lock, &of_recoveries(target));
    let held = |file: &File| asks_in_vain(file).is_ok_and(|is_free| !is_free);
    matches!(open_existing(dir, &name), Ok(Some(file)) if held(&file))
}

/// What the recoveries of a target lock first.
fn of_recoveries(target: &OsStr) -> OsString {
    let mut recoveries = target.to_owned();
    // No name has a slash.
    recoveries.push("/recovery");
    recoveries
}

/// So that everybody who may create a name here can take it over once its holder is dead.
fn mode_in(dir: &Stat) -> u32 {
    if is_private(dir) { 0o600 } else { 0o666 }
}

/// Creates the lock file; none if there is one. Also returns whether it is locked: where that can be done, it is locked
/// before anybody else can see it.
fn create(dir: &Dir, name: &OsStr) -> io::Result<Option<(File, bool)>> {
    let mode = mode_in(&dir.stat()?);
    let allow = |file: &File| {
        // The umask has nothing to say: it would keep those out who may write here. A mount that refuses it
        // has modes of its own.
        if mode != 0o600 {
            file.set_mode(mode).unwrap_or_default();
        }
    };
    if let Some(file) = dir.create_unnamed(mode).unwrap_or(None) {
        match file.try_lock()? {
            Lock::Held => {}
            Lock::Elsewhere | Lock::Unsupported => return Err(io::ErrorKind::Unsupported.into()),
        }
        allow(&file);
        let linked = file.link_as(dir, name);
        match (outcome_of_link(&linked, &file, (dir, name), false), linked) {
            // An error may be a lost answer: the name leads to this very file, which is locked.
            (Outcome::Done, _) | (_, Ok(())) => return Ok(Some((file, true))),
            (_, Err(e)) if sys::already_exists(&e) => return Ok(None),
            (_, Err(e)) if sys::is_link_refused(&e) => {}
            (_, Err(e)) => return Err(e),
        }
    }
    match dir.create_new(name, mode) {
        Err(e) if sys::already_exists(&e) => Ok(None),
        created => {
            let file = created?;
            allow(&file);
            Ok(Some((file, false)))
        }
    }
}

/// Opens the lock file, and refuses what is none: a link, a FIFO, a second name of some other file, anything
/// with something in it. None if the caller has no right to it.
fn open_existing(dir: &Dir, name: &OsStr) -> io::Result<Option<File>> {
    match dir.open_to_lock_or_read(name) {
        Err(e) if is_planted(dir, name, &e) => Err(io::ErrorKind::PermissionDenied.into()),
        Err(e) if sys::is_forbidden(&e) => Ok(None),
        Err(e) => Err(e),
        Ok(file) => {
            if is_lock_file(&file.stat()?) {
                Ok(Some(file))
            } else {
                Err(io::ErrorKind::PermissionDenied.into())
            }
        }
    }
}

fn is_planted(dir: &Dir, name: &OsStr, e: &io::Error) -> bool {
    !crate::sys::is_not_found(e) && dir.stat_at(name).is_ok_and(|found| found.kind != Kind::File)
}
