//! Deciding about the record of a transaction that a crash left, by what is there.
//!
//! First each change is judged by itself, by what stands at its target and what is staged for it:
//!
//! | at the target | the change removes it | it puts a file there, whose staged content is whole | damaged | missing |
//! | --- | --- | --- | --- | --- |
//! | the new content | - | `Done` | `Done` | `Done` |
//! | nothing | `Done` | `Ready` | `Damaged` | `Lost` |
//! | what the record expects | `Ready` | `Ready` | `Damaged` | `Missing` |
//! | anything else, or its directory is gone | `Later` | `Later` | `Later` | `Later` |
//!
//! `Later` was saved after the crash, by whatever program: it is never touched. What the record expects is told
//! exactly: the same inode, size and time of last change. A restored backup has an old time, and a file system
//! gives the inode of a deleted file to the next one; but not all three are the same again.
//!
//! Then all are judged together. A change can only have been carried out if the record was durable, and then
//! all that was staged was durable, too, and stays until everything is carried out. So if any new content is
//! in place, content that is nowhere was deleted later; if none is, the commit point was never reached.
//!
//! | the changes | what is done |
//! | --- | --- |
//! | any is `Damaged` | [`Quarantine`](RecoveryAction::Quarantine) |
//! | any is `Missing`, and some file was put | `Quarantine` |
//! | any is `Missing` or `Lost`, and no file was put | [`RollBack`](RecoveryAction::RollBack) |
//! | else | [`Redo`](RecoveryAction::Redo) of those that are `Ready` |
//!
//! **In a copy** of the tree (the record is in another file than the one it names, or the stage has another inode: a backup that was
//! restored, a tree that was copied, a file system that numbers inodes anew) inodes tell nothing. There a target
//! holds the new content if size and checksum say so, and is what the record expects if size and time are; that
//! nothing is there is expected only if nothing was, or if it was to be removed. Nobody knows what else happened to a copy, so
//! that less is enough to leave it to a person:
//!
//! | the changes | what is done |
//! | --- | --- |
//! | all are `Done` or `Ready` | `Redo` |
//! | all are `Ready`, `Missing` or `Lost` | `RollBack` |
//! | else | `Quarantine` |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::content::ContentId;
use crate::journal::checksum::checksum;
use crate::names::name_of;
use crate::remnant::trust::{Found, Level, Trust};
use crate::sys::{self, Dir, File, Fingerprint, Kind, LastingId, absent};
use crate::transaction::dirs_below::DirCache;
use crate::transaction::record::{Action, Change, TransactionRecord, distinct};

/// The decision about a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecoveryAction {
    /// Carry out what is left of it.
    Redo(TransactionRecord, Vec<Rest>),
    /// Its commit point was never reached.
    RollBack(TransactionRecord),
    /// The record can't be squared with what is there.
    Quarantine,
    /// Somebody else can have changed what it has staged.
    Distrust,
}

/// Whether a change is still to be carried out, and over what: anything else that stands there by then was
/// saved a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Nothing,
    Over(Option<Fingerprint>),
}

/// The progress of one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// To be done, over what is there now.
    Ready(Option<Fingerprint>),
    Done,
    /// Something else was saved there since, or its directory is gone.
    Later,
    /// Neither the staged content is there, nor anything at its target.
    Lost,
    /// The staged content isn't there, and what it was to replace is.
    Missing,
    /// The staged content is not what the record says.
    Damaged,
}

/// The file that stands at a target.
enum Observed {
    NewContent,
    Expected(Option<Fingerprint>),
    Other,
}

/// The state of the staged file of a target.
enum Staged {
    Whole,
    Damaged,
    Missing,
}

