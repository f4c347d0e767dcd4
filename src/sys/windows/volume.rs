//! What the volume under a directory says about itself.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, Prefix};

use super::super::{Family, FsKind, Stat};
use super::Dir;

/// The volume under a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Volume {
    /// For the caller, whose quota counts.
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) used_percent: f64,
    pub(crate) kind: FsKind,
    pub(crate) is_known_to_exchange: bool,
}

impl Dir {
    pub(crate) fn volume(&self) -> io::Result<Volume> {
        let path = self.path()?;
        let sizes = fs4::statvfs(&path)?;
        let (free_bytes, total_bytes) = (sizes.available_space(), sizes.total_space());
        let used = total_bytes.saturating_sub(sizes.free_space());
        let usable = used.saturating_add(free_bytes);
        let used_percent = if usable == 0 { 0.0 } else { used as f64 / usable as f64 * 100.0 };
        let kind = kind_of(&path);
        Ok(Volume { free_bytes, total_bytes, used_percent, kind, is_known_to_exchange: false })
    }

    /// Two names can't be exchanged here.
    pub(crate) fn may_exchange(&self, _absent: &OsStr, _other: &OsStr) -> bool {
        false
    }

    /// Two names can't be exchanged here.
    pub(crate) fn try_exchange(&self, _from: &OsStr, _to: &OsStr) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// What a volume can be trusted with.
pub(crate) fn fs_kind(dir: impl Borrow<Dir>, _stat: &Stat) -> io::Result<FsKind> {
    Ok(kind_of(&dir.borrow().path()?))
}

/// By a path in its literal form, which names the server of a drive that is mapped to one.
pub(super) fn kind_of(path: &Path) -> FsKind {
    let remote = match path.components().next() {
        Some(Component::Prefix(prefix)) => {
            matches!(prefix.kind(), Prefix::UNC(..) | Prefix::VerbatimUNC(..))
        }
        _ => false,
    };
    FsKind { volatile: false, remote, family: Family::Other }
}
