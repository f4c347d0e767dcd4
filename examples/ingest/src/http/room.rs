//! Uploads are refused while the disk is almost full: what is in hand still needs room.

use std::path::Path;

use crate::failure::{Failure, Outcome};

pub(crate) fn check(dir: &Path, min_free: u64) -> Outcome {
    let disk = rustix::fs::statvfs(dir).map_err(|e| Failure::Disk(e.into()))?;
    if disk.f_bavail.saturating_mul(disk.f_frsize) < min_free { Err(Failure::LittleRoom) } else { Ok(()) }
}
