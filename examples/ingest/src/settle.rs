//! The start of the service: what a crash left is put right before anything else is done.

use durafile::Recovery;
use serde::Serialize;

use crate::failure::Outcome;
use crate::item::{Held, exists};
use crate::layout::{Layout, RecordingId};
use crate::ledger::{Ledger, State};
use crate::moves::{Moved, move_file, same};

/// How many things were settled, for the status.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Settled {
    removed: usize,
    completed: usize,
    rolled_back: usize,
    in_use: usize,
    quarantined: usize,
    unreadable: usize,
    /// Retries that were asked for and not finished.
    retried: usize,
    /// Lock files of dead services.
    locks: usize,
}

pub(crate) fn settle(layout: &Layout, ledger: &Ledger) -> Outcome<Settled> {
    let recovery = durafile::recover(layout.root())?;
    report(&recovery);
    let settled = Settled {
        removed: recovery.removed().len(),
        completed: recovery.completed().len(),
        rolled_back: recovery.rolled_back().len(),
        in_use: recovery.in_use().len(),
        quarantined: recovery.quarantined().len(),
        unreadable: recovery.unreadable().len(),
        retried: finish_retries(layout, ledger)?,
        locks: sweep_locks(layout)?,
    };
    tracing::info!(?settled, "settled what the last run left");
    Ok(settled)
}

fn report(recovery: &Recovery) {
    let lists = [
        ("removed the rest of an interrupted save", recovery.removed()),
        ("completed an interrupted save", recovery.completed()),
        ("took back an interrupted save", recovery.rolled_back()),
        ("this could not be judged, please look at it", recovery.quarantined()),
        ("this could not be looked at, check the permissions", recovery.unreadable()),
    ];
    for (what, paths) in lists {
        for path in paths {
            tracing::warn!(path = %path.display(), "{what}");
        }
    }
}

/// The command writes the ledger first, then moves the file; here the second step is made good.
fn finish_retries(layout: &Layout, ledger: &Ledger) -> Outcome<usize> {
    let mut count = 0;
    for id in Layout::recordings(&layout.failed_dir())? {
        let Some(held) = Held::try_take(layout.lock(&id))? else { continue };
        if ledger.find(&id)?.is_none_or(|entry| entry.state == State::Waiting) {
            // If another came under that name, the worker gives that one a name of its own first.
            if move_file(&layout.failed(&id), &layout.waiting(&id))? == Moved::There {
                count += 1;
            }
        } else if is_done_too(layout, &id)? {
            let _ = move_file(&layout.failed(&id), &layout.done(&id))?;
        }
        drop(held);
    }
    Ok(count)
}

/// It was retried and done, and a power cut brought back the name that it had before.
fn is_done_too(layout: &Layout, id: &RecordingId) -> Outcome<bool> {
    let (failed, done) = (layout.failed(id), layout.done(id));
    Ok(exists(&done)? && same(&failed, &done)?)
}

/// Taking a lock that nobody has, and dropping it, removes its file.
fn sweep_locks(layout: &Layout) -> Outcome<usize> {
    let mut count = 0;
    for entry in fs_err::read_dir(layout.locks()).map_err(crate::failure::Failure::Disk)? {
        let path = entry.map_err(crate::failure::Failure::Disk)?.path();
        if path.extension().is_some_and(|ext| ext == "lock") && Held::try_take(path)?.is_some() {
            count += 1;
        }
    }
    Ok(count)
}
