//! Files without a name, and how they get one.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{self, AtFlags, OFlags};

use super::mount_cache::{FOR_GOOD, MountCache};
use crate::sys::unix::{cannot_be_unnamed, is_not_found, mode_of, retry_naming};
use crate::sys::{Dir, File, Stat};

impl Dir {
    /// Creates a file that has no name yet; none where the file system can't.
    pub(crate) fn create_unnamed(&self, mode: u32) -> io::Result<Option<File>> {
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        match record!(Op::CreateUnnamed { dir: self, mode }, fs::openat(self, c".", flags, mode_of(mode))) {
            Err(e) if cannot_be_unnamed(&e) => Ok(None),
            created => Ok(Some(File { fd: created? })),
        }
    }
}

impl File {
    /// Gives an unnamed file its name, unless something has it.
    pub(crate) fn link_as(&self, dir: &Dir, name: &OsStr) -> io::Result<()> {
        let by_descriptor = || fs::linkat(self, c"", dir, name, AtFlags::EMPTY_PATH).map_err(io::Error::from);
        let by_proc = || {
            let path = proc_path(self.as_fd());
            fs::linkat(fs::CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
        };
        #[cfg(feature = "crash_testing")]
        if crate::sys::recorder::refuses_links_by_descriptor() {
            return Err(rustix::io::Errno::NOENT.into());
        }
        record_once!(
            Op::LinkUnnamed { file: self, dir, name },
            retry_naming(|| {
                if LINKS_BY_PROC.load(Ordering::Relaxed) {
                    return by_proc().or_else(|e| if is_not_found(&e) { by_descriptor() } else { Err(e) });
                }
                match by_descriptor() {
                    // The kernel (before 6.10) allows no link by descriptor, or the directory is gone.
                    Err(e) if is_not_found(&e) => {
                        by_proc().inspect(|()| LINKS_BY_PROC.store(true, Ordering::Relaxed))
                    }
                    linked => linked,
                }
            })
        )
    }
}

/// A link by descriptor was refused, and one by `/proc` was not: so it will be the next time.
static LINKS_BY_PROC: AtomicBool = AtomicBool::new(false);

/// A path that leads to what a descriptor is of.
pub(in crate::sys) fn proc_path(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// Mounts on which an unnamed file was refused a name. For good, even where only the device tells them apart: on a mount
/// that is wrongly among them files are staged with a name, which serves everywhere.
static REFUSED: MountCache<()> = MountCache::that_lasts(FOR_GOOD, FOR_GOOD);

/// Was an unnamed file refused a name before, on the mount of the file that `stat` is of?
pub(crate) fn is_known_to_refuse_links(stat: &Stat) -> bool {
    !is_pretended() && REFUSED.known(stat).is_some()
}

/// What a session of `crash_testing` pretends is neither remembered nor asked for.
fn is_pretended() -> bool {
    #[cfg(feature = "crash_testing")]
    if crate::sys::recorder::current().is_some() {
        return true;
    }
    false
}

/// Lets the next save on this mount begin with a named file.
pub(crate) fn remember_refused_link(stat: &Stat) {
    if !is_pretended() {
        REFUSED.remember(stat, ());
    }
}
