//! Directories that a power cut does not take back.

use std::path::Path;

use crate::atomic::create_parents;
use crate::atomic::target::refuse_no_path;
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::failing;
use crate::fs_ops::{Place, committed};
use crate::options::durability::Committed;
use crate::sys::Dir;

/// Creates a directory and all that are missing above it, each durable in its own parent.
///
/// It works like [`std::fs::create_dir_all`], which syncs nothing: without the sync, a file that was saved durably into
/// a new directory can vanish in a power cut together with the directory. A directory that exists is no error;
/// it is made durable in its parent all the same, since whoever created it may not have done that.
/// What lies above an existing directory counts as durable.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// durafile::create_dir_all("conversations/2026")?;
/// durafile::write("conversations/2026/first.md", "Hello")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`AlreadyExists`](ErrorKind::AlreadyExists) if the path leads to something that is no directory,
/// [`NotADirectory`](ErrorKind::NotADirectory) if such a thing is on the way,
/// [`InvalidPath`](ErrorKind::InvalidPath) if one that is missing has the name of a remnant
/// ([`is_remnant`](crate::is_remnant)), and the errors of the operating system. Directories that were created before the failure stay;
/// [`Replaced`](TargetState::Replaced) says that the directory itself is there, new or not, but perhaps not durably.
pub fn create_dir_all(path: impl AsRef<Path>) -> Result<Committed> {
    let path = path.as_ref();
    refuse_no_path("create the directory", path)?;
    failing::check(path)?;
    let failed = |e| match Error::naming("create the directory", path, e) {
        // A file, or a dangling link: the system tells it apart from one on the way only by the calls it gets.
        e if matches!(e.kind(), ErrorKind::NotADirectory | ErrorKind::NotFound) && is_taken(path) => {
            Error::new(ErrorKind::AlreadyExists, "create the directory", path)
                .because("it is not a directory")
        }
        e => e,
    };
    let created = create_parents::open_or_create(path);
    match created.and_then(|dir| Ok((dir.can_be_synced(), dir.fs_kind()?))) {
        Ok((can_be_synced, kind)) => Ok(committed(can_be_synced, kind)),
        // A sync failed, or the last look.
        Err(e) if Dir::open(path).is_ok() => Err(failed(e).with_target(TargetState::Replaced)),
        Err(e) => Err(failed(e)),
    }
}

/// Does anything have that name?
fn is_taken(path: &Path) -> bool {
    Place::open(path).is_ok_and(|place| place.kind("inspect").is_ok())
}
