//! Directories, by path.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::errors::{is_not_found, link_in_the_way};
use super::lock::Held;
use super::wait::{PATIENCE, or_removed, patiently, remove, rename, within};
use super::{File, names, open};
use crate::name_format::role_of;
use crate::sys::{DirNature, Kind, Stat, real_path};

/// A directory; everything happens relative to one.
#[derive(Debug)]
pub(crate) struct Dir {
    anchor: Arc<Anchor>,
    /// Below the anchor; empty for the anchor itself.
    below: PathBuf,
    /// How long those are waited for who have a file of it open.
    patience: Duration,
    pub(super) held: Mutex<Option<Held>>,
}

/// A directory whose place is known.
#[derive(Debug)]
struct Anchor {
    path: Mutex<PathBuf>,
    /// The directory as it was when it was opened, if its name may change while it is in use.
    stat: Option<Stat>,
}

impl Anchor {
    fn new(path: PathBuf, stat: Option<Stat>) -> Arc<Anchor> {
        Arc::new(Anchor { path: Mutex::new(path), stat })
    }

    /// Where it is now.
    fn path(&self) -> io::Result<PathBuf> {
        let mut path = self.path.lock().unwrap_or_else(|broken| broken.into_inner());
        let Some(stat) = self.stat else { return Ok(path.clone()) };
        let is_it = |path: &Path| stat_path(path).is_ok_and(|found| found.id == stat.id);
        if !is_it(&path) {
            // Versions of a directory get names of ours, in the same place.
            let parent = path.parent().ok_or(io::ErrorKind::NotFound)?;
            let mut entries = fs::read_dir(parent)?.filter_map(|entry| entry.ok().map(|entry| entry.path()));
            let found = entries.find(|path| path.file_name().is_some_and(is_version) && is_it(path));
            *path = found.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(path.clone())
    }
}

fn is_version(name: &OsStr) -> bool {
    role_of(name).is_some()
}

pub(super) fn stat_path(path: &Path) -> io::Result<Stat> {
    open::stat(&patiently(|| open::to_inspect(path))?)
}

/// [`stat_path`] of a directory, not through a link.
fn stat_dir(path: &Path) -> io::Result<Stat> {
    let stat = stat_path(path)?;
    match stat.kind {
        Kind::Dir => Ok(stat),
        Kind::Symlink => Err(link_in_the_way()),
        Kind::File | Kind::Other => Err(io::ErrorKind::NotADirectory.into()),
    }
}

fn new_file(path: PathBuf) -> io::Result<File> {
    let handle = patiently(|| or_removed(&path, open::to_create(&path)))?;
    File::created(path, handle)
}

impl Dir {
    /// Opens a directory by its path; the empty path is the current directory.
    pub(crate) fn open(path: &Path) -> io::Result<Dir> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let path = real_path(path)?;
        match open::stat(&patiently(|| open::to_inspect_through(&path))?)?.kind {
            Kind::Dir => Ok(Dir::new(Anchor::new(path, None), PathBuf::new())),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn new(anchor: Arc<Anchor>, below: PathBuf) -> Dir {
        Dir { anchor, below, patience: PATIENCE, held: Mutex::new(None) }
    }

    /// Sets how long to wait for programs that have a file of this directory open; `None` means the usual time.
    pub(crate) fn with_patience(self, patience: Option<Duration>) -> Dir {
        Dir { patience: patience.unwrap_or(PATIENCE), ..self }
    }

    /// Opens a directory by its path relative to this one.
    pub(crate) fn open_at(&self, path: &Path) -> io::Result<Dir> {
        if path.as_os_str().is_empty() {
            let same = Dir::new(Arc::clone(&self.anchor), self.below.clone());
            return Ok(same.with_patience(Some(self.patience)));
        }
        Ok(Dir::open(&self.path()?.join(path))?.with_patience(Some(self.patience)))
    }

    /// Where it is now.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        let mut path = self.anchor.path()?;
        path.extend(&self.below);
        Ok(path)
    }

    /// Where a name in it is, or a path below it.
    pub(super) fn at(&self, name: &OsStr) -> io::Result<PathBuf> {
        names::check(name)?;
        let mut path = self.path()?;
        path.extend(Path::new(name));
        Ok(path)
    }

    /// Looks at several things below, again and again until the directory has not moved meanwhile.
    pub(super) fn steadily<T>(&self, look: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
        loop {
            let path = self.path()?;
            let seen = look(&path);
            if self.path()? == path {
                return seen;
            }
        }
    }

    /// The directory's own facts; of one that is gone, those that a handle would still tell.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        let found = self.path().and_then(|path| stat_path(&path));
        match (found, self.anchor.stat) {
            (Err(e), Some(stat)) if is_not_found(&e) && self.below.as_os_str().is_empty() => {
                Ok(Stat { nlink: 0, ..stat })
            }
            (found, _) => found,
        }
    }

    pub(crate) fn stat_at(&self, name: &OsStr) -> io::Result<Stat> {
        stat_path(&self.at(name)?)
    }

    /// Follows a name to what it leads to in the end.
    pub(crate) fn stat_through(&self, path: &OsStr) -> io::Result<Stat> {
        // As on Unix, an absolute path leads away from this directory.
        let path = if Path::new(path).is_absolute() { PathBuf::from(path) } else { self.at(path)? };
        open::stat(&open::to_inspect_through(&path)?)
    }

