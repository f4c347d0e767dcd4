//! Owners without a number.
//!
//! In a user namespace a file whose owner has no number there looks as if it belonged to the overflow user
//! (`user_namespaces(7)`). Giving a new file to that user would give it to somebody else: to whoever has the number
//! in the namespace, and in a container that may be the user `nobody`.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::fs::{self, OFlags};

use super::retry;
use crate::sys::unix::open_at;
use crate::sys::{Dir, File, OwnerNames, Stat};

/// The default of `/proc/sys/kernel/overflowuid`, and of `overflowgid`.
const OVERFLOW: u32 = 65534;

/// The content of `/proc/self/uid_map` where every number stands for itself: in the first namespace.
const ALL: [&str; 3] = ["0", "0", "4294967295"];

impl Dir {
    pub(super) fn owner_names_of(&self, name: &OsStr, stat: &Stat) -> OwnerNames {
        let flags = OFlags::RDONLY | OFlags::NOATIME | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        names(stat, || open_at(self.as_fd(), name, flags).is_ok())
    }
}

impl File {
    pub(in crate::sys) fn owner_names(&self, stat: &Stat) -> OwnerNames {
        names(stat, || retry(|| fs::fcntl_setfl(self, OFlags::NOATIME)).is_ok())
    }
}

/// Only who owns a file, or has power over an owner that the namespace knows, may read it with `O_NOATIME`
/// (`inode_owner_or_capable` in the kernel's `fs/inode.c`). Nothing tells as much of a group: what can't be told
/// counts as unnamed, since nobody may gain a right.
fn names(stat: &Stat, can_do_without_atime: impl FnOnce() -> bool) -> OwnerNames {
    if (stat.uid != OVERFLOW && stat.gid != OVERFLOW) || is_first_user_namespace() {
        return OwnerNames::BOTH;
    }
    OwnerNames { uid: stat.uid != OVERFLOW || can_do_without_atime(), gid: stat.gid != OVERFLOW }
}

fn is_first_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map");
    map.is_ok_and(|map| map.split_whitespace().eq(ALL))
}
