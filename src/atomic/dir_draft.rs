//! Edits of the next version of a directory, before it is published.
//!
//! What the present version has and nobody replaced or removed is carried over late, when the
//! rest is known. Until then it shows through: an edit sees stage and present version as one tree.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dir_stage::TreeStage;
use super::dir_target::{DirTarget, Root};
use super::metadata;
use super::names;
use super::plan::is_inside;
use super::remove::remove_tree;
use super::stage::creation_mode_of;
use super::writer_lock::WriterLock;
use crate::options::WriteOptions;
use crate::sys::{self, Dir, Existing, File, Kind};
use crate::{Error, ErrorKind, Result};

/// The next version of a directory. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) target: DirTarget,
    pub(crate) stage: TreeStage,
    /// What stands at the target.
    pub(crate) old: Option<Root>,
    /// What is still to be carried over; none once that is done, or if nothing is.
    pub(super) below: Option<Below>,
    /// Directories in the stage, parents first, relative to it.
    pub(super) dirs: Vec<PathBuf>,
    /// Other programs may have written into the stage.
    pub(super) is_exposed: bool,
    /// The directory of the last edit.
    pub(super) recent: Option<(PathBuf, Arc<Dir>)>,
    /// Dropped last.
    _lock: WriterLock,
}

/// The present version, as far as it shows through.
#[derive(Debug, Default)]
pub(super) struct Below {
    /// What it has there is replaced or removed; what had been there.
    pub(super) masked: BTreeMap<PathBuf, Option<Existing>>,
    /// Directories with an entry that was edited.
    pub(super) touched: BTreeSet<PathBuf>,
}

impl Draft {
    /// With `keep`, it starts as what stands at the target.
    pub(crate) fn create(target: DirTarget, lock: WriterLock, keep: bool) -> Result<Draft> {
        const PRIVATE: u32 = 0o700;
        let old = target.hold()?;
        // A new directory honours the umask; one that replaces another gets its mode at last.
        let mode = if old.is_some() { PRIVATE } else { 0o777 };
        let fail = |e| Error::io("create a directory beside", &target.path, e);
        let stage = TreeStage::create(&target.parent, mode).map_err(fail)?;
        if let Some(old) = &old {
            let existing = old.existing().map_err(|e| Error::io("inspect", &target.path, e))?;
            stage.root.dir.as_inode().and_then(|copy| metadata::bequeath(&copy, &existing)).map_err(fail)?;
        }
        let below = (keep && old.is_some()).then(Below::default);
        let (dirs, is_exposed, recent) = (Vec::new(), false, None);
        Ok(Draft { target, stage, old, below, dirs, is_exposed, recent, _lock: lock })
    }

    /// For messages.
    pub(crate) fn path_of(&self, rel: &Path) -> PathBuf {
        self.target.path.join(rel)
    }

