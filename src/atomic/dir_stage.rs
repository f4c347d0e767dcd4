//! The next version of a directory, on its way: a directory beside the target.
//!
//! A shared lock on its root says that its writer lives, and stays when the root becomes the
//! target: readers share it, and there is no moment in which a version in use is not locked.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::dir_target::Root;
use super::names::{self, Role};
use super::remove::remove_opened;
use super::stage::TRIES;
use crate::sys::{Dir, Lock};

/// Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct TreeStage {
    parent: Arc<Dir>,
    /// Empty once it is not ours any more.
    name: OsString,
    pub(crate) root: Root,
}

impl TreeStage {
    /// The error is `Unsupported` where the file system has no locks.
    pub(crate) fn create(parent: &Arc<Dir>, mode: u32) -> io::Result<TreeStage> {
        names::prepare();
        for _ in 0..TRIES {
            let name = names::fresh(Role::Tree);
            match parent.mkdir(&name, mode) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            match locked(parent, &name) {
                Ok(Some(root)) => return Ok(TreeStage { parent: Arc::clone(parent), name, root }),
                // A recovery that runs right now takes it for an orphan, and may only look at it.
                Ok(None) => drop(parent.rmdir(&name)),
                Err(e) => {
                    let _ = parent.rmdir(&name);
                    return Err(e);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// Removes it now.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        let name = std::mem::take(&mut self.name);
        if name.is_empty() { Ok(()) } else { remove_opened(&self.parent, &name, &self.root.dir) }
    }

    /// It is the target now, or nobody knows. The name that it had.
    pub(crate) fn leave(&mut self) -> OsString {
        std::mem::take(&mut self.name)
    }
}

impl Drop for TreeStage {
    fn drop(&mut self) {
        if !self.root.is_forked() {
            // An error here is one more on the way out of another; recovery takes care of the rest.
            let _ = self.remove();
        }
    }
}

fn locked(parent: &Dir, name: &OsStr) -> io::Result<Option<Root>> {
    let dir = match parent.open_child(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match dir.try_lock_shared()? {
        Lock::Held => {}
        Lock::Elsewhere => return Ok(None),
        Lock::Unsupported => return Err(io::ErrorKind::Unsupported.into()),
    }
    let stat = dir.stat()?;
    let still_there = parent.stat_at(name).is_ok_and(|now| now.id == stat.id);
    Ok(still_there.then(|| Root::new(dir, stat)))
}
