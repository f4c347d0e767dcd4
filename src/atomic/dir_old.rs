//! What becomes of a version that is not the target any more.
//!
//! Whoever reads it holds a shared lock on its root. The last one out deletes it; if nobody does,
//! the next commit finds it under a name that follows from the target's, or recovery does.

use std::ffi::{OsStr, OsString};
use std::io;
use std::time::Duration;

use super::dir_draft::Draft;
use super::dir_target::{DirTarget, Root};
use super::names::{self, Role};
use super::remove::remove_opened;
use super::sweep::Judge;
use crate::sys::{Dir, Lock};

/// So many versions in use are found without a search.
const SHELF: u32 = 8;

/// The names under which versions in use wait for their last reader.
fn shelf(target: &OsStr) -> impl Iterator<Item = OsString> + '_ {
    (0..SHELF).map(|place| {
        let mut seed = target.to_owned();
        // No name has a slash.
        seed.push(format!("/{place}"));
        names::for_target(Role::Tree, &seed)
    })
}

impl Draft {
    /// After the swap. Nothing that happens here is an error of the commit.
    pub(super) fn dispose_of_old(&mut self, at: Option<OsString>) {
        let parent = &self.target.parent;
        reap(parent, &self.target.name);
        let (Some(old), Some(mut at)) = (self.old.take(), at) else { return };
        if !parent.stat_at(&at).is_ok_and(|found| found.id == old.stat.id) {
            return;
        }
        for attempt in 0..2 {
            if matches!(old.dir.try_lock(), Ok(Lock::Held)) {
                let _ = remove_opened(parent, &at, &old.dir);
                return;
            }
            // A reader that let go between the two attempts did not find it on the shelf.
            if attempt == 0 {
                let free = shelf(&self.target.name).find(|place| parent.rename_new(&at, place).is_ok());
                at = free.unwrap_or(at);
            }
        }
    }
}

/// Deletes what readers that were killed have left on the shelf.
fn reap(parent: &Dir, target: &OsStr) {
    let judge = Judge { min_age: Duration::ZERO, dry_run: false };
    for place in shelf(target) {
        let _ = judge.settle_tree(parent, &place, || Ok(false));
    }
}

/// A reader is done with a version. Deletes it if it was the last one, and the version is not the
/// target any more.
pub(crate) fn let_go(target: &DirTarget, root: &Root) -> io::Result<()> {
    match target.parent.stat_at(&target.name) {
        _ if root.is_forked() => return Ok(()),
        Ok(now) if now.id != root.stat.id => {}
        // It is still the target; or there is none, and this may be all that is left of it.
        _ => return Ok(()),
    }
    root.dir.unlock()?;
    if root.dir.try_lock()? != Lock::Held {
        return Ok(());
    }
    let Some(name) = find(target, root)? else { return Ok(()) };
    // The swap must be durable before what a power cut may bring back is deleted.
    target.parent.sync()?;
    remove_opened(&target.parent, &name, &root.dir)
}

fn find(target: &DirTarget, root: &Root) -> io::Result<Option<OsString>> {
    let is_it = |name: &OsStr| target.parent.stat_at(name).is_ok_and(|found| found.id == root.stat.id);
    if let Some(place) = shelf(&target.name).find(|place| is_it(place)) {
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
