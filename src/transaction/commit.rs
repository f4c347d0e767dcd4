//! From staged to published to applied.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::content::ContentWriter;
use crate::atomic::outcome::{Outcome, outcome_of_link, outcome_of_removal};
use crate::atomic::parent_sync::{reached, sync_parent};
use crate::atomic::staged::{StagedName, create_named_in};
use crate::cancel::CancelToken;
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::failing;
use crate::journal::encoding::check_length;
use crate::names::{self, Role, name_of};
use crate::options::durability::Durability;
use crate::set::collector::{UNFINISHED, lock};
use crate::set::enclosing::{refuse_if_detached, refuse_if_enclosed};
use crate::set::publish::{StagedEntry, move_into_place};
use crate::set::staging_dir::StagingDir;
use crate::set::sync_request::GroupSync;
use crate::set::unchanged::same_file;
use crate::sys::{self, Dir, File};
use crate::transaction::dirs_below::DirCache;
use crate::transaction::entry::Entry;
use crate::transaction::record::{Action, Change, TransactionRecord, distinct};
use crate::transaction::{Transaction, apply};

const SYNC_RECORD: &str = "sync the record of the transaction in";

impl Transaction {
    pub(crate) fn try_commit(&mut self) -> Result<Durability> {
        failing::check(&self.path)?;
        CancelToken::check(self.options.cancel.as_ref(), &self.path)?;
        if self.options.skip_unchanged {
            self.find_unchanged()?;
        }
        lock(&self.collector).check(&self.path)?;
        let record = self.make_record()?;
        if self.entries.is_empty() {
            return Ok(self.kind.cap_durability(Durability::Full));
        }
        let unchanged_synced = self.sync_unchanged(&record)?;
        let synced = match record.changes.as_slice() {
            [] => {
                self.sync_contents(false)?;
                self.check_once_more()?;
                true
            }
            [only] if record.dirs.is_empty() => self.publish_one(only)?,
            _ => self.publish_all(&record)?,
        };
        refuse_if_detached(&self.root, &self.place, &self.path)
            .map_err(|e| e.with_target(TargetState::Unknown))?;
        let reached = reached(Durability::Full, synced && unchanged_synced);
        Ok(self.kind.cap_durability(reached))
    }

    /// Finds the files that need not be published; they are made durable where they stand.
    fn find_unchanged(&mut self) -> Result<()> {
        let Some(stage) = &self.stage else { return Ok(()) };
        let mut collected = lock(&self.collector);
        if collected.open > 0 {
            // The commit is going to fail.
            return Ok(());
        }
        let mut below = DirCache::new(&self.root);
        for (rel, entry) in &mut self.entries {
            let Some(number) = entry.put else { continue };
            let open = || stage.dir().open_file(&name_of(number));
            let find = |staged: &File| {
                let (dir, name) = below.parent_of(rel).ok()?;
                same_file((&dir, name), staged, &self.options)
            };
            if let Some(same) = collected.is_unchanged(entry.tag, &self.path.join(rel), find, open)? {
                entry.is_unchanged = true;
                collected.add(self.sync.of_unchanged(), entry.tag, same);
            }
        }
        Ok(())
    }

    /// The names of what need not be published, where no change has its directory synced anyway.
    fn sync_unchanged(&self, record: &TransactionRecord) -> Result<bool> {
        let unchanged = self.entries.iter().filter(|(_, entry)| entry.is_unchanged);
        let mut parents = distinct(unchanged.filter_map(|(rel, _)| rel.parent()));
        let changed = distinct(record.changes.iter().filter_map(|change| change.path.parent()));
        parents.retain(|parent| changed.binary_search(parent).is_err());
        let mut below = DirCache::new(&self.root);
        let mut synced = true;
        for parent in parents {
            let fail = |e| Error::io("sync the directory", &self.path.join(parent), e);
            synced &= below.dir(parent).and_then(|dir| sync_parent(&dir)).map_err(fail)?;
        }
        Ok(synced)
    }

