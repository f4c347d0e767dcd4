//! Does anybody read a part of a tree?
//!
//! A reader holds a shared lock on the directory that it reads, which need not be the top of the version that is
//! about to be deleted. Who holds one after this was asked has made sure that its path still leads there
//! (`DirSnapshot::open`), and so hasn't.

use std::io;

use crate::remnant::below::visit_dirs;
use crate::sys::{Dir, Lock};

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
    let found = visit_dirs(tree, &|dir, _| match dir.try_lock()? {
        Lock::Elsewhere => Ok(Some(true)),
        Lock::Held => dir.unlock().map(|()| None),
        // There are no locks here, so that nobody holds one.
        Lock::Unsupported => Ok(Some(false)),
    });
    Ok(found?.unwrap_or(false))
}
