//! A further name for what has one already, given without replacing anything.

use std::ffi::OsStr;
use std::io;

use crate::atomic::announce::announce;
use crate::names::{self, Role};
use crate::sys::{self, Dir};

/// Moves a file or directory to a name that must be new: by a rename, or by a link where the system can't rename without
/// replacing. Says, too, whether success takes the old name away; after a link the file has two names.
pub(crate) fn move_new((stage, from): (&Dir, &OsStr), (dir, to): (&Dir, &OsStr)) -> (io::Result<()>, bool) {
    let refusal = match stage.rename_new_into(from, dir, to) {
        Err(e) if sys::rename_unsupported(&e) => e,
        renamed => return (renamed, true),
    };
    match stage.link_into(from, dir, to) {
        Err(e) if !sys::cannot_link(&e) => (Err(e), false),
        Err(_) if sys::is_denied(&refusal) => (Err(refusal), false),
        // Neither the name nor the rename can be told from the other by this answer.
        Err(_) if sys::is_refused_name(&refusal) && knows_rename_new(stage, from) => (Err(refusal), true),
        // Nothing is left that creates a name and never replaces one.
        Err(_) => (Err(io::ErrorKind::Unsupported.into()), false),
        Ok(()) => {
            announce(dir, to);
            (Ok(()), false)
        }
    }
}

/// Whether a file of ours can be renamed without replacing anything, tried with a name that is fine.
fn knows_rename_new(dir: &Dir, staged: &OsStr) -> bool {
    let other = names::fresh(Role::Stage);
    dir.rename_new(staged, &other).is_ok() && dir.rename(&other, staged).is_ok()
}

/// Moves something to a name that nobody else can have taken: it is unguessable, or a lock keeps other writers away.
pub(crate) fn rename_to_free(dir: &Dir, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match dir.rename_new(from, to) {
        Err(e) if sys::rename_unsupported(&e) => dir.rename(from, to),
        renamed => renamed,
    }
}
