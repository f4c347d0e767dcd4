//! Swaps where two directories can't exchange their names.
//!
//! A durable record says what is meant before anything is touched. From then on there is only the
//! way forward, in this process or in a recovery, unless everything can be taken back at once.

use std::ffi::{OsStr, OsString};
use std::io;

use super::dir_draft::Draft;
use super::dir_record::SwapRecord;
use super::publish::Outcome;
use super::remove::remove_tree;
use crate::dir::DirOptions;
use crate::options::Durability;
use crate::sys::{self, Dir, FsKind, Lock, Stat};
use crate::{Error, ErrorKind, Result, TargetState};

/// The new version is in place.
#[derive(Debug)]
pub(super) struct Fallen {
    pub(super) reached: Durability,
    /// Where the old version is, if there is anything left of it.
    pub(super) old_at: Option<OsString>,
}

impl Draft {
    /// Takes the place of the old version in several steps; `refusal` is why not in one.
    pub(super) fn fall_back(
        &mut self,
        options: &DirOptions,
        kind: FsKind,
        refusal: io::Error,
    ) -> Result<Fallen> {
        if !options.allow_fallback {
            return Err(Error::caused(ErrorKind::Unsupported, "swap in the new", &self.target.path, refusal));
        }
        // Between the steps a power cut must find all that came before.
        let durability = match options.durability {
            Durability::None => Durability::None,
            Durability::Data | Durability::Full => Durability::Full,
        };
        let movable = refusal.kind() != io::ErrorKind::CrossesDevices;
        if !movable {
            self.be_alone()?;
        }
        let (record, reached) = self.decide(durability)?;
        let fallen = match movable && self.rename_away(&record, kind, durability)? {
            true => self.rename_in(&record, kind, durability)?,
            false => self.replace(&record, durability)?,
        };
        Ok(Fallen { reached: fallen.reached.min(reached), ..fallen })
    }

    /// Whoever reads what is about to be deleted would lose it.
    fn be_alone(&self) -> Result<()> {
        let Some(old) = &self.old else { return Ok(()) };
        match old.dir.try_lock().map_err(|e| Error::io("lock", &self.target.path, e))? {
            Lock::Held => Ok(()),
            _ => Err(Error::new(ErrorKind::Locked, "replace the directory in use", &self.target.path)),
        }
    }

    /// Also how durable the decision is.
    fn decide(&mut self, durability: Durability) -> Result<(SwapRecord, Durability)> {
        let record = SwapRecord::new(&self.target.name, self.stage.name());
        match record.publish(&self.target.parent, &self.target.path, durability) {
            Ok(committed) => Ok((record, committed.durability())),
            Err(e) if e.target() == TargetState::Unchanged => Err(e),
            Err(e) => {
                // Its directory could not be synced, and a second sync would prove nothing: should the
                // record come back after a power cut, it needs the new version.
                self.stage.leave();
                let removed = self.target.parent.unlink(&SwapRecord::name_for(&record.target));
                let state = if removed.is_ok() { TargetState::Unknown } else { TargetState::Pending };
                Err(e.with_target(state))
            }
        }
    }

    /// Nothing has been touched, or all is as it was: the record goes, and after it the new version
    /// may. What the target's state is then.
    fn withdraw(&mut self, durability: Durability) -> TargetState {
        let parent = &self.target.parent;
        let removed = parent.unlink(&SwapRecord::name_for(&self.target.name));
        let state = match removed {
            Err(e) if e.kind() != io::ErrorKind::NotFound => TargetState::Pending,
            // A power cut may bring the record back: then it needs the new version.
            _ if durability != Durability::None && parent.sync().is_err() => TargetState::Unknown,
            _ => return TargetState::Unchanged,
        };
        self.stage.leave();
        state
    }