    /// The changes to make, each looked at once more: from here on nothing may be refused.
    fn make_record(&mut self) -> Result<TransactionRecord> {
        let mut changes = Vec::with_capacity(self.entries.len());
        let mut below = DirCache::new(&self.root);
        let collected = lock(&self.collector);
        for (rel, entry) in self.entries.iter().filter(|(_, entry)| !entry.is_unchanged) {
            let before = self.look_again(&mut below, rel, entry)?;
            let action = match entry.put {
                None => Action::Remove,
                Some(number) => {
                    let content = collected
                        .content_id_of(entry.tag)
                        .ok_or_else(|| Error::new(ErrorKind::Reader, UNFINISHED, &self.path.join(rel)))?;
                    Action::Put { number, content }
                }
            };
            changes.push(Change { path: rel.clone(), before, action });
        }
        let changed = self.entries.values().filter(|entry| !entry.is_unchanged);
        let dirs = distinct(changed.flat_map(|entry| &entry.missing).map(PathBuf::as_path));
        let stage = self.stage.as_ref().map(|stage| stage.name().to_owned()).unwrap_or_default();
        let dirs = dirs.into_iter().map(Path::to_owned).collect();
        Ok(TransactionRecord { stage, passing: names::fresh(Role::Passing), dirs, changes })
    }

    fn look_again(
        &self,
        below: &mut DirCache,
        rel: &Path,
        entry: &Entry,
    ) -> Result<Option<sys::Fingerprint>> {
        let path = || self.path.join(rel);
        let found = match below.parent_of(rel) {
            Err(e) if sys::is_not_found(&e) && !entry.missing.is_empty() => return Ok(None),
            Err(e) => return Err(Error::io("open the directory of", &path(), e)),
            Ok((dir, name)) => sys::fingerprint(&dir, name),
        };
        match found {
            Err(e) if sys::is_not_found(&e) => Ok(None),
            Err(e) => Err(Error::io("inspect", &path(), e)),
            Ok(found) if found.is_dir => Err(Error::new(ErrorKind::IsADirectory, "change", &path())),
            Ok(found) => Ok(Some(found)),
        }
    }

    /// All content is durable after this, but for what waits for the record's sync, if one follows. A record
    /// that was written before is durable, too, if `sync` is `SyncFs` afterwards.
    fn sync_contents(&mut self, record_follows: bool) -> Result<()> {
        let (path, tags) = (&self.path, &self.tags);
        let open = |tag: usize| {
            let entry = self.entries.get(&tags[tag]).filter(|entry| entry.tag == tag);
            let staged = entry.and_then(|entry| Some((self.stage.as_ref()?, entry.put?)));
            staged.map(|(stage, number)| stage.dir().open_file(&name_of(number))).transpose()
        };
        let path_of = |tag: usize| path.join(&tags[tag]);
        if lock(&self.collector).finish(record_follows, &path_of, &open)? {
            self.sync = GroupSync::SyncFs;
        }
        if self.sync != GroupSync::SyncFs {
            return Ok(());
        }
        sys::sync_file_system(&self.root).map_err(|e| Error::io("sync the file system of", &self.path, e))
    }

    /// The last look before something is published.
    fn check_once_more(&self) -> Result<()> {
        CancelToken::check(self.options.cancel.as_ref(), &self.path)?;
        refuse_if_detached(&self.root, &self.place, &self.path)?;
        refuse_if_enclosed(&self.root, &self.place, &self.path)
    }

