//! Locks on directories. A directory that is open in a way that excludes others could not be used
//! either, and one with something open in it can't be renamed. So the lock is an empty file beside
//! it, with a name that follows from what the directory *is*, whatever its name becomes.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::FileId;
use super::errors::is_in_use;
use super::wait::{or_removed, within};
use super::{Lock, Share, open};
use crate::atomic::names::{Role, for_target};

/// Who gives up a shared lock excludes everybody for an instant, to remove the file.
const GRACE: Duration = Duration::from_millis(20);

/// A lock that is given up when this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    share: Share,
    path: PathBuf,
    /// Open as long as the lock is held.
    file: Option<File>,
}

impl Held {
    /// Takes the lock of the directory at `path`, without waiting.
    pub(super) fn take(path: &Path, id: FileId, share: Share) -> io::Result<Result<Held, Lock>> {
        let name = for_target(Role::Lock, format!("{:x}-{:x}", id.dev, id.ino).as_ref());
        let path = path.with_file_name(name);
        let open = |path: &Path| match share {
            Share::Exclusive => open::exclusively_for_now(path),
            Share::Shared => open::shared_for_now(path),
        };
        match within(GRACE, || or_removed(&path, open(&path))) {
            Ok(file) => Ok(Ok(Held { share, path, file: Some(file) })),
            Err(e) if is_in_use(&e) => Ok(Err(Lock::Elsewhere)),
            Err(e) => Err(e),
        }
    }

    pub(super) fn share(&self) -> Share {
        self.share
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.file = None;
        if self.share == Share::Shared {
            // The last one out removes it: nobody else can have it open then.
            drop(open::exclusively_for_now(&self.path));
        }
    }
}
