//! The swap: from draft to target, and the truth about what happened.

use std::io;

use crate::atomic::new_name::rename_to_free;
use crate::atomic::outcome::{Outcome, outcome};
use crate::atomic::parent_sync::{reached, sync_parent};
use crate::atomic::staged::TRIES;
use crate::cancel::CancelToken;
use crate::dir::draft::Draft;
use crate::dir::options::DirOptions;
use crate::dir::swap_in_steps::SteppedSwap;
use crate::error::{Error, Result, TargetState};
use crate::options::durability::{Committed, Durability};
use crate::set::enclosing::{refuse_if_detached, refuse_if_enclosed};
use crate::sys::{self, FsKind};

/// How the new version came into its place.
#[derive(Debug)]
enum Swapped {
    /// Old and new exchanged their names, or the name was free.
    AtOnce,
    InSteps(SteppedSwap),
}

/// No exchange here, or not of this directory: a lower layer's on an overlay.
fn cannot_exchange(e: &io::Error) -> bool {
    sys::rename_unsupported(e) || sys::crosses_devices(e)
}

impl Draft {
    /// Makes the complete and durable draft the target.
    pub(crate) fn publish(mut self, options: &DirOptions, kind: FsKind, durable: bool) -> Result<Committed> {
        CancelToken::check(options.set.cancel.as_ref(), &self.target.path)?;
        let (parent, place) = (&self.target.parent, &self.target.place);
        refuse_if_detached(parent, place, &self.target.path)?;
        refuse_if_enclosed(parent, place, &self.target.path)?;
        let mut durable = durable;
        let (reached, old_at) = match self.swap(options, kind, &mut durable)? {
            Swapped::AtOnce => {
                let reached = self.sync_swap(options.set.durability)?;
                let left = self.stage.keep();
                (reached, self.old.is_some().then_some(left))
            }
            Swapped::InSteps(swapped) => (swapped.reached.min(options.set.durability), swapped.old_at),
        };
        self.dispose_of_old(old_at);
        refuse_if_detached(&self.target.parent, &self.target.place, &self.target.path)
            .map_err(|e| e.with_target(TargetState::Unknown))?;
        let reached = if durable { reached } else { reached.min(Durability::Data) };
        let kept_metadata = self.keeps_metadata;
        Ok(Committed { kept_metadata, ..Committed::new(kind.cap_durability(reached)) })
    }

    fn swap(&mut self, options: &DirOptions, kind: FsKind, durable: &mut bool) -> Result<Swapped> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..TRIES {
            *durable &= self.look_again(options.set.durability)?;
            let (parent, name) = (&self.target.parent, &self.target.name);
            let done = match &self.old {
                Some(_) => parent.try_exchange(self.stage.name(), name),
                None => rename_to_free(parent, self.stage.name(), name),
            };
            match (outcome(&done, self.stage.root.stat.id, (parent, name), kind.remote), done) {
                (Outcome::Done, _) | (_, Ok(())) => return Ok(Swapped::AtOnce),
                (Outcome::Unknown, Err(e)) => {
                    // Either version may be at either name.
                    self.stage.keep();
                    return Err(self.refused(e).with_target(TargetState::Unknown));
                }
                (Outcome::NotDone, Err(e)) => match e {
                    // It came or went since it was looked at.
                    e if sys::is_not_found(&e) || sys::already_exists(&e) => error = e,
                    // By a signal, before it was done. An exchange is not repeated before that is known.
                    e if sys::is_interrupted(&e) => error = e,
                    e if self.old.is_some() && cannot_exchange(&e) => {
                        return self.fall_back(options, kind, e).map(Swapped::InSteps);
                    }
                    e => return Err(self.refused(e)),
                },
            }
        }
        Err(self.refused(error))
    }

    /// Something else may stand at the target since it was looked at. False if the new root can't
    /// be synced.
    fn look_again(&mut self, asked: Durability) -> Result<bool> {
        let same = match (&self.old, self.target.lookup()?) {
            (Some(old), Some(now)) => old.stat.id == now.id,
            (None, None) => true,
            _ => false,
        };
        if same {
            return Ok(true);
        }
        self.old = self.target.hold()?;
        self.finish_root()?;
        if asked == Durability::None { Ok(true) } else { self.sync_root() }
    }

    /// After an error of the sync nothing is removed: a power cut may bring the old version back.
    fn sync_swap(&mut self, asked: Durability) -> Result<Durability> {
        // With `Data` the swap may be lost, but then the old version must be complete: it can't be
        // deleted before.
        if asked == Durability::None || (asked == Durability::Data && self.old.is_none()) {
            return Ok(asked);
        }
        match sync_parent(&self.target.parent) {
            Ok(synced) => Ok(reached(asked, synced)),
            Err(e) => {
                self.stage.keep();
                let error = Error::io("sync the directory of", &self.target.path, e);
                Err(error.with_target(TargetState::Replaced))
            }
        }
    }
}
