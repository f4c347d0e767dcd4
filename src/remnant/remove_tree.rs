//! Deleting a tree of ours, without following links and with few open descriptors.

use std::ffi::OsStr;
use std::io;

use crate::names::{self, Role};
use crate::remnant::trust::is_private;
use crate::sys::{Dir, Kind, crosses_devices, is_forbidden};

/// So deep are directories held open; what lies deeper is moved up first, if it can be.
const DEPTH: usize = 24;

/// Deletes the directory `name` and everything in it. What is gone already is no error.
pub(crate) fn remove_tree(parent: &Dir, name: &OsStr) -> io::Result<()> {
    let top = match open_closed(parent, name) {
        Err(e) if crate::sys::is_not_found(&e) => return Ok(()),
        opened => opened?,
    };
    remove_opened(parent, name, &top)
}

/// Removes a tree that is open. If somebody has moved it, or put another one at its name, both stay.
pub(crate) fn remove_opened(parent: &Dir, name: &OsStr, top: &Dir) -> io::Result<()> {
    if !parent.leads_to(name, top.stat()?.id)? {
        return Ok(());
    }
    empty_whole(parent, top, None)?;
    gone(parent.rmdir(name))
}

/// Deletes all but one of the files in a directory that is open and still has its name.
pub(crate) fn empty_but(parent: &Dir, name: &OsStr, top: &Dir, kept: &OsStr) -> io::Result<()> {
    match parent.leads_to(name, top.stat()?.id)? {
        true => empty_whole(parent, top, Some(kept)),
        false => Ok(()),
    }
}

fn empty_whole(parent: &Dir, top: &Dir, kept: Option<&OsStr>) -> io::Result<()> {
    make_writable(parent, top)?;
    // Each pass may move deep directories up to the top, for the next one.
    while empty(top, top, 0, kept)? {}
    Ok(())
}

/// Empties a directory. True if something was moved to the top meanwhile.
fn empty(dir: &Dir, top: &Dir, depth: usize, kept: Option<&OsStr>) -> io::Result<bool> {
    let mut moved = false;
    // All names first: removing entries while listing may make the system skip some.
    let entries = match dir.entries().and_then(|entries| entries.collect::<io::Result<Vec<_>>>()) {
        // It was removed since it was opened.
        Err(e) if crate::sys::is_not_found(&e) => return Ok(moved),
        entries => entries?,
    };
    // Whoever has to go on after a crash needs the file that ties the tree to its name: it goes last.
    let is_tie = |name: &OsStr| depth == 0 && names::role_of(name) == Some(Role::Lock);
    let (ties, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(name, _)| is_tie(name));
    let in_order = others.into_iter().chain(ties);
    for (name, kind) in in_order.filter(|(name, _)| kept != Some(name.as_os_str())) {
        if moved && is_tie(&name) {
            continue;
        }
        if dir.kind_of(&name, kind)? != Kind::Dir {
            gone(dir.unlink(&name))?;
            continue;
        }
        let child = match open_closed(dir, &name) {
            Err(e) if crate::sys::is_not_found(&e) => continue,
            opened => opened?,
        };
        // Also before it is moved: a directory that gets another parent is changed itself.
        make_writable(dir, &child)?;
        if depth == DEPTH {
            match dir.rename_into(&name, top, &names::fresh(Role::StagingDir)) {
                // A directory of an overlay's lower layer can't be moved, nor one out of its subvolume or project. Then
                // more are held open.
                Err(e) if crosses_devices(&e) => {
                    empty_whole(dir, &child, None)?;
                    gone(dir.rmdir(&name))?;
                }
                renamed => {
                    gone(renamed)?;
                    moved = true;
                }
            }
        } else {
            moved |= empty(&child, top, depth + 1, None)?;
            gone(dir.rmdir(&name))?;
        }
    }
    Ok(moved)
}

const OWNER: u32 = 0o700;

/// Opens a directory that is to be removed, even one that its owner may not read.
pub(crate) fn open_closed(parent: &Dir, name: &OsStr) -> io::Result<Dir> {
    match parent.open_child(name) {
        Err(e) if is_forbidden(&e) => {
            parent.add_mode(name, OWNER, is_private(&parent.stat()?))?;
            parent.open_child(name)
        }
        opened => opened,
    }
}

/// Makes sure that its owner may change it.
fn make_writable(parent: &Dir, dir: &Dir) -> io::Result<()> {
    let stat = dir.stat()?;
    if dir.is_mounted_in(&stat, parent)? {
        // What is in it belongs elsewhere.
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    if stat.mode & OWNER != OWNER {
        dir.set_mode(stat.mode | OWNER)?;
    }
    Ok(())
}

fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(e) if crate::sys::is_not_found(&e) => Ok(()),
        removed => removed,
    }
}
