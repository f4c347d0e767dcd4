//! From staged to published: the work of [`Batch::commit`].

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::atomic::outcome::Outcome;
use crate::atomic::parent_sync::{self, sync_parent};
use crate::batch::Batch;
use crate::batch::target_dirs::TargetDirs;
use crate::cancel::CancelToken;
use crate::error::{Error, Result, TargetState};
use crate::failing;
use crate::names::name_of;
use crate::options::durability::Durability;
use crate::set::collector::lock;
use crate::set::parallel::in_parallel;
use crate::set::publish::{StagedEntry, move_into_place};
use crate::set::unchanged::same_file;
use crate::set::{PINNED, SYNCED_AT_ONCE};
use crate::sys::{self, Dir, File};

/// Target directories that are open at the same time: each one's number, handle and entries.
type Window<'a> = [(usize, Arc<Dir>, &'a [usize])];

impl Batch {
    /// Publishes everything. Returns the durability that was reached in each target directory.
    pub(super) fn try_commit(&mut self) -> Result<Vec<Durability>> {
        let first = self.entries.first().map(|entry| entry.path.clone()).unwrap_or_default();
        failing::check(&first)?;
        if self.dirs.is_some() {
            CancelToken::check(self.options.cancel.as_ref(), &first)?;
        }
        // Not before that: files that are still open keep the names of a staging directory on Windows.
        let Some(mut dirs) = self.dirs.take() else { return Ok(Vec::new()) };
        self.make_durable(&mut dirs, &first)?;
        CancelToken::check(self.options.cancel.as_ref(), &first)?;
        let mut by_dir = vec![Vec::new(); dirs.len()];
        for (at, entry) in self.entries.iter().enumerate().filter(|(_, e)| e.superseded_by.is_none()) {
            by_dir[entry.dir].push(at);
        }
        let mut reached = vec![Durability::None; dirs.len()];
        // A directory that no file was added to, after all, is left alone.
        let used: Vec<usize> = (0..dirs.len()).filter(|&dir| !by_dir[dir].is_empty()).collect();
        for some in used.chunks(SYNCED_AT_ONCE) {
            let window = some.iter().map(|&at| Ok((at, dirs.open(at)?, by_dir[at].as_slice())));
            let window = window.collect::<Result<Vec<_>>>()?;
            let synced = self.publish(&mut dirs, &window)?;
            for (&at, durability) in some.iter().zip(synced) {
                reached[at] = dirs.get(at).kind.cap_durability(durability);
            }
        }
        Ok(reached)
    }

    /// Step 6 for all files.
    fn make_durable(&mut self, dirs: &mut TargetDirs, first: &Path) -> Result<()> {
        if self.options.skip_unchanged {
            self.find_unchanged(dirs)?;
        }
        let open = |tag: usize| {
            let at = self.entries[tag].staged;
            if self.entries[tag].superseded_by.is_some() {
                return Ok(None);
            }
            dirs.staging(&at).map(|stage| stage.open_file(&name_of(at.number))).transpose()
        };
        let path_of = |tag: usize| self.entries[tag].path.clone();
        let mut collected = lock(&self.collector);
        collected.check(first)?;
        let whole = collected.finish(false, &path_of, &open)?;
        drop(collected);
        for (via, dir) in dirs.file_systems(whole) {
            sys::sync_file_system(dir).map_err(|e| Error::io("sync the file system of", via, e))?;
        }
        Ok(())
    }

    /// Finds the files that need not be published; they are made durable where they stand.
    fn find_unchanged(&mut self, dirs: &mut TargetDirs) -> Result<()> {
        let mut collected = lock(&self.collector);
        if collected.open > 0 {
            // The commit is going to fail.
            return Ok(());
        }
        for (tag, entry) in self.entries.iter_mut().enumerate() {
            if entry.superseded_by.is_some() {
                continue;
            }
            let dir = dirs.open(entry.dir)?;
            let Some(stage) = dirs.staging(&entry.staged) else { continue };
            let open = || stage.open_file(&name_of(entry.staged.number));
            let find = |staged: &File| same_file((&dir, &entry.name), staged, &self.options);
            if let Some(same) = collected.is_unchanged(tag, &entry.path, find, open)? {
                entry.unchanged = true;
                collected.add(dirs.get(entry.dir).sync.of_unchanged(), tag, same);
            }
        }
        Ok(())
    }

