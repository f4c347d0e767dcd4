//! Making many files durable together, with few flushes and few open descriptors.

use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::sync_pool::Pool;
use crate::batch::SyncStrategy;
use crate::options::{Durability, WriteOptions};
use crate::sys::{self, Dir, File, FsKind, Stat};

/// So many files are gathered, while as many are being synced; each is an open descriptor.
const WINDOW: usize = 44;

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
    together: Vec<(usize, File)>,
    single: VecDeque<(usize, File)>,
    /// Syncs the window before this one.
    pool: Option<Pool>,
}

impl SyncSet {
    /// Takes a complete file. Its content is on the way to the device when this returns.
    pub(crate) fn add(&mut self, how: How, tag: usize, file: File) -> Result<(), Failed> {
        match how {
            How::Nothing | How::FileSystem => Ok(()),
            How::PerFile => file.sync().map_err(|cause| Failed { tag, cause }),
            How::Together => {
                file.write_out(0, 0, false);
                self.together.push((tag, file));
                if self.waiting() < WINDOW { Ok(()) } else { self.begin_sync() }
            }
            How::SingleFlush => {
                file.write_out(0, 0, false);
                self.single.push_back((tag, file));
                if self.waiting() < WINDOW { Ok(()) } else { self.wait_for_oldest() }
            }
        }
    }

    /// Everything that was added is durable after this or, for a single flush, on the device.
    pub(crate) fn finish(&mut self) -> Result<(), Failed> {
        while !self.single.is_empty() {
            self.wait_for_oldest()?;
        }
        self.sync_together()
    }

    fn waiting(&self) -> usize {
        self.together.len() + self.single.len()
    }

    fn wait_for_oldest(&mut self) -> Result<(), Failed> {
        match self.single.pop_front() {
            Some((tag, file)) => file.written_out().map_err(|cause| Failed { tag, cause }),
            None => Ok(()),
        }
    }

    /// Hands the window over, once the one before is durable.
    fn begin_sync(&mut self) -> Result<(), Failed> {
        let pool = self.pool.get_or_insert_default();
        pool.finish()?;
        pool.submit(std::mem::take(&mut self.together));
        Ok(())
    }

    fn sync_together(&mut self) -> Result<(), Failed> {
        // No threads for a single file.
        if self.pool.is_none() && self.together.len() == 1 {
            let last = self.together.pop();
            return last.map_or(Ok(()), |(tag, file)| file.sync().map_err(|cause| Failed { tag, cause }));
        }
        if !self.together.is_empty() {
            self.begin_sync()?;
        }
        self.pool.as_mut().map_or(Ok(()), Pool::finish)
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
