//! Making many files durable together, with few flushes and few open descriptors.
//!
//! # Where a file goes
//!
//! | [`GroupSync`] | as it is added | when the set is finished |
//! | --- | --- | --- |
//! | `None`, `SyncFs` | closed | nothing (`SyncFs`: the caller's `syncfs`) |
//! | `InTurn` | gathered; every 22nd has all written out and then fsynced one after the other, on the adding thread | the same with the rest |
//! | `Parallel` | gathered; every 22nd hands all to the pool, which begins to write all of them out and then fsyncs each | the rest is handed on, all are waited for; up to 4 in all are fsynced as `InTurn` |
//! | `WriteOut`, `ByRecord` | gathered; every 22nd hands all to the pool, which writes all of them out and waits | the same; the caller's flush follows, or the sync of the record (without a record, `ByRecord` is fsynced after all) |
//! | `InTurnOrSyncFs`, `ParallelOrSyncFs` | gathered until there are 50, and then 22 at a time; each time `/proc/meminfo` decides (below) | the rest, by the table below |
//!
//! # States of the last two
//!
//! | files written out before | other programs have little to write (128 KiB for each file of the set, 8 MiB at most) | the files in hand are | the set ends with |
//! | --- | --- | --- | --- |
//! | none, fewer than 50 in all | not asked | fsynced, in turn or in parallel | nothing |
//! | none or some | yes | written out and waited for, closed, remembered by number | `syncfs`, if the answer is yes once more at the end |
//! | none | no | fsynced, in turn or in parallel | nothing |
//! | some | no, while files are added | fsynced, in turn or in parallel | `syncfs`, if the answer is yes at the end |
//! | some | no, at the end | the remembered files are opened again and fsynced | nothing; `syncfs` all the same if one can't be opened |
//!
//! The limit of 128 KiB is where both ways take the same time: a flush costs about what writing a megabyte
//! costs, and threads share one between eight files. The ceiling is for devices that write slowly. Errors of writing are told to whoever waits for it, and
//! so before the files are closed; `syncfs` tells those that come later, to a descriptor that was opened before the
//! first write. Btrfs is faster with no threads than with 16, and so syncs in turn.

use std::io;

use crate::set::sync_pool::{Failed, Job, Pool, Tagged, write_out};
use crate::set::sync_request::GroupSync;
use crate::set::{FEW, GATHERED, IN_FLIGHT};
use crate::sys::{self, File};

/// Fewer never wait for a whole file system, whatever the dirty pages of others look like now.
const MANY: usize = 50;

/// Opens the staged file with this number again, if it is still needed.
pub(crate) type Reopen<'a> = &'a dyn Fn(usize) -> io::Result<Option<File>>;

/// Files that are complete and wait to be made durable.
#[derive(Debug, Default)]
pub(crate) struct SyncSet {
    together: Vec<Tagged>,
    single: Vec<Tagged>,
    turn: Vec<Tagged>,
    /// Those of `single`, in hand or not, that the sync of a record is to cover.
    by_record: Vec<usize>,
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
    pub(crate) fn add(&mut self, sync: GroupSync, tag: usize, file: File) -> Result<(), Failed> {
        let in_hand = self.in_hand();
        if let Some(pool) = &self.pool {
            pool.make_room(IN_FLIGHT + GATHERED - in_hand);
        }
        match sync {
            GroupSync::None | GroupSync::SyncFs => return Ok(()),
            GroupSync::InTurn => self.turn.push((tag, file)),
            GroupSync::Parallel => self.together.push((tag, file)),
            GroupSync::WriteOut => self.single.push((tag, file)),
            GroupSync::ByRecord => {
                self.by_record.push(tag);
                self.single.push((tag, file));
            }
            GroupSync::ParallelOrSyncFs | GroupSync::InTurnOrSyncFs => {
                self.in_turn = sync == GroupSync::InTurnOrSyncFs;
                self.adaptive.push((tag, file));
                let enough = if self.adapted == 0 { MANY } else { GATHERED };
                return if self.adaptive.len() < enough { Ok(()) } else { self.adapt() };
            }
        }
        let gathered = self.together.len() + self.single.len() + self.turn.len();
        if gathered < GATHERED { Ok(()) } else { self.hand_on() }
    }

    /// Closes a file that is not needed any more, unless it is on its way already.
    pub(crate) fn forget(&mut self, tag: usize) {
        for files in [&mut self.together, &mut self.single, &mut self.turn, &mut self.adaptive] {
            files.retain(|(other, _)| *other != tag);
        }
    }

    /// Begins what several threads will do, so that the caller can sync something else at the same time.
    pub(crate) fn start(&mut self) -> Result<(), Failed> {
        if self.pool.is_some() || self.together.len() > FEW { self.hand_on() } else { Ok(()) }
    }