    /// Steps 8 to 11 in some directories. Returns the durability that was reached in each.
    fn publish(&mut self, dirs: &mut TargetDirs, window: &Window<'_>) -> Result<Vec<Durability>> {
        let mut pinned = Vec::new();
        let mut publish = || {
            for (target_dir, dir, entries) in window {
                for &at in *entries {
                    if dirs.get(*target_dir).is_pinned {
                        if pinned.len() == PINNED {
                            self.sync_parents(dirs, window)?;
                            pinned.clear();
                        }
                        pinned.extend(dir.pin(&self.entries[at].name));
                    }
                    self.publish_one(dirs, dir, at)?;
                }
            }
            Ok(())
        };
        let published = publish();
        if !pinned.is_empty() || published.is_ok() {
            // After an error, too: what was replaced must not come back torn.
            let synced = self.sync_parents(dirs, window);
            return published.and(synced);
        }
        published.map(|()| Vec::new())
    }

    fn publish_one(&mut self, dirs: &mut TargetDirs, dir: &Arc<Dir>, at: usize) -> Result<()> {
        let entry = &mut self.entries[at];
        let staged = entry.staged;
        let Some(stage) = dirs.staging(&staged).filter(|_| !entry.unchanged) else { return Ok(()) };
        let remote = dirs.get(entry.dir).kind.remote;
        let (from, create_new) = (name_of(staged.number), self.options.create_new);
        let id = lock(&self.collector).inodes.get(&at).copied();
        let staged_entry = StagedEntry { dir: stage, name: &from, id };
        let (outcome, error) = move_into_place(staged_entry, (dir, &entry.name), create_new, remote);
        entry.state = match outcome {
            Outcome::Done => TargetState::Replaced,
            Outcome::NotDone => TargetState::Unchanged,
            Outcome::Unknown => TargetState::Unknown,
        };
        if let (Some(e), Outcome::NotDone | Outcome::Unknown) = (error, outcome) {
            if outcome == Outcome::Unknown {
                dirs.keep(&staged);
            }
            return Err(
                Error::refused(Error::PUBLISH, &entry.path, (dir, &entry.name), e).with_target(entry.state)
            );
        }
        Ok(())
    }

    fn sync_parents(&self, dirs: &TargetDirs, window: &Window<'_>) -> Result<Vec<Durability>> {
        let asked = self.options.durability;
        let reached: Vec<OnceLock<Durability>> = window.iter().map(|_| OnceLock::new()).collect();
        let jobs: Vec<_> =
            window.iter().zip(&reached).filter(|((at, ..), _)| dirs.get(*at).is_synced).collect();
        let synced = in_parallel(&jobs, |((_, dir, _), reached)| {
            reached.set(parent_sync::reached(asked, sync_parent(dir)?)).unwrap_or_default();
            Ok(())
        });
        match synced {
            Ok(()) => Ok(reached.into_iter().map(|cell| cell.into_inner().unwrap_or(asked)).collect()),
            Err((at, e)) => Err(self.parent_failed(jobs[at].0.2, e)),
        }
    }

    /// The error names a file of that directory which is new, if there is one.
    fn parent_failed(&self, files: &[usize], e: io::Error) -> Error {
        let mut entries = files.iter().map(|&at| &self.entries[at]);
        let any = entries.clone().next();
        let Some(entry) = entries.find(|entry| entry.state != TargetState::Unchanged).or(any) else {
            return Error::io("sync the directory of", Path::new(""), e);
        };
        Error::io("sync the directory of", &entry.path, e).with_target(entry.state)
    }
}
