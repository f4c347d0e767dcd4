//! Deleting a tree of ours, without following links and with few open descriptors.

use std::ffi::OsStr;
use std::io;

use super::names::{self, Role};
use crate::sys::{Dir, Kind, is_forbidden};

/// So deep are directories held open; what lies deeper is moved up first.
const DEPTH: usize = 24;

/// Deletes the directory `name` and everything in it. What is gone already is no error.
pub(crate) fn remove_tree(parent: &Dir, name: &OsStr) -> io::Result<()> {
    let top = match open_writable(parent, name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    // Each pass may move deep directories up to the top, for the next one.
    while empty(&top, &top, 0)? {}
    gone(parent.rmdir(name))
}

/// Empties a directory. True if something was moved to the top meanwhile.
fn empty(dir: &Dir, top: &Dir, depth: usize) -> io::Result<bool> {
    let mut moved = false;
    // All names first: removing entries while listing may make the system skip some.
    let entries = dir.entries()?.collect::<io::Result<Vec<_>>>()?;
    for (name, kind) in entries {
        let kind = kind.map_or_else(|| dir.stat_at(&name).map(|stat| stat.kind), Ok)?;
        if kind != Kind::Dir {
            gone(dir.unlink(&name))?;
        } else if depth == DEPTH {
            gone(dir.rename_into(&name, top, &names::fresh(Role::StageDir)))?;
            moved = true;
        } else {
            moved |= empty(&open_writable(dir, &name)?, top, depth + 1)?;
            gone(dir.rmdir(&name))?;
        }
    }
    Ok(moved)
}

/// Opens a directory and makes sure that its owner may change it.
fn open_writable(parent: &Dir, name: &OsStr) -> io::Result<Dir> {
    const OWNER: u32 = 0o700;
    let dir = match parent.open_child(name) {
        Err(e) if is_forbidden(&e) => {
            parent.add_mode(name, OWNER)?;
            parent.open_child(name)?
        }
        opened => opened?,
    };
    let stat = dir.stat()?;
    if stat.mount_root {
        // What is in it belongs elsewhere.
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    if stat.mode & OWNER != OWNER {
        dir.set_mode(stat.mode | OWNER)?;
    }
    Ok(dir)
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