    /// Encryption is all that is known of it here.
    pub(crate) fn nature(&self) -> io::Result<DirNature> {
        Ok(DirNature { is_encrypted: self.stat()?.is_encrypted, ..DirNature::default() })
    }

    pub(crate) fn read_link(&self, name: &OsStr) -> io::Result<PathBuf> {
        fs::read_link(self.at(name)?)
    }

    /// Opens a file for reading, without following a link at its name.
    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        let path = self.at(name)?;
        let handle = within(self.patience, || or_removed(&path, open::to_read(&path)))?;
        File::opened(path, handle, false)
    }

    /// Opens a file for writing, without following a link at its name.
    pub(crate) fn open_file_to_write(&self, name: &OsStr) -> io::Result<File> {
        let path = self.at(name)?;
        let handle = within(self.patience, || or_removed(&path, open::to_write(&path)))?;
        File::opened(path, handle, true)
    }

    /// Opens a directory below this one if nothing is mounted at it or on the way there: a mount in a folder is a link here.
    pub(crate) fn open_on_this_mount(&self, path: &Path) -> io::Result<Dir> {
        self.open_beneath(path)
    }

    /// Opens a directory below this one without following a link anywhere on the way; the empty path is this one.
    pub(crate) fn open_beneath(&self, path: &Path) -> io::Result<Dir> {
        if path.as_os_str().is_empty() {
            return self.open_at(path);
        }
        self.steadily(|base| {
            let mut at = base.to_owned();
            for part in path.components() {
                names::check(part.as_os_str())?;
                at.push(part);
                stat_dir(&at)?;
            }
            Ok(())
        })?;
        let mut below = self.below.clone();
        below.extend(path);
        Ok(Dir::new(Arc::clone(&self.anchor), below))
    }

    /// Opens a directory in this one, not through a link. It is found again when it is renamed.
    pub(crate) fn open_child(&self, name: &OsStr) -> io::Result<Dir> {
        let path = self.at(name)?;
        let stat = stat_dir(&path)?;
        Ok(Dir::new(Anchor::new(path, Some(stat)), PathBuf::new()))
    }

    /// Creates a file under a name that nothing has. It is locked from the start.
    pub(crate) fn create_new(&self, name: &OsStr, _mode: u32) -> io::Result<File> {
        new_file(self.at(name)?)
    }

    pub(crate) fn mkdir(&self, name: &OsStr, _mode: u32) -> io::Result<()> {
        let path = self.at(name)?;
        patiently(|| or_removed(&path, fs::create_dir(&path)))
    }

    /// Renames into another directory, replacing what is at `to`.
    pub(crate) fn rename_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        rename(&self.at(from)?, &to_dir.at(to)?, to_dir.patience)
    }

    /// Renames a directory, unless something is at `to`. Files are refused: a second name does the same for
    /// them, and a rename would replace.
    pub(crate) fn rename_new_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        let (from, to) = (self.at(from)?, to_dir.at(to)?);
        if stat_path(&from)?.kind != Kind::Dir {
            return Err(io::ErrorKind::Unsupported.into());
        }
        match stat_path(&to) {
            Err(e) if is_not_found(&e) => rename(&from, &to, to_dir.patience),
            found => found.and(Err(io::ErrorKind::AlreadyExists.into())),
        }
    }

    /// A second name for a file, in another directory.
    pub(crate) fn link_into(&self, from: &OsStr, to_dir: &Dir, to: &OsStr) -> io::Result<()> {
        let (from, to) = (self.at(from)?, to_dir.at(to)?);
        within(to_dir.patience, || or_removed(&to, fs::hard_link(&from, &to)))
    }

    pub(crate) fn unlink(&self, name: &OsStr) -> io::Result<()> {
        remove(&self.at(name)?)
    }

    pub(crate) fn rmdir(&self, name: &OsStr) -> io::Result<()> {
        let path = self.at(name)?;
        patiently(|| or_removed(&path, fs::remove_dir(&path)))
    }

    /// Nobody promises that any directory is durable on Windows.
    pub(crate) fn without_dir_sync(self) -> Dir {
        self
    }

    /// No directory can be synced.
    pub(crate) fn can_be_synced(&self) -> bool {
        false
    }

    /// Windows has no call that syncs a directory.
    pub(crate) fn sync_names(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// The names in this directory, in the order the system gives them, and what each is.
    pub(crate) fn entries(&self) -> io::Result<impl Iterator<Item = io::Result<(OsString, Option<Kind>)>>> {
        let entries: Vec<_> = self.steadily(|path| Ok(patiently(|| fs::read_dir(path))?.collect()))?;
        Ok(entries.into_iter().map(|entry: io::Result<fs::DirEntry>| {
            let entry = entry?;
            let kind = entry.file_type().ok().map(|found| match found {
                found if found.is_symlink() => Kind::Symlink,
                found if found.is_dir() => Kind::Dir,
                _ => Kind::File,
            });
            Ok((entry.file_name(), kind))
        }))
    }

    /// The question whether the caller may create names can't be asked; the attempt tells.
    pub(crate) fn may_change(&self) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn set_mode(&self, _mode: u32) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn add_mode(&self, _name: &OsStr, _bits: u32, _is_private: bool) -> io::Result<()> {
        Ok(())
    }

    /// Two names can't be exchanged here.
    pub(crate) fn may_exchange(&self, _absent: &OsStr, _other: &OsStr) -> bool {
        false
    }

    /// Two names can't be exchanged here.
    pub(crate) fn try_exchange(&self, _from: &OsStr, _to: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
