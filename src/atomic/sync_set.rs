//! Making many files durable together, with few flushes and few open descriptors.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::sync_pool::{Job, Pool, Tagged, write_out};
use crate::batch::SyncStrategy;
use crate::options::{Durability, WriteOptions};
use crate::sys::{self, Dir, File, FsKind, Stat};

/// So many files are gathered before they are handed on.
const WINDOW: usize = 22;

/// So many more may be on their way then; each is an open descriptor.
const PENDING: usize = 66;

/// Directories that are synced at once. The file system merges their journal commits and flushes.
const THREADS: usize = 16;

/// What makes a file of a set durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// Nothing has to.
    Nothing,
    /// Its own sync, at once.
    PerFile,
    /// Its own sync, together with those of others.
    Together,
    /// One sync of the whole file system, before the set is published.
    FileSystem,
    /// It is written out now; the flush that makes the rename durable covers it.
    SingleFlush,
}

/// What was asked of a set, before it is known where it goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) durability: Durability,
    pub(crate) strategy: SyncStrategy,
    pub(crate) single_flush: bool,
}

impl How {
    /// For a file that stays as it is: no rename follows, so that no flush of its directory
    /// covers it; and a descriptor that sees the errors of its file system may not be open.
    pub(crate) fn of_unchanged(self) -> How {
        match self {
            How::SingleFlush | How::FileSystem => How::Together,
            how => how,
        }
    }
}

impl From<&WriteOptions> for Wish {
    fn from(options: &WriteOptions) -> Wish {
        let WriteOptions { durability, single_flush, .. } = *options;
        Wish { durability, strategy: SyncStrategy::PerFile, single_flush }
    }
}

impl Wish {
    /// What it comes to in a directory; `stat` is of any file of the mount that `kind` describes.
    pub(crate) fn how(self, dir: &Dir, kind: FsKind, stat: &Stat) -> How {
        // The flush that covers everything is that of the directory.
        let single = self.single_flush && self.durability == Durability::Full && dir.can_be_synced();
        match self.strategy {
            _ if self.durability == Durability::None => How::Nothing,
            _ if single && sys::has_ordered_journal(kind, stat) => How::SingleFlush,
            SyncStrategy::FileSystem if sys::syncfs_reports_errors(kind) => How::FileSystem,
            SyncStrategy::FileSystem | SyncStrategy::PerFile => How::PerFile,
            SyncStrategy::Auto => How::Together,
        }
    }
}

/// The sync of one file failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The file, by the number that it was added under.
    pub(crate) tag: usize,
    pub(crate) cause: io::Error,
}

/// Files that are complete and wait to be made durable.
#[derive(Debug, Default)]
pub(crate) struct SyncSet {
    together: Vec<Tagged>,
    single: Vec<Tagged>,
    /// Works on what was gathered before.
    pool: Option<Pool>,
}

impl SyncSet {
    /// Takes a complete file.
    pub(crate) fn add(&mut self, how: How, tag: usize, file: File) -> Result<(), Failed> {
        match how {
            How::Nothing | How::FileSystem => return Ok(()),
            How::PerFile => return file.sync().map_err(|cause| Failed { tag, cause }),
            How::Together => self.together.push((tag, file)),
            How::SingleFlush => self.single.push((tag, file)),
        }
        if self.together.len() + self.single.len() < WINDOW { Ok(()) } else { self.hand_on() }
    }

    /// Everything that was added is durable after this or, for a single flush, on the device.
    pub(crate) fn finish(&mut self) -> Result<(), Failed> {
        // Few files need no threads.
        if self.pool.is_none() {
            if let Some(failed) = write_out(std::mem::take(&mut self.single)) {
                return Err(failed);
            }
            if self.together.len() == 1 {
                let last = self.together.pop();
                return last.map_or(Ok(()), |(tag, file)| file.sync().map_err(|cause| Failed { tag, cause }));
            }
        }
        self.hand_on()?;
        self.pool.as_mut().map_or(Ok(()), Pool::finish)
    }

    /// Ends it without doing what was not begun yet. What failed before.
    pub(crate) fn abandon(self) -> Option<Failed> {
        self.pool.and_then(Pool::abandon)
    }

    fn hand_on(&mut self) -> Result<(), Failed> {
        let SyncSet { together, single, pool } = self;
        for (files, job) in [(together, Job::SyncAll as fn(_) -> _), (single, Job::WriteOut)] {
            if !files.is_empty() {
                pool.get_or_insert_default().submit(job(std::mem::take(files)), PENDING - WINDOW)?;
            }
        }
        Ok(())
    }
}

/// Does the work for each item, on several threads if there are many. After a failure no new
/// item is begun; of several failures the first item's is returned.
pub(crate) fn in_parallel<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> io::Result<()> + Sync,
) -> Result<(), (usize, io::Error)> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None::<(usize, io::Error)>));
    let worker = || {
        while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < items.len()) {
            if let Err(e) = work(&items[at]) {
                next.store(items.len(), Ordering::Relaxed);
                let mut first = failed.lock().unwrap_or_else(|broken| broken.into_inner());
                if first.as_ref().is_none_or(|(other, _)| at < *other) {
                    *first = Some((at, e));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..items.len().min(THREADS) {
            // A thread that can't be had is not needed: the others do its share.
            let _ = std::thread::Builder::new().spawn_scoped(scope, sys::inherit(worker));
        }
        worker();
    });
    match failed.into_inner().unwrap_or_else(|broken| broken.into_inner()) {
        Some(failed) => Err(failed),
        None => Ok(()),
    }
}
