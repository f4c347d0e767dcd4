//! The writer's lock where names are not compared by their bytes.
//!
//! A file system that folds case has one directory for `site` and `Site`, and so there must be one writer. All of
//! them take the lock of the name in lower case first, and then that of the name as the directory lists it, which
//! records and recoveries use. Composed and decomposed letters are not brought together while nothing has the name.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use crate::atomic::spelling::{is_one_entry, loose_key, lower_case};
use crate::dir::record::SwapRecord;
use crate::dir::target::DirTarget;
use crate::error::{Error, Result};
use crate::names::{self, Role};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::trust::{Found, Level};
use crate::set::options::SetOptions;
use crate::set::writer_lock::WriterLock;
use crate::sys::{Dir, absent};

/// The right to replace a directory, given up when dropped.
#[derive(Debug)]
pub(crate) struct EntryLock {
    _own: WriterLock,
    /// That of all spellings, where there may be several.
    _shared: Option<WriterLock>,
}

impl EntryLock {
    /// Waits for it as the options say. `target` has its name as it is listed, afterwards.
    pub(super) fn take(target: &mut DirTarget, options: &SetOptions) -> Result<EntryLock> {
        let patience = options.patience(&target.path);
        let take = |name: &OsStr| WriterLock::take_for_set(&target.parent, name, &patience);
        let fail = |e| Error::io("compare the spelling of", &target.path, e);
        if !folds_case(&target.parent, &target.name).map_err(fail)? {
            return Ok(EntryLock { _own: take(&target.name)?, _shared: None });
        }
        let lower = lower_case(&target.name);
        let shared = take(&lower)?;
        let listed = listed_spelling(&target.parent, &target.name).map_err(fail)?;
        if listed == lower {
            return Ok(EntryLock { _own: shared, _shared: None });
        }
        let own = take(&listed)?;
        target.name = listed;
        Ok(EntryLock { _own: own, _shared: Some(shared) })
    }
}

/// Does the directory compare names without regard to case, as far as this name goes?
fn folds_case(dir: &Arc<Dir>, name: &OsStr) -> io::Result<bool> {
    let text = name.to_string_lossy();
    let other = swap_case(&text);
    // A name that isn't Unicode has no other case.
    if other == text || name.to_str().is_none() {
        return Ok(false);
    }
    if let Some(is_one) = is_one_entry(dir, name, other.as_ref())? {
        return Ok(is_one);
    }
    // Nothing is there to ask about: so a file of our own is, which goes at once, and with the next recovery if not.
    let Some(probe) = WriterLock::try_take(dir, &names::fresh(Role::Stage))? else { return Ok(false) };
    let other = swap_case(&probe.name().to_string_lossy());
    Ok(absent(dir.stat_at(other.as_ref()))?.is_some())
}

fn swap_case(name: &str) -> String {
    let swapped = |letter: char| match letter.is_lowercase() {
        true => letter.to_uppercase().collect::<String>(),
        false => letter.to_lowercase().collect(),
    };
    name.chars().map(swapped).collect()
}

/// The name as the directory lists it or, while it is missing between the two steps of a swap, as the record
/// has it.
fn listed_spelling(dir: &Arc<Dir>, name: &OsStr) -> io::Result<OsString> {
    let lower = lower_case(name);
    let mut listed =
        dir.entries()?.map(|entry| entry.map(|(name, _)| name)).collect::<io::Result<Vec<_>>>()?;
    if listed.iter().any(|listed| listed == name) {
        return Ok(name.to_owned());
    }
    let looks_alike = |other: &OsStr| loose_key(other.as_ref()) == loose_key(name.as_ref());
    for other in listed.iter().filter(|other| looks_alike(other)) {
        if is_one_entry(dir, name, other)? == Some(true) {
            return Ok(other.clone());
        }
    }
    listed.retain(|name| names::role_of(name) == Some(Role::Swap));
    let policy = RemnantPolicy::of_writer();
    let trust = policy.trust(dir);
    for record in listed {
        // One that can't be read, or isn't to be believed, is refused by whoever recovers it.
        let Ok(Found::Trusted(file)) = trust.open_file(&record, Level::Obeyed) else { continue };
        let Ok(Ok((record, _))) = SwapRecord::read(&record, &file) else { continue };
        if lower_case(&record.target) == lower {
            return Ok(record.target);
        }
    }
    Ok(name.to_owned())
}
