//! How the files of a set share the work of becoming durable.
//!
//! The work for each file is decided as for a single save ([`FileSync`]); only an fsync can be shared in
//! several ways:
//!
//! | each file needs | strategy | file system | the set does |
//! | --- | --- | --- | --- |
//! | `None` | any | any | [`None`](GroupSync::None) |
//! | `WriteOut` | any | any | [`WriteOut`](GroupSync::WriteOut) |
//! | `Fsync` | `PerFile` | any | [`InTurn`](GroupSync::InTurn) |
//! | `Fsync` | `FileSystem` | `syncfs` reports errors | [`SyncFs`](GroupSync::SyncFs) |
//! | `Fsync` | `FileSystem` | any other | [`InTurn`](GroupSync::InTurn) |
//! | `Fsync` | `Auto` | btrfs, `syncfs` does all | [`InTurnOrSyncFs`](GroupSync::InTurnOrSyncFs) |
//! | `Fsync` | `Auto` | btrfs, any other | [`InTurn`](GroupSync::InTurn) |
//! | `Fsync` | `Auto` | `syncfs` does all | [`ParallelOrSyncFs`](GroupSync::ParallelOrSyncFs) |
//! | `Fsync` | `Auto` | any other | [`Parallel`](GroupSync::Parallel) |
//!
//! Where a record follows that is synced by itself ([`SyncRequest::resolve_for_record`]), one row comes before those of
//! `Auto`:
//!
//! | each file needs | strategy | file system | the set does |
//! | --- | --- | --- | --- |
//! | `Fsync` | `Auto` | its journal is totally ordered | [`ByRecord`](GroupSync::ByRecord) |

use crate::atomic::sync_mode::FileSync;
use crate::options::WriteOptions;
use crate::options::durability::{Durability, SyncStrategy};
use crate::sys::{self, Dir, FsKind, Stat};

/// How a set makes its files durable, in one of the directories that it saves into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupSync {
    /// Nothing is synced.
    None,
    /// Files are fsynced one after the other, without further threads: 22 at a time as they are added, and the rest
    /// when the set is finished.
    InTurn,
    /// Many files are fsynced at the same time, on several threads, so that the file system merges their
    /// flushes.
    Parallel,
    /// As `InTurn` for a small set, or while other programs have much to write; else each file is written
    /// out, and one `syncfs` follows.
    InTurnOrSyncFs,
    /// As `Parallel` for a small set, or while other programs have much to write; else each file is
    /// written out, and one `syncfs` follows.
    ParallelOrSyncFs,
    /// One `syncfs` before the set is published.
    SyncFs,
    /// Each file is written out and waited for; the flush that makes the rename durable covers it.
    WriteOut,
    /// Each file is written out and waited for; the sync of the record, which is written after all of them, covers
    /// them. An error of that flush is told before anything is published.
    ByRecord,
}

impl GroupSync {
    /// For a file that stays as it is. No rename follows, so that no flush of its directory covers it, and
    /// a descriptor that sees the errors of its file system may not be open.
    pub(crate) fn of_unchanged(self) -> GroupSync {
        match self {
            GroupSync::WriteOut | GroupSync::SyncFs | GroupSync::ParallelOrSyncFs | GroupSync::ByRecord => {
                GroupSync::Parallel
            }
            GroupSync::InTurnOrSyncFs => GroupSync::InTurn,
            GroupSync::None | GroupSync::InTurn | GroupSync::Parallel => self,
        }
    }

    /// May the set end with a `syncfs`, if other programs have little to write?
    pub(crate) fn may_sync_fs(self) -> bool {
        matches!(self, GroupSync::InTurnOrSyncFs | GroupSync::ParallelOrSyncFs)
    }
}

/// The options of a set that decide it, before it is known where its files go.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SyncRequest {
    pub(crate) durability: Durability,
    pub(crate) strategy: SyncStrategy,
    pub(crate) single_flush: bool,
}

impl SyncRequest {
    pub(crate) fn new(options: &WriteOptions, strategy: SyncStrategy) -> SyncRequest {
        let WriteOptions { durability, single_flush, .. } = *options;
        SyncRequest { durability, strategy, single_flush }
    }

    /// The answer for one directory; `stat` is of any file of the mount that `kind` describes.
    pub(crate) fn resolve(self, dir: &Dir, kind: FsKind, stat: &Stat) -> GroupSync {
        match FileSync::resolve(self.durability, self.single_flush, dir, (kind, stat)) {
            FileSync::None => GroupSync::None,
            FileSync::WriteOut => GroupSync::WriteOut,
            FileSync::Fsync => self.resolve_fsync(kind, stat),
        }
    }

    /// [`resolve`](SyncRequest::resolve) for a set whose record is synced by itself before anything is published.
    pub(crate) fn resolve_for_record(self, dir: &Dir, kind: FsKind, stat: &Stat) -> GroupSync {
        match self.resolve(dir, kind, stat) {
            GroupSync::Parallel | GroupSync::ParallelOrSyncFs if sys::has_ordered_journal(kind, stat) => {
                GroupSync::ByRecord
            }
            sync => sync,
        }
    }

    fn resolve_fsync(self, kind: FsKind, stat: &Stat) -> GroupSync {
        let in_turn = sys::syncs_in_turn(kind);
        match self.strategy {
            SyncStrategy::FileSystem if sys::syncfs_is_reliable(kind, stat) => GroupSync::SyncFs,
            SyncStrategy::FileSystem | SyncStrategy::PerFile => GroupSync::InTurn,
            SyncStrategy::Auto if sys::syncfs_is_enough(kind, stat) => match in_turn {
                true => GroupSync::InTurnOrSyncFs,
                false => GroupSync::ParallelOrSyncFs,
            },
            SyncStrategy::Auto if in_turn => GroupSync::InTurn,
            SyncStrategy::Auto => GroupSync::Parallel,
        }
    }
}
