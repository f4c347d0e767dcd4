//! Edits of the next version of a directory, before it is published.
//!
//! What the present version has and nobody replaced or removed is carried over late, when the
//! rest is known. Until then it shows through: an edit sees stage and present version as one tree.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::metadata;
use crate::atomic::spelling::is_one_entry;
use crate::atomic::staged::{creation_mode_of, named_mode};
use crate::atomic::target::refuse_hard_links;
use crate::atomic::target::{NOT_INSIDE, Target, is_inside};
use crate::dir::nature::refuse_if_lost;
use crate::dir::spelling::EntryLock;
use crate::dir::target::DirTarget;
use crate::dir::version::{LockedVersion, StagedVersion, open_parent};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::{self, Role};
use crate::options::WriteOptions;
use crate::remnant::remove_tree::remove_tree;
use crate::set::spelling::{Comparison, Spellings};
use crate::sys::{self, Dir, File, Kind, TargetMeta, absent};

/// The next version of a directory. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) target: DirTarget,
    pub(crate) stage: StagedVersion,
    /// The version that stands at the target.
    pub(crate) old: Option<LockedVersion>,
    /// The part of it that is still to be carried over; `None` once that is done, or if nothing is.
    pub(crate) lower: Option<LowerTree>,
    /// Directories in the stage, parents first, relative to it.
    pub(crate) dirs: Vec<PathBuf>,
    /// Other programs may have written into the stage.
    pub(crate) is_exposed: bool,
    /// The directory of the last edit.
    pub(crate) recent: Option<(PathBuf, Arc<Dir>)>,
    /// True while everything that was carried over or replaced has all of its metadata.
    pub(crate) keeps_metadata: bool,
    /// Dropped last.
    _lock: EntryLock,
}

/// The present version, as far as it shows through.
#[derive(Debug, Default)]
pub(crate) struct LowerTree {
    /// Paths at which its entry is replaced or removed, and what that entry was.
    pub(crate) whiteouts: HashMap<PathBuf, Option<TargetMeta>>,
    /// Directories with an entry that was edited.
    pub(crate) touched: HashSet<PathBuf>,
    spellings: Spellings,
    /// How the directory that was asked last compares names.
    asked: Option<(PathBuf, Comparison)>,
}

impl LowerTree {
    fn white_out(&mut self, rel: &Path, before: Option<TargetMeta>) {
        if self.whiteouts.insert(rel.to_owned(), before).is_none() {
            self.spellings.add(rel);
        }
        self.touched.insert(rel.parent().unwrap_or(Path::new("")).to_owned());
    }

    /// How a directory of the present version compares names. In it nothing can be tried out: `beside`, which is its
    /// counterpart in the new version, is asked.
    fn comparison_in(&mut self, at: &Path, old: &LockedVersion, beside: &Dir) -> io::Result<Comparison> {
        if let Some((_, comparison)) = self.asked.as_ref().filter(|(asked, _)| asked == at) {
            return Ok(*comparison);
        }
        let comparison = Comparison::ask(beside)?.below(&old.dir, at);
        self.asked = Some((at.to_owned(), comparison));
        Ok(comparison)
    }

