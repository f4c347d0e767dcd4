//! Carrying out a transaction past its commit point: the same steps when it is committed and when a
//! recovery finds its record.
//!
//! Each step can be repeated. A staged file keeps its name until the directory that it goes to
//! has been synced, because a rename between two directories may survive a power cut by halves:
//! so it gets a second name instead. Where nothing can be moved between the two directories at all (a
//! sandbox without the right to, quotas of projects, file systems that are made of several), its content is
//! copied.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::announce::announce;
use crate::atomic::copy::copy_into;
use crate::atomic::new_name::move_new;
use crate::atomic::parent_sync::sync_parent;
use crate::atomic::staged::TRIES;
use crate::names::{self, Role, name_of};
use crate::remnant::trust::is_contradiction;
use crate::set::SYNCED_AT_ONCE;
use crate::set::parallel::in_parallel;
use crate::sys::{self, Dir, Fingerprint, absent};
use crate::transaction::analysis::{Rest, is_content};
use crate::transaction::dirs_below::DirCache;
use crate::transaction::record::{Action, Change, TransactionRecord, distinct};

/// Carries out a transaction whose writer is at work, durably. Record and staged files are removed by the
/// caller, after this.
pub(crate) fn apply(
    root: &Arc<Dir>,
    record: &TransactionRecord,
    stage: Option<&Dir>,
    by_syncfs: bool,
) -> io::Result<()> {
    let mut steps = Steps { record, stage, below: DirCache::new(root), keeps_later_saves: false };
    for dir in &record.dirs {
        steps.make(dir)?;
    }
    for change in &record.changes {
        steps.apply(change, change.before.is_none())?;
    }
    let parents = parents_of(&record.dirs, &record.changes);
    if by_syncfs && parents.len() > 1 {
        return sys::sync_file_system(root);
    }
    sync_all(root, &parents)
}

/// Carries out what is left, for a writer that died. What was done before is synced, too, since nothing says
/// that it is durable. A directory that is gone is none that was forgotten.
/// `stage` is the directory that was judged.
pub(crate) fn redo(
    root: &Arc<Dir>,
    record: &TransactionRecord,
    stage: Option<&Dir>,
    rest: &[Rest],
) -> io::Result<()> {
    let mut steps = Steps { record, stage, below: DirCache::new(root), keeps_later_saves: true };
    let changes = || record.changes.iter().zip(rest);
    let left = changes().filter(|(_, rest)| **rest != Rest::Nothing);
    let needed = distinct(left.flat_map(|(change, _)| change.path.ancestors().skip(1)));
    for dir in record.dirs.iter().filter(|dir| needed.binary_search(&dir.as_path()).is_ok()) {
        match steps.make(dir) {
            // What was to be in it is told below.
            Err(e) if sys::is_gone(&e) => {}
            made => made?,
        }
    }
    for dir in parents_of(&record.dirs, &record.changes) {
        steps.forget_passing(dir)?;
    }
    for (change, rest) in changes() {
        let Rest::Over(observed) = rest else { continue };
        // Judged a while ago: the staged content has been read since, and something else may have been saved.
        if !steps.is_still(change, *observed)? {
            continue;
        }
        match steps.apply(change, observed.is_none()) {
            // Something was saved at this name after that look. It is later than the record, and stays.
            Err(e) if sys::already_exists(&e) && observed.is_none() => {}
            // So does anything else that has come there: it stops this change, and none elsewhere.
            Err(e) if is_contradiction(&e) && !steps.is_still(change, *observed)? => {}
            applied => applied?,
        }
    }
    sync_all(root, &parents_of(&record.dirs, &record.changes))
}

struct Steps<'a> {
    record: &'a TransactionRecord,
    stage: Option<&'a Dir>,
    below: DirCache,
    /// A recovery replaces nothing that was saved meanwhile; of two live writers the later one wins.
    keeps_later_saves: bool,
}

