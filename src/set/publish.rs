//! Step 8 for one file of a set: from its staging directory to the target's name.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;

use crate::atomic::copy::copy_into;
use crate::atomic::new_name::move_new;
use crate::atomic::outcome::{Outcome, outcome_from};
use crate::sys::{self, Dir, FileId};

/// A staged file of a set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedEntry<'a> {
    pub(crate) dir: &'a Dir,
    pub(crate) name: &'a OsStr,
    /// The file's inode, where it was looked at before: always so on a network file system.
    pub(crate) id: Option<FileId>,
}

/// Renames a staged file over the target, or creates the target's name if it has to be new.
///
/// Success is proved by the staged file's inode at the target's name, never by the staged name being gone:
/// on a network file system somebody else may have removed that.
pub(crate) fn move_into_place(
    staged: StagedEntry<'_>,
    (dir, name): (&Arc<Dir>, &OsStr),
    create_new: bool,
    remote: bool,
) -> (Outcome, Option<io::Error>) {
    let StagedEntry { dir: stage, name: from, .. } = staged;
    let (outcome, error) = rename(staged, (dir, name), create_new, remote);
    if outcome == Outcome::NotDone && error.as_ref().is_some_and(sys::crosses_devices) {
        return match copy_into(stage, from, (dir, name), create_new) {
            Ok(()) => (Outcome::Done, None),
            Err(e) => (Outcome::NotDone, Some(e)),
        };
    }
    (outcome, error)
}

fn rename(
    staged: StagedEntry<'_>,
    (dir, name): (&Dir, &OsStr),
    create_new: bool,
    remote: bool,
) -> (Outcome, Option<io::Error>) {
    let StagedEntry { dir: stage, name: from, id } = staged;
    // If it was a link, the staged name goes with the staging directory.
    let moved = match create_new {
        true => move_new((stage, from), (dir, name)).0,
        false => stage.rename_into(from, dir, name),
    };
    let outcome = match outcome_from(&moved, id, (stage, from), (dir, name), remote) {
        // On a local file system nobody but us takes a file out of our locked directory, and so what is
        // at the target's name is the staged file.
        Outcome::Unknown if id.is_none() && !remote && is_taken(dir, name) && !is_taken(stage, from) => {
            Outcome::Done
        }
        outcome => outcome,
    };
    (outcome, moved.err())
}

fn is_taken(dir: &Dir, name: &OsStr) -> bool {
    dir.stat_at(name).is_ok()
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use super::*;

    /// Goal: where a reply may be lost, only the staged file's inode at the target's name proves success.
    /// Method: the rename fails with `ENOENT`, as it does when the first of two requests has been carried out,
    /// and also when somebody has removed the staged file.
    #[test]
    fn a_staged_file_that_vanished_is_not_taken_for_published() {
        let home = tempfile::tempdir().unwrap();
        let dir = Arc::new(Dir::open(home.path()).unwrap());
        let (from, target) = (OsStr::new("staged"), OsStr::new("target"));
        let judge = |id: FileId| {
            let staged = StagedEntry { dir: &dir, name: from, id: Some(id) };
            move_into_place(staged, (&dir, target), false, true).0
        };
        let id_of = |name: &OsStr| dir.stat_at(name).unwrap().id;

        dir.create_new(from, 0o600).unwrap();
        let staged = id_of(from);
        dir.unlink(from).unwrap();
        assert_eq!(judge(staged), Outcome::Unknown, "nothing is there");

        dir.create_new(target, 0o600).unwrap();
        let other = FileId { ino: staged.ino + 1, ..staged };
        let unlike = if id_of(target) == staged { other } else { staged };
        assert_eq!(judge(unlike), Outcome::Unknown, "another file is there");
        assert_eq!(judge(id_of(target)), Outcome::Done, "the reply to a rename that was done was lost");
        // Without an inode to compare there is no proof.
        let staged = StagedEntry { dir: &dir, name: from, id: None };
        assert_eq!(move_into_place(staged, (&dir, target), false, true).0, Outcome::Unknown);
    }
}
