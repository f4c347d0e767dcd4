//! The file operations that `std::fs` has without durability: directories, renames, removals.
//!
//! Each one is a single step in the directory that holds the name, followed by the sync of that
//! directory. When it returns `Ok`, a power cut does not take it back.

pub(crate) mod create_dir;
pub(crate) mod remove;
pub(crate) mod rename;
pub(crate) mod sync;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::parent_sync::{reached, sync_parent};
use crate::atomic::target::split;
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::failing;
use crate::options::durability::{Committed, Durability};
use crate::sys::{self, Dir, FsKind, Kind, Stat};

/// A name in an open directory. What it leads to has not been looked at.
#[derive(Debug)]
struct Place {
    dir: Arc<Dir>,
    name: OsString,
    /// The path as the caller gave it, for messages.
    path: PathBuf,
    /// The path ends with a slash, so that only a directory will do.
    only_dir: bool,
}

impl Place {
    /// Opens the parent of a path. Links on the way to it are followed, the name itself is not.
    fn open(path: &Path) -> Result<Place> {
        Place::resolve(path, None)
    }

    /// Opens the parent of a path, or takes that of another path if they have the same one.
    fn open_beside(other: &Place, path: &Path) -> Result<Place> {
        Place::resolve(path, Some(other))
    }

    fn resolve(path: &Path, beside: Option<&Place>) -> Result<Place> {
        failing::check(path)?;
        let plain = without_slash(path);
        let (parent, name) = split(plain).map_err(|e| e.with_path(path))?;
        let dir = match beside.filter(|other| without_slash(&other.path).parent() == Some(parent)) {
            Some(other) => Arc::clone(&other.dir),
            None => Arc::new(Dir::open(parent).map_err(|e| Error::io("open the directory of", path, e))?),
        };
        let only_dir = plain.as_os_str() != path.as_os_str();
        Ok(Place { dir, name: name.to_owned(), path: path.to_owned(), only_dir })
    }

    /// Refuses what is no directory where the path ends with a slash, as the system does.
    fn check_slash(&self, operation: &'static str) -> Result<()> {
        if !self.only_dir || self.kind(operation)? == Kind::Dir {
            return Ok(());
        }
        Err(Error::new(ErrorKind::NotADirectory, operation, &self.path).because("the path ends with a slash"))
    }

    fn kind(&self, operation: &'static str) -> Result<Kind> {
        Ok(self.stat(operation)?.kind)
    }

    fn stat(&self, operation: &'static str) -> Result<Stat> {
        self.dir.stat_at(&self.name).map_err(|e| Error::io(operation, &self.path, e))
    }

    /// The error of a call that changed nothing at this name.
    fn refused(&self, operation: &'static str, e: std::io::Error) -> Error {
        Error::refused(operation, &self.path, (&self.dir, &self.name), e)
    }

    /// Makes the names in the directory durable, after they were changed.
    fn sync_parent(&self) -> Result<Committed> {
        let failed = |e| Error::io("sync the directory of", &self.path, e).with_target(TargetState::Replaced);
        let kind = self.dir.fs_kind().map_err(failed)?;
        let synced = sync_parent(&self.dir).map_err(failed)?;
        Ok(committed(synced, kind))
    }
}

/// What the sync of a directory gives.
fn committed(synced: bool, kind: FsKind) -> Committed {
    Committed::new(kind.cap_durability(reached(Durability::Full, synced)))
}

/// The path without the slashes at its end.
fn without_slash(path: &Path) -> &Path {
    let bytes = path.as_os_str().as_encoded_bytes();
    let last = bytes.iter().rposition(|&b| !std::path::is_separator(char::from(b)));
    let kept = last.and_then(|last| sys::name_of_bytes(bytes.get(..=last)?));
    kept.map_or(path, Path::new)
}
