//! Platforms on which no journal is relied on.

use std::ffi::OsStr;
use std::io;

use super::{Dir, FsKind, Stat};

/// The file systems that the crate knows more about: none here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Other,
}

/// There is no call that makes a whole file system durable and reports what went wrong.
pub(crate) fn syncfs_reports_errors(_kind: FsKind) -> bool {
    false
}

/// The same.
pub(crate) fn syncs_in_turn(_kind: FsKind) -> bool {
    false
}

/// The same.
pub(crate) fn syncfs_is_enough(_kind: FsKind, _stat: &Stat) -> bool {
    false
}

/// Never asked for, see [`syncfs_reports_errors`].
pub(crate) fn others_are_quiet(_files: usize) -> bool {
    false
}

/// Never asked for, either.
pub(crate) fn sync_file_system(_dir: &Dir) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Dir {
    /// No blocks are known to need it.
    pub(crate) fn hold(&self, _name: &OsStr) -> Option<()> {
        None
    }
}

/// Nothing is known to.
pub(crate) fn frees_blocks_early(_kind: FsKind, _stat: &Stat) -> bool {
    false
}

/// Whatever can't be told counts as no.
pub(crate) fn has_ordered_journal(_kind: FsKind, _stat: &Stat) -> bool {
    false
}
