//! Step 10: the fsync of a directory for the sake of the names in it.
//!
//! Until then a power cut may undo a rename, a link, a new directory or a removal. Every operation that
//! makes a name durable does it here, and only here; `remnant`, which lies below, is the exception. A tidy test says so.

use std::io;

use crate::options::durability::Durability;
use crate::sys::{self, Dir, FsKind, Stat};

/// Makes the names in `parent` durable.
///
/// False where the file system has no way to sync a directory (`EINVAL`, `ENOTSUP`, `EBADF`), or the
/// directory may not be opened for reading: no error, since nothing better can be had there.
pub(crate) fn sync_parent(parent: &Dir) -> io::Result<bool> {
    parent.sync_names()
}

/// The durability that was reached of `asked`, where [`sync_parent`] answered so.
pub(crate) fn reached(asked: Durability, parent_synced: bool) -> Durability {
    if parent_synced { asked } else { asked.min(Durability::Data) }
}

/// Does a save have to sync its parent? `stat` is of any file of the mount that `kind` describes.
pub(crate) fn needs_parent_sync(asked: Durability, kind: FsKind, stat: &Stat) -> bool {
    match asked {
        Durability::None => false,
        // The power cut that undoes the rename must find the old content as it was. Where the blocks of
        // the replaced file have a new owner by then, the old name would hold that one's data.
        Durability::Data => sys::frees_blocks_early(kind, stat),
        Durability::Full => true,
    }
}
