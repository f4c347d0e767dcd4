//! A private directory beside the targets of a set, in which their new content is staged.
//!
//! A set of thousands of files can't keep each of them open, so their names have to say whose
//! they are: one lock on the directory, held until the end, stands for all of them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::names::{self, Role};
use super::remove::remove_tree;
use super::stage::TRIES;
use crate::sys::{Dir, File, Lock};

#[derive(Debug)]
pub(crate) struct StageDir {
    parent: Arc<Dir>,
    name: OsString,
    /// Open and locked.
    dir: Dir,
    next: u64,
}

impl StageDir {
    pub(crate) fn create(parent: &Arc<Dir>) -> io::Result<StageDir> {
        for _ in 0..TRIES {
            let name = names::fresh(Role::StageDir);
            match parent.mkdir(&name, 0o700) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // None if a recovery that runs right now took it for an orphan.
            match locked(parent, &name) {
                Ok(Some(dir)) => return Ok(StageDir { parent: Arc::clone(parent), name, dir, next: 0 }),
                Ok(None) => {}
                Err(e) => {
                    let _ = parent.rmdir(&name);
                    return Err(e);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// A name that nothing in it has had.
    pub(crate) fn fresh_name(&mut self) -> OsString {
        self.next += 1;
        OsString::from(self.next.to_string())
    }

    /// Creates a file in it.
    pub(crate) fn create_file(&mut self, mode: u32) -> io::Result<(OsString, File)> {
        let name = self.fresh_name();
        let file = self.dir.create_new(&name, mode)?;
        Ok((name, file))
    }

    pub(crate) fn remove_file(&self, name: &OsStr) -> io::Result<()> {
        self.dir.unlink(name)
    }
}

impl Drop for StageDir {
    fn drop(&mut self) {
        // An error here is one more on the way out of another; recovery takes care of the rest.
        if self.parent.rmdir(&self.name).is_err() {
            let _ = remove_tree(&self.parent, &self.name);
        }
    }
}

fn locked(parent: &Dir, name: &OsStr) -> io::Result<Option<Dir>> {
    let dir = match parent.open_child(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let held = dir.try_lock()? != Lock::Elsewhere && dir.stat()?.nlink > 0;
    Ok(held.then_some(dir))
}