    /// Is what `from` lists at `path` replaced or removed, perhaps under another spelling? That is one that
    /// leads to something and isn't listed. `beside` is the counterpart of `from` in the new version.
    pub(crate) fn is_whitened(
        &mut self,
        old: &LockedVersion,
        (from, beside): (&Dir, &Dir),
        path: &Path,
        is_listed: impl Fn(&OsStr) -> bool,
    ) -> io::Result<bool> {
        if self.whiteouts.contains_key(path) {
            return Ok(true);
        }
        if !self.spellings.may_have_others(path) {
            return Ok(false);
        }
        let comparison = self.comparison_in(path.parent().unwrap_or(Path::new("")), old, beside)?;
        let alike = self.spellings.others(path, comparison);
        for other in alike.filter(|other| self.whiteouts.contains_key(*other)) {
            let (name, also) = (path.file_name(), other.file_name());
            let may_be_one = also == name || !is_listed(also.unwrap_or_default());
            if may_be_one && is_one_file(old, from, path, other)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the present version has at `path` is neither replaced nor removed any more, whatever its spelling was.
    fn take_back(&mut self, old: &LockedVersion, beside: &Dir, path: &Path) -> io::Result<()> {
        self.whiteouts.remove(path);
        if !self.spellings.may_have_others(path) {
            return Ok(());
        }
        let comparison = self.comparison_in(path.parent().unwrap_or(Path::new("")), old, beside)?;
        let others = self.spellings.others(path, comparison);
        let others: Vec<_> = others.filter(|other| self.whiteouts.contains_key(*other)).collect();
        if !others.is_empty() {
            let from = open_parent(&old.dir, path)?;
            for other in others {
                if is_one_file(old, &from, path, other)? {
                    self.whiteouts.remove(other);
                }
            }
        }
        Ok(())
    }
}

/// Do two paths lead to one file of the present version? The first is in `from`.
fn is_one_file(old: &LockedVersion, from: &Dir, path: &Path, other: &Path) -> io::Result<bool> {
    if other.parent() != path.parent() {
        match open_parent(&old.dir, other).and_then(|dir| dir.stat()) {
            Ok(found) if found.id == from.stat()?.id => {}
            Err(e) if !sys::is_gone(&e) => return Err(e),
            _ => return Ok(false),
        }
    }
    let [name, also] = [path, other].map(|path| path.file_name().unwrap_or_default());
    Ok(also == name || is_one_entry(from, name, also)? == Some(true))
}

impl Draft {
    /// With `keep`, it starts as what stands at the target.
    pub(crate) fn create(target: DirTarget, lock: EntryLock, keep: bool) -> Result<Draft> {
        const PRIVATE: u32 = 0o700;
        let old = target.hold()?;
        if let Some(old) = &old {
            refuse_if_lost(&old.dir, &target.parent, &target.path)?;
        }
        // A new directory honours the umask; one that replaces another gets its mode at last.
        let mode = if old.is_some() { PRIVATE } else { 0o777 };
        let fail = |e| Error::io("create a directory beside", &target.path, e);
        let stage = StagedVersion::create(&target.parent, mode).map_err(fail)?;
        if let Some(old) = &old {
            let existing = old.existing().map_err(|e| Error::io("inspect", &target.path, e))?;
            stage
                .root
                .dir
                .as_inode()
                .and_then(|copy| metadata::set_inherited(&copy, &existing))
                .map_err(fail)?;
        }
        let keeps_metadata = old.as_ref().is_none_or(|old| stage.root.dir.keep_flags_of(&old.dir));
        let lower = (keep && old.is_some()).then(LowerTree::default);
        let (dirs, is_exposed, recent) = (Vec::new(), false, None);
        Ok(Draft { target, stage, old, lower, dirs, is_exposed, recent, keeps_metadata, _lock: lock })
    }

    /// For messages.
    pub(crate) fn path_of(&self, rel: &Path) -> PathBuf {
        self.target.path.join(rel)
    }

    /// Creates a file in the place of what is there; also what was there.
    pub(crate) fn create_file(
        &mut self,
        rel: &Path,
        options: &WriteOptions,
    ) -> Result<(File, Option<TargetMeta>)> {
        let (dir, name) = self.enter_parent(rel)?;
        let path = self.path_of(rel);
        let mut existing = self.find_lower(rel)?;
        let is_dir = |found: &Option<TargetMeta>| found.as_ref().is_some_and(|e| e.stat.kind == Kind::Dir);
        if is_dir(&existing) {
            return Err(Error::new(ErrorKind::IsADirectory, "replace", &path));
        }
        refuse_hard_links(existing.as_ref(), options, 0, &path)?;
        let fail = |e| Error::naming("create", &path, e);
        let create = |existing: Option<&TargetMeta>, name: &OsStr| {
            dir.create_new(name, named_mode(creation_mode_of(existing, options), existing, options))
        };
        let file = match create(existing.as_ref(), name) {
            Err(e) if sys::already_exists(&e) => {
                let staged = dir.lookup(name, true).map_err(fail)?;
                let before = self.lower.as_ref().and_then(|lower| lower.whiteouts.get(rel).cloned());
                existing = before.unwrap_or(Some(staged.clone()));
                if staged.stat.kind == Kind::Dir {
                    return Err(Error::new(ErrorKind::IsADirectory, "replace", &path));
                }
                let ours = u64::from(self.is_in_old(rel, &staged));
                refuse_hard_links(existing.as_ref(), options, ours, &path)?;
                // Beside it first: if that fails, what was written before is still there.
                let beside = names::fresh(Role::Stage);
                let file = create(existing.as_ref(), &beside).map_err(fail)?;
                if let Err(e) = dir.rename(&beside, name) {
                    let _ = dir.unlink(&beside);
                    return Err(fail(e));
                }
                file
            }
            created => created.map_err(fail)?,
        };
        self.white_out(rel, existing.clone());
        Ok((file, existing))
    }

    /// Creates a directory, and those above it. That it exists is no error.
    pub(crate) fn create_dir(&mut self, rel: &Path) -> Result<()> {
        let (dir, _) = self.enter_parent(rel)?;
        match self.enter(&dir, rel) {
            Err(e) if matches!(e.kind(), ErrorKind::NotADirectory | ErrorKind::InvalidPath) => {
                Err(Error::new(ErrorKind::AlreadyExists, "create", &self.path_of(rel)))
            }
            entered => entered.map(|_| ()),
        }
    }

    /// Removes a file, or a directory with all that is in it.
    pub(crate) fn remove(&mut self, rel: &Path) -> Result<()> {
        let path = self.path_of(rel);
        self.check(rel)?;
        let fail = |e| Error::io("remove", &path, e);
        let lower = self.find_lower(rel)?;
        // The directory that is remembered may be inside what is removed, and gone even if the removal fails midway.
        self.recent = None;
        let is_staged = self.remove_staged(rel).map_err(fail)?;
        if lower.is_none() && !is_staged {
            return Err(Error::new(ErrorKind::NotFound, "remove", &path).because("there is nothing"));
        }
        self.dirs.retain(|dir| !dir.starts_with(rel));
        self.white_out(rel, None);
        Ok(())
    }

    fn remove_staged(&self, rel: &Path) -> io::Result<bool> {
        let name = rel.file_name().unwrap_or_default();
        let found = match open_parent(&self.stage.root.dir, rel) {
            Ok(parent) => parent.stat_at(name).map(|stat| (parent, stat.kind)),
            Err(e) => Err(e),
        };
        match found {
            Err(e) if sys::is_gone(&e) => Ok(false),
            Err(e) => Err(e),
            Ok((parent, Kind::Dir)) => remove_tree(&parent, name).map(|()| true),
            Ok((parent, _)) => parent.unlink(name).map(|()| true),
        }
    }

    fn check(&self, rel: &Path) -> Result<()> {
        const SAVE: &str = "save to";
        let path = self.path_of(rel);
        match is_inside(rel) {
            false => Err(Error::new(ErrorKind::InvalidPath, SAVE, &path).because(NOT_INSIDE)),
            true => names::refuse_ours(SAVE, &path, rel),
        }
    }

    fn enter_parent<'r>(&mut self, rel: &'r Path) -> Result<(Arc<Dir>, &'r OsStr)> {
        self.check(rel)?;
        let name = rel.file_name().unwrap_or_default();
        let parent = rel.parent().unwrap_or(Path::new(""));
        if let Some((recent, dir)) = &self.recent {
            if recent == parent {
                return Ok((Arc::clone(dir), name));
            }
        }
        let mut dir = Arc::clone(&self.stage.root.dir);
        let mut at = PathBuf::new();
        for part in parent.iter() {
            at.push(part);
            dir = self.enter(&dir, &at)?;
        }
        self.recent = Some((at, Arc::clone(&dir)));
        Ok((dir, name))
    }

    /// Opens a directory of the stage, creating it if need be.
    fn enter(&mut self, parent: &Dir, at: &Path) -> Result<Arc<Dir>> {
        let path = self.path_of(at);
        let name = at.file_name().unwrap_or_default();
        let fail = |e| Error::naming("create", &path, e);
        match parent.open_child(name) {
            Ok(dir) => return Ok(Arc::new(dir)),
            Err(e) if sys::is_not_found(&e) => {}
            Err(e) if sys::is_gone(&e) => {
                return Err(not_a_directory(parent.stat_at(name).map_err(fail)?.kind, &path));
            }
            Err(e) => return Err(fail(e)),
        }
        match self.find_lower(at)?.map(|lower| lower.stat.kind) {
            None => {
                parent.mkdir(name, 0o777).map_err(fail)?;
                self.white_out(at, None);
            }
            Some(Kind::Dir) => {
                if !self.mirror(parent, at).map_err(fail)? {
                    parent.mkdir(name, 0o777).map_err(fail)?;
                }
            }
            Some(other) => return Err(not_a_directory(other, &path)),
        }
        self.dirs.push(at.to_owned());
        parent.open_child(name).map(Arc::new).map_err(fail)
    }

    /// Creates the counterpart of a directory of the present version, to be filled. False, with nothing made,
    /// if there is none any more.
    pub(crate) fn mirror(&self, parent: &Dir, at: &Path) -> io::Result<bool> {
        let name = at.file_name().unwrap_or_default();
        let existing = match &self.old {
            None => None,
            Some(old) => match old.dir.open_beneath(at) {
                Err(e) if sys::is_gone(&e) => return Ok(false),
                opened => Some(opened?),
            },
        };
        parent.mkdir(name, 0o700)?;
        let be_like = |existing: Dir| {
            let made = parent.open_child(name)?;
            // Whether they are kept is asked again when it is carried over.
            made.keep_flags_of(&existing);
            metadata::set_inherited(&made.as_inode()?, &existing.as_inode()?.existing()?)
        };
        let made = existing.map_or(Ok(()), be_like);
        if made.is_err() {
            // Whoever tries again must find nothing half made.
            let _ = parent.rmdir(name);
        }
        made.map(|()| true)
    }

    /// The entry that the present version has there, unless it is a whiteout.
    fn find_lower(&self, rel: &Path) -> Result<Option<TargetMeta>> {
        let (Some(old), Some(lower)) = (&self.old, &self.lower) else { return Ok(None) };
        if rel.ancestors().any(|at| lower.whiteouts.contains_key(at)) {
            return Ok(None);
        }
        let name = rel.file_name().unwrap_or_default();
        let found = open_parent(&old.dir, rel).and_then(|parent| parent.lookup(name, true));
        absent(found).map_err(|e| Error::io("inspect", &self.path_of(rel), e))
    }

    /// The present version has this very file: it was carried over by a link.
    fn is_in_old(&self, rel: &Path, staged: &TargetMeta) -> bool {
        self.old.as_ref().is_some_and(|old| {
            let name = rel.file_name().unwrap_or_default();
            open_parent(&old.dir, rel).and_then(|dir| dir.leads_to(name, staged.stat.id)).unwrap_or(false)
        })
    }

    /// The file of the present version that was replaced there, while it may still be carried over instead.
    pub(crate) fn present(&self, rel: &Path) -> Option<Target> {
        let (old, lower) = (self.old.as_ref()?, self.lower.as_ref()?);
        let existing = lower.whiteouts.get(rel)?.clone()?;
        let dir = Arc::new(open_parent(&old.dir, rel).ok()?);
        let mut target = Target::new(dir, rel.file_name()?.to_owned(), &self.path_of(rel));
        target.existing = Some(existing);
        Some(target)
    }

    /// Takes back that a file was replaced.
    pub(crate) fn unstage(&mut self, rel: &Path) -> io::Result<()> {
        let parent = open_parent(&self.stage.root.dir, rel)?;
        parent.unlink(rel.file_name().unwrap_or_default())?;
        match (&self.old, &mut self.lower) {
            (Some(old), Some(lower)) => lower.take_back(old, &parent, rel),
            _ => Ok(()),
        }
    }

    fn white_out(&mut self, rel: &Path, before: Option<TargetMeta>) {
        if let Some(lower) = &mut self.lower {
            lower.white_out(rel, before);
        }
    }
}

fn not_a_directory(kind: Kind, path: &Path) -> Error {
    match kind {
        Kind::Symlink => Error::new(ErrorKind::InvalidPath, "save through the link", path),
        _ => Error::new(ErrorKind::NotADirectory, "save below", path),
    }
}
