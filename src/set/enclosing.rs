//! Is a set about to be lost with a directory around it that somebody replaces?
//!
//! `AtomicDir::update` copies what is in a directory, and what is saved in the old version after that is lost with
//! it. Its API and `Transaction` promise that no acknowledged save is. So the two sides look for each other:
//!
//! | who | holds | and then looks for |
//! | --- | --- | --- |
//! | a writer inside | its own lock, a file in the tree, until the end of its `commit` | the locks of all directories around it: [`refuse_if_enclosed`] |
//! | `update` of a directory around it | its own lock, a file beside the tree, until the end of its `commit` | locks in each directory that it copies |
//!
//! Each takes its lock before it looks, so that of two that overlap at least one sees the other, and fails. A
//! directory that is replaced without a copy (`AtomicDir::create`), or renamed by some other program, is told by its path:
//! [`refuse_if_detached`].

use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::set::writer_lock::WriterLock;
use crate::sys::{self, Dir, absent};

/// Why nobody can tell whether a name still leads to what it led to.
pub(crate) const INODES_CHANGE: &str = "the file system gives one directory several inode numbers";

/// Fails if a directory around `dir`, or `dir` itself, is being replaced. `place` is its absolute path,
/// `path` is for messages. A mount point can't be replaced; nothing above one is looked at.
pub(crate) fn refuse_if_enclosed(dir: &Dir, place: &Path, path: &Path) -> Result<()> {
    let fail = |e| Error::io("look around the directory of", path, e);
    let place = sys::real_path(place).map_err(fail)?;
    let mount = dir.stat().map_err(fail)?.mount_key();
    for around in place.ancestors() {
        let (Some(name), Some(above)) = (around.file_name(), around.parent()) else { break };
        match is_held(dir, above, name, mount) {
            Ok(None) => break,
            Ok(Some(true)) => {
                return Err(Error::new(
                    ErrorKind::Locked,
                    "save into a directory that is being replaced:",
                    path,
                ));
            }
            Ok(Some(false)) => {}
            Err(e) if sys::is_gone(&e) => return Err(detached(path)),
            // Who may not look there can't be replaced from there by anybody of the same rights.
            Err(e) if sys::is_forbidden(&e) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    Ok(())
}

/// Returns `None` at the root of a mount.
fn is_held(
    dir: &Dir,
    above: &Path,
    name: &std::ffi::OsStr,
    mount: (u64, Option<u64>),
) -> io::Result<Option<bool>> {
    if dir.stat_through(above.as_os_str())?.mount_key() != mount {
        return Ok(None);
    }
    let lock = above.join(crate::names::for_target(crate::names::Role::Lock, name));
    match dir.stat_through(lock.as_os_str()) {
        Err(e) if sys::is_gone(&e) => Ok(Some(false)),
        Err(e) => Err(e),
        Ok(_) => WriterLock::is_held(&Dir::open(above)?, name).map(Some),
    }
}

/// Fails if `dir` isn't what `place` leads to any more: it was replaced, renamed or removed, and nobody finds
/// there what is saved in it. Where each look at one directory finds another inode, nobody can tell: `Unsupported`.
pub(crate) fn refuse_if_detached(dir: &Dir, place: &Path, path: &Path) -> Result<()> {
    let fail = |e| Error::io("look for the directory of", path, e);
    let lookup = || Ok(absent(dir.stat_through(place.as_os_str()))?.map(|found| found.id));
    let found = lookup().map_err(fail)?;
    if found == Some(dir.stat().map_err(fail)?.id) {
        return Ok(());
    }
    if found != lookup().map_err(fail)? {
        return Err(
            Error::new(ErrorKind::Unsupported, "look for the directory of", path).because(INODES_CHANGE)
        );
    }
    Err(detached(path))
}

fn detached(path: &Path) -> Error {
    Error::new(ErrorKind::NotFound, "save into a directory that was replaced meanwhile:", path)
}