    /// False if the old version can't be renamed at all.
    fn rename_away(&mut self, record: &SwapRecord, kind: FsKind, durability: Durability) -> Result<bool> {
        let Some(old) = &self.old else { return Ok(true) };
        let parent = &self.target.parent;
        let done = parent.rename(&self.target.name, &record.kept);
        match (outcome(parent, &record.kept, &old.stat, &done, kind), done) {
            (Outcome::Done, _) | (_, Ok(())) => Ok(true),
            (Outcome::Unknown, Err(e)) => Err(self.pending(e)),
            (Outcome::NotDone, Err(e)) => {
                let error = if e.kind() == io::ErrorKind::CrossesDevices {
                    match self.be_alone() {
                        Ok(()) => return Ok(false),
                        Err(e) => e,
                    }
                } else {
                    Error::publish(&self.target.path, e)
                };
                Err(error.with_target(self.withdraw(durability)))
            }
        }
    }

    fn rename_in(&mut self, record: &SwapRecord, kind: FsKind, durability: Durability) -> Result<Fallen> {
        let parent = &self.target.parent;
        let done = rename_new(parent, &record.stage, &record.target);
        match (outcome(parent, &record.target, &self.stage.root.stat, &done, kind), done) {
            (Outcome::Done, _) | (_, Ok(())) => {}
            (Outcome::NotDone, Err(e)) => {
                // The record goes only when the old version is back for good.
                let is_back = parent.rename(&record.kept, &record.target).is_ok()
                    && (durability == Durability::None || parent.sync().is_ok());
                if !is_back {
                    return Err(self.pending(e));
                }
                let state = self.withdraw(durability);
                return Err(Error::publish(&self.target.path, e).with_target(state));
            }
            (Outcome::Unknown, Err(e)) => return Err(self.pending(e)),
        }
        // If the old version is of use again, the record says so.
        let spent = parent.rename(&record.kept, &record.spent);
        let reached = self.sync_step(durability)?;
        self.stage.leave();
        if spent.is_ok() {
            // If it stays, or comes back, recovery finds nothing left to do.
            let _ = self.target.parent.unlink(&SwapRecord::name_for(&record.target));
        }
        Ok(Fallen { reached, old_at: spent.is_ok().then(|| record.spent.clone()) })
    }

    fn replace(&mut self, record: &SwapRecord, durability: Durability) -> Result<Fallen> {
        let parent = &self.target.parent;
        let replaced = remove_tree(parent, &record.target)
            .and_then(|()| rename_new(parent, &record.stage, &record.target));
        if let Err(e) = replaced {
            return Err(self.pending(e));
        }
        let reached = self.sync_step(durability)?;
        self.stage.leave();
        let _ = self.target.parent.unlink(&SwapRecord::name_for(&record.target));
        Ok(Fallen { reached, old_at: None })
    }

    fn sync_step(&mut self, durability: Durability) -> Result<Durability> {
        if durability == Durability::None {
            return Ok(Durability::None);
        }
        match self.target.parent.sync() {
            Ok(true) => Ok(Durability::Full),
            Ok(false) => Ok(Durability::Data),
            Err(e) => Err(self.pending(e)),
        }
    }

    /// Recovery takes it from here.
    fn pending(&mut self, e: io::Error) -> Error {
        self.stage.leave();
        Error::publish(&self.target.path, e).with_target(TargetState::Pending)
    }
}

/// The lock keeps other writers of ours away, so that the name is free.
pub(super) fn rename_new(parent: &Dir, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match parent.rename_new(from, to) {
        Err(e) if sys::is_unsupported(&e) => parent.rename(from, to),
        renamed => renamed,
    }
}

/// What came of a rename to `to`, which must lead to `moved` now.
pub(super) fn outcome(
    parent: &Dir,
    to: &OsStr,
    moved: &Stat,
    done: &io::Result<()>,
    kind: FsKind,
) -> Outcome {
    let Err(e) = done else { return Outcome::Done };
    if sys::is_not_done(e, kind.remote) {
        return Outcome::NotDone;
    }
    match parent.stat_at(to) {
        Ok(found) if found.id == moved.id => Outcome::Done,
        Ok(_) if !kind.remote => Outcome::NotDone,
        Err(e) if !kind.remote && e.kind() == io::ErrorKind::NotFound => Outcome::NotDone,
        _ => Outcome::Unknown,
    }
}