    /// Creates a file in the place of what is there; also what was there.
    pub(crate) fn create_file(&mut self, rel: &Path) -> Result<(File, Option<Existing>)> {
        let (dir, name) = self.enter_parent(rel)?;
        let path = self.path_of(rel);
        let mut existing = self.find_below(rel)?;
        let is_dir = |found: &Option<Existing>| found.as_ref().is_some_and(|e| e.stat.kind == Kind::Dir);
        if is_dir(&existing) {
            return Err(Error::new(ErrorKind::IsADirectory, "replace", &path));
        }
        let fail = |e| Error::io("create", &path, e);
        let create = |existing: Option<&Existing>| {
            let is_new = existing.is_none_or(|old| old.stat.kind != Kind::File);
            let mode = creation_mode_of(existing, &WriteOptions::new());
            dir.create_new(name, if is_new { mode } else { mode & 0o700 })
        };
        let file = match create(existing.as_ref()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let staged = dir.look(name, true).map_err(fail)?;
                let before = self.below.as_ref().and_then(|below| below.masked.get(rel).cloned());
                existing = before.unwrap_or(Some(staged.clone()));
                if staged.stat.kind == Kind::Dir {
                    return Err(Error::new(ErrorKind::IsADirectory, "replace", &path));
                }
                dir.unlink(name).map_err(fail)?;
                create(existing.as_ref()).map_err(fail)?
            }
            created => created.map_err(fail)?,
        };
        self.mask(rel, existing.clone());
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
        let below = self.find_below(rel)?;
        let is_staged = self.remove_staged(rel).map_err(fail)?;
        if below.is_none() && !is_staged {
            return Err(fail(io::ErrorKind::NotFound.into()));
        }
        // It may have led there.
        self.recent = None;
        self.dirs.retain(|dir| !dir.starts_with(rel));
        self.mask(rel, None);
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
        let is_ours = |part: &OsStr| names::role_of(part).is_some();
        // A recovery would take a name of ours for an orphan.
        if is_inside(rel) && !rel.iter().any(is_ours) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidPath, "save to", &self.path_of(rel)))
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
        let fail = |e| Error::io("create", &path, e);
        match parent.open_child(name) {
            Ok(dir) => return Ok(Arc::new(dir)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if sys::is_gone(&e) => {
                return Err(not_a_directory(parent.stat_at(name).map_err(fail)?.kind, &path));
            }
            Err(e) => return Err(fail(e)),
        }
        match self.find_below(at)?.map(|below| below.stat.kind) {
            None => {
                parent.mkdir(name, 0o777).map_err(fail)?;
                self.mask(at, None);
            }
            Some(Kind::Dir) => self.mirror(parent, at).map_err(fail)?,
            Some(other) => return Err(not_a_directory(other, &path)),
        }
        self.dirs.push(at.to_owned());
        parent.open_child(name).map(Arc::new).map_err(fail)
    }

    /// Creates the counterpart of a directory of the present version, to be filled.
    pub(super) fn mirror(&self, parent: &Dir, at: &Path) -> io::Result<()> {
        let name = at.file_name().unwrap_or_default();
        parent.mkdir(name, 0o700)?;
        if let Some(old) = &self.old {
            let existing = open(&old.dir, at)?.as_inode()?.existing()?;
            metadata::bequeath(&parent.open_child(name)?.as_inode()?, &existing)?;
        }
        Ok(())
    }

    /// What the present version has there, unless it is masked.
    fn find_below(&self, rel: &Path) -> Result<Option<Existing>> {
        let (Some(old), Some(below)) = (&self.old, &self.below) else { return Ok(None) };
        if rel.ancestors().any(|at| below.masked.contains_key(at)) {
            return Ok(None);
        }
        let name = rel.file_name().unwrap_or_default();
        let found = open_parent(&old.dir, rel).and_then(|parent| parent.look(name, true));
        match found {
            Err(e) if sys::is_gone(&e) => Ok(None),
            found => found.map(Some).map_err(|e| Error::io("inspect", &self.path_of(rel), e)),
        }
    }

    fn mask(&mut self, rel: &Path, before: Option<Existing>) {
        if let Some(below) = &mut self.below {
            below.masked.insert(rel.to_owned(), before);
            below.touched.insert(rel.parent().unwrap_or(Path::new("")).to_owned());
        }
    }
}

fn not_a_directory(kind: Kind, path: &Path) -> Error {
    match kind {
        Kind::Symlink => Error::new(ErrorKind::InvalidPath, "save through the link", path),
        _ => Error::new(ErrorKind::NotADirectory, "save below", path),
    }
}

/// Opens a directory of a tree; the empty path is its root.
pub(crate) fn open(root: &Dir, rel: &Path) -> io::Result<Dir> {
    if rel.as_os_str().is_empty() { root.open_at(rel) } else { root.open_beneath(rel) }
}

pub(crate) fn open_parent(root: &Dir, rel: &Path) -> io::Result<Dir> {
    open(root, rel.parent().unwrap_or(Path::new("")))
}
