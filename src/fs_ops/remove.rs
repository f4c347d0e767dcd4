//! Removals that a power cut does not take back.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::atomic::new_name::rename_to_free;
use crate::atomic::outcome::{Outcome, outcome};
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::fs_ops::Place;
use crate::names::{self, Role};
use crate::options::durability::Committed;
use crate::remnant::below::{Entry, list, visit_dirs};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::remove_tree::{open_closed, remove_opened, remove_tree};
use crate::sys::{self, Dir, Kind, Lock};

/// Removes a file or a link, durably.
///
/// It works like [`std::fs::remove_file`]: a link is removed itself. The directory that held the name is synced, so
/// that a power cut does not bring the file back.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// durafile::write("session.json", "{}")?;
/// durafile::remove_file("session.json")?;
/// # assert!(!std::fs::exists("session.json")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`NotFound`](ErrorKind::NotFound), [`IsADirectory`](ErrorKind::IsADirectory),
/// [`Busy`](ErrorKind::Busy) for a mount point, and the errors of the operating system. Once the name is gone, a
/// failed sync is an error with [`TargetState::Replaced`].
pub fn remove_file(path: impl AsRef<Path>) -> Result<Committed> {
    let place = Place::open(path.as_ref())?;
    place.check_slash("remove")?;
    let Err(e) = place.dir.unlink(&place.name) else { return place.sync_parent() };
    let remote = place.dir.fs_kind().is_ok_and(|kind| kind.remote);
    match place.dir.stat_at(&place.name) {
        // The system's word for this differs: EISDIR on Linux, EPERM elsewhere.
        Ok(found) if found.kind == Kind::Dir => {
            Err(Error::new(ErrorKind::IsADirectory, "remove", &place.path))
        }
        Ok(_) if !remote => Err(place.refused("remove", e)),
        _ if sys::is_not_done(&e, remote) || sys::is_not_found(&e) => Err(place.refused("remove", e)),
        _ => Err(Error::io("remove", &place.path, e).with_target(TargetState::Unknown)),
    }
}

/// Removes a directory with everything in it, durably and in one step.
///
/// The directory first gets a name of this crate's own ([`is_remnant`](crate::is_remnant)), and that is
/// made durable: at no time, and after no crash, is there half of a tree at `path`. Then the
/// tree is deleted. What a crash leaves of it is deleted by [`recover`](crate::recover()).
///
/// Links inside are removed, not followed. As with [`std::fs::remove_dir_all`], a link at `path` is
/// removed itself.
///
/// If another directory takes the place of this one meanwhile, as the next version of an
/// [`AtomicDir`](crate::AtomicDir), that one is removed.
///
/// A directory on a lower layer of an overlay can't be renamed. It is deleted where it is, and a crash
/// in between leaves a part of it at `path`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// durafile::create_dir_all("conversations/first")?;
/// durafile::write("conversations/first/events.json", "[]")?;
/// durafile::remove_dir_all("conversations/first")?;
/// # assert_eq!(std::fs::read_dir("conversations")?.count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`NotFound`](ErrorKind::NotFound); [`NotADirectory`](ErrorKind::NotADirectory) for a file;
/// [`Busy`](ErrorKind::Busy) if something is mounted on the directory or inside it: nothing has been
/// touched then. (Before Linux 5.8, and without `/proc`, what is mounted from the same file system isn't seen.) Once the
/// name is gone, a failure is an error with [`TargetState::Replaced`].
pub fn remove_dir_all(path: impl AsRef<Path>) -> Result<Committed> {
    let place = Place::open(path.as_ref())?;
    let failed = |e| Error::io("remove", &place.path, e);
    match place.kind("remove")? {
        Kind::Dir => {}
        Kind::Symlink if !place.only_dir => return remove_file(path),
        _ => return Err(Error::new(ErrorKind::NotADirectory, "remove", &place.path)),
    }
    let mut tree = open_closed(&place.dir, &place.name).map_err(failed)?;
    if has_mount(&place.dir, &tree).map_err(failed)? {
        return Err(Error::mount_point(&place.path, None));
    }
    // Held while the tree waits under its new name, so that no recovery takes it for an orphan.
    let mut is_locked = is_held(&tree);
    let aside = names::fresh(Role::Tree);
    let id = tree.stat().map_err(failed)?.id;
    let moved = rename_to_free(&place.dir, &place.name, &aside);
    let remote = moved.is_err() && place.dir.fs_kind().map_err(failed)?.remote;
    match (outcome(&moved, id, (&place.dir, &aside), remote), moved) {
        (Outcome::Done, _) | (_, Ok(())) => {}
        (Outcome::Unknown, Err(e)) => return Err(failed(e).with_target(TargetState::Unknown)),
        (Outcome::NotDone, Err(e)) if sys::crosses_devices(&e) => return remove_in_place(&place),
        (Outcome::NotDone, Err(e)) => return Err(place.refused("remove", e)),
    }
    if !matches!(place.dir.leads_to(&aside, id), Ok(true)) {
        if is_locked {
            let _ = tree.unlock();
        }
        tree = open_moved(&place, &aside)?;
        is_locked = is_held(&tree);
    }
    let committed = place.sync_parent()?;
    // For whoever has to delete it if this process can't, and not before a power cut can't bring it back to its own name. A tree
    // that can't be tied is one that only a person deletes then.
    let _ = RemnantPolicy::default().trust(&place.dir).tie_to_name(&aside, &tree);
    remove_opened(&place.dir, &aside, &tree).map_err(|e| failed(e).with_target(TargetState::Replaced))?;
    if is_locked {
        // A forked child would keep the lock of a directory that it has inherited.
        let _ = tree.unlock();
    }
    Ok(committed)
}

