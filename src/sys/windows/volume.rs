//! The volume under a directory, as it describes itself.

use std::borrow::Borrow;
use std::io;
use std::path::{Component, Path, Prefix};

use super::Dir;
use crate::sys::{Family, FsKind, Stat, Volume};

impl Dir {
    pub(crate) fn volume(&self) -> io::Result<Volume> {
        let path = self.path()?;
        let sizes = fs4::statvfs(&path)?;
        let (free_bytes, total_bytes) = (sizes.available_space(), sizes.total_space());
        let used = total_bytes.saturating_sub(sizes.free_space());
        let used_percent = Volume::percentage(used, free_bytes);
        let kind = kind_of(&path);
        Ok(Volume { free_bytes, total_bytes, used_percent, kind, is_known_to_exchange: false })
    }
}

/// The kind of the volume under a directory.
pub(crate) fn fs_kind(dir: impl Borrow<Dir>, _stat: &Stat) -> io::Result<FsKind> {
    Ok(kind_of(&dir.borrow().path()?))
}

/// The kind of a volume by a path in its literal form, which names the server of a drive that is mapped to
/// one.
pub(super) fn kind_of(path: &Path) -> FsKind {
    let remote = match path.components().next() {
        Some(Component::Prefix(prefix)) => {
            // A drive in its plain form is one whose path could not be resolved: nobody knows where it is.
            matches!(prefix.kind(), Prefix::UNC(..) | Prefix::VerbatimUNC(..) | Prefix::Disk(_))
        }
        _ => false,
    };
    FsKind { memory_backed: false, remote, family: Family::Other }
}
