//! The outcome of a rename or link: the one answer to "did it happen?".

use std::ffi::OsStr;
use std::io;

use crate::sys::{self, Dir, File, FileId};

/// The outcome of a rename or link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NotDone,
    Done,
    Unknown,
}

/// Judges a rename or link of the inode `moved` to `name` in `dir`.
///
/// An error may be a lost reply to something that was done. Only the inode at the name tells; over a
/// network only a hit proves anything, since another client may have replaced it already. "Exists" is taken at its
/// word all the same, unless the inode is ours: whoever goes by it removes the old name of `moved` alone, and had that
/// been given a new name, or lost its old one, nothing else would go.
pub(crate) fn outcome(
    done: &io::Result<()>,
    moved: FileId,
    (dir, name): (&Dir, &OsStr),
    remote: bool,
) -> Outcome {
    let Err(e) = done else { return Outcome::Done };
    if sys::is_not_done(e, remote) {
        return Outcome::NotDone;
    }
    match dir.stat_at(name) {
        Ok(found) if found.id == moved => Outcome::Done,
        Ok(_) if !remote || sys::already_exists(e) => Outcome::NotDone,
        Err(e) if !remote && sys::is_not_found(&e) => Outcome::NotDone,
        _ => Outcome::Unknown,
    }
}

/// Judges a rename or link of what the name `from` leads to. Where it was not looked at before, it can be asked for only as long
/// as it has that name.
pub(crate) fn outcome_from(
    done: &io::Result<()>,
    moved: Option<FileId>,
    from: (&Dir, &OsStr),
    to: (&Dir, &OsStr),
    remote: bool,
) -> Outcome {
    let Err(e) = done else { return Outcome::Done };
    match moved.or_else(|| from.0.stat_at(from.1).ok().map(|found| found.id)) {
        Some(moved) => outcome(done, moved, to, remote),
        None if sys::is_not_done(e, remote) => Outcome::NotDone,
        None => Outcome::Unknown,
    }
}

/// Judges the removal of `name` from `dir`. "Not found" is the caller's to judge: somebody else may have removed it.
pub(crate) fn outcome_of_removal(
    done: &io::Result<()>,
    (dir, name): (&Dir, &OsStr),
    remote: bool,
) -> Outcome {
    let Err(e) = done else { return Outcome::Done };
    match dir.stat_at(name) {
        _ if sys::is_not_done(e, remote) => Outcome::NotDone,
        Ok(_) if !remote => Outcome::NotDone,
        Err(gone) if sys::is_not_found(&gone) => Outcome::Done,
        _ => Outcome::Unknown,
    }
}

/// Judges giving `file` a name.
pub(crate) fn outcome_of_link(
    done: &io::Result<()>,
    file: &File,
    (dir, name): (&Dir, &OsStr),
    remote: bool,
) -> Outcome {
    match (done, file.stat()) {
        (Ok(()), _) => Outcome::Done,
        (_, Ok(stat)) => outcome(done, stat.id, (dir, name), remote),
        (_, Err(_)) => Outcome::Unknown,
    }
}