    /// Everything that was added is durable after this or, for a single flush, on the device. But if it returns
    /// true, what was added as [`InTurnOrSyncFs`](GroupSync::InTurnOrSyncFs) or
    /// [`ParallelOrSyncFs`](GroupSync::ParallelOrSyncFs) still needs a sync of its whole file system.
    pub(crate) fn finish(&mut self, open: Reopen<'_>) -> Result<bool, Failed> {
        let mut by_record = std::mem::take(&mut self.by_record);
        if !by_record.is_empty() {
            // There is no record: they are synced themselves, those that are still open without being opened again.
            by_record.retain(|tag| self.single.iter().all(|(other, _)| other != tag));
            self.turn.append(&mut self.single);
        }
        Ok(self.finish_for_record(open)? | self.sync_each(&by_record, open)?)
    }

    /// Does what [`finish`](SyncSet::finish) does, but files added [`ByRecord`](GroupSync::ByRecord) are only written out: a record is going to
    /// be written and synced.
    pub(crate) fn finish_for_record(&mut self, open: Reopen<'_>) -> Result<bool, Failed> {
        if self.written.is_empty() {
            self.sync_adaptive()?;
        } else {
            self.write_out_adaptive()?;
        }
        self.finish_all()?;
        let written = std::mem::take(&mut self.written);
        if written.is_empty() || sys::dirty_backlog_is_small(written.len()) {
            return Ok(!written.is_empty());
        }
        // Another program has become busy meanwhile.
        self.sync_each(&written, open)
    }

    /// Syncs what was only written out, file by file. True if that can't be done.
    fn sync_each(&mut self, written: &[usize], open: Reopen<'_>) -> Result<bool, Failed> {
        for &tag in written {
            match open(tag) {
                Ok(Some(file)) if self.in_turn => sync_one(tag, &file)?,
                Ok(Some(file)) => self.add(GroupSync::Parallel, tag, file)?,
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
            if self.together.len() <= FEW {
                self.turn.append(&mut self.together);
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
        self.together.len() + self.single.len() + self.turn.len() + self.adaptive.len()
    }

    fn hand_on(&mut self) -> Result<(), Failed> {
        let (together, single) = (std::mem::take(&mut self.together), std::mem::take(&mut self.single));
        self.submit(Job::SyncAll, together)?;
        self.submit(Job::WriteOut, single)?;
        sync_in_turn(std::mem::take(&mut self.turn))
    }

    fn adapt(&mut self) -> Result<(), Failed> {
        self.adapted += self.adaptive.len();
        if sys::dirty_backlog_is_small(self.adapted) {
            return self.write_out_adaptive();
        }
        self.sync_adaptive()
    }

    fn sync_adaptive(&mut self) -> Result<(), Failed> {
        let files = std::mem::take(&mut self.adaptive);
        if self.in_turn {
            return sync_in_turn(files);
        }
        if self.pool.is_none() && files.len() <= FEW {
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
            let rest = files.split_off(files.len().min(GATHERED));
            let most = IN_FLIGHT.saturating_sub(files.len() + rest.len() + self.in_hand());
            self.pool.get_or_insert_with(Pool::new).submit(job(files), most)?;
            files = rest;
        }
        Ok(())
    }
}

/// Begins to write out all files, then syncs one after the other. So the device writes them at the same time, and each
/// commit of the journal covers more of them, which leaves less to the syncs that follow.
fn sync_in_turn(files: Vec<Tagged>) -> Result<(), Failed> {
    if files.len() > 1 {
        files.iter().for_each(|(_, file)| file.begin_write_out());
    }
    files.iter().try_for_each(|(tag, file)| sync_one(*tag, file))
}

fn sync_one(tag: usize, file: &File) -> Result<(), Failed> {
    file.sync().map_err(|cause| Failed { tag, cause })
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use super::*;
    use crate::sys::Dir;

    #[test]
    fn a_file_that_can_t_be_opened_again_is_left_to_the_sync_of_the_file_system() {
        let refuse = |_| Err(io::ErrorKind::PermissionDenied.into());
        assert!(SyncSet::default().sync_each(&[0, 1], &refuse).unwrap());
        assert!(!SyncSet::default().sync_each(&[], &refuse).unwrap());
        assert!(!SyncSet::default().sync_each(&[0, 1], &|_| Ok(None)).unwrap());
    }

    #[test]
    fn a_sync_that_fails_after_the_file_was_opened_again_is_told() {
        // A device that has no sync.
        let null = |_| Dir::open("/dev".as_ref()).unwrap().open_file("null".as_ref()).map(Some);
        assert_eq!(SyncSet::default().sync_each(&[7, 8], &null).unwrap_err().tag, 7);
    }
}
