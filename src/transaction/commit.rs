//! From staged to decided to applied.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use super::{Entry, Transaction};
use crate::atomic::beneath::Beneath;
use crate::atomic::names::{self, Role};
use crate::atomic::plan::{Action, Change, Plan};
use crate::atomic::stage::StagedName;
use crate::atomic::stage_dir::{StageDir, name_of};
use crate::atomic::stream::Stream;
use crate::atomic::sync_set::How;
use crate::atomic::{Outcome, create_named_in, may_not_be_linked, move_into_place, outcome_of_link, redo};
use crate::options::Durability;
use crate::staged_file::lock;
use crate::sys::{self, Dir, File};
use crate::{CancelToken, Error, ErrorKind, Result, TargetState};

impl Transaction {
    pub(super) fn try_commit(&mut self) -> Result<Durability> {
        let (path, tags) = (&self.path, &self.tags);
        CancelToken::check(self.options.cancel.as_ref(), path)?;
        let open = |tag: usize| {
            let entry = self.entries.get(&tags[tag]).filter(|entry| entry.tag == tag);
            let staged = entry.and_then(|entry| Some((self.stage.as_ref()?, entry.put?)));
            staged.map(|(stage, number)| stage.dir().open_file(&name_of(number))).transpose()
        };
        if lock(&self.collector).finish(path, |tag| path.join(&tags[tag]), open)? {
            self.how = How::FileSystem;
        }
        let plan = self.plan()?;
        let synced = match plan.changes.as_slice() {
            [] => true,
            [only] if plan.dirs.is_empty() => self.publish_one(only)?,
            _ => self.publish_all(&plan)?,
        };
        Ok(self.kind.limit(if synced { Durability::Full } else { Durability::Data }))
    }

    /// What is to be done, looked at once more: from here on nothing may be refused.
    fn plan(&mut self) -> Result<Plan> {
        let mut changes = Vec::with_capacity(self.entries.len());
        let mut beneath = Beneath::new(&self.root);
        let collected = lock(&self.collector);
        for (rel, entry) in &self.entries {
            let before = self.look_again(&mut beneath, rel, entry)?;
            let action = match entry.put {
                None => Action::Remove,
                Some(number) => {
                    let content = collected.facts_of(entry.tag).ok_or_else(|| {
                        Error::new(ErrorKind::Reader, "use the unfinished stream for", &self.path.join(rel))
                    })?;
                    Action::Put { number, content }
                }
            };
            changes.push(Change { path: rel.clone(), before, action });
        }
        let dirs: BTreeSet<&PathBuf> = self.entries.values().flat_map(|entry| &entry.missing).collect();
        let stage = self.stage.as_ref().map(|stage| stage.name().to_owned()).unwrap_or_default();
        let dirs = dirs.into_iter().cloned().collect();
        Ok(Plan { stage, passing: names::fresh(Role::Stage), dirs, changes })
    }