fn is_held(tree: &Dir) -> bool {
    tree.try_lock().is_ok_and(|lock| lock == Lock::Held)
}

/// Another directory had the name by the time it was renamed: the next version of it, mostly. That one is to go then, if
/// it may; if not, it gets its name back.
fn open_moved(place: &Place, aside: &OsStr) -> Result<Dir> {
    let failed = |e| Error::io("remove", &place.path, e);
    let error = match place.dir.stat_at(aside) {
        Err(e) => failed(e),
        Ok(found) if found.kind != Kind::Dir => Error::new(ErrorKind::NotADirectory, "remove", &place.path),
        Ok(_) => {
            let opened = open_closed(&place.dir, aside);
            match opened.and_then(|tree| has_mount(&place.dir, &tree).map(|has_mount| (tree, has_mount))) {
                Ok((tree, false)) => return Ok(tree),
                Ok((_, true)) => Error::mount_point(&place.path, None),
                Err(e) => failed(e),
            }
        }
    };
    let is_back = rename_to_free(&place.dir, aside, &place.name).is_ok();
    Err(error.with_target(if is_back { TargetState::Unchanged } else { TargetState::Unknown }))
}

/// For a directory that can't be renamed: a lower layer of an overlay.
fn remove_in_place(place: &Place) -> Result<Committed> {
    let removed = remove_tree(&place.dir, &place.name);
    removed.map_err(|e| Error::io("remove", &place.path, e).with_target(TargetState::Unknown))?;
    place.sync_parent()
}

/// Is something mounted on this directory, or on anything in it? A rename would carry the mount along,
/// and the deletion would end in the middle.
fn has_mount(parent: &Dir, top: &Dir) -> io::Result<bool> {
    if top.is_mounted_in(&top.stat()?, parent)? {
        return Ok(true);
    }
    let is_on_any = |dir: &Dir, entries: &[Entry]| {
        for (name, _) in entries {
            match dir.is_mount_point(name) {
                // What may not be looked at is found out when it is deleted.
                Err(e) if sys::is_gone(&e) || sys::is_forbidden(&e) => {}
                Ok(false) => {}
                Ok(true) => return Ok(Some(())),
                Err(e) => return Err(e),
            }
        }
        Ok(None)
    };
    Ok(is_on_any(top, &list(top)?)?.is_some() || visit_dirs(top, &is_on_any)?.is_some())
}
