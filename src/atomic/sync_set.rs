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

/// Fewer never wait for a whole file system, whatever the dirty pages of others look like now.
const MANY: usize = 50;

/// So many may be on their way then, each an open descriptor; fewer, while more than that are in hand.
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
    /// Its own sync, after those of others; or as `Adaptive`.
    AdaptiveInTurn,
    /// Its own sync, together with those of others; or, in a set of many and if other programs have little to write, one sync of the whole
    /// file system for all that were written out.
    Adaptive,
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
            How::SingleFlush | How::FileSystem | How::Adaptive => How::Together,
            How::AdaptiveInTurn => How::PerFile,
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
            SyncStrategy::Auto if sys::syncs_in_turn(kind) => match sys::syncfs_is_enough(kind, stat) {
                true => How::AdaptiveInTurn,
                false => How::PerFile,
            },
            SyncStrategy::Auto if sys::syncfs_is_enough(kind, stat) => How::Adaptive,
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
    adaptive: Vec<Tagged>,
    /// These are synced one after the other, if each has to be.
    in_turn: bool,
    /// How many were in `adaptive` before.
    adapted: usize,
    /// Those of them that were only written out.
    written: Vec<usize>,
    /// Works on what was gathered before.
    pool: Option<Pool>,
}

impl SyncSet {
    /// Takes a complete file.
    pub(crate) fn add(&mut self, how: How, tag: usize, file: File) -> Result<(), Failed> {
        let in_hand = self.in_hand();
        if let Some(pool) = &self.pool {
            pool.make_room(PENDING + WINDOW - in_hand);
        }
        match how {
            How::Nothing | How::FileSystem => return Ok(()),
            How::PerFile => return sync_one(tag, &file),
            How::Together => self.together.push((tag, file)),
            How::SingleFlush => self.single.push((tag, file)),
            How::Adaptive | How::AdaptiveInTurn => {
                self.in_turn = how == How::AdaptiveInTurn;
                self.adaptive.push((tag, file));
                let enough = if self.adapted == 0 { MANY } else { WINDOW };
                return if self.adaptive.len() < enough { Ok(()) } else { self.adapt() };
            }
        }
        if self.together.len() + self.single.len() < WINDOW { Ok(()) } else { self.hand_on() }
    }

    /// Everything that was added is durable after this or, for a single flush, on the device. But if it
    /// returns true, everything that is `Adaptive` needs a sync of its whole file system yet.
    ///
    /// `open` opens a file again, if it is still needed.
    pub(crate) fn finish(
        &mut self,
        open: impl Fn(usize) -> io::Result<Option<File>>,
    ) -> Result<bool, Failed> {
        if self.written.is_empty() {
            self.sync_adaptive()?;
        } else {
            self.write_out_adaptive()?;
        }
        self.finish_all()?;
        let written = std::mem::take(&mut self.written);
        if written.is_empty() || sys::others_are_quiet(written.len()) {
            return Ok(!written.is_empty());
        }
        // Another program has become busy meanwhile.
        self.sync_each(&written, open)
    }

    /// Syncs what was only written out, file by file. True if that can't be done.
    fn sync_each(
        &mut self,
        written: &[usize],
        open: impl Fn(usize) -> io::Result<Option<File>>,
    ) -> Result<bool, Failed> {
        for &tag in written {
            match open(tag) {
                Ok(Some(file)) if self.in_turn => sync_one(tag, &file)?,
                Ok(Some(file)) => self.add(How::Together, tag, file)?,
                Ok(None) => {}
                // Its mode may forbid it.
                Err(_) => return self.finish_all().map(|()| true),
            }
        }
        self.finish_all().map(|()| false)
    }

    fn finish_all(&mut self) -> Result<(), Failed> {
        // Few files need no threads.
        if self.pool.is_none() {
            if let Some(failed) = write_out(std::mem::take(&mut self.single)) {
                return Err(failed);
            }
            if self.together.len() == 1 {
                let last = self.together.pop();
                return last.map_or(Ok(()), |(tag, file)| sync_one(tag, &file));
            }
        }
        self.hand_on()?;
        self.pool.as_mut().map_or(Ok(()), Pool::finish)
    }

    /// Ends it without doing what was not begun yet. What failed before.
    pub(crate) fn abandon(self) -> Option<Failed> {
        self.pool.and_then(Pool::abandon)
    }

    fn in_hand(&self) -> usize {
        self.together.len() + self.single.len() + self.adaptive.len()
    }

    fn hand_on(&mut self) -> Result<(), Failed> {
        let (together, single) = (std::mem::take(&mut self.together), std::mem::take(&mut self.single));
        self.submit(Job::SyncAll, together)?;
        self.submit(Job::WriteOut, single)
    }

    fn adapt(&mut self) -> Result<(), Failed> {
        self.adapted += self.adaptive.len();
        if sys::others_are_quiet(self.adapted) {
            return self.write_out_adaptive();
        }
        self.sync_adaptive()
    }

    fn sync_adaptive(&mut self) -> Result<(), Failed> {
        let files = std::mem::take(&mut self.adaptive);
        if self.in_turn {
            return files.iter().try_for_each(|(tag, file)| sync_one(*tag, file));
        }
        if self.pool.is_none() && files.len() == 1 {
            self.together.extend(files);
            return Ok(());
        }
        self.submit(Job::SyncAll, files)
    }

    fn write_out_adaptive(&mut self) -> Result<(), Failed> {
        let files = std::mem::take(&mut self.adaptive);
        self.written.extend(files.iter().map(|(tag, _)| *tag));
        self.submit(Job::WriteOut, files)
    }

    fn submit(&mut self, job: fn(Vec<Tagged>) -> Job, mut files: Vec<Tagged>) -> Result<(), Failed> {
        while !files.is_empty() {
            let rest = files.split_off(files.len().min(WINDOW));
            let most = PENDING.saturating_sub(files.len() + rest.len() + self.in_hand());
            self.pool.get_or_insert_default().submit(job(files), most)?;
            files = rest;
        }
        Ok(())
    }
}

fn sync_one(tag: usize, file: &File) -> Result<(), Failed> {
    file.sync().map_err(|cause| Failed { tag, cause })
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

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_can_t_be_opened_again_is_left_to_the_sync_of_the_file_system() {
        let refuse = |_| Err(io::ErrorKind::PermissionDenied.into());
        assert!(SyncSet::default().sync_each(&[0, 1], refuse).unwrap());
        assert!(!SyncSet::default().sync_each(&[], refuse).unwrap());
        assert!(!SyncSet::default().sync_each(&[0, 1], |_| Ok(None)).unwrap());
    }

    #[test]
    fn a_sync_that_fails_after_the_file_was_opened_again_is_told() {
        // It has no sync.
        let null = |_| Dir::open("/dev".as_ref()).unwrap().open_file("null".as_ref()).map(Some);
        assert_eq!(SyncSet::default().sync_each(&[7, 8], null).unwrap_err().tag, 7);
    }
}
