//! The file system under a directory, as it describes itself.

use std::io;

use rustix::fs;

use super::{Dir, retry};
use crate::sys::{Volume, look_at_volume};

impl Dir {
    pub(crate) fn volume(&self) -> io::Result<Volume> {
        let sizes = retry(|| fs::fstatvfs(self))?;
        let (kind, is_known_to_exchange) = look_at_volume(self)?;
        let used = sizes.f_blocks.saturating_sub(sizes.f_bfree);
        Ok(Volume {
            free_bytes: sizes.f_bavail.saturating_mul(sizes.f_frsize),
            total_bytes: sizes.f_blocks.saturating_mul(sizes.f_frsize),
            used_percent: Volume::percentage(used, sizes.f_bavail),
            kind,
            is_known_to_exchange,
        })
    }
}