impl Steps<'_> {
    /// Does this still stand at the target of a change? Not if the target's directory is gone, or has become something else.
    fn is_still(&mut self, change: &Change, observed: Option<Fingerprint>) -> io::Result<bool> {
        let Some((dir, name)) = absent(self.below.parent_of(&change.path))? else { return Ok(false) };
        Ok(absent(sys::fingerprint(&dir, name))? == observed)
    }

    fn make(&mut self, path: &Path) -> io::Result<()> {
        let (parent, name) = self.below.parent_of(path)?;
        match parent.mkdir(name, 0o777) {
            Err(e) if sys::already_exists(&e) => Ok(()),
            made => made,
        }
    }

    /// `is_new`: nothing is there that would be replaced.
    fn apply(&mut self, change: &Change, is_new: bool) -> io::Result<()> {
        let parent = self.below.parent_of(&change.path);
        match change.action {
            Action::Remove => absent(parent.and_then(|(dir, name)| dir.unlink(name))).map(|_| ()),
            Action::Put { number, .. } => {
                let (dir, name) = parent?;
                self.put(&name_of(number), &dir, name, is_new)
            }
        }
    }

    /// A second name in the target's own directory and, where something is to be replaced, from
    /// there by a rename within it.
    fn put(&self, staged: &OsStr, dir: &Arc<Dir>, name: &OsStr, is_new: bool) -> io::Result<()> {
        let stage = self.stage.ok_or(io::ErrorKind::NotFound)?;
        if is_new {
            match put_new(stage, staged, (dir, name)) {
                Err(e) if sys::already_exists(&e) && !self.keeps_later_saves => {}
                put => return put,
            }
        }
        let mut passing = self.record.passing.clone();
        for _ in 0..TRIES {
            match stage.link_into(staged, dir, &passing) {
                Err(e) if sys::cannot_link(&e) => return stage.rename_into(staged, dir, name),
                Err(e) if sys::crosses_devices(&e) => return copy_into(stage, staged, (dir, name), false),
                // Somebody else has put something there.
                Err(e) if sys::already_exists(&e) => {
                    passing = names::fresh(Role::Passing);
                    continue;
                }
                linked => linked?,
            }
            match dir.rename(&passing, name) {
                // A recovery of this folder took it for an orphan.
                Err(e) if sys::is_not_found(&e) => {}
                Err(e) => {
                    let _ = dir.unlink(&passing);
                    return Err(e);
                }
                Ok(()) => return Ok(()),
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// Forgets what a crash left in a directory between the two steps of replacing a file, or of trying whether that could
    /// be done: another name of a staged file, or of one that is in its place. Nothing else that has its name.
    fn forget_passing(&mut self, dir: &Path) -> io::Result<()> {
        let Some(dir) = absent(self.below.dir(dir))? else { return Ok(()) };
        let Some(passing) = absent(sys::fingerprint(&dir, &self.record.passing))? else { return Ok(()) };
        let is_it = |change: &Change| -> io::Result<bool> {
            let Action::Put { number, content } = &change.action else { return Ok(false) };
            let staged = match self.stage {
                // In a copy of the tree it is another inode than the record says.
                Some(stage) => absent(sys::fingerprint(stage, &name_of(*number)))?,
                None => None,
            };
            // Some file systems (mergerfs) give each name of a file a number of its own. Whoever may write here may have put
            // anything else there, which must not stop a recovery.
            let has_its_content = || -> io::Result<bool> {
                let is_like = !passing.is_dir && passing.size == content.size;
                Ok(is_like && is_content(dir.open_file(&self.record.passing), content)?)
            };
            let is_its_inode =
                content.ino == passing.ino || staged.is_some_and(|staged| staged.ino == passing.ino);
            Ok(is_its_inode || has_its_content()?)
        };
        for change in &self.record.changes {
            if is_it(change)? {
                return absent(dir.unlink(&self.record.passing)).map(|_| ());
            }
        }
        Ok(())
    }
}

/// Gives a staged file a name that must be new.
fn put_new(stage: &Dir, staged: &OsStr, (dir, name): (&Arc<Dir>, &OsStr)) -> io::Result<()> {
    match stage.link_into(staged, dir, name) {
        Err(e) if sys::cannot_link(&e) => match move_new((stage, staged), (dir, name)).0 {
            // Neither links nor a rename that replaces nothing: nothing better is to be had.
            Err(e) if !sys::already_exists(&e) => stage.rename_into(staged, dir, name),
            moved => moved,
        },
        Err(e) if sys::crosses_devices(&e) => match copy_into(stage, staged, (dir, name), true) {
            Err(e) if sys::rename_unsupported(&e) => copy_into(stage, staged, (dir, name), false),
            copied => copied,
        },
        linked => {
            linked?;
            announce(dir, name);
            Ok(())
        }
    }
}

/// The directories in which an entry may have changed.
fn parents_of<'a>(dirs: &'a [PathBuf], changes: &'a [Change]) -> Vec<&'a Path> {
    let paths = dirs.iter().chain(changes.iter().map(|change| &change.path));
    distinct(paths.filter_map(|path| path.parent()))
}

fn sync_all(root: &Arc<Dir>, paths: &[&Path]) -> io::Result<()> {
    let mut below = DirCache::new(root);
    for window in paths.chunks(SYNCED_AT_ONCE) {
        let mut dirs = Vec::with_capacity(window.len());
        for path in window {
            // Nothing in a directory that is gone needs to be durable.
            dirs.extend(absent(below.dir(path))?);
        }
        in_parallel(&dirs, |dir| sync_parent(dir).map(|_| ())).map_err(|(_, e)| e)?;
    }
    Ok(())
}
