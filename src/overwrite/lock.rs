//! Step 2: one save at a time overwrites a file. A save that replaces a certain version, and can't create a lock file, takes
//! this lock, too.

use std::io;
use std::time::{Duration, Instant};

use crate::atomic::staged::TRIES;
use crate::atomic::target::Target;
use crate::cancel::{Backoff, CancelToken};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::options::WriteOptions;
use crate::sys::{File, Kind, Lock, ProcessMark, Stat};

/// How long another save is waited for. The lock may also be an application's own, and held for ever.
const PATIENCE: Duration = Duration::from_secs(30);

const LOCK: &str = "lock";

/// The file itself, open and locked. The lock goes when this is dropped.
#[derive(Debug)]
pub(crate) struct LockedFile {
    pub(crate) file: File,
    /// Its stat once it was locked.
    pub(super) stat: Stat,
    made_by: ProcessMark,
}

impl LockedFile {
    /// Opens the file at the target's name for reading and writing and locks it, waiting for another save. `held`: the
    /// caller has it locked.
    pub(super) fn open(target: &Target, options: &WriteOptions, held: Option<&File>) -> Result<LockedFile> {
        let open = || {
            let file = target.dir.open_file_to_lock(&target.name)?;
            // A copy of the descriptor shares its lock; it may be one that can't write, but then the other could not
            // be had.
            held.map_or(Ok(file), File::duplicate)
        };
        LockedFile::wait(target, &open, PATIENCE, options.cancel.as_ref())
    }

    /// Locks the file at the target's name, once nobody else has it locked.
    pub(crate) fn wait(
        target: &Target,
        open: &dyn Fn() -> io::Result<File>,
        patience: Duration,
        cancel: Option<&CancelToken>,
    ) -> Result<LockedFile> {
        let (begun, mut backoff, mut mismatches) = (Instant::now(), Backoff::new(), 0);
        loop {
            CancelToken::check(cancel, &target.path)?;
            match try_open(target, open)? {
                Tried::Locked(locked) => return Ok(locked),
                Tried::Held => {}
                // Either others replace it all the time, or each look finds another inode, and no lock holds anybody off.
                Tried::Replaced if mismatches == TRIES => {
                    return Err(Error::new(ErrorKind::Unsupported, LOCK, &target.path));
                }
                Tried::Replaced => mismatches += 1,
            }
            let left = patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::new(ErrorKind::TimedOut, "wait for the writer of", &target.path));
            }
            backoff.pause(left);
        }
    }
}

enum Tried {
    Locked(LockedFile),
    /// Somebody else has the lock.
    Held,
    /// The name leads elsewhere by now.
    Replaced,
}

fn try_open(target: &Target, open: &dyn Fn() -> io::Result<File>) -> Result<Tried> {
    let fail = |e| Error::io(LOCK, &target.path, e);
    let file = open().map_err(fail)?;
    match file.try_lock().map_err(fail)? {
        Lock::Held => {}
        Lock::Elsewhere => return Ok(Tried::Held),
        Lock::Unsupported => {
            let refused = Error::new(ErrorKind::Unsupported, LOCK, &target.path);
            return Err(refused.because("the file system has no locks, so that two saves could mix"));
        }
    }
    let stat = file.stat().map_err(fail)?;
    if stat.kind != Kind::File {
        return Err(Error::new(ErrorKind::InvalidPath, LOCK, &target.path));
    }
    let is_there = target.dir.leads_to(&target.name, stat.id).map_err(fail)?;
    let locked = LockedFile { file, stat, made_by: ProcessMark::this() };
    Ok(if is_there { Tried::Locked(locked) } else { Tried::Replaced })
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        // A forked child has the lock, too, and must not give it up.
        if self.made_by.is_this() {
            // Not by closing: a child that is being started may have it open for a moment.
            let _ = self.file.unlock();
        }
    }
}