/// `own` is the file that the record is in, `recorded` the one that it says.
///
/// The second part is the directory with what is staged, as it was judged: whoever goes on uses this one,
/// and not what has its name by then.
pub(crate) fn analyse(
    root: &Arc<Dir>,
    trust: &Trust<'_>,
    record: TransactionRecord,
    (own, recorded): (LastingId, LastingId),
) -> io::Result<(RecoveryAction, Option<Dir>)> {
    let stage = match record.stage.is_empty() {
        true => Found::Absent,
        false => trust.open_dir(&record.stage, Level::Obeyed)?,
    };
    let stage = match stage {
        Found::Absent => None,
        Found::Trusted(stage) => Some(stage),
        Found::Untrusted => return Ok((RecoveryAction::Distrust, None)),
    };
    let dirs = distinct(record.dirs.iter().map(PathBuf::as_path));
    let is_copy = !own.is_same(recorded) || is_stage_a_copy(stage.as_ref(), &record)?;
    let mut analysis = Analysis { stage: stage.as_ref(), dirs, is_copy, below: DirCache::new(root) };
    let statuses: io::Result<Vec<Status>> =
        record.changes.iter().map(|change| analysis.status(change)).collect();
    let statuses = statuses?;
    let was_put = |(change, status): (&Change, &Status)| {
        matches!(change.action, Action::Put { .. }) && *status == Status::Done
    };
    let some_put = record.changes.iter().zip(&statuses).any(was_put);
    let action = match if is_copy { action_of_copy(&statuses) } else { action_of(&statuses, some_put) } {
        ActionKind::Redo => RecoveryAction::Redo(record, statuses.into_iter().map(Status::rest).collect()),
        ActionKind::RollBack => RecoveryAction::RollBack(record),
        ActionKind::Quarantine => RecoveryAction::Quarantine,
    };
    Ok((action, stage))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ActionKind {
    Redo,
    RollBack,
    Quarantine,
}

/// The second table.
fn action_of(statuses: &[Status], some_put: bool) -> ActionKind {
    let any = |wanted: Status| statuses.contains(&wanted);
    match (any(Status::Damaged), any(Status::Missing), any(Status::Lost)) {
        (true, _, _) => ActionKind::Quarantine,
        (_, true, _) if some_put => ActionKind::Quarantine,
        (_, true, _) => ActionKind::RollBack,
        (_, _, true) if !some_put => ActionKind::RollBack,
        _ => ActionKind::Redo,
    }
}

/// The third table.
fn action_of_copy(statuses: &[Status]) -> ActionKind {
    use Status::{Done, Lost, Missing, Ready};
    if statuses.iter().all(|status| matches!(status, Done | Ready(_))) {
        return ActionKind::Redo;
    }
    let none_done = statuses.iter().all(|status| matches!(status, Ready(_) | Missing | Lost));
    if none_done { ActionKind::RollBack } else { ActionKind::Quarantine }
}

impl Status {
    fn rest(self) -> Rest {
        match self {
            Status::Ready(over) => Rest::Over(over),
            _ => Rest::Nothing,
        }
    }
}

/// Where no time of creation is told, the record may have been given its old inode number by chance. So each
/// staged file is looked at, too.
fn is_stage_a_copy(stage: Option<&Dir>, record: &TransactionRecord) -> io::Result<bool> {
    let Some(stage) = stage else { return Ok(false) };
    for change in &record.changes {
        let Action::Put { number, content } = &change.action else { continue };
        if absent(sys::fingerprint(stage, &name_of(*number)))?.is_some_and(|found| found.ino != content.ino) {
            return Ok(true);
        }
    }
    Ok(false)
}

struct Analysis<'a> {
    stage: Option<&'a Dir>,
    /// Directories that the record creates.
    dirs: Vec<&'a Path>,
    is_copy: bool,
    below: DirCache,
}

