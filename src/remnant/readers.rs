//! Does anybody read a part of a tree?
//!
//! A reader holds a shared lock on the directory that it reads, which need not be the top of the version that is
//! about to be deleted. Who holds one after this was asked has made sure that its path still leads there
//! (`DirSnapshot::open`), and so hasn't.

use std::io;

use crate::sys::{self, Dir, Kind, Lock};

/// Is a directory inside `tree` locked? The top itself is the caller's affair.
pub(crate) fn is_read_inside(tree: &Dir) -> io::Result<bool> {
    let mut pending = vec![tree.open_at("".as_ref())?];
    while let Some(dir) = pending.pop() {
        for entry in dir.entries()? {
            let (name, kind) = entry?;
            // The kind is unknown where the file system doesn't tell it with the name.
            if kind.is_some_and(|kind| kind != Kind::Dir) {
                continue;
            }
            let child = match dir.open_child(&name) {
                Err(e) if sys::is_gone(&e) || sys::is_forbidden(&e) => continue,
                opened => opened?,
            };
            match child.try_lock()? {
                Lock::Elsewhere => return Ok(true),
                Lock::Held => child.unlock()?,
                Lock::Unsupported => return Ok(false),
            }
            pending.push(child);
        }
    }
    Ok(false)
}
