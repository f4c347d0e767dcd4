//! Does anybody read a part of a tree?
//!
//! A reader holds a shared lock on the directory that it reads, which need not be the top of the version that is
//! about to be deleted. Who holds one after this was asked has made sure that its path still leads there
//! (`DirSnapshot::open`), and so hasn't.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::{self, Dir, Kind, Lock};

/// By so many bytes of a path is a directory looked for; what lies deeper is looked for from there. So no path gets
/// as long as one that Linux refuses (4096), and for so many bytes only one directory is held open.
const FAR: usize = 2048;

/// Locks a version that is to be deleted against readers. `Elsewhere`, and not locked, if somebody reads it or a part of it.
pub(crate) fn lock_unless_read(tree: &Dir) -> io::Result<Lock> {
    match tree.try_lock()? {
        Lock::Held if is_read_inside(tree)? => {
            tree.unlock()?;
            Ok(Lock::Elsewhere)
        }
        tried => Ok(tried),
    }
}

/// Is a directory inside `tree` locked? The top itself is the caller's affair.
pub(crate) fn is_read_inside(tree: &Dir) -> io::Result<bool> {
    Ok(look_inside(tree)? == Readers::One)
}

#[derive(PartialEq, Eq)]
enum Readers {
    One,
    Nobody,
    /// There are no locks here, so that nobody holds one.
    NoLocks,
}

/// Paths wait for their turn instead of open directories, of which a wide tree would take too many.
fn look_inside(base: &Dir) -> io::Result<Readers> {
    let mut pending = folders(base, Path::new(""))?;
    while let Some(path) = pending.pop() {
        let dir = match base.open_beneath(&path) {
            Err(e) if sys::is_gone(&e) || sys::is_forbidden(&e) => continue,
            opened => opened?,
        };
        match dir.try_lock()? {
            Lock::Elsewhere => return Ok(Readers::One),
            Lock::Held => dir.unlock()?,
            Lock::Unsupported => return Ok(Readers::NoLocks),
        }
        if path.as_os_str().len() <= FAR {
            pending.append(&mut folders(&dir, &path)?);
            continue;
        }
        match look_inside(&dir)? {
            Readers::Nobody => {}
            found => return Ok(found),
        }
    }
    Ok(Readers::Nobody)
}

/// The paths of what may be a directory in this one, whose own path is `path`.
fn folders(dir: &Dir, path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in dir.entries()? {
        let (name, kind) = entry?;
        // The kind is unknown where the file system doesn't tell it with the name.
        if kind.is_none_or(|kind| kind == Kind::Dir) {
            found.push(path.join(name));
        }
    }
    Ok(found)
}
