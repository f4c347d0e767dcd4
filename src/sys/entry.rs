//! What a name in a directory leads to, asked in the same way on every platform.

use std::ffi::OsStr;
use std::io;

use crate::sys::{Dir, File, FileId, is_forbidden, is_gone};

/// Returns `None` for what isn't there, or is something else than what was looked for.
pub(crate) fn absent<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(e) if is_gone(&e) => Ok(None),
        found => found.map(Some),
    }
}

impl Dir {
    /// Does the name still lead to this inode? Whoever opened or locked a file asks, since the name may lead to another
    /// one by then, or to nothing.
    pub(crate) fn leads_to(&self, name: &OsStr, id: FileId) -> io::Result<bool> {
        Ok(absent(self.stat_at(name))?.is_some_and(|found| found.id == id))
    }

    /// Do two looks at the name find two inodes? Where they always do, nobody can tell what a name leads to.
    pub(crate) fn is_changing_inodes(&self, name: &OsStr) -> io::Result<bool> {
        let [one, other] =
            [(); 2].map(|()| absent(self.stat_at(name)).map(|found| found.map(|found| found.id)));
        Ok(one? != other?)
    }

    /// Opens a file in order to lock it. Where it may not be written to, a descriptor that can only read will do, except
    /// over NFS.
    pub(crate) fn open_to_lock_or_read(&self, name: &OsStr) -> io::Result<File> {
        match self.open_file_to_lock(name) {
            Err(e) if is_forbidden(&e) => self.open_file(name),
            opened => opened,
        }
    }
}
