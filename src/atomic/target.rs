//! From a path to the directory and name that a save will replace, checked before anything is
//! written.

use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::options::{Symlinks, WriteOptions};
use crate::sys::{self, Dir, Existing, File, Kind, Stat};
use crate::{Error, ErrorKind, Result};

/// As many links as the kernel follows.
pub(super) const MAX_LINKS: usize = 40;

/// Where a save goes. `dir` is the parent of the *resolved* name.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) dir: Arc<Dir>,
    pub(crate) name: OsString,
    /// The path as the caller gave it, for messages.
    pub(crate) path: PathBuf,
    /// The regular file (or, under [`Symlinks::Replace`], link) that stands there now.
    pub(crate) existing: Option<Existing>,
    /// Keeps the blocks of what is replaced from new owners until the rename is durable: ext4 with
    /// `data=writeback` gives them away as soon as they are free (`ext4_mb_clear_bb`), and a power cut
    /// would bring the old name back with other files' bytes.
    _held: Option<Arc<File>>,
    /// A link led here, so that `dir` isn't the parent that the path names.
    pub(crate) followed: bool,
}

impl Target {
    /// A name in a directory, not looked at yet.
    pub(crate) fn new(dir: Arc<Dir>, name: OsString, path: &Path) -> Target {
        Target { dir, name, path: path.to_owned(), existing: None, _held: None, followed: false }
    }

    /// Opens the parent, follows links as the options say, and refuses what can't be replaced.
    pub(crate) fn resolve(path: &Path, options: &WriteOptions) -> Result<Target> {
        Target::resolve_in(path, options, None)
    }

    /// The same, with the path's parent directory where it is open already.
    pub(crate) fn resolve_in(
        path: &Path,
        options: &WriteOptions,
        parent: Option<&Arc<Dir>>,
    ) -> Result<Target> {
        let (parent_path, name) = split(path)?;
        let dir = match parent {
            Some(dir) => Arc::clone(dir),
            None => Arc::new(open_parent(path, parent_path, options.create_parents)?),
        };
        let mut target = Target::new(dir, name.to_owned(), path);
        target.look(options)?;
        if options.create_new && target.existing.is_some() {
            return Err(Error::new(ErrorKind::AlreadyExists, "create", path));
        }
        target.settle_links(options)?;
        target.refuse_what_is_no_file()?;
        Ok(target)
    }

    /// Looks at what stands at the name.
    pub(crate) fn look(&mut self, options: &WriteOptions) -> Result<()> {
        (self.existing, self._held) = match self.dir.look_and_hold(&self.name, !options.forget_metadata) {
            Ok((existing, held)) => (Some(existing), held.map(Arc::new)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => (None, None),
            Err(e) => return Err(Error::io("inspect", &self.path, e)),
        };
        Ok(())
    }

    fn is_link(&self) -> bool {
        self.existing.as_ref().is_some_and(|existing| existing.stat.kind == Kind::Symlink)
    }

    fn settle_links(&mut self, options: &WriteOptions) -> Result<()> {
        match options.symlinks {
            Symlinks::Replace => return Ok(()),
            Symlinks::Refuse if self.is_link() => {
                return Err(Error::new(ErrorKind::InvalidPath, "save through the link", &self.path));
            }
            _ => {}
        }
        for _ in 0..MAX_LINKS {
            if !self.is_link() {
                return Ok(());
            }
            self.follow_one(options)?;
        }
        Err(Error::new(ErrorKind::InvalidPath, "follow the loop of links at", &self.path))
    }

    /// One step along a link, which the kernel would take too.
    fn follow_one(&mut self, options: &WriteOptions) -> Result<()> {
        if let Some(link) = &self.existing {
            refuse_planted_link(&self.dir, &link.stat, &self.path)?;
        }
        let fail = |e| Error::io("follow the link", &self.path, e);
        let text = self.dir.read_link(&self.name).map_err(fail)?;
        let Ok((parent, name)) = split(&text) else {
            // Such a link can only mean a directory, if anything.
            return Err(match self.dir.stat_through(&self.name) {
                Ok(_) => Error::new(ErrorKind::IsADirectory, "replace", &self.path),
                Err(_) => Error::new(ErrorKind::InvalidPath, "follow the link", &self.path),
            });
        };
        let name = name.to_owned();
        let dir = match self.dir.open_at(parent) {
            Err(e) if options.create_parents && e.kind() == std::io::ErrorKind::NotFound => {
                super::parents::create(&self.dir, parent).map_err(fail)?
            }
            opened => opened.map_err(fail)?,
        };
        self.followed = true;
        let came_from = std::mem::replace(&mut self.dir, Arc::new(dir));
        let came_by = std::mem::replace(&mut self.name, name);
        self.look(options)?;
        if self.existing.is_none() {
            self.refuse_magic(&came_from, &came_by)?;
        }
        Ok(())
    }

    /// The text of a link in `/proc` may be no path: what it leads to exists all the same.
    fn refuse_magic(&self, came_from: &Dir, came_by: &OsStr) -> Result<()> {
        match came_from.stat_through(came_by) {
            Ok(stat) if stat.kind != Kind::Dir => {
                Err(Error::new(ErrorKind::InvalidPath, "replace the FIFO, socket or device", &self.path))
            }
            _ => Ok(()),
        }
    }

    fn refuse_what_is_no_file(&self) -> Result<()> {
        let Some(existing) = &self.existing else { return Ok(()) };
        let refuse = |kind, operation| Err(Error::new(kind, operation, &self.path));
        match existing.stat.kind {
            Kind::Dir => refuse(ErrorKind::IsADirectory, "replace"),
            Kind::Other => refuse(ErrorKind::InvalidPath, "replace the FIFO, socket or device"),
            Kind::File | Kind::Symlink if existing.stat.mount_root => {
                Err(Error::mount_point(&self.path, None))
            }
            Kind::File | Kind::Symlink => Ok(()),
        }
    }
}

/// In a directory like `/tmp`, a link of somebody else's may lead anywhere. The kernel's own
/// rule (`fs.protected_symlinks`), which can be off.
pub(super) fn refuse_planted_link(dir: &Dir, link: &Stat, path: &Path) -> Result<()> {
    const STICKY_AND_WORLD_WRITABLE: u32 = 0o1002;
    let dir = dir.stat().map_err(|e| Error::io("inspect the directory of", path, e))?;
    let shared = dir.mode & STICKY_AND_WORLD_WRITABLE == STICKY_AND_WORLD_WRITABLE;
    if shared && link.uid != dir.uid && link.uid != sys::effective_uid() {
        return Err(Error::new(ErrorKind::PermissionDenied, "follow another user's link", path));
    }
    Ok(())
}

/// Parent and last component. `Path::file_name` is not enough: it passes over a trailing slash
/// and a trailing `.`.
pub(crate) fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    let invalid = || Error::new(ErrorKind::InvalidPath, "save to", path);
    let bytes = path.as_os_str().as_encoded_bytes();
    let is_separator = |b: &u8| std::path::is_separator(char::from(*b));
    let last = bytes.rsplit(is_separator).next().unwrap_or_default();
    if last.is_empty() || last == b"." || bytes.contains(&0) {
        return Err(invalid());
    }
    match path.components().next_back() {
        Some(Component::Normal(name)) => Ok((path.parent().unwrap_or(Path::new("")), name)),
        _ => Err(invalid()),
    }
}

fn open_parent(path: &Path, parent: &Path, create: bool) -> Result<Dir> {
    let opened = if create { super::parents::open_or_create(parent) } else { Dir::open(parent) };
    opened.map_err(|e| Error::io("open the directory of", path, e))
}