    /// One change is all or nothing by itself, and needs no record.
    fn publish_one(&mut self, change: &Change) -> Result<bool> {
        self.sync_contents(false)?;
        self.check_once_more()?;
        let path = self.path.join(&change.path);
        let parent = DirCache::new(&self.root).dir(change.path.parent().unwrap_or(Path::new("")));
        let dir = parent.map_err(|e| Error::io("open the directory of", &path, e))?;
        let name = change.path.file_name().unwrap_or_default();
        let remote = self.kind.remote;
        // Until the change is durable: see `Target::unpin_unless_needed`.
        let _held = dir.pin(name);
        let (outcome, error) = match (&change.action, &mut self.stage) {
            (Action::Put { number, .. }, Some(stage)) => {
                let tag = self.entries.get(&change.path).map(|entry| entry.tag);
                let id = tag.and_then(|tag| lock(&self.collector).inodes.get(&tag).copied());
                let from = name_of(*number);
                let staged = StagedEntry { dir: stage.dir(), name: &from, id };
                let moved = move_into_place(staged, (&dir, name), false, remote);
                if moved.0 == Outcome::Unknown {
                    stage.keep(true);
                }
                moved
            }
            _ => remove(&dir, name, remote),
        };
        if let (Outcome::NotDone | Outcome::Unknown, Some(e)) = (outcome, error) {
            let error = match change.action {
                Action::Put { .. } => Error::refused(Error::PUBLISH, &path, (&dir, name), e),
                Action::Remove => Error::io("remove", &path, e),
            };
            let is_unknown = outcome == Outcome::Unknown;
            return Err(if is_unknown { error.with_target(TargetState::Unknown) } else { error });
        }
        let failed = |e| Error::io("sync the directory of", &path, e).with_target(TargetState::Replaced);
        sync_parent(&dir).map_err(failed)
    }

    /// The commit point is the name of the record: once it is durable, a crash anywhere ends with all changes.
    fn publish_all(&mut self, record: &TransactionRecord) -> Result<bool> {
        self.try_out(record)?;
        let journal = self.publish_record(record)?;
        let path = self.path.clone();
        let pending = |operation| {
            let path = &path;
            move |e| Error::io(operation, path, e).with_target(TargetState::Pending)
        };
        let is_ordered = self.is_ordered();
        let sync_journal = || sync_parent(&self.root).map_err(pending(SYNC_RECORD));
        let synced = is_ordered || sync_journal()?;
        let stage = self.stage.as_ref().map(|stage| stage.dir());
        let applied = apply::apply(&self.root, record, stage, self.sync == GroupSync::SyncFs);
        if applied.is_err() && is_ordered {
            // The error says that the changes are pending. A power cut should not take the record back.
            let _ = sync_journal();
        }
        applied.map_err(pending("apply the transaction in"))?;
        // All is done and durable. What stays says so to the next recovery.
        let forgotten = self.root.unlink(&journal).is_ok();
        let stage = self.stage.take_if(|_| forgotten);
        let has_staged = stage.is_some();
        let _ = stage.map(|stage| remove_staged(stage, record));
        let elsewhere = record.changes.iter().any(|c| c.path.parent() != Some(Path::new("")));
        if has_staged && elsewhere && !is_ordered {
            // Record and staged files must not come back together: a target that is deleted now would,
            // too. One in the root itself can't be deleted durably without their removal, and where the journal is
            // totally ordered, none can.
            let _ = sync_parent(&self.root).map_err(pending("forget the transaction in"))?;
        }
        Ok(synced)
    }

    /// Is no change durable before the record's name is, and no replaced content lost before? Then one sync makes all of
    /// them durable. Everything that a transaction changes is on one mount.
    fn is_ordered(&self) -> bool {
        sys::has_ordered_journal(self.kind, &self.stat)
            && !sys::frees_blocks_early(self.kind, &self.stat)
            && self.root.can_be_synced()
    }

    /// Writes the record, complete and durable, and gives it its name.
    fn publish_record(&mut self, record: &TransactionRecord) -> Result<OsString> {
        let path = self.path.clone();
        let write = |e| Error::io("write the record of the transaction in", &path, e);
        let unnamed = match self.root.create_unnamed(0o600) {
            Err(e) if sys::is_link_refused(&e) => None,
            created => created.map_err(write)?,
        };
        let published = match unnamed {
            None => None,
            unnamed => self.publish_record_as(record, unnamed)?,
        };
        // By a name that it has from the start, where the link is refused.
        match published
            .map_or_else(|| self.publish_record_as(record, None), |published| Ok(Some(published)))?
        {
            Some(published) => Ok(published),
            None => Err(write(io::ErrorKind::Unsupported.into())),
        }
    }

