//! The one place that asks: is anything pending in this directory of an old version?
//!
//! The next version begins as a copy of what is in the old one, and the old one goes. A record in it would go,
//! too, and what it was about be torn for ever; so it is recovered before anything of its directory is
//! copied, or the update fails. A record speaks only of what is in its own directory or below, and directories are
//! copied from the top down.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use crate::dir::recovery::{Found, recover_swaps};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::{self, Role};
use crate::overwrite::recovery::{Root, Undone, recover_undo};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::report::RecoveryReport;
use crate::set::writer_lock::WriterLock;
use crate::sys::Dir;
use crate::transaction::recovery::recover_transactions;

/// Whether what has this name would be lost with the old version: a record, or a version that may be the
/// last complete one.
fn is_pending(name: &OsString) -> bool {
    matches!(names::role_of(name), Some(Role::Journal | Role::Swap | Role::Kept | Role::Undo))
}

/// Recovers what is pending in a directory that has these remnants. True if there was something, so that it
/// has to be listed anew. `path` is the directory's, for messages.
///
/// The error is `Locked` if a writer is at work, `Corrupt`, `Unsupported` or `Untrusted` for what can't be recovered.
pub(crate) fn recover_pending_in(dir: &Arc<Dir>, remnants: &[OsString], path: &Path) -> Result<bool> {
    let fail = |e| Error::io("recover what is pending in", path, e);
    let of = |wanted: Role| remnants.iter().filter(move |name| names::role_of(name) == Some(wanted));
    for lock in of(Role::Lock) {
        if WriterLock::is_file_held(dir, lock).map_err(fail)? {
            return Err(Error::new(ErrorKind::Locked, "carry over what a writer is at work in:", path));
        }
    }
    if !remnants.iter().any(is_pending) {
        return Ok(false);
    }
    let (policy, mut report) = (RemnantPolicy::of_writer(), RecoveryReport::default());
    let all = |wanted: Role| of(wanted).cloned().collect::<Vec<_>>();
    let (journals, staged) = (all(Role::Journal), all(Role::Change));
    if !journals.is_empty() {
        recover_transactions(dir, &journals, &staged, policy, &mut report).map_err(fail)?;
    }
    let swaps = Found { records: all(Role::Swap), kept: all(Role::Kept), trees: Vec::new() };
    if !swaps.is_empty() {
        recover_swaps(dir, &swaps, policy, &mut report).map_err(fail)?;
    }
    for name in of(Role::Undo) {
        let root = Root { dir, path };
        if let Undone::Left(state) = recover_undo(dir, name, policy, root).map_err(fail)? {
            report.add(state, name);
        }
    }
    for entry in dir.entries().map_err(fail)? {
        let (name, _) = entry.map_err(fail)?;
        if is_pending(&name) {
            let kind = report.stopper(&|left| left == name).map_or(ErrorKind::Locked, |(kind, _)| kind);
            return Err(Error::new(kind, "carry over what is pending at", &path.join(&name)));
        }
    }
    Ok(true)
}