impl Analysis<'_> {
    /// The first table.
    fn status(&mut self, change: &Change) -> io::Result<Status> {
        let observed = self.observe(change)?;
        let Action::Put { number, content } = &change.action else {
            return Ok(match observed {
                Observed::Expected(None) => Status::Done,
                Observed::Expected(Some(now)) => Status::Ready(Some(now)),
                Observed::NewContent | Observed::Other => Status::Later,
            });
        };
        let now = match observed {
            Observed::NewContent => return Ok(Status::Done),
            Observed::Other => return Ok(Status::Later),
            Observed::Expected(now) => now,
        };
        Ok(match (self.staged(*number, content)?, now) {
            (Staged::Whole, now) => Status::Ready(now),
            (Staged::Damaged, _) => Status::Damaged,
            (Staged::Missing, Some(_)) => Status::Missing,
            (Staged::Missing, None) => Status::Lost,
        })
    }

    fn observe(&mut self, change: &Change) -> io::Result<Observed> {
        let Some((dir, name)) = absent(self.below.parent_of(&change.path))? else {
            let will_be_made = self.can_make_parent_of(&change.path)?;
            return Ok(if will_be_made { Observed::Expected(None) } else { Observed::Other });
        };
        let now = absent(sys::fingerprint(&dir, name))?;
        if let (Some(now), Action::Put { content, .. }) = (now, &change.action) {
            let is_it = match self.is_copy {
                // Where nothing could be moved, it is a copy.
                false if now.ino == content.ino => true,
                false if Some(now) == change.before => false,
                _ => now.size == content.size && is_content(dir.open_file(name), content)?,
            };
            if is_it {
                return Ok(Observed::NewContent);
            }
        }
        let is_expected = match (now, change.before) {
            // What was deleted is put back, but not in a copy, which may never have had it.
            (None, before) => !self.is_copy || before.is_none() || matches!(change.action, Action::Remove),
            (Some(_), None) => false,
            // Of the directory itself no change is ever made.
            (Some(now), Some(before)) => {
                let before = if self.is_copy { Fingerprint { ino: now.ino, ..before } } else { before };
                now == before
            }
        };
        Ok(if is_expected { Observed::Expected(now) } else { Observed::Other })
    }

    /// Is its directory, as far as it is missing, one that the record creates?
    fn can_make_parent_of(&mut self, path: &Path) -> io::Result<bool> {
        for dir in path.ancestors().skip(1) {
            match self.below.dir(dir) {
                Err(e) if sys::is_not_found(&e) => {}
                Err(e) if sys::is_gone(&e) => return Ok(false),
                opened => return opened.map(|_| true),
            }
            if self.dirs.binary_search(&dir).is_err() {
                return Ok(false);
            }
        }
        Ok(false)
    }

    fn staged(&self, number: u64, content: &ContentId) -> io::Result<Staged> {
        let Some(stage) = self.stage else { return Ok(Staged::Missing) };
        let Some(file) = absent(stage.open_file(&name_of(number)))? else { return Ok(Staged::Missing) };
        Ok(if is_content(Ok(file), content)? { Staged::Whole } else { Staged::Damaged })
    }
}

/// Whether this file has that content. One that may not be read hasn't, as far as anybody can tell, nor has what is no file.
pub(super) fn is_content(file: io::Result<File>, content: &ContentId) -> io::Result<bool> {
    let file = match file {
        Err(e) if sys::is_gone(&e) || sys::is_forbidden(&e) || sys::is_no_file(&e) => return Ok(false),
        opened => opened?,
    };
    let stat = file.stat()?;
    Ok(stat.kind == Kind::File && stat.size == content.size && checksum(&file)? == content.sum)
}

#[cfg(test)]
mod tests {
    use super::ActionKind::{Quarantine, Redo, RollBack};
    use super::Status::{Damaged, Done, Later, Lost, Missing, Ready};
    use super::*;

    const READY: Status = Ready(None);

    /// Neither can be read, and a socket can't even be opened.
    #[cfg(unix)]
    #[test]
    fn what_is_no_file_has_no_content_and_is_no_error() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        std::fs::create_dir(at("directory")).unwrap();
        std::os::unix::fs::symlink("nowhere", at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::fs::write(at("empty"), "").unwrap();
        let dir = Dir::open(home.path()).unwrap();
        let content =
            ContentId { ino: 0, size: 0, sum: checksum(&dir.open_file("empty".as_ref()).unwrap()).unwrap() };
        for (name, expected) in
            [("empty", true), ("directory", false), ("link", false), ("socket", false), ("gone", false)]
        {
            assert_eq!(is_content(dir.open_file(name.as_ref()), &content).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn at_home_what_is_in_place_proves_the_commit_point() {
        for (statuses, some_put, expected) in [
            (&[READY, READY][..], false, Redo),
            (&[READY, Done], true, Redo),
            (&[Done, Done], true, Redo),
            (&[Later, READY], false, Redo),
            (&[Done, Lost], true, Redo),
            (&[Done, Lost], false, RollBack),
            (&[READY, Lost], false, RollBack),
            (&[READY, Missing], false, RollBack),
            (&[Done, Missing], true, Quarantine),
            (&[READY, Damaged], false, Quarantine),
            (&[Done, Damaged], true, Quarantine),
        ] {
            assert_eq!(action_of(statuses, some_put), expected, "{statuses:?}, {some_put}");
        }
    }

    #[test]
    fn in_a_copy_nothing_is_done_that_is_not_certain() {
        for (statuses, expected) in [
            (&[READY, READY][..], Redo),
            (&[READY, Done], Redo),
            (&[READY, Missing], RollBack),
            (&[Lost, Missing], RollBack),
            (&[Done, Missing], Quarantine),
            (&[Done, Lost], Quarantine),
            (&[READY, Later], Quarantine),
            (&[Done, Later], Quarantine),
            (&[READY, Damaged], Quarantine),
        ] {
            assert_eq!(action_of_copy(statuses), expected, "{statuses:?}");
        }
    }
}
