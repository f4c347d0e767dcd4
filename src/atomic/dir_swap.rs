//! The swap: from draft to target, and the truth about what happened.

use std::io;

use super::dir_draft::Draft;
use super::dir_fallback::{Fallen, outcome, rename_new};
use super::publish::Outcome;
use super::stage::TRIES;
use crate::dir::DirOptions;
use crate::options::{Committed, Durability};
use crate::sys::{self, FsKind};
use crate::{CancelToken, Error, Result, TargetState};

/// How the new version came into its place.
#[derive(Debug)]
enum Swapped {
    /// Old and new exchanged their names, or the name was free.
    AtOnce,
    InSteps(Fallen),
}

/// No exchange here, or not of this directory: a lower layer's on an overlay.
fn cannot_exchange(e: &io::Error) -> bool {
    sys::is_unsupported(e) || e.kind() == io::ErrorKind::CrossesDevices
}

impl Draft {
    /// Makes the complete and sealed draft the target.
    pub(crate) fn publish(mut self, options: &DirOptions, kind: FsKind, sealed: bool) -> Result<Committed> {
        CancelToken::check(options.cancel.as_ref(), &self.target.path)?;
        let mut sealed = sealed;
        let (reached, old_at) = match self.swap(options, kind, &mut sealed)? {
            Swapped::AtOnce => {
                let reached = self.sync_parent(options.durability)?;
                let left = self.stage.leave();
                (reached, self.old.is_some().then_some(left))
            }
            Swapped::InSteps(fallen) => (fallen.reached.min(options.durability), fallen.old_at),
        };
        self.dispose_of_old(old_at);
        let reached = if sealed { reached } else { reached.min(Durability::Data) };
        Ok(Committed { durability: kind.limit(reached), unchanged: false })
    }

    fn swap(&mut self, options: &DirOptions, kind: FsKind, sealed: &mut bool) -> Result<Swapped> {
        let mut error = io::Error::from(io::ErrorKind::NotFound);
        for _ in 0..TRIES {
            *sealed &= self.look_again(options.durability)?;
            let (parent, name) = (&self.target.parent, &self.target.name);
            let done = match &self.old {
                Some(_) => parent.try_exchange(self.stage.name(), name),
                None => rename_new(parent, self.stage.name(), name),
            };
            match (outcome(parent, name, &self.stage.root.stat, &done, kind), done) {
                (Outcome::Done, _) | (_, Ok(())) => return Ok(Swapped::AtOnce),
                (Outcome::Unknown, Err(e)) => {
                    // Either version may be at either name.
                    self.stage.leave();
                    return Err(Error::publish(&self.target.path, e).with_target(TargetState::Unknown));
                }
                (Outcome::NotDone, Err(e)) => match e.kind() {
                    // It came or went since it was looked at.
                    io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists => error = e,
                    io::ErrorKind::DirectoryNotEmpty => error = e,
                    _ if self.old.is_some() && cannot_exchange(&e) => {
                        return self.fall_back(options, kind, e).map(Swapped::InSteps);
                    }
                    _ => return Err(Error::publish(&self.target.path, e)),
                },
            }
        }
        Err(Error::publish(&self.target.path, error))
    }

    /// Something else may stand at the target since it was looked at. False if the new root can't
    /// be synced.
    fn look_again(&mut self, asked: Durability) -> Result<bool> {
        let same = match (&self.old, self.target.look()?) {
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
    fn sync_parent(&mut self, asked: Durability) -> Result<Durability> {
        // With `Data` the swap may be lost, but then the old version must be complete: it can't be
        // deleted before.
        if asked == Durability::None || (asked == Durability::Data && self.old.is_none()) {
            return Ok(asked);
        }
        match self.target.parent.sync() {
            Ok(true) => Ok(asked),
            Ok(false) => Ok(Durability::Data),
            Err(e) => {
                self.stage.leave();
                let error = Error::io("sync the directory of", &self.target.path, e);
                Err(error.with_target(TargetState::Replaced))
            }
        }
    }
}
