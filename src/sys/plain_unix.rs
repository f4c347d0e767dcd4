//! Every other Unix: only calls that all of them have. There are no files without a name, no attributes, and no way
//! to exchange two names or to rename without replacing; a link and two renames stand in for these.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;

use super::{Dir, Family, File, FsKind, Stat};

impl File {
    pub(crate) fn xattr_names(&self) -> io::Result<Vec<CString>> {
        Ok(Vec::new())
    }

    pub(crate) fn xattr(&self, _name: &CString) -> io::Result<Vec<u8>> {
        Err(Errno::NOTSUP.into())
    }

    pub(crate) fn set_xattr(&self, _name: &CString, _value: &[u8]) -> io::Result<()> {
        Err(Errno::NOTSUP.into())
    }

    pub(crate) fn remove_xattr(&self, _name: &CStr) -> io::Result<()> {
        Err(Errno::NOTSUP.into())
    }
}

/// How a rename treats what has the new name.
pub(super) struct RenameFlags;

impl RenameFlags {
    pub(super) const NOREPLACE: RenameFlags = RenameFlags;
    pub(super) const EXCHANGE: RenameFlags = RenameFlags;
}

pub(super) fn renameat_with(
    _from_dir: &Dir,
    _from: &OsStr,
    _to_dir: &Dir,
    _to: &OsStr,
    _flags: RenameFlags,
) -> rustix::io::Result<()> {
    Err(Errno::NOTSUP)
}

/// The guarantees of a file system. Nothing is known of it: a reply may be lost as over a network, and
/// then only the inode at the target's name proves what happened.
pub(crate) fn fs_kind(_fd: impl AsFd, _stat: &Stat) -> io::Result<FsKind> {
    Ok(FsKind { memory_backed: false, remote: true, family: Family::Other })
}
