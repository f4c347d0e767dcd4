//! Operations of a directory and of a file that are the same on every platform.

use std::ffi::OsStr;
use std::io;

use crate::sys::{Dir, File, FileId, FsKind, Kind, Lock, Share, is_forbidden, is_gone};

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

    /// The guarantees of its file system.
    pub(crate) fn fs_kind(&self) -> io::Result<FsKind> {
        super::fs_kind(self, &self.stat()?)
    }

    /// Renames within this directory, replacing what is at `to`.
    pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.rename_into(from, self, to)
    }

    /// Renames within this directory unless something is at `to`.
    pub(crate) fn rename_new(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.rename_new_into(from, self, to)
    }

    /// A second name for a file, in this directory.
    pub(crate) fn link(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        self.link_into(from, self, to)
    }

    /// The kind of the entry with this name, as [`entries`](Dir::entries) told it, or asked for where they could not tell.
    pub(crate) fn kind_of(&self, name: &OsStr, listed: Option<Kind>) -> io::Result<Kind> {
        listed.map_or_else(|| Ok(self.stat_at(name)?.kind), Ok)
    }
}

impl File {
    /// Takes the exclusive lock that belongs to this open file, without waiting.
    pub(crate) fn try_lock(&self) -> io::Result<Lock> {
        self.try_lock_as(Share::Exclusive)
    }

    /// Fills the buffer as far as the file goes, and says how far.
    pub(crate) fn read_full(&self, into: &mut [u8], at: u64) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, at + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    /// Writes all of it.
    pub(crate) fn write_full(&self, mut data: &[u8], mut at: u64) -> io::Result<()> {
        while !data.is_empty() {
            match self.write_at(data, at)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => {
                    data = data.get(written..).unwrap_or_default();
                    at += written as u64;
                }
            }
        }
        Ok(())
    }
}
