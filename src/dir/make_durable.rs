//! Making everything that is new in a draft durable, before it is published.

use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::metadata;
use crate::atomic::parent_sync::sync_parent;
use crate::dir::draft::Draft;
use crate::dir::version::open_parent;
use crate::error::{Error, Result};
use crate::remnant::trust::open_file;
use crate::set::SYNCED_AT_ONCE;
use crate::set::group_sync::SyncSet;
use crate::set::parallel::in_parallel;
use crate::set::sync_request::GroupSync;
use crate::sys::{self, Dir, File, Kind};

impl Draft {
    /// Other programs are about to write into it: what is there is synced when they are done.
    pub(crate) fn expose(&mut self) {
        self.is_exposed = true;
        self.recent = None;
    }

    pub(crate) fn is_exposed(&self) -> bool {
        self.is_exposed
    }

    /// Content of files that were added one by one is durable, or under way as `sync` says. False
    /// if the file system can't sync directories.
    pub(crate) fn make_durable(&mut self, mut sync: GroupSync) -> Result<bool> {
        if self.is_exposed
            && !matches!(sync, GroupSync::None | GroupSync::SyncFs)
            && self.sync_whatever_is_there(sync)?
        {
            sync = GroupSync::SyncFs;
        }
        // A root that is not tied to its name any more is one that, where others can create names, only a person removes
        // after a crash: so it is untied as late as can be.
        if self.stage.is_tied() && !matches!(sync, GroupSync::None | GroupSync::WriteOut | GroupSync::SyncFs)
        {
            let synced = self.sync_directories(sync, false)?;
            self.finish_root()?;
            return Ok(self.sync_root()? && synced);
        }
        self.finish_root()?;
        match sync {
            // The flush that makes the swap durable covers directories, too.
            GroupSync::None | GroupSync::WriteOut => Ok(true),
            GroupSync::SyncFs => {
                let synced = sys::sync_file_system(&self.stage.root.dir);
                synced.map_err(|e| Error::io("sync the file system of", &self.target.path, e))?;
                Ok(true)
            }
            GroupSync::InTurn
            | GroupSync::ByRecord
            | GroupSync::Parallel
            | GroupSync::ParallelOrSyncFs
            | GroupSync::InTurnOrSyncFs => self.sync_directories(sync, true),
        }
    }

    /// A staged file once more, if it is still there.
    pub(crate) fn open_staged(&self, rel: &Path) -> io::Result<Option<File>> {
        let name = rel.file_name().unwrap_or_default();
        match open_parent(&self.stage.root.dir, rel).and_then(|dir| open_file(&dir, name)) {
            Err(e) if sys::is_not_found(&e) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// The new root is like the old one, or as a new directory is; and it is complete.
    pub(crate) fn finish_root(&mut self) -> Result<()> {
        let fail = |e| Error::io("set the metadata of", &self.target.path, e);
        self.stage.untie().map_err(fail)?;
        let Some(old) = &self.old else { return Ok(()) };
        let root = self.stage.root.dir.as_inode();
        let set = root.and_then(|root| metadata::copy_metadata(&root, &old.existing()?));
        self.keeps_metadata &= set.map_err(fail)?;
        Ok(())
    }

    pub(crate) fn sync_root(&self) -> Result<bool> {
        sync_parent(&self.stage.root.dir).map_err(|e| Error::io("sync", &self.target.path, e))
    }

    /// Files of others, and ours that they may have changed. See [`SyncSet::finish`].
    fn sync_whatever_is_there(&mut self, sync: GroupSync) -> Result<bool> {
        let (mut set, mut files) = (SyncSet::default(), Vec::new());
        let mut pending = vec![PathBuf::new()];
        self.dirs.clear();
        while let Some(rel) = pending.pop() {
            let fail = |e| Error::io("sync", &self.path_of(&rel), e);
            let dir = self.stage.root.dir.open_beneath(&rel).map_err(fail)?;
            let entries: io::Result<Vec<_>> = dir.entries().and_then(Iterator::collect);
            for (name, kind) in entries.map_err(fail)? {
                if rel.as_os_str().is_empty() && self.stage.is_tie(&name) {
                    continue;
                }
                match dir.kind_of(&name, kind).map_err(fail)? {
                    Kind::Dir => pending.push(rel.join(name)),
                    Kind::File => {
                        let file = open_file(&dir, &name).map_err(fail)?;
                        files.push(rel.join(name));
                        let added = set.add(sync, files.len() - 1, file);
                        added.map_err(|f| Error::io("sync", &self.path_of(&files[f.tag]), f.cause))?;
                    }
                    Kind::Symlink | Kind::Other => {}
                }
            }
            self.dirs.push(rel);
        }
        let whole = set.finish(&|tag| self.open_staged(&files[tag]));
        let whole = whole.map_err(|f| Error::io("sync", &self.path_of(&files[f.tag]), f.cause))?;
        self.dirs.retain(|dir| !dir.as_os_str().is_empty());
        Ok(whole)
    }

    /// Those at the bottom first, the root, if it is asked for, last.
    fn sync_directories(&self, sync: GroupSync, with_root: bool) -> Result<bool> {
        let mut all: Vec<PathBuf> = self.dirs.iter().rev().cloned().collect();
        all.extend(with_root.then(PathBuf::new));
        let unsynced = std::sync::atomic::AtomicBool::new(false);
        for window in all.chunks(SYNCED_AT_ONCE) {
            let mut dirs: Vec<Dir> = Vec::with_capacity(window.len());
            for rel in window {
                let opened = self.stage.root.dir.open_beneath(rel);
                dirs.push(opened.map_err(|e| Error::io("sync", &self.path_of(rel), e))?);
            }
            let sync_one = |dir: &Dir| {
                unsynced.fetch_or(!sync_parent(dir)?, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            };
            let synced = match sync {
                GroupSync::Parallel | GroupSync::ParallelOrSyncFs => in_parallel(&dirs, sync_one),
                _ => dirs.iter().enumerate().try_for_each(|(at, dir)| sync_one(dir).map_err(|e| (at, e))),
            };
            synced.map_err(|(at, e)| Error::io("sync", &self.path_of(&window[at]), e))?;
        }
        Ok(!unsynced.into_inner())
    }
}
