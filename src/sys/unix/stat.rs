//! The answers of `stat`, on every Unix.

use std::ffi::OsStr;
use std::io;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags};

use super::{Dir, File, kind_of_mode, retry};
use crate::sys::{FileId, Fingerprint, Kind, Stat, lasting_ino};

#[allow(
    clippy::unnecessary_cast,
    clippy::useless_conversion,
    reason = "the types of these fields differ by system"
)]
pub(in crate::sys) fn from_stat(found: &fs::Stat) -> Stat {
    let mode = u32::from(found.st_mode);
    Stat {
        kind: kind_of_mode(mode),
        id: FileId { dev: found.st_dev as u64, ino: found.st_ino as u64 },
        size: u64::try_from(found.st_size).unwrap_or(0),
        nlink: found.st_nlink as u64,
        mode: mode & 0o7777,
        uid: found.st_uid,
        gid: found.st_gid,
        mount: None,
        // A rename tells, by EBUSY.
        mount_root: false,
        tells_mount_root: false,
        is_immutable_or_append_only: is_immutable_or_append_only(found),
        is_encrypted: false,
    }
}

#[cfg(target_vendor = "apple")]
fn is_immutable_or_append_only(found: &fs::Stat) -> bool {
    /// `UF_IMMUTABLE`, `UF_APPEND`, `SF_IMMUTABLE` and `SF_APPEND` of `sys/stat.h`.
    const FIXED: u32 = 0x2 | 0x4 | 0x2_0000 | 0x4_0000;
    found.st_flags & FIXED != 0
}

/// A rename tells, by `EPERM`.
#[cfg(not(target_vendor = "apple"))]
fn is_immutable_or_append_only(_found: &fs::Stat) -> bool {
    false
}

/// When content or metadata last changed, which nobody can set back. Times before 1970 count as 1970: very old.
#[allow(clippy::unnecessary_cast, reason = "the types of these fields differ by system")]
pub(crate) fn changed_at(dir: &Dir, name: &OsStr) -> io::Result<SystemTime> {
    let found = retry(|| fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
    let seconds = u64::try_from(found.st_ctime as i64).unwrap_or(0);
    let since = Duration::new(seconds, found.st_ctime_nsec as u32);
    Ok(SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH))
}

/// Tells an open file from one that was saved at its name later.
pub(crate) fn fingerprint_of(file: &File) -> io::Result<Fingerprint> {
    Ok(fingerprint_from(&retry(|| fs::fstat(file))?))
}

#[allow(clippy::unnecessary_cast, reason = "the types of these fields differ by system")]
pub(in crate::sys) fn fingerprint_from(found: &fs::Stat) -> Fingerprint {
    fingerprint_with(&from_stat(found), (found.st_mtime as u64, found.st_mtime_nsec as u64))
}

pub(in crate::sys) fn fingerprint_with(stat: &Stat, (seconds, nanoseconds): (u64, u64)) -> Fingerprint {
    let (ino, size, is_dir) = (lasting_ino(stat.id), stat.size, stat.kind == Kind::Dir);
    #[cfg(all(feature = "crash_testing", any(target_os = "linux", target_os = "android")))]
    if crate::sys::recorder::current().is_some() {
        return Fingerprint { ino, size, is_dir, ..Fingerprint::default() };
    }
    Fingerprint { ino, size, seconds, nanoseconds, is_dir }
}
