//! Renames that a power cut does not take back.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::outcome::{Outcome, outcome_from};
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::fs_ops::Place;
use crate::names::refuse_ours;
use crate::options::durability::Committed;
use crate::sys::{self, Kind};

/// Renames a file, directory or link, durably, and replaces what is at the new name.
///
/// It works like [`std::fs::rename`]: links are renamed themselves, and a directory replaces only an empty one. Both
/// parent directories are synced, the destination's first, so that a power cut leaves the entry at
/// the old name or at the new one, and at the new one alone once this has returned `Ok`. Between two directories of a
/// btrfs it may leave both names before that (found by cutting the power, `docs/powercut.md` in the repository).
///
/// Only the name is made durable: content that nobody has synced yet is not. Call [`sync`](crate::sync)
/// on `from` first if another program wrote it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// durafile::create_dir_all("archive")?;
/// durafile::write("talk.json", "{}")?;
/// durafile::rename("talk.json", "archive/talk.json")?;
/// # assert!(std::fs::exists("archive/talk.json")? && !std::fs::exists("talk.json")?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`CrossDevice`](ErrorKind::CrossDevice) if the two places are on different file systems: nothing has
/// changed. [`Busy`](ErrorKind::Busy) if one of the two is a mount point. Once the entry has its new
/// name, a failed sync is an error with [`TargetState::Replaced`].
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Committed> {
    let (from, to) = places(from.as_ref(), to.as_ref())?;
    let renamed = from.dir.rename_into(&from.name, &to.dir, &to.name);
    check_outcome(renamed, &from, &to)?;
    sync_parents(&from, &to)
}

/// Renames a file, directory or link, durably, unless the new name is taken.
///
/// It works like [`rename`], but fails atomically with [`AlreadyExists`](ErrorKind::AlreadyExists) if anything has the new
/// name, a dangling link too. Of many callers that race for a name exactly one wins.
///
/// Where the system can't rename without replacing (NFS, some FUSE file systems), a file is linked to
/// its new name and then loses the old one: a crash in between leaves both names.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// use durafile::ErrorKind;
///
/// durafile::write("draft.md", "Hello")?;
/// durafile::write("final.md", "Goodbye")?;
/// let refused = durafile::rename_new("draft.md", "final.md").unwrap_err();
/// assert_eq!(refused.kind(), ErrorKind::AlreadyExists);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`rename`], and [`Unsupported`](ErrorKind::Unsupported) where a directory can't be renamed in
/// this way.
pub fn rename_new(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<Committed> {
    let (from, to) = places(from.as_ref(), to.as_ref())?;
    match from.dir.rename_new_into(&from.name, &to.dir, &to.name) {
        Err(e) if sys::rename_unsupported(&e) => link_and_unlink(&from, &to, e),
        renamed => {
            check_outcome(renamed, &from, &to)?;
            sync_parents(&from, &to)
        }
    }
}

const OPERATION: &str = "rename to";

/// Opens both parents, or the one that both names have.
fn places(from: &Path, to: &Path) -> Result<(Place, Place)> {
    let from = Place::open(from)?;
    let to = Place::open_beside(&from, to)?;
    from.check_slash("rename")?;
    let refuse = |kind, reason| Err(Error::new(kind, OPERATION, &to.path).because(reason));
    if to.only_dir && from.kind("rename")? != Kind::Dir {
        return refuse(ErrorKind::NotADirectory, "the path ends with a slash");
    }
    refuse_ours(OPERATION, &to.path, [&*to.name])?;
    Ok((from, to))
}

/// Finds out what an error means.
fn check_outcome(renamed: io::Result<()>, from: &Place, to: &Place) -> Result<()> {
    let remote = renamed.is_err() && from.dir.fs_kind().is_ok_and(|kind| kind.remote);
    check_outcome_on(renamed, from, to, remote)
}

fn check_outcome_on(renamed: io::Result<()>, from: &Place, to: &Place, remote: bool) -> Result<()> {
    let outcome = outcome_from(&renamed, None, (&from.dir, &from.name), (&to.dir, &to.name), remote);
    match (outcome, renamed) {
        // Both names may have led to one file before: then nothing was done.
        (Outcome::Done, Err(e)) if sys::already_exists(&e) => {
            Err(Error::io(OPERATION, &to.path, e).with_target(TargetState::Unknown))
        }
        (Outcome::Done, _) | (_, Ok(())) => Ok(()),
        (Outcome::Unknown, Err(e)) => {
            Err(Error::io(OPERATION, &to.path, e).with_target(TargetState::Unknown))
        }
        (Outcome::NotDone, Err(e)) => Err(refusal(e, from, to)),
    }
}

/// The error of a rename that changed nothing, told of the name that it is about.
fn refusal(e: io::Error, from: &Place, to: &Place) -> Error {
    if sys::is_refused_name(&e) && is_inside(to, from) {
        return Error::new(ErrorKind::InvalidPath, OPERATION, &to.path)
            .because("a directory can't be moved into itself");
    }
    match from.dir.stat_at(&from.name) {
        Ok(found) if !found.mount_root => to.refused(OPERATION, e),
        _ => from.refused("rename", e),
    }
}

fn is_inside(to: &Place, from: &Place) -> bool {
    let above = to.path.parent().map(sys::absolute);
    match (above.map(|above| sys::real_path(&above)), sys::real_path(&from.path)) {
        (Some(Ok(above)), Ok(from)) => above.starts_with(from),
        _ => false,
    }
}

/// For file systems on which only a link creates a name and never replaces one. `refusal` is why it can't be a
/// rename.
fn link_and_unlink(from: &Place, to: &Place, refusal: io::Error) -> Result<Committed> {
    let refuse = |refusal| {
        if sys::is_denied(&refusal) {
            return to.refused(OPERATION, refusal);
        }
        let reason = "the file system can't rename without replacing";
        Error::new(ErrorKind::Unsupported, OPERATION, &to.path).because(reason)
    };
    if from.kind("rename")? == Kind::Dir {
        return Err(refuse(refusal));
    }
    match from.dir.link_into(&from.name, &to.dir, &to.name) {
        Err(e) if sys::cannot_link(&e) => return Err(refuse(refusal)),
        linked => check_outcome(linked, from, to)?,
    }
    // The new name is durable before the old one goes.
    to.sync_parent()?;
    let removed = from.dir.unlink(&from.name);
    removed.map_err(|e| Error::io("remove", &from.path, e).with_target(TargetState::Replaced))?;
    from.sync_parent()
}

/// The destination first: a power cut between the two may leave both names, and never none.
fn sync_parents(from: &Place, to: &Place) -> Result<Committed> {
    let committed = to.sync_parent()?;
    if Arc::ptr_eq(&from.dir, &to.dir) {
        return Ok(committed);
    }
    let other = from.sync_parent()?;
    Ok(if other.durability() < committed.durability() { other } else { committed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_to_the_same_file_is_taken_where_an_answer_may_be_lost_too() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::write(at("one"), "").unwrap();
        std::fs::hard_link(at("one"), at("other")).unwrap();
        let [one, other] = ["one", "other"].map(|name| Place::open(&at(name)).unwrap());
        for to in [&one, &other] {
            for remote in [false, true] {
                let taken = Err(io::ErrorKind::AlreadyExists.into());
                let refused = check_outcome_on(taken, &one, to, remote).unwrap_err();
                assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{remote}");
            }
        }
    }
}
