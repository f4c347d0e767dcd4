//! Step 2: one save at a time overwrites a file.

use std::time::{Duration, Instant};

use crate::atomic::target::Target;
use crate::cancel::{Backoff, CancelToken};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::options::WriteOptions;
use crate::sys::{File, Kind, Lock, Stat};

/// How long another save is waited for. The lock may also be an application's own, and held for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// The file itself, open for reading and writing, and locked. The lock goes when this is dropped.
#[derive(Debug)]
pub(super) struct LockedFile {
    pub(super) file: File,
    /// Its stat once it was locked.
    pub(super) stat: Stat,
}

impl LockedFile {
    /// Opens and locks the file at the target's name, waiting for another save. `held`: the caller has it locked.
    pub(super) fn open(target: &Target, options: &WriteOptions, held: Option<&File>) -> Result<LockedFile> {
        let (begun, mut backoff) = (Instant::now(), Backoff::new());
        loop {
            CancelToken::check(options.cancel.as_ref(), &target.path)?;
            if let Some(locked) = try_open(target, held)? {
                return Ok(locked);
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::new(ErrorKind::TimedOut, "wait for the writer of", &target.path));
            }
            backoff.pause(left);
        }
    }
}

/// Returns `None` if somebody else has the lock, or the name leads elsewhere by now.
fn try_open(target: &Target, held: Option<&File>) -> Result<Option<LockedFile>> {
    let fail = |e| Error::io("open for overwriting", &target.path, e);
    let file = target.dir.open_file_to_lock(&target.name).map_err(fail)?;
    // A copy of the descriptor shares its lock; it may be one that can't write, but then the other could not be had.
    let file = held.map_or(Ok(file), File::duplicate).map_err(fail)?;
    match file.try_lock().map_err(|e| Error::io("lock", &target.path, e))? {
        Lock::Held => {}
        Lock::Elsewhere => return Ok(None),
        Lock::Unsupported => {
            let refused = Error::new(ErrorKind::Unsupported, "overwrite in place", &target.path);
            return Err(refused.because("the file system has no locks, so that two saves could mix"));
        }
    }
    let stat = file.stat().map_err(fail)?;
    if stat.kind != Kind::File {
        return Err(Error::new(ErrorKind::InvalidPath, "overwrite in place", &target.path));
    }
    let is_there = target.dir.stat_at(&target.name).map_err(fail)?.id == stat.id;
    Ok(is_there.then_some(LockedFile { file, stat }))
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // Not by closing: a child that is being started may have it open for a moment.
        let _ = self.file.unlock();
    }
}
