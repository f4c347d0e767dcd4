//! From a path to the directory that will be swapped there, links followed.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::create_parents;
use crate::atomic::staged::TRIES;
use crate::atomic::target::{MAX_LINKS, read_link, split};
use crate::dir::version::LockedVersion;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::refuse_ours;
use crate::set::enclosing::INODES_CHANGE;
use crate::set::options::SetOptions;
use crate::sys::{self, Dir, Kind, Lock, Stat, absent};

/// Where a directory goes. `parent` holds the *resolved* name.
#[derive(Debug)]
pub(crate) struct DirTarget {
    pub(crate) parent: Arc<Dir>,
    pub(crate) name: OsString,
    /// The path as the caller gave it, for messages.
    pub(crate) path: PathBuf,
    /// Where `parent` is.
    pub(crate) place: PathBuf,
}

impl DirTarget {
    /// A directory may be named with a slash at the end.
    pub(crate) fn resolve(path: &Path, options: &SetOptions) -> Result<DirTarget> {
        let plain = path.components().as_path();
        let (parent, name) = split(plain)?;
        let dir = options.open_dir(parent).map_err(|e| Error::io("open the directory of", path, e))?;
        let (place, path) = (sys::absolute(parent), path.to_owned());
        let mut target = DirTarget { parent: Arc::new(dir), name: name.to_owned(), path, place };
        for _ in 0..MAX_LINKS {
            match target.stat()? {
                Some(found) if found.kind == Kind::Symlink => target.follow(&found, options)?,
                _ => return Ok(target),
            }
        }
        Err(Error::new(ErrorKind::InvalidPath, "follow the loop of links at", &target.path))
    }

    /// As [`resolve`](DirTarget::resolve), for a directory that is to be put there.
    pub(crate) fn resolve_to_save(path: &Path, options: &SetOptions) -> Result<DirTarget> {
        const SAVE: &str = "save to";
        refuse_ours(SAVE, path, path.file_name())?;
        let target = DirTarget::resolve(path, options)?;
        refuse_ours(SAVE, path, [&*target.name])?;
        Ok(target)
    }

    /// The directory that is there, if any.
    pub(crate) fn lookup(&self) -> Result<Option<Stat>> {
        match self.stat()? {
            Some(found) if found.kind != Kind::Dir => {
                Err(Error::new(ErrorKind::NotADirectory, "open the directory", &self.path))
            }
            Some(found) if found.mount_root => Err(Error::mount_point(&self.path, None)),
            found => Ok(found),
        }
    }

    /// Takes hold of the directory that is there.
    pub(crate) fn hold(&self) -> Result<Option<LockedVersion>> {
        let fail = |e| Error::io("open", &self.path, e);
        for attempt in 0..TRIES as u64 {
            if self.lookup()?.is_none() {
                return Ok(None);
            }
            let dir = match self.parent.open_child(&self.name) {
                Err(e) if sys::is_gone(&e) => continue,
                opened => opened.map_err(fail)?,
            };
            let stat = dir.stat().map_err(fail)?;
            match dir.try_lock_shared().map_err(|e| Error::io("lock", &self.path, e))? {
                Lock::Held if self.parent.leads_to(&self.name, stat.id).map_err(fail)? => {
                    return Ok(Some(LockedVersion::new(dir, stat)));
                }
                Lock::Held => {}
                // Whoever is about to delete it has moved it before, so that the name leads on.
                Lock::Elsewhere => std::thread::sleep(std::time::Duration::from_millis(attempt)),
                Lock::Unsupported => return Err(Error::new(ErrorKind::Unsupported, "lock", &self.path)),
            }
        }
        if self.parent.is_changing_inodes(&self.name).map_err(fail)? {
            return Err(Error::new(ErrorKind::Unsupported, "lock", &self.path).because(INODES_CHANGE));
        }
        Err(Error::new(ErrorKind::Locked, "lock", &self.path))
    }

    fn stat(&self) -> Result<Option<Stat>> {
        absent(self.parent.stat_at(&self.name)).map_err(|e| Error::io("inspect", &self.path, e))
    }

    fn follow(&mut self, link: &Stat, options: &SetOptions) -> Result<()> {
        let text = read_link(&self.parent, &self.name, link, &self.path)?;
        let (parent, name) = split(text.components().as_path())
            .map_err(|_| Error::new(ErrorKind::InvalidPath, "follow the link", &self.path))?;
        let dir = create_parents::open_at(&self.parent, parent, options.create_parents);
        self.place.push(parent);
        self.name = name.to_owned();
        self.parent = Arc::new(dir.map_err(|e| Error::io("follow the link", &self.path, e))?);
        Ok(())
    }
}
