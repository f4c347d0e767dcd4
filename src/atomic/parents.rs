//! Missing parent directories: made one by one, each durable in its own parent before anything
//! is put into it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::sys::Dir;

/// Held while directories are made and synced, so that another thread that finds them there can
/// rely on them.
static MAKING: Mutex<()> = Mutex::new(());

pub(crate) fn open_or_create(path: &Path) -> io::Result<Dir> {
    let _making = MAKING.lock().unwrap_or_else(|broken| broken.into_inner());
    match Dir::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => make_below(Dir::open(Path::new(""))?, path),
        opened => settle(opened?),
    }
}

/// The same below an open directory.
pub(crate) fn create(below: &Dir, path: &Path) -> io::Result<Dir> {
    let _making = MAKING.lock().unwrap_or_else(|broken| broken.into_inner());
    make_below(below.open_at(Path::new(""))?, path)
}

fn make_below(start: Dir, path: &Path) -> io::Result<Dir> {
    // The longest part that exists is opened at once: ancestors need not be readable.
    let (existing, dir) = longest_existing(&start, path)?;
    let mut dir = settle(dir)?;
    let missing = path.strip_prefix(&existing).unwrap_or(path);
    for name in missing.components() {
        dir = make_one(&dir, Path::new(&name))?;
    }
    Ok(dir)
}

fn longest_existing(start: &Dir, path: &Path) -> io::Result<(PathBuf, Dir)> {
    let mut error = None;
    for ancestor in path.ancestors() {
        match start.open_at(ancestor) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => error = Some(e),
            opened => return Ok((ancestor.to_owned(), opened?)),
        }
    }
    Err(error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
}

/// A process may have been killed between making this directory and syncing its parent. Only
/// the deepest one can be in that state: each is durable before something is made in it.
fn settle(dir: Dir) -> io::Result<Dir> {
    match dir.open_at(Path::new("..")) {
        Ok(parent) => parent.sync().map(|_| dir),
        // Who may not even pass through it has not made it either.
        Err(_) => Ok(dir),
    }
}

fn make_one(parent: &Dir, name: &Path) -> io::Result<Dir> {
    match parent.mkdir(name.as_os_str(), 0o777) {
        // Somebody was quicker, and may not have synced it yet; or it is `..`.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let is_durable = parent.sync()?;
    let dir = parent.open_at(name)?;
    // Nothing in a directory outlasts the directory's own name.
    Ok(if is_durable { dir } else { dir.never_durable() })
}
