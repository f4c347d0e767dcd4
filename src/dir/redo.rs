//! Carrying out what is left of a swap in steps.
//!
//! A stepped swap renames the old version from its name, the *target*, to *kept*, then the new one from
//! *stage* to the target, and the old one from kept to *spent*, where it is deleted; where the old version
//! can't be renamed, it is deleted at the target. All of these names but the target's can't be guessed, so that
//! they prove what stands there, and any rename may have been lost in a power cut. The old version itself
//! is known by its inode. So what exists tells what is left to be done. A directory is *there*; of the rows that
//! fit, the first one counts:
//!
//! | stage | target | kept | what happened | what is done |
//! | --- | --- | --- | --- | --- |
//! | something that is no directory | any | any | no swap leaves this | `Quarantine` |
//! | any | any | something that is no directory | no swap leaves this | `Quarantine` |
//! | there | nothing | any | the target was renamed away or deleted | `Complete`: the new version takes its name |
//! | there | old version | nothing | nothing yet, or it is being deleted | `Complete`, from the start |
//! | there | perhaps the old version | nothing | it is being deleted, or something was restored | `Prove`: what can be renamed is not the old version, and stays; the rest of that one goes, as with `Complete` |
//! | there | old version, perhaps | there | no crash leaves this | `Quarantine` |
//! | there | anything else | any | something was saved or restored since | `Quarantine`; the target stays |
//! | gone | anything but nothing | there | the new version has its name | `Complete`: the old one goes |
//! | gone | nothing | there | somebody removed the new version | `RollBack`: the old one gets its name back |
//! | gone | any | nothing | all was done, or the new version was removed | `Forget`: only the record is left |
//!
//! Whatever stands at *spent* was at kept before, or at the target: together with a directory at kept, or with the old
//! version at the target while the new one is at stage, it is a contradiction, too. In a copy of the tree the inode of
//! the old version tells nothing; there the time of its last change must be the recorded one. Each step can be repeated.
//!
//! *Perhaps* is said of an old version that is to be deleted at the target, if it has another inode than the recorded
//! one: an overlay may give it another. There is such a record only because it could not be renamed. It still can't be; what
//! somebody has made or restored there since can.

use std::ffi::OsStr;
use std::io;

use crate::atomic::new_name::rename_to_free;
use crate::atomic::parent_sync::sync_parent;
use crate::dir::record::{OldVersion, SwapRecord};
use crate::names::{self, Role};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::readers::lock_unless_read;
use crate::remnant::remove_tree::remove_opened;
use crate::remnant::report::RemnantState;
use crate::remnant::trust::{self, Trust};
use crate::sys::{self, Dir, Fingerprint, Lock};

/// The action on the record of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SwapAction {
    Complete,
    /// Complete it, but only if what stands at the target can't be renamed. A dry run, which can't try, takes it for completed.
    Prove,
    RollBack,
    Forget,
    Quarantine,
    /// Somebody else can have put a directory where the record names one.
    Distrust,
}

/// The outcome of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Redone {
    /// Also what became of the old version, if it was renamed away.
    Done(RemnantState),
    /// Nothing was done: the old version would have to be deleted while somebody reads it.
    InUse,
    /// Nothing was done: what stands at the target is not the old version.
    Contradicted,
}

/// The kind of thing that stands at one of the names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Nothing,
    /// A directory; at the target, the old version.
    Version,
    /// A directory at the target that may be the old version.
    Perhaps,
    Other,
}

/// The state of a swap, by its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    stage: At,
    target: At,
    kept: At,
    spent: At,
}

/// Says what is to be done; does nothing.
pub(crate) fn analyse(
    dir: &Dir,
    trust: &Trust<'_>,
    record: &SwapRecord,
    is_copy: bool,
) -> io::Result<SwapAction> {
    let action = Found::look(dir, record, is_copy)?.action();
    for name in [&record.stage, &record.kept] {
        if action != SwapAction::Quarantine && matches!(trust.open_version(name)?, trust::Found::Untrusted) {
            return Ok(SwapAction::Distrust);
        }
    }
    Ok(action)
}

