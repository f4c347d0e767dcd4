//! Carrying out a transaction that is decided: the same steps when it is committed and when a
//! recovery finds its record.
//!
//! Each step can be repeated. A staged file keeps its name until the directory that it moves to
//! has been synced, because a rename between two directories may survive a power cut by halves.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::names::{self, Role};
use super::plan::{Action, Change, Facts, Plan};
use super::record::Checksum;
use super::stage::TRIES;
use super::sync_set::in_parallel;
use crate::sys::{self, Dir, Fingerprint, Kind};

/// What a change has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// To be done.
    Ready,
    Done,
    /// Something else was saved there since.
    Superseded,
    /// The staged content was never durable: then nor was the decision.
    Missing,
    /// The staged content is not what the record says.
    Damaged,
}

/// What to do about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ruling {
    /// Carry out what is left of it: the changes that are marked.
    Complete(Plan, Vec<bool>),
    /// It was never decided.
    RollBack(Plan),
    /// It can't be trusted.
    Quarantine,
}

/// Judges a record by what is there.
pub(crate) fn rule(root: &Dir, plan: Plan) -> io::Result<Ruling> {
    let mut statuses = Vec::with_capacity(plan.changes.len());
    for change in &plan.changes {
        statuses.push(status(root, change)?);
    }
    let has = |wanted| statuses.contains(&wanted);
    let puts_done = plan
        .changes
        .iter()
        .zip(&statuses)
        .any(|(change, status)| *status == Status::Done && matches!(change.action, Action::Put { .. }));
    if has(Status::Damaged) || (has(Status::Missing) && puts_done) {
        return Ok(Ruling::Quarantine);
    }
    if has(Status::Missing) {
        return Ok(Ruling::RollBack(plan));
    }
    let ready = statuses.iter().map(|status| *status == Status::Ready).collect();
    Ok(Ruling::Complete(plan, ready))
}

fn status(root: &Dir, change: &Change) -> io::Result<Status> {
    let now = match parent_of(root, &change.path) {
        Ok((dir, name)) => absent(sys::fingerprint(dir.as_ref().unwrap_or(root), name))?,
        Err(e) if sys::is_gone(&e) => None,
        Err(e) => return Err(e),
    };
    let unchanged = match (now, change.before) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(now), Some(before)) => now.ino == before.ino && now.is_no_later_than(before),
    };
    let Action::Put { staged, content } = &change.action else {
        return Ok(match now {
            None => Status::Done,
            Some(_) if unchanged => Status::Ready,
            Some(_) => Status::Superseded,
        });
    };
    if now.is_some_and(|now| now.ino == content.ino) {
        return Ok(Status::Done);
    }
    match absent(root.open_file(staged))? {
        Some(file) if !matches(&file, content)? => Ok(Status::Damaged),
        Some(_) if unchanged => Ok(Status::Ready),
        None if unchanged => Ok(Status::Missing),
        _ => Ok(Status::Superseded),
    }
}

fn matches(file: &sys::File, content: &Facts) -> io::Result<bool> {
    Ok(file.stat()?.size == content.size && checksum(file)? == content.sum)
}

/// The checksum of a file's content.
pub(crate) fn checksum(file: &sys::File) -> io::Result<u64> {
    let (mut sum, mut at, mut chunk) = (Checksum::new(), 0, vec![0; 64 << 10]);
    loop {
        match file.read_at(&mut chunk, at)? {
            0 => return Ok(sum.value()),
            read => {
                sum.add(chunk.get(..read).unwrap_or_default());
                at += read as u64;
            }
        }
    }
}

fn absent<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// The directory of a path, if it isn't the root itself, and its last name.
fn parent_of<'a>(root: &Dir, path: &'a Path) -> io::Result<(Option<Dir>, &'a OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Ok((Some(root.open_beneath(parent)?), name)),
        _ => Ok((None, name)),
    }
}

/// Carries out a plan, durably: all of it, or the changes that are marked. What was done before
/// is synced too, since nothing says that it is durable. The record is removed by the caller,
/// after this.
pub(crate) fn carry_out(root: &Arc<Dir>, plan: &Plan, ready: Option<&[bool]>) -> io::Result<()> {
    for dir in &plan.dirs {
        let (parent, name) = parent_of(root, dir)?;
        match parent.as_ref().unwrap_or(root).mkdir(name, 0o777) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            made => made?,
        }
    }
    let mut hand = Hand { root, open: None, spent: Vec::new() };
    for (at, change) in plan.changes.iter().enumerate() {
        if ready.is_none_or(|ready| ready.get(at) == Some(&true)) {
            hand.apply(change)?;
        }
    }
    let spent = hand.spent;
    sync_parents(root, plan)?;
    if ready.is_some() {
        return remove_staged(root, plan);
    }
    spent.iter().try_for_each(|staged| absent(root.unlink(staged)).map(|_| ()))
}