    /// None if an unnamed record was not allowed to have a name. Only that is tried in another way: an error of what comes
    /// before is one of the transaction, whatever its errno.
    fn publish_record_as(
        &mut self,
        record: &TransactionRecord,
        unnamed: Option<File>,
    ) -> Result<Option<OsString>> {
        let path = self.path.clone();
        let write = |e| Error::io("write the record of the transaction in", &path, e);
        let journal = names::fresh(Role::Journal);
        let (name, file) = match unnamed {
            Some(file) => (None, file),
            None => create_named_in(&self.root, 0o600).map(|(name, file, _)| (name, file)).map_err(write)?,
        };
        let file = self.write_record(file, record)?;
        // From here on it may be published: nothing is removed.
        self.keep(true);
        let named = match &name {
            Some(name) => self.root.rename(name.as_name(), &journal),
            None => file.link_as(&self.root, &journal),
        };
        let outcome = outcome_of_link(&named, &file, (&self.root, &journal), self.kind.remote);
        let is_link_refused = name.is_none() && named.as_ref().is_err_and(sys::is_link_refused);
        let error = write(named.err().unwrap_or_else(|| io::ErrorKind::Other.into()));
        if outcome == Outcome::NotDone {
            self.keep(false);
            return if is_link_refused { Ok(None) } else { Err(error) };
        }
        // It is not to be removed as a staged file any more.
        name.into_iter().for_each(StagedName::keep);
        match outcome {
            Outcome::Unknown => Err(error.with_target(TargetState::Unknown)),
            _ => Ok(Some(journal)),
        }
    }

    /// Writes the record, and makes all that it speaks of durable with it, in one round of flushes.
    fn write_record(&mut self, file: File, record: &TransactionRecord) -> Result<File> {
        let is_covering = matches!(self.sync, GroupSync::ByRecord | GroupSync::WriteOut);
        if is_covering {
            // Before the record is written: only so it joins the same commit of the journal or a later one.
            self.sync_contents(true)?;
        }
        let fail = |e| Error::io("inspect the record of the transaction in", &self.path, e);
        let own = sys::lasting_id(&file).map_err(fail)?;
        let mut stream = ContentWriter::new(file, &self.path, (&self.of_internal_files).into());
        let bytes = record.encode(own);
        check_length(bytes.len() as u64)
            .map_err(|e| Error::io("write the record of the transaction in", &self.path, e))?;
        stream.write_whole(&bytes)?;
        let file = stream.into_file();
        if is_covering {
            let covering = if self.sync == GroupSync::ByRecord { file.sync() } else { file.written_out() };
            covering.map_err(|e| Error::io(SYNC_RECORD, &self.path, e))?;
        } else if self.sync.may_sync_fs() {
            self.sync_contents(true)?;
            self.sync_record(&file)?;
        } else {
            // While other threads sync the files.
            lock(&self.collector).start();
            self.sync_record(&file)?;
            self.sync_contents(true)?;
        }
        self.check_once_more()?;
        Ok(file)
    }

    /// The record, and the names of the staged files, on which it relies.
    fn sync_record(&self, file: &File) -> Result<()> {
        let fail = |e| Error::io(SYNC_RECORD, &self.path, e);
        if self.sync == GroupSync::SyncFs {
            // With everything else.
            return Ok(());
        }
        file.sync().map_err(fail)?;
        self.stage.as_ref().map_or(Ok(true), |stage| sync_parent(stage.dir())).map_err(fail).map(drop)
    }
}

/// By the names that are known, so that nothing has to be listed.
fn remove_staged(stage: StagingDir, record: &TransactionRecord) -> io::Result<()> {
    for change in &record.changes {
        if let Action::Put { number, .. } = change.action {
            let _ = stage.dir().unlink(&name_of(number));
        }
    }
    stage.remove()
}

/// Removes a name that may be gone.
fn remove(dir: &Dir, name: &std::ffi::OsStr, remote: bool) -> (Outcome, Option<io::Error>) {
    let removed = match dir.unlink(name) {
        Err(e) if sys::is_not_found(&e) => Ok(()),
        removed => removed,
    };
    (outcome_of_removal(&removed, (dir, name), remote), removed.err())
}
