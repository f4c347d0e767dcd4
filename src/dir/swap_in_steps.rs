//! Swaps where two directories can't exchange their names.
//!
//! A durable record says what is meant before anything is touched. From then on there is only the
//! way forward, in this process or in a recovery, unless everything can be taken back at once.

use std::ffi::OsString;
use std::io;

use crate::atomic::new_name::rename_to_free;
use crate::atomic::outcome::{Outcome, outcome};
use crate::atomic::parent_sync::{reached, sync_parent};
use crate::dir::draft::Draft;
use crate::dir::options::DirOptions;
use crate::dir::record::{OldVersion, SwapRecord};
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::options::durability::Durability;
use crate::remnant::readers::lock_unless_read;
use crate::remnant::remove_tree::remove_tree;
use crate::sys::{self, FsKind, LastingId, Lock};

/// The new version is in place.
#[derive(Debug)]
pub(crate) struct SteppedSwap {
    pub(crate) reached: Durability,
    /// Where the old version is, if there is anything left of it.
    pub(crate) old_at: Option<OsString>,
}

impl Draft {
    /// Takes the place of the old version in several steps; `refusal` is why not in one.
    pub(crate) fn fall_back(
        &mut self,
        options: &DirOptions,
        kind: FsKind,
        refusal: io::Error,
    ) -> Result<SteppedSwap> {
        if !options.allow_fallback {
            return Err(Error::caused(ErrorKind::Unsupported, "swap in the new", &self.target.path, refusal));
        }
        // Between the steps a power cut must find all that came before.
        let durability = match options.set.durability {
            Durability::None => Durability::None,
            Durability::Data | Durability::Full => Durability::Full,
        };
        let movable = !sys::crosses_devices(&refusal);
        if !movable {
            self.be_alone()?;
        }
        if movable {
            let (record, reached) = self.publish_record(durability, true)?;
            if self.rename_away(&record, kind, durability)? {
                let swapped = self.rename_in(&record, kind, durability)?;
                return Ok(SteppedSwap { reached: swapped.reached.min(reached), ..swapped });
            }
            // The next record takes the name of this one, and the sync that makes it durable covers both.
            match self.target.parent.unlink(&SwapRecord::name_for(&self.target.name)) {
                Err(e) if !sys::is_not_found(&e) => return Err(self.pending(e)),
                _ => {}
            }
        }
        let (record, reached) = match self.publish_record(durability, false) {
            Err(e) if movable && e.target() == TargetState::Unchanged => {
                // A power cut may bring the first record back: then it needs the new version.
                let is_gone = durability == Durability::None || sync_parent(&self.target.parent).is_ok();
                if is_gone {
                    return Err(e);
                }
                self.stage.keep();
                return Err(e.with_target(TargetState::Unknown));
            }
            decided => decided?,
        };
        let swapped = self.replace(&record, durability)?;
        Ok(SteppedSwap { reached: swapped.reached.min(reached), ..swapped })
    }

    /// Whoever reads what is about to be deleted would lose it.
    fn be_alone(&self) -> Result<()> {
        let Some(old) = &self.old else { return Ok(()) };
        match lock_unless_read(&old.dir).map_err(|e| Error::io("lock", &self.target.path, e))? {
            Lock::Held => Ok(()),
            _ => Err(Error::new(ErrorKind::Locked, "replace the directory in use", &self.target.path)),
        }
    }

    /// The commit point. Also how durable it is. `is_renamed`: the old version is renamed away, as it is.
    fn publish_record(
        &mut self,
        durability: Durability,
        is_renamed: bool,
    ) -> Result<(SwapRecord, Durability)> {
        let old = match &self.old {
            Some(_) if is_renamed => {
                let old = sys::fingerprint(&self.target.parent, &self.target.name);
                OldVersion::Renamed(old.map_err(|e| Error::io("inspect", &self.target.path, e))?)
            }
            // Where it can't be told it is known by this alone: that it can't be renamed.
            Some(old) => {
                let told = old.dir.as_inode().and_then(|old| sys::lasting_id(&old));
                OldVersion::Deleted(told.unwrap_or_default())
            }
            None => OldVersion::Deleted(LastingId::default()),
        };
        let record = SwapRecord::new(&self.target.name, self.stage.name(), old);
        match record.publish(&self.target.parent, &self.target.path, durability) {
            Ok(committed) => Ok((record, committed.durability())),
            Err(e) if e.target() == TargetState::Unchanged => Err(e),
            Err(e) => {
                // Its directory could not be synced, and a second sync would prove nothing: should the
                // record come back after a power cut, it needs the new version.
                self.stage.keep();
                let removed = self.target.parent.unlink(&SwapRecord::name_for(&record.target));
                let state = if removed.is_ok() { TargetState::Unknown } else { TargetState::Pending };
                Err(e.with_target(state))
            }
        }
    }

