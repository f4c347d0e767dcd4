//! Linux's own calls: files without a name, `O_PATH`, `statx`, kinds of file systems.

mod dirty_pages;
mod file_system;
mod inode_flags;
mod journaling;
mod mount_cache;
mod mounted;
mod owner;
mod stat;
mod unnamed;
mod write_back;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{self, Mode, ResolveFlags};
pub(super) use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use super::unix::{
    TO_READ, cannot_reserve, knows_no_such_call, retry, was_renamed_meanwhile, with_stat, would_fail_a_copy,
};
use super::{Dir, File, Stat};

pub(crate) use dirty_pages::dirty_backlog_is_small;
pub(super) use file_system::look_at_volume;
pub(crate) use file_system::{fs_kind, holds_dirs_by_their_locks, shares_locks_of_dirs};
pub(crate) use journaling::*;
pub(crate) use stat::*;
pub(super) use unnamed::proc_path;
pub(crate) use unnamed::{is_known_to_refuse_links, remember_refused_link};

impl Dir {
    /// Opens whatever is at a path for reading. Links are followed as long as they stay beneath
    /// this directory; before Linux 5.6, not at all.
    pub(crate) fn open_within(&self, path: &Path) -> io::Result<(OwnedFd, Stat)> {
        const TRIES: usize = 128;
        let within = ResolveFlags::BENEATH.union(ResolveFlags::NO_MAGICLINKS);
        for _ in 0..TRIES {
            match retry(|| fs::openat2(self, path, TO_READ, Mode::empty(), within)) {
                Err(e) if was_renamed_meanwhile(&e) => {}
                Err(e) if knows_no_such_call(&e) => return self.open_without_links(path),
                opened => return with_stat(opened),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

impl File {
    /// Reserves room for the first `len` bytes, so that writing them can't fail for want of it. The content
    /// and its length stay. Where the file system can't do that, the write tells.
    pub(crate) fn reserve(&self, len: u64) -> io::Result<()> {
        if len == 0 {
            return Ok(());
        }
        let keep = fs::FallocateFlags::KEEP_SIZE;
        match record!(Op::Reserve { file: self, len }, fs::fallocate(self, keep, 0, len)) {
            Err(e) if cannot_reserve(&e) => Ok(()),
            reserved => reserved,
        }
    }

    /// Lets this empty file share the content of another. False where that can't be had.
    pub(crate) fn share_content_of(&self, other: &File) -> io::Result<bool> {
        #[cfg(feature = "crash_testing")]
        if crate::sys::recorder::current().is_some() {
            // The recorder has no word for it.
            return Ok(false);
        }
        match retry(|| fs::ioctl_ficlone(self, other)) {
            Ok(()) => Ok(true),
            Err(e) if would_fail_a_copy(&e) => Err(e),
            Err(_) => Ok(false),
        }
    }
}

/// Is the kernel at least this one?
pub(crate) fn linux_since(major: u32, minor: u32) -> bool {
    static RUNNING: OnceLock<(u32, u32)> = OnceLock::new();
    let running = RUNNING.get_or_init(|| {
        let name = rustix::system::uname();
        let release = name.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    });
    *running >= (major, minor)
}