    fn look_again(
        &self,
        beneath: &mut Beneath,
        rel: &Path,
        entry: &Entry,
    ) -> Result<Option<sys::Fingerprint>> {
        let path = || self.path.join(rel);
        let found = match beneath.parent_of(rel) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && !entry.missing.is_empty() => return Ok(None),
            Err(e) => return Err(Error::io("open the directory of", &path(), e)),
            Ok((dir, name)) => sys::fingerprint(&dir, name),
        };
        match found {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("inspect", &path(), e)),
            Ok(found) if found.is_dir => Err(Error::new(ErrorKind::IsADirectory, "change", &path())),
            Ok(found) => Ok(Some(found)),
        }
    }

    fn sync_whole(&self) -> Result<()> {
        if self.how != How::FileSystem {
            return Ok(());
        }
        sys::sync_file_system(&self.root).map_err(|e| Error::io("sync the file system of", &self.path, e))
    }

    /// One change is all or nothing by itself, and needs no record.
    fn publish_one(&mut self, change: &Change) -> Result<bool> {
        self.sync_whole()?;
        CancelToken::check(self.options.cancel.as_ref(), &self.path)?;
        let path = self.path.join(&change.path);
        let parent = Beneath::new(&self.root).dir(change.path.parent().unwrap_or(Path::new("")));
        let dir = parent.map_err(|e| Error::io("open the directory of", &path, e))?;
        let name = change.path.file_name().unwrap_or_default();
        let remote = self.kind.remote;
        // Until the change is durable: see `Target::_held`.
        let _held = dir.hold(name);
        let (outcome, error) = match (&change.action, &mut self.stage) {
            (Action::Put { number, .. }, Some(stage)) => {
                let moved = move_into_place(stage.dir(), &name_of(*number), &dir, name, false, remote);
                if moved.0 == Outcome::Unknown {
                    stage.leave(true);
                }
                moved
            }
            _ => remove(&dir, name, remote),
        };
        if let (Outcome::NotDone | Outcome::Unknown, Some(e)) = (outcome, error) {
            let error = match change.action {
                Action::Put { .. } => Error::publish(&path, e),
                Action::Remove => Error::io("remove", &path, e),
            };
            let is_unknown = outcome == Outcome::Unknown;
            return Err(if is_unknown { error.with_target(TargetState::Unknown) } else { error });
        }
        let failed = |e| Error::io("sync the directory of", &path, e).with_target(TargetState::Replaced);
        dir.sync().map_err(failed)
    }

    /// The record decides: once it is durable, a crash anywhere ends with all changes.
    fn publish_all(&mut self, plan: &Plan) -> Result<bool> {
        let record = self.decide(plan)?;
        let path = self.path.clone();
        let pending = |operation| {
            let path = &path;
            move |e| Error::io(operation, path, e).with_target(TargetState::Pending)
        };
        let synced = self.root.sync().map_err(pending("make durable the decision in"))?;
        let stage = self.stage.as_ref().map(|stage| stage.dir());
        redo::carry_out(&self.root, plan, stage, self.how == How::FileSystem)
            .map_err(pending("apply the transaction in"))?;
        // All is done and durable. What stays says so to the next recovery.
        let forgotten = self.root.unlink(&record).is_ok();
        let stage = self.stage.take_if(|_| forgotten);
        let has_staged = stage.is_some();
        let _ = stage.map(StageDir::remove);
        let elsewhere = plan.changes.iter().any(|c| c.path.parent() != Some(Path::new("")));
        if has_staged && elsewhere {
            // Record and staged files must not come back together: a target that is deleted now would,
            // too. One in the root itself can't be deleted durably without their removal.
            let _ = self.root.sync().map_err(pending("forget the transaction in"))?;
        }
        Ok(synced)
    }

    /// Writes the record, complete and durable, and gives it its name.
    fn decide(&mut self, plan: &Plan) -> Result<OsString> {
        match self.decide_by(plan, true) {
            Err(e) if e.target() == TargetState::Unchanged && may_not_be_linked(e.kind()) => {
                self.decide_by(plan, false)
            }
            decided => decided,
        }
    }

    fn decide_by(&mut self, plan: &Plan, may_be_unnamed: bool) -> Result<OsString> {
        let path = self.path.clone();
        let write = |e| Error::io("write the record of the transaction in", &path, e);
        let journal = names::fresh(Role::Journal);
        let unnamed = if may_be_unnamed { self.root.create_unnamed(0o600).map_err(write)? } else { None };
        let (name, file) = match unnamed.filter(|file| file.can_be_linked(&self.root)) {
            Some(file) => (None, file),
            None => create_named_in(&self.root, 0o600).map(|(name, file, _)| (name, file)).map_err(write)?,
        };
        let file = self.write_record(file, plan)?;
        // From here on it may be decided: nothing is removed.
        self.leave(true);
        let named = match &name {
            Some(name) => self.root.rename(name.as_name(), &journal),
            None => file.link_as(&self.root, &journal),
        };
        let outcome = outcome_of_link(&self.root, &named, &file, &journal, self.kind.remote);
        let error = write(named.err().unwrap_or_else(|| io::ErrorKind::Other.into()));
        if outcome == Outcome::NotDone {
            self.leave(false);
            return Err(error);
        }
        // It is not to be removed as a staged file any more.
        name.into_iter().for_each(StagedName::leave);
        match outcome {
            Outcome::Unknown => Err(error.with_target(TargetState::Unknown)),
            _ => Ok(journal),
        }
    }

    fn write_record(&self, file: File, plan: &Plan) -> Result<File> {
        let mut stream = Stream::new(file, &self.path, (&self.options).into());
        stream.write_whole(&plan.encode())?;
        let file = stream.into_file();
        let fail = |e| Error::io("sync the record of the transaction in", &self.path, e);
        match self.how {
            How::FileSystem => self.sync_whole()?,
            How::SingleFlush => file.written_out().map_err(fail)?,
            How::Nothing | How::PerFile | How::Together | How::Adaptive | How::AdaptiveInTurn => {
                file.sync().map_err(fail)?;
                if let Some(stage) = &self.stage {
                    // The names of the staged files, on which the record relies.
                    stage.dir().sync().map_err(fail)?;
                }
            }
        }
        CancelToken::check(self.options.cancel.as_ref(), &self.path)?;
        Ok(file)
    }
}

/// Removes a name, and finds out what an unclear error means.
fn remove(dir: &Dir, name: &std::ffi::OsStr, remote: bool) -> (Outcome, Option<io::Error>) {
    let Err(e) = dir.unlink(name) else { return (Outcome::Done, None) };
    if e.kind() == io::ErrorKind::NotFound {
        return (Outcome::Done, None);
    }
    let outcome = match dir.stat_at(name) {
        _ if sys::is_not_done(&e, remote) => Outcome::NotDone,
        Ok(_) if !remote => Outcome::NotDone,
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => Outcome::Done,
        _ => Outcome::Unknown,
    };
    (outcome, Some(e))
}
