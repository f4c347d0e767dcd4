//! Taking hold of one recording, so that no other service does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use durafile::{ErrorKind, LockFile};

use crate::failure::{Failure, Outcome};

/// A lock that takes its file with it. Whoever waits for it notices that and goes on to a new file, so
/// that the last to do something with the item must do it before this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    _lock: LockFile,
}

impl Held {
    /// None if somebody else has it.
    pub(crate) fn try_take(path: PathBuf) -> Outcome<Option<Arc<Held>>> {
        match LockFile::try_lock(&path) {
            Ok(lock) => Ok(Some(Arc::new(Held { path, _lock: lock }))),
            Err(e) if e.kind() == ErrorKind::Locked => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// Waits for whoever has it, but not for ever.
    pub(crate) fn take_within(path: PathBuf, longest: Duration) -> Outcome<Arc<Held>> {
        let lock = LockFile::lock_timeout(&path, longest)?;
        Ok(Arc::new(Held { path, _lock: lock }))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // While it is still locked. One that stays is removed at the next start.
        let _ = fs_err::remove_file(&self.path);
    }
}

pub(crate) fn exists(path: &Path) -> Outcome<bool> {
    match fs_err::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Failure::Disk(e)),
    }
}
