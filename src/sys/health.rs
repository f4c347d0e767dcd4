//! What the file system under a directory says about itself.

use std::ffi::OsStr;
use std::io;

use rustix::fs::{self, RenameFlags};
use rustix::io::Errno;

use super::{Dir, FsKind};

/// The file system under a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Volume {
    /// For callers without privileges.
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) used_percent: f64,
    pub(crate) kind: FsKind,
    /// It is one that can exchange two names, in every kernel that this crate runs on.
    pub(crate) is_known_to_exchange: bool,
}

impl Dir {
    pub(crate) fn volume(&self) -> io::Result<Volume> {
        let sizes = fs::fstatvfs(self)?;
        let (kind, is_known_to_exchange) = super::look_at_volume(self)?;
        let used = sizes.f_blocks.saturating_sub(sizes.f_bfree);
        // As df: what only root may use counts as neither used nor free.
        let usable = used.saturating_add(sizes.f_bavail);
        let used_percent = if usable == 0 { 0.0 } else { used as f64 / usable as f64 * 100.0 };
        Ok(Volume {
            free_bytes: sizes.f_bavail.saturating_mul(sizes.f_frsize),
            total_bytes: sizes.f_blocks.saturating_mul(sizes.f_frsize),
            used_percent,
            kind,
            is_known_to_exchange,
        })
    }

    /// Do kernel and mount let names be exchanged at all? Asked with two names that don't exist:
    /// the answer comes before the file system is asked, which may refuse all the same.
    pub(crate) fn may_exchange(&self, absent: &OsStr, other: &OsStr) -> bool {
        fs::renameat_with(self, absent, self, other, RenameFlags::EXCHANGE) == Err(Errno::NOENT)
    }

    /// Exchanges two names of this directory.
    pub(crate) fn try_exchange(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
        record!(
            Op::Exchange { dir: self, from, to_dir: self, to },
            Ok(fs::renameat_with(self, from, self, to, RenameFlags::EXCHANGE)?)
        )
    }
}
