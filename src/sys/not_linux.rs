//! Platforms other than Linux: the calls that they lack, and the journals that nothing is known of.

use std::ffi::OsStr;
use std::io;

use super::{Dir, File, FileId, FsKind, LastingId, OwnerNames, Stat, TargetMeta};

/// There is no call that makes a whole file system durable and reports what went wrong.
pub(crate) fn syncfs_is_reliable(_kind: FsKind, _stat: &Stat) -> bool {
    false
}

/// No file system is known to sync files faster one after the other.
pub(crate) fn syncs_in_turn(_kind: FsKind) -> bool {
    false
}

/// There is no call that could be enough.
pub(crate) fn syncfs_is_enough(_kind: FsKind, _stat: &Stat) -> bool {
    false
}

/// The backlog doesn't matter, for no file system is synced as a whole.
pub(crate) fn dirty_backlog_is_small(_files: usize) -> bool {
    false
}

/// There is no such call, and nobody asks for it after [`syncfs_is_reliable`].
pub(crate) fn sync_file_system(_dir: &Dir) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl TargetMeta {
    /// Attributes are not looked at, nor is what Windows has in their place (security descriptor, encryption, compression,
    /// streams), and so none is known to be kept.
    pub(super) fn of(stat: Stat) -> TargetMeta {
        TargetMeta { stat, xattrs: Vec::new(), is_complete: false, owner_names: OwnerNames::BOTH }
    }
}

impl Dir {
    /// There are no files without a name.
    pub(crate) fn create_unnamed(&self, _mode: u32) -> io::Result<Option<File>> {
        Ok(None)
    }

    /// There is no way to ask for more than the system remembers.
    pub(crate) fn stat_now(&self, name: &OsStr) -> io::Result<Stat> {
        self.stat_at(name)
    }

    /// Is this directory, which was opened in `parent` and that `stat` is of, the top of something that is mounted there?
    pub(crate) fn is_mounted_in(&self, stat: &Stat, parent: &Dir) -> io::Result<bool> {
        Ok(!stat.tells_mount_root && stat.id.dev != parent.stat()?.id.dev)
    }

    /// Is something mounted on a name? On one of a file, its removal tells.
    pub(crate) fn is_mount_point(&self, name: &OsStr) -> io::Result<bool> {
        let found = self.stat_at(name)?;
        let may_be = found.kind == super::Kind::Dir && !found.tells_mount_root;
        Ok(may_be && found.id.dev != self.stat()?.id.dev)
    }

    /// Nothing of the kind is known there.
    #[cfg(unix)]
    pub(crate) fn nature(&self) -> io::Result<super::DirNature> {
        Ok(super::DirNature::default())
    }

    /// Windows has the opposite flag, and macOS none.
    pub(crate) fn has_casefold_flag(&self) -> bool {
        false
    }

    /// There are no such flags.
    pub(crate) fn keep_flags_of(&self, _other: &Dir) -> bool {
        true
    }

    /// No file's blocks are known to need holding.
    pub(crate) fn pin(&self, _name: &OsStr) -> Option<()> {
        None
    }

    /// Looks at what has this name, as far as it can be looked at there.
    #[cfg(not(target_vendor = "apple"))]
    pub(crate) fn lookup(&self, name: &OsStr, _with_xattrs: bool) -> io::Result<TargetMeta> {
        Ok(TargetMeta::of(self.stat_at(name)?))
    }

    /// As [`Dir::lookup`]. The handle is none. On macOS none is needed: no file system there gives the blocks
    /// of a replaced file away early. On Windows it would be in the way of the rename.
    pub(crate) fn lookup_pinned(
        &self,
        name: &OsStr,
        with_xattrs: bool,
    ) -> io::Result<(TargetMeta, Option<File>)> {
        Ok((self.lookup(name, with_xattrs)?, None))
    }
}

impl File {
    /// There is no unnamed file to be linked.
    pub(crate) fn link_as(&self, _dir: &Dir, _name: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// No room can be reserved: a full disk is told by the write.
    pub(crate) fn reserve(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    /// There is no call that starts the writing of a range.
    pub(crate) fn begin_write_out(&self) {}

    /// There is nothing to wait for: no writing was started.
    pub(crate) fn write_out(&self, _offset: u64, _len: u64, _wait: bool) -> io::Result<()> {
        Ok(())
    }

    /// An empty file can't share the content of another. On macOS only a new file can, by `fclonefileat`.
    pub(crate) fn share_content_of(&self, _other: &File) -> io::Result<bool> {
        Ok(false)
    }
}

/// The number of a file that it still has after a crash.
pub(crate) fn lasting_ino(id: FileId) -> u64 {
    id.ino
}

/// NTFS and APFS give no number twice, but UFS does. A time of creation would tell less: NTFS gives a new file the time
/// of one that had its name until a moment ago, and APFS moves it when an older time of change is set.
pub(crate) fn lasting_id(file: &File) -> io::Result<LastingId> {
    Ok(LastingId { ino: lasting_ino(file.stat()?.id), born: 0 })
}

/// No mount refuses links of unnamed files, for there are none.
pub(crate) fn is_known_to_refuse_links(_stat: &Stat) -> bool {
    true
}

/// There is nothing to remember: [`is_known_to_refuse_links`] knows it already.
pub(crate) fn remember_refused_link(_stat: &Stat) {}

/// No file system is known to give blocks away early.
pub(crate) fn may_free_blocks_early(_kind: FsKind) -> bool {
    false
}

/// No file system is known to give blocks away before the rename is durable.
pub(crate) fn frees_blocks_early(_kind: FsKind, _stat: &Stat) -> bool {
    false
}

/// No journal is known to be totally ordered.
pub(crate) fn has_ordered_journal(_kind: FsKind, _stat: &Stat) -> bool {
    false
}

/// On Windows it is a file; macOS has local disks mostly, and no way to tell for the others.
pub(crate) fn shares_locks_of_dirs(_dir: &crate::sys::Dir) -> bool {
    true
}

/// Windows locks a directory by another handle, and macOS was not tried.
pub(crate) fn holds_dirs_by_their_locks(_dir: &Dir) -> bool {
    false
}
