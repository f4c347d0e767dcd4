//! Missing parent directories: made one by one, each durable in its own parent before anything is put
//! into it.
//!
//! Threads and processes that make the same directories at the same time need no lock. A directory that is
//! found there may not be durable yet, but only the deepest can be so, since each is durable before something
//! is made in it. Therefore its parent is synced by everybody who finds it.

use std::io;
use std::path::{Path, PathBuf};

use crate::atomic::parent_sync::sync_parent;
use crate::names::refuse_ours;
use crate::sys::{self, Dir};

/// Opens a directory, and creates it first, with what is missing above it.
pub(crate) fn open_or_create(path: &Path) -> io::Result<Dir> {
    match Dir::open(path) {
        Err(e) if sys::is_not_found(&e) => make_below(Dir::open(Path::new(""))?, path),
        opened => sync_existing(opened?),
    }
}

/// Opens a directory from an open one; with `create`, what is missing in between is created first.
pub(crate) fn open_at(start: &Dir, path: &Path, create: bool) -> io::Result<Dir> {
    match start.open_at(path) {
        Err(e) if create && sys::is_not_found(&e) => make_below(start.open_at(Path::new(""))?, path),
        opened => opened,
    }
}

fn make_below(start: Dir, path: &Path) -> io::Result<Dir> {
    // The longest part that exists is opened at once: ancestors need not be readable.
    let (existing, dir) = longest_existing(&start, path)?;
    let missing = path.strip_prefix(&existing).unwrap_or(path);
    refuse_ours("create the directory", path, missing)?;
    let mut dir = sync_existing(dir)?;
    for name in missing.components() {
        dir = make_one(&dir, Path::new(&name))?;
    }
    Ok(dir)
}

fn longest_existing(start: &Dir, path: &Path) -> io::Result<(PathBuf, Dir)> {
    let mut error = None;
    for ancestor in path.ancestors() {
        match start.open_at(ancestor) {
            Err(e) if sys::is_not_found(&e) => error = Some(e),
            opened => return Ok((ancestor.to_owned(), opened?)),
        }
    }
    Err(error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// Makes the name of an existing directory durable: whoever made it may have been killed before syncing its
/// parent, or be about to sync it.
fn sync_existing(dir: Dir) -> io::Result<Dir> {
    match dir.open_at(Path::new("..")) {
        Ok(parent) => sync_parent(&parent).map(|_| dir),
        // A process that may not even pass through the parent has not made the directory either.
        Err(_) => Ok(dir),
    }
}

fn make_one(parent: &Dir, name: &Path) -> io::Result<Dir> {
    match parent.mkdir(name.as_os_str(), 0o777) {
        // Somebody was quicker, and may not have synced it yet; or the name is `..`.
        Err(e) if sys::already_exists(&e) => {}
        made => made?,
    }
    let is_durable = sync_parent(parent)?;
    let dir = parent.open_at(name)?;
    // Nothing in a directory outlasts the directory's own name.
    Ok(if is_durable { dir } else { dir.without_dir_sync() })
}
