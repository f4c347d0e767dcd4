//! The results of a set's streams, collected for its commit.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::atomic::content::ContentId;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::set::group_sync::{Reopen, SyncSet};
use crate::set::sync_pool::Failed;
use crate::set::sync_request::GroupSync;
use crate::sys::{File, FileId};

/// The operation that an error names when a stream turns out to be unfinished.
pub(crate) const UNFINISHED: &str = "use the unfinished stream for";

/// The results of a set's streams.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    pub(crate) set: SyncSet,
    /// Streams that are not ended yet.
    pub(crate) open: usize,
    /// Why a stream was dropped unfinished.
    pub(crate) abandoned: Option<Error>,
    pub(crate) failed: Option<Failed>,
    /// The identity of each finished file, where that is needed.
    pub(crate) content_ids: Option<HashMap<usize, ContentId>>,
    /// The inode of each finished file that was looked at, to judge its rename by.
    pub(crate) inodes: HashMap<usize, FileId>,
    /// Complete files whose targets held the same content then, and how they are synced if they are published
    /// after all.
    pub(crate) maybe_unchanged: HashMap<usize, GroupSync>,
    /// Files that could not be given all the metadata of those that they replace.
    pub(crate) lost_metadata: Vec<usize>,
}

impl Collected {
    /// A collector that keeps what each file is known by.
    pub(crate) fn with_content_ids() -> Collector {
        let content_ids = Some(HashMap::new());
        Arc::new(Mutex::new(Collected { content_ids, ..Collected::default() }))
    }

    pub(crate) fn content_id_of(&self, tag: usize) -> Option<ContentId> {
        self.content_ids.as_ref()?.get(&tag).copied()
    }

    /// Takes a complete file.
    pub(crate) fn add(&mut self, sync: GroupSync, tag: usize, file: File) {
        if self.failed.is_none() {
            self.failed = self.set.add(sync, tag, file).err();
        }
    }

    /// Leaves the files that were added, and are not synced yet, to a later sync of the caller's. A sync that has
    /// failed is not forgotten: the kernel would not tell of it again.
    pub(crate) fn forget_unsynced(&mut self) {
        let failed = std::mem::take(&mut self.set).abandon();
        self.failed = self.failed.take().or(failed);
    }

    /// Refuses a set with a stream that isn't ended, or wasn't.
    pub(crate) fn check(&mut self, root: &Path) -> Result<()> {
        match self.abandoned.take() {
            Some(e) => Err(e),
            None if self.open > 0 => Err(Error::new(ErrorKind::Reader, UNFINISHED, root)),
            None => Ok(()),
        }
    }

    /// Waits until everything that was added is durable, but for what [`SyncSet::finish`] says or, if a record
    /// follows, [`SyncSet::finish_for_record`]. `path_of` tells which file a number is, `open` opens its staged
    /// file again.
    pub(crate) fn finish(
        &mut self,
        record_follows: bool,
        path_of: &dyn Fn(usize) -> std::path::PathBuf,
        open: Reopen<'_>,
    ) -> Result<bool> {
        let set = &mut self.set;
        let finished = match self.failed.take() {
            Some(failed) => Err(failed),
            None if record_follows => set.finish_for_record(open),
            None => set.finish(open),
        };
        finished.map_err(|failed| Error::io("sync", &path_of(failed.tag), failed.cause))
    }

    /// See [`SyncSet::start`].
    pub(crate) fn start(&mut self) {
        if self.failed.is_none() {
            self.failed = self.set.start().err();
        }
    }
}

pub(crate) type Collector = Arc<Mutex<Collected>>;

pub(crate) fn lock(collector: &Collector) -> MutexGuard<'_, Collected> {
    collector.lock().unwrap_or_else(|broken| broken.into_inner())
}
