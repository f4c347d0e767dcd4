//! Files, and locks on them by modes of sharing.
//!
//! Who holds the exclusive lock has the file open for writing and lets nobody else write; who holds a
//! shared one lets nobody write either. Others may read, as long as they don't mind that it is
//! being written. To change its lock a file is opened anew, and must be the same one then.

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::windows::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::errors::{is_denied, is_in_use, link_in_the_way};
use super::wait::mark_read_only;
use super::{open, volume};
use crate::sys::{FileId, FsKind, Kind, Share, Stat, TargetMeta};

/// An open regular file, or a directory as something that has metadata.
#[derive(Debug)]
pub(crate) struct File {
    /// Where it was opened.
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    handle: Mutex<Handle>,
}

#[derive(Debug)]
pub(super) struct Handle {
    /// The handle; none only after the file went while it was opened anew.
    pub(super) file: Option<Arc<fs::File>>,
    pub(super) access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// In nobody's way.
    Read,
    /// In the way of those who take a lock.
    Write,
    Locked(Share),
}

impl Handle {
    pub(super) fn get(&self) -> io::Result<&fs::File> {
        self.file.as_deref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn can_write(&self) -> bool {
        matches!(self.access, Access::Write | Access::Locked(Share::Exclusive))
    }
}

impl File {
    fn new(path: PathBuf, file: fs::File, access: Access, id: FileId) -> File {
        File { path, id, handle: Mutex::new(Handle { file: Some(Arc::new(file)), access }) }
    }

    /// A file that was just created, and is locked from the start.
    pub(super) fn created(path: PathBuf, file: fs::File) -> io::Result<File> {
        let id = open::stat(&file)?.id;
        Ok(File::new(path, file, Access::Locked(Share::Exclusive), id))
    }

    pub(super) fn opened(path: PathBuf, file: fs::File, to_write: bool) -> io::Result<File> {
        let stat = open::stat(&file)?;
        let access = if to_write { Access::Write } else { Access::Read };
        match stat.kind {
            Kind::Symlink => Err(link_in_the_way()),
            _ => Ok(File::new(path, file, access, stat.id)),
        }
    }

    /// A directory, for its metadata.
    pub(super) fn described(path: PathBuf) -> io::Result<File> {
        let handle = match open::to_describe(&path) {
            Err(e) if is_denied(&e) => open::to_inspect(&path)?,
            opened => opened?,
        };
        let id = open::stat(&handle)?.id;
        Ok(File::new(path, handle, Access::Read, id))
    }

    pub(super) fn handle(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    /// The handle that is open now. Whoever keeps it is in the way of opening the file anew, and so of locks.
    pub(crate) fn shared_handle(&self) -> io::Result<Arc<fs::File>> {
        self.handle().file.clone().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        open::stat(self.handle().get()?)
    }

    pub(crate) fn existing(&self) -> io::Result<TargetMeta> {
        Ok(TargetMeta::of(self.stat()?))
    }

    /// Makes one write, which may be short.
    pub(crate) fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        self.handle().get()?.seek_write(data, offset)
    }

    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.handle().get()?.seek_read(into, offset)
    }

    /// A handle with a lock can't be shared; nobody asks for it.
    pub(crate) fn duplicate(&self) -> io::Result<File> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn truncate(&self, len: u64) -> io::Result<()> {
        self.handle().get()?.set_len(len)
    }

    /// The mark that a file is read-only is all there is; on a directory it means something else.
    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        let handle = self.handle();
        let file = handle.get()?;
        if open::stat(file)?.kind != Kind::File {
            return Ok(());
        }
        mark_read_only(file, mode & 0o200 == 0)
    }

    /// All files have one owner here.
    pub(crate) fn set_owner(&self, _uid: Option<u32>, _gid: Option<u32>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn xattr_names(&self) -> io::Result<Vec<CString>> {
        Ok(Vec::new())
    }

    pub(crate) fn xattr(&self, _name: &CString) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn set_xattr(&self, _name: &CString, _value: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn remove_xattr(&self, _name: &CStr) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn set_times(&self, times: fs::FileTimes) -> io::Result<()> {
        self.handle().get()?.set_times(times)
    }

    pub(super) fn times(&self) -> io::Result<fs::FileTimes> {
        open::times(self.handle().get()?)
    }

    /// Can this be made durable? What was opened for reading is opened anew for it.
    pub(crate) fn can_be_synced(&self) -> bool {
        self.handle().can_write() || open::to_write(&self.path).is_ok()
    }

    /// Makes content and metadata durable, which takes the right to write.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let handle = self.handle();
        if handle.can_write() {
            return handle.get()?.sync_all();
        }
        let file = open::to_write(&self.path)?;
        if open::stat(&file)?.id != self.id {
            return Err(io::ErrorKind::NotFound.into());
        }
        file.sync_all()
    }

    /// A sync is the only call that waits for everything. A file that may not be written to is left alone.
    pub(crate) fn written_out(&self) -> io::Result<()> {
        match self.sync() {
            Err(e) if is_denied(&e) || is_in_use(&e) => Ok(()),
            synced => synced,
        }
    }

    pub(crate) fn fs_kind(&self, _stat: &Stat) -> io::Result<FsKind> {
        Ok(volume::kind_of(&self.path))
    }
}