    /// Nothing has been touched, or all is as it was: the record goes, and after it the new version
    /// may. Returns the state of the target after that.
    fn withdraw(&mut self, durability: Durability) -> TargetState {
        let parent = &self.target.parent;
        let removed = parent.unlink(&SwapRecord::name_for(&self.target.name));
        let state = match removed {
            Err(e) if !sys::is_not_found(&e) => TargetState::Pending,
            // A power cut may bring the record back: then it needs the new version.
            _ if durability != Durability::None && sync_parent(parent).is_err() => TargetState::Unknown,
            _ => return TargetState::Unchanged,
        };
        self.stage.keep();
        state
    }

    /// False if the old version can't be renamed at all.
    fn rename_away(&mut self, record: &SwapRecord, kind: FsKind, durability: Durability) -> Result<bool> {
        let Some(old) = &self.old else { return Ok(true) };
        let parent = &self.target.parent;
        let done = parent.rename(&self.target.name, &record.kept);
        match (outcome(&done, old.stat.id, (parent, &record.kept), kind.remote), done) {
            (Outcome::Done, _) | (_, Ok(())) => Ok(true),
            (Outcome::Unknown, Err(e)) => Err(self.pending(e)),
            (Outcome::NotDone, Err(e)) => {
                let error = if sys::crosses_devices(&e) {
                    match self.be_alone() {
                        Ok(()) => return Ok(false),
                        Err(e) => e,
                    }
                } else {
                    self.refused(e)
                };
                Err(error.with_target(self.withdraw(durability)))
            }
        }
    }

    fn rename_in(
        &mut self,
        record: &SwapRecord,
        kind: FsKind,
        durability: Durability,
    ) -> Result<SteppedSwap> {
        let parent = &self.target.parent;
        let done = rename_to_free(parent, &record.stage, &record.target);
        match (outcome(&done, self.stage.root.stat.id, (parent, &record.target), kind.remote), done) {
            (Outcome::Done, _) | (_, Ok(())) => {}
            (Outcome::NotDone, Err(e)) => {
                // The record goes only when the old version is back for good.
                let is_back = parent.rename(&record.kept, &record.target).is_ok()
                    && (durability == Durability::None || sync_parent(parent).is_ok());
                if !is_back {
                    return Err(self.pending(e));
                }
                let state = self.withdraw(durability);
                return Err(self.refused(e).with_target(state));
            }
            (Outcome::Unknown, Err(e)) => return Err(self.pending(e)),
        }
        // If the old version is of use again, the record says so.
        let spent = parent.rename(&record.kept, &record.spent);
        let reached = self.sync_step(durability)?;
        self.stage.keep();
        if spent.is_ok() {
            // If it stays, or comes back, recovery finds nothing left to do.
            let _ = self.target.parent.unlink(&SwapRecord::name_for(&record.target));
        }
        Ok(SteppedSwap { reached, old_at: spent.is_ok().then(|| record.spent.clone()) })
    }

    fn replace(&mut self, record: &SwapRecord, durability: Durability) -> Result<SteppedSwap> {
        let parent = &self.target.parent;
        let replaced = remove_tree(parent, &record.target)
            .and_then(|()| rename_to_free(parent, &record.stage, &record.target));
        if let Err(e) = replaced {
            return Err(self.pending(e));
        }
        let reached = self.sync_step(durability)?;
        self.stage.keep();
        let _ = self.target.parent.unlink(&SwapRecord::name_for(&record.target));
        Ok(SteppedSwap { reached, old_at: None })
    }

    fn sync_step(&mut self, durability: Durability) -> Result<Durability> {
        if durability == Durability::None {
            return Ok(Durability::None);
        }
        match sync_parent(&self.target.parent) {
            Ok(synced) => Ok(reached(Durability::Full, synced)),
            Err(e) => Err(self.pending(e)),
        }
    }

    /// The error of a rename to or from the target's name.
    pub(super) fn refused(&self, e: io::Error) -> Error {
        Error::refused(Error::PUBLISH, &self.target.path, (&self.target.parent, &self.target.name), e)
    }

    /// Recovery takes it from here.
    fn pending(&mut self, e: io::Error) -> Error {
        self.stage.keep();
        self.refused(e).with_target(TargetState::Pending)
    }
}