impl Found {
    fn look(dir: &Dir, record: &SwapRecord, is_copy: bool) -> io::Result<Found> {
        let version = |name: &OsStr| {
            Ok::<At, io::Error>(match there(dir, name)? {
                None => At::Nothing,
                Some(found) if found.is_dir => At::Version,
                Some(_) => At::Other,
            })
        };
        let target = match there(dir, &record.target)? {
            None => At::Nothing,
            Some(found) if !found.is_dir => At::Other,
            Some(found) => match record.old {
                OldVersion::Renamed(old) if is_copy => {
                    let same = (found.seconds, found.nanoseconds) == (old.seconds, old.nanoseconds);
                    if same { At::Version } else { At::Other }
                }
                OldVersion::Renamed(old) if found.ino == old.ino => At::Version,
                OldVersion::Renamed(_) => At::Other,
                OldVersion::Deleted(_) if is_copy => At::Perhaps,
                OldVersion::Deleted(_) => {
                    let is_old = dir.open_child(&record.target).and_then(|found| is_old(&found, record));
                    if is_old.unwrap_or(false) { At::Version } else { At::Perhaps }
                }
            },
        };
        let (stage, kept, spent) = (version(&record.stage)?, version(&record.kept)?, version(&record.spent)?);
        Ok(Found { stage, target, kept, spent })
    }

    /// The table.
    fn action(self) -> SwapAction {
        use At::{Nothing, Other, Perhaps, Version};
        use SwapAction::{Complete, Forget, Prove, Quarantine, RollBack};
        match (self.stage, self.target, self.kept) {
            (Other, _, _) | (_, _, Other) => Quarantine,
            (_, _, Version) if self.spent != Nothing => Quarantine,
            (Version, Version | Perhaps, _) if self.spent != Nothing => Quarantine,
            (Version, Nothing, _) => Complete,
            (Version, Version, Nothing) => Complete,
            (Version, Perhaps, Nothing) => Prove,
            (Version, Version | Perhaps, Version) => Quarantine,
            (Version, Other, _) => Quarantine,
            (Nothing, Version | Perhaps | Other, Version) => Complete,
            (Nothing, Nothing, Version) => RollBack,
            (Nothing, _, Nothing) => Forget,
            // Only the target is doubtful.
            (Perhaps, _, _) | (_, _, Perhaps) => Quarantine,
        }
    }
}

/// Has this directory the inode that the record tells?
fn is_old(found: &Dir, record: &SwapRecord) -> io::Result<bool> {
    let id = sys::lasting_id(&found.as_inode()?)?;
    Ok(match record.old {
        OldVersion::Renamed(old) => id.ino == old.ino,
        OldVersion::Deleted(old) => id.is_same(old),
    })
}

fn there(dir: &Dir, name: &OsStr) -> io::Result<Option<Fingerprint>> {
    match sys::fingerprint(dir, name) {
        Err(e) if sys::is_not_found(&e) => Ok(None),
        found => found.map(Some),
    }
}

/// Does it, each step durable before the next one relies on it.
pub(crate) fn redo(
    dir: &Dir,
    trust: &Trust<'_>,
    record: &SwapRecord,
    action: SwapAction,
) -> io::Result<Redone> {
    if matches!(action, SwapAction::Quarantine | SwapAction::Distrust) {
        return Ok(Redone::Contradicted);
    }
    // Neither the record nor what it led to need be durable: its writer may have been killed.
    sync_parent(dir)?;
    let is_there = |name: &OsStr| there(dir, name).map(|found| found.is_some());
    match action {
        SwapAction::RollBack => rename_to_free(dir, &record.kept, &record.target)?,
        SwapAction::Complete | SwapAction::Prove if is_there(&record.stage)? => {
            if is_there(&record.target)? {
                if let Some(stays) = put_away(dir, record, action)? {
                    return Ok(stays);
                }
            }
            rename_to_free(dir, &record.stage, &record.target)?;
        }
        _ => {}
    }
    finish(dir, trust, record).map(Redone::Done)
}

