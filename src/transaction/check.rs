//! Where a change goes, and whether it could be carried out: asked before anything is decided.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::target::{NOT_INSIDE, is_inside};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names;
use crate::sys::{self, Dir, Kind, Stat};
use crate::transaction::Transaction;
use crate::transaction::entry::{Checked, Entry, Site};

impl Transaction {
    /// Finds where a change goes, and refuses what could not be carried out.
    pub(super) fn site(&mut self, rel: &Path, removes: bool) -> Result<Site> {
        let path = self.path.join(rel);
        let refuse = |kind, operation| Err(Error::new(kind, operation, &path));
        let (true, Some(name)) = (is_inside(rel), rel.file_name()) else {
            return refuse(ErrorKind::InvalidPath, "change").map_err(|e| e.because(NOT_INSIDE));
        };
        names::refuse_ours("change", &path, rel)?;
        let missing = self.open_nearest(rel)?;
        let Checked { dir: parent, stat, .. } = &self.checked;
        let existing = match parent.lookup(name, true) {
            _ if !missing.is_empty() => None,
            Err(e) if sys::is_not_found(&e) => None,
            found => Some(found.map_err(|e| Error::io("inspect", &path, e))?),
        };
        if let Some(existing) = &existing {
            refuse_existing(existing.stat, stat, &path, removes)?;
        }
        Ok(Site { parent: Arc::clone(parent), missing, existing })
    }

    /// Opens the nearest directory that exists, unless it is open already. Those below it that don't
    /// exist are returned.
    fn open_nearest(&mut self, rel: &Path) -> Result<Vec<PathBuf>> {
        let path = self.path.join(rel);
        let mut missing = Vec::new();
        for dir in rel.ancestors().skip(1) {
            if self.checked.path == dir {
                break;
            }
            self.refuse_below_file(rel, dir)?;
            match self.open_dir(dir) {
                Ok(open) => {
                    self.checked = self.check(dir, open, &path)?;
                    break;
                }
                Err(e) if sys::is_not_found(&e) => missing.push(dir.to_owned()),
                Err(_) if self.root.stat_at(dir.as_os_str()).is_ok_and(|stat| stat.kind == Kind::Symlink) => {
                    return Err(Error::new(ErrorKind::InvalidPath, "change through a link", &path));
                }
                Err(e) => return Err(Error::io("open the directory of", &path, e)),
            }
        }
        Ok(missing)
    }

    /// Opens a directory below the root. The root itself is open already.
    pub(super) fn open_dir(&self, rel: &Path) -> io::Result<Arc<Dir>> {
        match rel.as_os_str().is_empty() {
            true => Ok(Arc::clone(&self.root)),
            false => self.root.open_beneath(rel).map(Arc::new),
        }
    }

    /// Nothing can be put below `dir` if another change puts a file there.
    pub(super) fn refuse_below_file(&self, rel: &Path, dir: &Path) -> Result<()> {
        if matches!(self.entries.get(dir), Some(Entry { put: Some(_), .. })) {
            return Err(Error::new(ErrorKind::NotADirectory, "change", &self.path.join(rel)));
        }
        Ok(())
    }

    fn check(&self, rel: &Path, dir: Arc<Dir>, path: &Path) -> Result<Checked> {
        let stat = dir.stat().map_err(|e| Error::io("inspect the directory of", path, e))?;
        if stat.mount_key() != self.stat.mount_key() {
            return Err(Error::new(ErrorKind::CrossDevice, "change", path));
        }
        if stat.is_immutable_or_append_only {
            return Err(Error::new(ErrorKind::PermissionDenied, "change the fixed directory of", path));
        }
        dir.may_change().map_err(|e| Error::io("change the directory of", path, e))?;
        Ok(Checked { path: rel.to_owned(), dir, stat })
    }

    /// The root itself, which is checked when it is needed.
    pub(super) fn unchecked(root: &Arc<Dir>, stat: Stat) -> Checked {
        // No path equals this one: the first change checks its directory.
        Checked { path: PathBuf::from("/"), dir: Arc::clone(root), stat }
    }
}

/// Refuses to replace or remove what can't be.
fn refuse_existing(existing: Stat, parent: &Stat, path: &Path, removes: bool) -> Result<()> {
    const STICKY: u32 = 0o1000;
    let refuse = |kind, operation| Err(Error::new(kind, operation, path));
    let me = sys::effective_uid();
    let foreign = me != 0 && me != existing.uid && me != parent.uid;
    match existing {
        Stat { mount_root: true, .. } => Err(Error::mount_point(path, None)),
        Stat { kind: Kind::Dir, .. } => refuse(ErrorKind::IsADirectory, "change"),
        Stat { kind: Kind::Symlink, .. } if !removes => refuse(ErrorKind::InvalidPath, "replace the link"),
        Stat { kind: Kind::Other, .. } if !removes => {
            refuse(ErrorKind::InvalidPath, "replace the FIFO, socket or device")
        }
        Stat { is_immutable_or_append_only: true, .. } => {
            refuse(ErrorKind::PermissionDenied, "change the fixed file")
        }
        _ if parent.mode & STICKY != 0 && foreign => {
            refuse(ErrorKind::PermissionDenied, "change another user's file")
        }
        _ => Ok(()),
    }
}
