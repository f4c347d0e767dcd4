//! A private directory beside the targets of a set, in which their new content is staged.
//!
//! A set of thousands of files can't keep each of them open, so their names have to say whose
//! they are: one lock on the directory, held until the end, stands for all of them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::names::{self, Role};
use super::remove::remove_opened;
use super::stage::TRIES;
use crate::sys::{Dir, File, Lock};

#[derive(Debug)]
pub(crate) struct StageDir {
    parent: Arc<Dir>,
    name: OsString,
    /// Open and locked.
    dir: Dir,
    next: u64,
    /// Not to be removed any more.
    left: bool,
}

impl StageDir {
    pub(crate) fn create(parent: &Arc<Dir>, role: Role) -> io::Result<StageDir> {
        names::prepare();
        for _ in 0..TRIES {
            let name = names::fresh(role);
            match parent.mkdir(&name, 0o700) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // None if a recovery that runs right now took it for an orphan.
            match locked(parent, &name) {
                Ok(Some(dir)) => {
                    return Ok(StageDir { parent: Arc::clone(parent), name, dir, next: 0, left: false });
                }
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

    /// Its name in its parent.
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The number of a file that it has never had.
    pub(crate) fn fresh_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Creates a file in it.
    pub(crate) fn create_file(&mut self, mode: u32) -> io::Result<(u64, File)> {
        let number = self.fresh_number();
        let file = self.dir.create_new(&name_of(number), mode)?;
        Ok((number, file))
    }

    /// Removes it with everything in it, whether it was to stay or not.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        self.left = true;
        remove_opened(&self.parent, &self.name, &self.dir)
    }

    /// Whether it stays when this is dropped, for recovery: what happened to its files isn't known, or
    /// they are needed.
    pub(crate) fn leave(&mut self, yes: bool) {
        self.left = yes;
    }
}

/// The name of a staged file. Padded, because ext4 compares a name with every other one in the same
/// block of a directory: the fewer fit in there, the cheaper is each step.
pub(crate) fn name_of(number: u64) -> OsString {
    OsString::from(format!("{number:0>48}"))
}

impl Drop for StageDir {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        // An error here is one more on the way out of another; recovery takes care of the rest.
        if self.parent.rmdir(&self.name).is_err() {
            let _ = remove_opened(&self.parent, &self.name, &self.dir);
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