/// The old version leaves the target's name; else why it stays.
fn put_away(dir: &Dir, record: &SwapRecord, action: SwapAction) -> io::Result<Option<Redone>> {
    let must_stay = action == SwapAction::Prove;
    // Should this process be killed before it has given the name back, no recovery removes what has that other one.
    let aside = if must_stay { names::fresh(Role::Quarantined) } else { record.kept.clone() };
    match dir.rename(&record.target, &aside) {
        // It can't be renamed at all; some of it may be gone already.
        Err(e) if sys::crosses_devices(&e) => {
            let old = dir.open_child(&record.target)?;
            if lock_unless_read(&old)? == Lock::Elsewhere {
                return Ok(Some(Redone::InUse));
            }
            remove_opened(dir, &record.target, &old).map(|()| None)
        }
        Ok(()) if must_stay => {
            rename_to_free(dir, &aside, &record.target).map(|()| Some(Redone::Contradicted))
        }
        moved => moved.map(|()| None),
    }
}

/// The target is what it should be: the old version can go, and the record. Returns what became of the old version.
fn finish(dir: &Dir, trust: &Trust<'_>, record: &SwapRecord) -> io::Result<RemnantState> {
    if dir.stat_at(&record.kept).is_ok() {
        dir.rename(&record.kept, &record.spent)?;
    }
    sync_parent(dir)?;
    // Where others can create names it goes only if it is tied to its own: to what the record tells, and before that goes.
    let _ = dir.open_child(&record.spent).and_then(|spent| match is_old(&spent, record)? {
        true => trust.tie_to_name(&record.spent, &spent),
        false => Ok(()),
    });
    dir.unlink(&SwapRecord::name_for(&record.target))?;
    // Whoever carries out a record has the lock of its target, so that this is no writer's.
    let policy = RemnantPolicy { knows_no_writer: true, ..RemnantPolicy::default() };
    policy.remove_tree(trust, &record.spent)
}

#[cfg(test)]
mod tests {
    use super::At::{Nothing, Other, Perhaps, Version};
    use super::SwapAction::{Complete, Forget, Prove, Quarantine, RollBack};
    use super::*;

    #[test]
    fn the_table_holds() {
        for (stage, target, kept, expected) in [
            (Version, Nothing, Nothing, Complete),
            (Version, Nothing, Version, Complete),
            (Version, Version, Nothing, Complete),
            (Version, Version, Version, Quarantine),
            (Version, Perhaps, Nothing, Prove),
            (Version, Perhaps, Version, Quarantine),
            (Version, Other, Nothing, Quarantine),
            (Version, Other, Version, Quarantine),
            (Nothing, Version, Version, Complete),
            (Nothing, Perhaps, Version, Complete),
            (Nothing, Other, Version, Complete),
            (Nothing, Nothing, Version, RollBack),
            (Nothing, Version, Nothing, Forget),
            (Nothing, Other, Nothing, Forget),
            (Nothing, Nothing, Nothing, Forget),
            (Other, Version, Nothing, Quarantine),
            (Nothing, Version, Other, Quarantine),
        ] {
            let found = Found { stage, target, kept, spent: Nothing };
            assert_eq!(found.action(), expected, "{found:?}");
            let found = Found { spent: Version, ..found };
            let is_old_elsewhere =
                kept != Nothing || (stage == Version && matches!(target, Version | Perhaps));
            let expected = if is_old_elsewhere { Quarantine } else { expected };
            assert_eq!(found.action(), expected, "{found:?}");
        }
    }
}
