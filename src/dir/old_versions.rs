//! The end of a version that is not the target any more.
//!
//! Whoever reads it holds a shared lock on its root. The last one out deletes it; if nobody does,
//! the next commit finds it under a name that follows from the target's, or recovery does.

use std::ffi::{OsStr, OsString};
use std::io;

use crate::atomic::parent_sync::sync_parent;
use crate::dir::draft::Draft;
use crate::dir::target::DirTarget;
use crate::dir::version::LockedVersion;
use crate::names::{self, Role};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::readers::lock_unless_read;
use crate::remnant::remove_tree::remove_opened;
use crate::remnant::trust::Removal;
use crate::sys::{Dir, Lock};

/// So many versions in use are found without a search.
const WAITING_NAMES: u32 = 8;

/// The names under which versions in use wait for their last reader.
fn waiting_names(target: &OsStr) -> impl Iterator<Item = OsString> + '_ {
    (0..WAITING_NAMES).map(|place| {
        let mut seed = target.to_owned();
        // No name has a slash.
        seed.push(format!("/{place}"));
        names::for_target(Role::Tree, &seed)
    })
}

impl Draft {
    /// After the swap. Nothing that happens here is an error of the commit.
    pub(crate) fn dispose_of_old(&mut self, at: Option<OsString>) {
        let parent = &self.target.parent;
        delete_old_versions(parent, &self.target.name);
        let (Some(old), Some(mut at)) = (self.old.take(), at) else { return };
        if !matches!(parent.leads_to(&at, old.stat.id), Ok(true)) {
            return;
        }
        let policy = RemnantPolicy::default();
        let trust = policy.trust(parent);
        for attempt in 0..2 {
            // A name that it can't be tied to is one that only a person will delete it from.
            let _ = trust.tie_to_name(&at, &old.dir);
            if matches!(lock_unless_read(&old.dir), Ok(Lock::Held)) {
                let _ = remove_opened(parent, &at, &old.dir);
                return;
            }
            // A reader that let go between the two attempts did not find it under a waiting name.
            if attempt == 0 {
                let free =
                    waiting_names(&self.target.name).find(|place| parent.rename_new(&at, place).is_ok());
                at = free.unwrap_or(at);
            }
        }
    }
}

/// Deletes what readers that were killed have left under a waiting name.
fn delete_old_versions(parent: &Dir, target: &OsStr) {
    let policy = RemnantPolicy::default();
    let trust = policy.trust(parent);
    for place in waiting_names(target) {
        let _ = policy.remove_tree(&trust, &place);
    }
}

/// A reader is done with a version. Deletes it if it was the last one, and the version is not the
/// target any more.
pub(crate) fn release(target: &DirTarget, root: &LockedVersion) -> io::Result<()> {
    match target.parent.stat_at(&target.name) {
        _ if root.is_forked() => return Ok(()),
        Ok(now) if now.id != root.stat.id => {}
        // It is still the target; or there is none, and this may be all that is left of it.
        _ => return Ok(()),
    }
    root.dir.unlock()?;
    if lock_unless_read(&root.dir)? != Lock::Held {
        return Ok(());
    }
    let Some(name) = find(target, root)? else { return Ok(()) };
    // Where others can create names, somebody may have renamed the target itself to a name of ours.
    if RemnantPolicy::default().trust(&target.parent).removal(&name, &root.dir)? != Removal::Whole {
        return Ok(());
    }
    // The swap must be durable before what a power cut may bring back is deleted.
    sync_parent(&target.parent)?;
    remove_opened(&target.parent, &name, &root.dir)
}

fn find(target: &DirTarget, root: &LockedVersion) -> io::Result<Option<OsString>> {
    let is_it = |name: &OsStr| matches!(target.parent.leads_to(name, root.stat.id), Ok(true));
    if let Some(place) = waiting_names(&target.name).find(|place| is_it(place)) {
        return Ok(Some(place));
    }
    for entry in target.parent.entries()? {
        let (name, _) = entry?;
        if names::role_of(&name) == Some(Role::Tree) && is_it(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
