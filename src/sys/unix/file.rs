//! Open regular files: content, permissions, attributes, syncs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, Gid, Uid};

use super::{mode_of, retry};
use crate::sys::{FsKind, Stat, fs_kind, stat_fd, sync_fd};

/// An open regular file.
#[derive(Debug)]
pub(crate) struct File {
    pub(in crate::sys) fd: OwnedFd,
}

impl File {
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        stat_fd(self.fd.as_fd())
    }

    /// [`fs_kind`] of this file.
    pub(crate) fn fs_kind(&self, stat: &Stat) -> io::Result<FsKind> {
        fs_kind(self, stat)
    }

    /// Makes one write, which may be short.
    pub(crate) fn write_at(&self, data: &[u8], offset: u64) -> io::Result<usize> {
        record!(Op::Write { file: self, offset, data }, rustix::io::pwrite(&self.fd, data, offset))
    }

    pub(crate) fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        retry(|| rustix::io::pread(&self.fd, &mut *into, offset))
    }

    pub(crate) fn set_mode(&self, mode: u32) -> io::Result<()> {
        record!(Op::SetMode { file: self, mode }, fs::fchmod(&self.fd, mode_of(mode)))
    }

    pub(crate) fn set_owner(&self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        let (owner, group) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        record!(Op::SetOwner { file: self, uid, gid }, fs::fchown(&self.fd, owner, group))
    }

    pub(crate) fn truncate(&self, len: u64) -> io::Result<()> {
        record!(Op::Truncate { file: self, len }, fs::ftruncate(self, len))
    }

    /// A second handle of the same open file, which keeps its content when the first one is closed.
    pub(crate) fn duplicate(&self) -> io::Result<File> {
        Ok(File { fd: self.fd.try_clone()? })
    }

    /// Every open file can be synced.
    pub(crate) fn can_be_synced(&self) -> bool {
        true
    }

    /// Makes content and metadata durable. Never called twice for the data of one save: after a
    /// failure the kernel may have dropped the dirty pages, and a second call would say `Ok`.
    pub(crate) fn sync(&self) -> io::Result<()> {
        record!(Op::SyncFile { file: self }, sync_fd(self.fd.as_fd()))
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
