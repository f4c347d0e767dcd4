//! One writer at a time for a name: a lock file beside it, with a name that follows from it.
//!
//! The file is removed while its lock is held. Whoever waits for it has it open by then, and so
//! makes sure after locking that the name still leads to what it locked.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::names::{self, Role};
use crate::sys::{self, Dir, File, Kind, Lock};

/// Between two looks at a lock that somebody has.
const PAUSES: std::ops::RangeInclusive<u64> = 1..=20;

/// How often a lock file that went while it was opened is tried anew.
const TRIES: usize = 1000;

/// The right to be the only writer; given up, with its file, when dropped.
#[derive(Debug)]
pub(crate) struct WriterLock {
    dir: Arc<Dir>,
    name: OsString,
    /// Open and locked.
    _file: File,
}

impl WriterLock {
    /// Takes the lock for `target` in `dir`. None if somebody else has it for longer than that.
    /// The error is `Unsupported` where the file system has no locks.
    pub(crate) fn take(dir: &Arc<Dir>, target: &OsStr, timeout: Duration) -> io::Result<Option<WriterLock>> {
        let deadline = Instant::now().checked_add(timeout);
        let mut pause = *PAUSES.start();
        loop {
            if let Some(lock) = WriterLock::try_take(dir, names::for_target(Role::Lock, target))? {
                return Ok(Some(lock));
            }
            let left = deadline.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            std::thread::sleep(left.min(Duration::from_millis(pause)));
            pause = (pause * 2).min(*PAUSES.end());
        }
    }

    /// Has somebody the lock for `target`? Without locks nobody can tell: then it counts as held.
    pub(crate) fn is_held(dir: &Dir, target: &OsStr) -> io::Result<bool> {
        let name = names::for_target(Role::Lock, target);
        match dir.open_file(&name) {
            Err(e) if is_planted(dir, &name, &e) => Err(io::ErrorKind::PermissionDenied.into()),
            Err(e) if sys::is_gone(&e) => Ok(false),
            opened => Ok(opened?.try_lock()? != Lock::Held),
        }
    }

    fn try_take(dir: &Arc<Dir>, name: OsString) -> io::Result<Option<WriterLock>> {
        for _ in 0..TRIES {
            let file = match open(dir, &name) {
                // Removed by its last holder between the two attempts to open it.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            let stat = file.stat()?;
            match file.try_lock() {
                Ok(Lock::Held) => {}
                Ok(Lock::Elsewhere) => return Ok(None),
                Ok(Lock::Unsupported) => {
                    // Nor can anybody else have it locked.
                    let _ = dir.unlink(&name);
                    return Err(io::ErrorKind::Unsupported.into());
                }
                Err(e) => {
                    if matches!(file.try_lock(), Ok(Lock::Held)) {
                        let _ = dir.unlink(&name);
                    }
                    return Err(e);
                }
            }
            if dir.stat_at(&name).is_ok_and(|now| now.id == stat.id) {
                return Ok(Some(WriterLock { dir: Arc::clone(dir), name, _file: file }));
            }
        }
        // The file system doesn't know its own files, or the directory itself is gone.
        let is_there = dir.stat_at(&name).is_ok();
        Err(if is_there { io::ErrorKind::Unsupported } else { io::ErrorKind::NotFound }.into())
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // While it is held. If this fails, recovery removes the file.
        let _ = self.dir.unlink(&self.name);
    }
}

/// Opens or creates the lock file, and refuses what somebody else may have put there.
fn open(dir: &Dir, name: &OsStr) -> io::Result<File> {
    let file = match dir.create_new(name, 0o600) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match dir.open_file_to_lock(name) {
            // A link, a directory, a socket: none of ours, and opened for nobody.
            Err(e) if is_planted(dir, name, &e) => return Err(io::ErrorKind::PermissionDenied.into()),
            opened => opened?,
        },
        created => created?,
    };
    let stat = file.stat()?;
    let ours = stat.kind == Kind::File && stat.uid == sys::effective_uid() && stat.nlink <= 1;
    if ours { Ok(file) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

fn is_planted(dir: &Dir, name: &OsStr, e: &io::Error) -> bool {
    e.kind() != io::ErrorKind::NotFound && dir.stat_at(name).is_ok_and(|found| found.kind != Kind::File)
}
