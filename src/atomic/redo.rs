//! Carrying out a transaction that is decided: the same steps when it is committed and when a
//! recovery finds its record.
//!
//! Each step can be repeated. A staged file keeps its name until the directory that it goes to
//! has been synced, because a rename between two directories may survive a power cut by halves:
//! so it gets a second name instead.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::beneath::Beneath;
use super::names::{self, Role};
use super::plan::{Action, Change, Plan};
use super::remove::remove_own_tree;
use super::ruling::{absent, is_only_ours, is_untouched};
use super::stage::TRIES;
use super::stage_dir::name_of;
use super::sync_set::in_parallel;
use crate::sys::{self, Dir, Kind};

/// Carries out a plan, durably. What was done before is synced, too, since nothing says that it
/// is durable. Record and staged files are removed by the caller, after this.
pub(crate) fn carry_out(root: &Arc<Dir>, plan: &Plan, stage: Option<&Dir>, at_once: bool) -> io::Result<()> {
    let mut hand = Hand { plan, stage, beneath: Beneath::new(root), yields: false };
    for dir in &plan.dirs {
        hand.make(dir)?;
    }
    for change in &plan.changes {
        hand.apply(change)?;
    }
    let parents = parents_of(plan.dirs.iter(), plan.changes.iter());
    if at_once && parents.len() > 1 {
        return sys::sync_file_system(root);
    }
    sync_all(root, &parents)
}

/// Carries out the changes that are marked, for a writer that died. A directory that is gone is
/// none that was forgotten.
pub(crate) fn carry_out_rest(root: &Arc<Dir>, plan: &Plan, ready: &[bool]) -> io::Result<()> {
    let stage = match plan.stage.is_empty() {
        true => None,
        false => absent(root.open_child(&plan.stage))?,
    };
    let mut hand = Hand { plan, stage: stage.as_ref(), beneath: Beneath::new(root), yields: true };
    let rest = || plan.changes.iter().zip(ready).filter(|(_, ready)| **ready).map(|(change, _)| change);
    for dir in plan.dirs.iter().filter(|dir| rest().any(|change| change.path.starts_with(dir))) {
        hand.make(dir)?;
    }
    for change in &plan.changes {
        hand.forget_passing(change)?;
    }
    for change in rest() {
        hand.apply(change)?;
    }
    sync_all(root, &parents_of(plan.dirs.iter(), plan.changes.iter()))
}

/// Removes what a plan has staged, as far as it is there.
pub(crate) fn remove_staged(root: &Dir, plan: &Plan) -> io::Result<()> {
    if plan.stage.is_empty() {
        return Ok(());
    }
    // Something else by that name is none of ours.
    absent(remove_own_tree(root, &plan.stage)).map(|_| ())
}

struct Hand<'a> {
    plan: &'a Plan,
    stage: Option<&'a Dir>,
    beneath: Beneath,
    /// To what was saved at a target since, even a moment ago.
    yields: bool,
}

impl Hand<'_> {
    fn make(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.beneath.parent_of(path)?;
        match parent.mkdir(name, 0o777) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn apply(&mut self, change: &Change) -> io::Result<()> {
        let parent = self.beneath.parent_of(&change.path);
        if let (true, Ok((dir, name))) = (self.yields, &parent) {
            // Judged a while ago: the staged content has been read since.
            if !is_untouched(absent(sys::fingerprint(dir, name))?, change.before) {
                return Ok(());
            }
        }
        match change.action {
            Action::Remove => absent(parent.and_then(|(dir, name)| dir.unlink(name))).map(|_| ()),
            Action::Put { number, .. } => {
                let (dir, name) = parent?;
                self.put(&name_of(number), &dir, name, change.before.is_none())
            }
        }
    }

    /// A second name in the target's own directory and, where something is to be replaced, from
    /// there by a rename within it.
    fn put(&self, staged: &OsStr, dir: &Dir, name: &OsStr, is_new: bool) -> io::Result<()> {
        let stage = self.stage.ok_or(io::ErrorKind::NotFound)?;
        if is_new {
            match stage.link_into(staged, dir, name) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && self.yields => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // No hard links here: nothing better is to be had.
                Err(e) if sys::cannot_link(&e) => return stage.rename_into(staged, dir, name),
                linked => return linked,
            }
        }
        let mut passing = self.plan.passing.clone();
        for _ in 0..TRIES {
            match stage.link_into(staged, dir, &passing) {
                Err(e) if sys::cannot_link(&e) => return stage.rename_into(staged, dir, name),
                // Somebody else has put something there.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    passing = names::fresh(Role::Stage);
                    continue;
                }
                linked => linked?,
            }
            match dir.rename(&passing, name) {
                // A recovery of this folder took it for an orphan.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => {
                    let _ = dir.unlink(&passing);
                    return Err(e);
                }
                Ok(()) => return Ok(()),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// What a crash left between the two steps of replacing a file; nothing else that has its name.
    fn forget_passing(&mut self, change: &Change) -> io::Result<()> {
        let Action::Put { content, .. } = &change.action else { return Ok(()) };
        let Some((dir, _)) = absent(self.beneath.parent_of(&change.path))? else { return Ok(()) };
        match sys::fingerprint(&dir, &self.plan.passing) {
            Ok(found) if found.ino == content.ino => absent(dir.unlink(&self.plan.passing)).map(|_| ()),
            _ => Ok(()),
        }
    }
}

/// The directories in which an entry may have changed.
fn parents_of<'a>(
    dirs: impl Iterator<Item = &'a PathBuf>,
    changes: impl Iterator<Item = &'a Change>,
) -> Vec<&'a Path> {
    let paths = dirs.chain(changes.map(|change| &change.path));
    let parents: BTreeSet<&Path> = paths.filter_map(|path| path.parent()).collect();
    parents.into_iter().collect()
}

fn sync_all(root: &Arc<Dir>, paths: &[&Path]) -> io::Result<()> {
    const WINDOW: usize = 64;
    let mut beneath = Beneath::new(root);
    for window in paths.chunks(WINDOW) {
        let mut dirs = Vec::with_capacity(window.len());
        for path in window {
            // Nothing in a directory that is gone needs to be durable.
            dirs.extend(absent(beneath.dir(path))?);
        }
        in_parallel(&dirs, |dir| dir.sync().map(|_| ())).map_err(|(_, e)| e)?;
    }
    Ok(())
}

/// A record's file must be as only a writer of ours makes it.
pub(crate) fn is_trusted(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    let Some(stat) = absent(dir.stat_at(name))? else { return Ok(false) };
    Ok(stat.kind == Kind::File && stat.nlink == 1 && is_only_ours(&stat))
}
