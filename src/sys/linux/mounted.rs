//! Is something mounted there? Where `statx` doesn't tell (before Linux 5.8, or in a sandbox that forbids it), the
//! mount of what stands at a name is compared with that of its directory.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use crate::sys::{Dir, Kind, Stat};

impl Dir {
    /// Is this directory, which was opened in `parent` and that `stat` is of, the top of something that is mounted there?
    pub(crate) fn is_mounted_in(&self, stat: &Stat, parent: &Dir) -> io::Result<bool> {
        is_mounted(self.as_fd(), stat, parent)
    }

    /// Is something mounted on a name?
    pub(crate) fn is_mount_point(&self, name: &OsStr) -> io::Result<bool> {
        let found = self.stat_at(name)?;
        if found.tells_mount_root {
            return Ok(found.mount_root);
        }
        match self.pin(name) {
            Some(pinned) => is_mounted(pinned.as_fd(), &found, self),
            None => is_of_another_device(&found, self),
        }
    }
}

fn is_mounted(fd: BorrowedFd<'_>, stat: &Stat, parent: &Dir) -> io::Result<bool> {
    if stat.tells_mount_root {
        return Ok(stat.mount_root);
    }
    match (mount_of(fd), mount_of(parent.as_fd())) {
        (Some(own), Some(around)) => Ok(own != around),
        _ => is_of_another_device(stat, parent),
    }
}

/// The mount that a descriptor was opened on, for as long as it is mounted. None without `/proc`.
fn mount_of(fd: BorrowedFd<'_>) -> Option<u64> {
    let told = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    told.lines().find_map(|line| line.strip_prefix("mnt_id:")).and_then(|id| id.trim().parse().ok())
}

/// A directory that is mounted from the same file system is not known by this, and a subvolume of btrfs looks mounted. A file may
/// be of another device than its directory (on an overlay), and is not deleted if something is mounted on it.
fn is_of_another_device(stat: &Stat, parent: &Dir) -> io::Result<bool> {
    Ok(stat.kind == Kind::Dir && stat.id.dev != parent.stat()?.id.dev)
}
