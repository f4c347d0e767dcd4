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
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::super::{FileId, FsKind, Kind, Stat};
use super::errors::{is_denied, is_in_use, link_in_the_way};
use super::wait::{or_removed, set_read_only};
use super::{Dir, Existing, Lock, Share, open, volume};
use crate::atomic::names::role_of;

/// An open regular file, or a directory as something that has metadata.
#[derive(Debug)]
pub(crate) struct File {
    /// Where it was opened.
    path: PathBuf,
    id: FileId,
    handle: Mutex<Handle>,
}

#[derive(Debug)]
struct Handle {
    /// None only after the file went while it was opened anew.
    file: Option<fs::File>,
    access: Access,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    /// In nobody's way.
    Read,
    /// In the way of those who take a lock.
    Write,
    Locked(Share),
}

impl Handle {
    fn get(&self) -> io::Result<&fs::File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn can_write(&self) -> bool {
        matches!(self.access, Access::Write | Access::Locked(Share::Exclusive))
    }
}

impl File {
    fn new(path: PathBuf, file: fs::File, access: Access, id: FileId) -> File {
        File { path, id, handle: Mutex::new(Handle { file: Some(file), access }) }
    }

    /// It is locked from the start.
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

    fn handle(&self) -> MutexGuard<'_, Handle> {
        self.handle.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        open::stat(self.handle().get()?)
    }

    pub(crate) fn existing(&self) -> io::Result<Existing> {
        Ok(Existing { stat: self.stat()?, xattrs: Vec::new() })
    }

    /// One write; may be short.
    pub(crate) fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        self.handle().get()?.seek_write(data, offset)
    }

    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.handle().get()?.seek_read(into, offset)
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
        let mut permissions = file.metadata()?.permissions();
        permissions.set_readonly(mode & 0o200 == 0);
        file.set_permissions(permissions)
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
        let found = self.handle().get()?.metadata()?;
        Ok(fs::FileTimes::new().set_accessed(found.accessed()?).set_modified(found.modified()?))
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

    /// There is no call that starts the writing of a range.
    pub(crate) fn begin_write_out(&self) {}

    /// Nothing to wait for.
    pub(crate) fn write_out(&self, _offset: u64, _len: u64, _wait: bool) -> io::Result<()> {
        Ok(())
    }

    /// Only a sync waits for everything. A file that may not be written to is left alone.
    pub(crate) fn written_out(&self) -> io::Result<()> {
        match self.sync() {
            Err(e) if is_denied(&e) || is_in_use(&e) => Ok(()),
            synced => synced,
        }
    }

    /// Takes the exclusive lock that belongs to this open file, without waiting.
    pub(crate) fn try_lock(&self) -> io::Result<Lock> {
        self.try_lock_as(Share::Exclusive)
    }

    /// Takes the lock that belongs to this open file, without waiting.
    pub(crate) fn try_lock_as(&self, share: Share) -> io::Result<Lock> {
        let mut handle = self.handle();
        if handle.access == Access::Locked(share) {
            return Ok(Lock::Held);
        }
        if handle.access != Access::Read {
            // It would be in its own way.
            handle.file = None;
        }
        let opened = match self.open_as(share) {
            Err(e) if is_denied(&e) && self.make_writable().is_ok() => self.open_as(share),
            opened => opened,
        };
        match opened.and_then(|file| Ok((open::stat(&file)?.id, file))) {
            Ok((id, file)) if id == self.id => {
                *handle = Handle { file: Some(file), access: Access::Locked(share) };
                Ok(Lock::Held)
            }
            // Its name is gone, or another file's: whoever took its lock looks for that.
            Ok(_) => self.free(&mut handle).map(|()| Lock::Held),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Lock::Held),
            Err(e) if is_in_use(&e) => self.free(&mut handle).map(|()| Lock::Elsewhere),
            Err(e) => self.free(&mut handle).and(Err(e)),
        }
    }

    fn open_as(&self, share: Share) -> io::Result<fs::File> {
        let opened = match share {
            Share::Exclusive => open::exclusively(&self.path),
            Share::Shared => open::shared(&self.path),
        };
        or_removed(&self.path, opened)
    }

    /// What a crash left may be marked read-only.
    fn make_writable(&self) -> io::Result<()> {
        match self.path.file_name().and_then(role_of) {
            Some(_) => set_read_only(&self.path, false),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    /// Opens it anew without a lock, unless it is open so.
    fn free(&self, handle: &mut Handle) -> io::Result<()> {
        if handle.file.is_none() || handle.access != Access::Read {
            *handle = Handle { file: None, access: Access::Read };
            match open::to_read(&self.path) {
                Ok(file) if open::stat(&file)?.id == self.id => handle.file = Some(file),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The same, and waits for it. There is no call that does: it looks again and again.
    pub(crate) fn wait_for_lock(&self, share: Share) -> io::Result<Lock> {
        const PAUSE: Duration = Duration::from_millis(10);
        loop {
            match self.try_lock_as(share)? {
                Lock::Elsewhere => std::thread::sleep(PAUSE),
                lock => return Ok(lock),
            }
        }
    }

    /// Gives up the lock of this open file.
    pub(crate) fn unlock(&self) -> io::Result<()> {
        self.free(&mut self.handle())
    }

    /// Can this unnamed file be given a name? There is none.
    pub(crate) fn can_be_linked(&self, _dir: &Dir) -> bool {
        false
    }

    pub(crate) fn link_as(&self, _dir: &Dir, _name: &std::ffi::OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Blocks are not shared here.
    pub(crate) fn share_content_of(&self, _other: &File) -> io::Result<bool> {
        Ok(false)
    }

    pub(crate) fn fs_kind(&self, _stat: &Stat) -> io::Result<FsKind> {
        Ok(volume::kind_of(&self.path))
    }
}