/// Removes what a plan has staged, as far as it is there.
pub(crate) fn remove_staged(root: &Dir, plan: &Plan) -> io::Result<()> {
    for change in &plan.changes {
        if let Action::Put { staged, .. } = &change.action {
            absent(root.unlink(staged))?;
        }
    }
    Ok(())
}

struct Hand<'a> {
    root: &'a Dir,
    /// The directory of the last change.
    open: Option<(PathBuf, Dir)>,
    /// Staged names to be removed once everything is durable.
    spent: Vec<OsString>,
}

impl Hand<'_> {
    fn apply(&mut self, change: &Change) -> io::Result<()> {
        let parent = change.path.parent().unwrap_or(Path::new(""));
        let name = change.path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        if !parent.as_os_str().is_empty() && self.open.as_ref().is_none_or(|(open, _)| open != parent) {
            self.open = Some((parent.to_owned(), self.root.open_beneath(parent)?));
        }
        let below = self.open.as_ref().filter(|(open, _)| open == parent).map(|(_, dir)| dir);
        match (&change.action, below) {
            (Action::Remove, _) => absent(below.unwrap_or(self.root).unlink(name)).map(|_| ()),
            // Within one directory a rename is atomic after a power cut, too.
            (Action::Put { staged, .. }, None) => self.root.rename(staged, name),
            (Action::Put { staged, .. }, Some(dir)) => {
                put_below(self.root, staged, dir, name, change.before.is_none())?;
                self.spent.push(staged.clone());
                Ok(())
            }
        }
    }
}

/// A second name in the target's own directory, and from there by a rename within it.
fn put_below(root: &Dir, staged: &OsStr, dir: &Dir, name: &OsStr, is_new: bool) -> io::Result<()> {
    if is_new {
        match root.link_into(staged, dir, name) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            // No hard links here: nothing better is to be had.
            Err(e) if sys::cannot_link(&e) => return root.rename_into(staged, dir, name),
            linked => return linked,
        }
    }
    for _ in 0..TRIES {
        let temporary = names::fresh(Role::Stage);
        match root.link_into(staged, dir, &temporary) {
            Err(e) if sys::cannot_link(&e) => return root.rename_into(staged, dir, name),
            linked => linked?,
        }
        match dir.rename(&temporary, name) {
            // A recovery of this folder took it for an orphan.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => {
                let _ = dir.unlink(&temporary);
                return Err(e);
            }
            Ok(()) => {
                // If it is the target already, a rename changes nothing and leaves both names.
                return absent(dir.unlink(&temporary)).map(|_| ());
            }
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Syncs each directory in which an entry may have changed.
fn sync_parents(root: &Arc<Dir>, plan: &Plan) -> io::Result<()> {
    const WINDOW: usize = 64;
    let paths = plan.dirs.iter().chain(plan.changes.iter().map(|change| &change.path));
    let parents: BTreeSet<&Path> = paths.filter_map(|path| path.parent()).collect();
    let parents: Vec<&Path> = parents.into_iter().collect();
    for window in parents.chunks(WINDOW) {
        let mut dirs = Vec::with_capacity(window.len());
        for parent in window {
            let is_root = parent.as_os_str().is_empty();
            dirs.push(if is_root { Arc::clone(root) } else { Arc::new(root.open_beneath(parent)?) });
        }
        in_parallel(&dirs, |dir| dir.sync().map(|_| ())).map_err(|(_, e)| e)?;
    }
    Ok(())
}

/// Looks at what a change is about to replace.
pub(crate) fn fingerprint(root: &Dir, path: &Path) -> io::Result<Option<Fingerprint>> {
    match parent_of(root, path) {
        Ok((dir, name)) => absent(sys::fingerprint(dir.as_ref().unwrap_or(root), name)),
        Err(e) if sys::is_gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// A record's file must be as only a writer of ours makes it.
pub(crate) fn is_trusted(dir: &Dir, name: &OsStr) -> io::Result<bool> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let Some(stat) = absent(dir.stat_at(name))? else { return Ok(false) };
    let plain = stat.kind == Kind::File && stat.nlink == 1 && stat.mode & WRITABLE_BY_OTHERS == 0;
    Ok(plain && stat.uid == sys::effective_uid())
}
