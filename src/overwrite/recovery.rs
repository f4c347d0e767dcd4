//! The end of an undo copy: by a recovery, by the next save, or by the save that made it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::parent_sync::sync_parent;
use crate::atomic::target::Target;
use crate::error::{Error, Result};
use crate::journal::encoding::Unusable;
use crate::options::WriteOptions;
use crate::overwrite::restore::Undo;
use crate::overwrite::undo_copy::{UndoDir, name_for};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::report::{RecoveryReport, RemnantState};
use crate::remnant::trust::{Found, Level, Trust, TrustPolicy};
use crate::sys::{self, Dir, File, Kind, Lock, absent};

/// The outcome for an undo copy.
#[derive(Debug)]
pub(crate) enum Undone {
    /// The file of this name, beside it, has its old content back.
    RestoredBeside(PathBuf),
    /// The file at this path below the root has.
    RestoredBelow(PathBuf),
    /// The copy was left, or moved aside.
    Left(RemnantState),
}

impl From<RemnantState> for Undone {
    fn from(state: RemnantState) -> Undone {
        Undone::Left(state)
    }
}

/// The tree whose files a recovery may change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root<'a> {
    pub(crate) dir: &'a Dir,
    pub(crate) path: &'a Path,
}

/// Restores the file that the undo copy of this name was made of, and removes the copy, or moves the copy aside. `dir`
/// is the directory that it is in.
pub(crate) fn recover_undo(
    dir: &Arc<Dir>,
    name: &OsStr,
    policy: RemnantPolicy,
    root: Root<'_>,
) -> io::Result<Undone> {
    let holder = Holder::new(dir, name, policy);
    let undo = match holder.open()? {
        Ok(undo) => undo,
        Err(state) => return Ok(state.into()),
    };
    if policy.is_young(dir, name)? {
        return Ok(RemnantState::InUse.into());
    }
    let Some((parent, file_name, told)) = locate(dir, &undo, root)? else {
        return Ok(RemnantState::Ignored.into());
    };
    let found = parent.as_deref().map_or(Ok(None), |parent| absent(parent.stat_at(&file_name)))?;
    // Without the mount, the name leads to another file; with it, it may lead to this one again.
    if undo.record.is_mount_point && !found.is_some_and(|found| found.mount_root) {
        return Ok(RemnantState::Unreadable.into());
    }
    let is_it = |stat: &sys::Stat| stat.kind == Kind::File && sys::lasting_ino(stat.id) == undo.record.ino;
    let Some(parent) = parent.filter(|_| found.as_ref().is_some_and(is_it)) else {
        return Ok(holder.quarantine()?.into());
    };
    let file = match parent.open_file_to_lock(&file_name) {
        Err(e) if sys::is_forbidden(&e) => return Ok(RemnantState::Unreadable.into()),
        opened => opened?,
    };
    if !is_it(&file.stat()?) {
        return Ok(RemnantState::InUse.into());
    }
    match file.try_lock()? {
        Lock::Held => {}
        // Only age can tell whether its writer lives, and has told.
        Lock::Unsupported if !policy.min_age.is_zero() => {}
        Lock::Unsupported | Lock::Elsewhere => return Ok(RemnantState::InUse.into()),
    }
    let state = holder.recover_locked(&undo, &file);
    let _ = file.unlock();
    Ok(match state? {
        UndoState::Restored if undo.record.name_beside().is_some() => Undone::RestoredBeside(told),
        UndoState::Restored => Undone::RestoredBelow(told),
        UndoState::Left(state) => state.into(),
    })
}

/// Where the file is that an undo copy was made of: its directory, or `None` if that is gone; its name there; its path
/// for reports. `None` as a whole if the file is not beneath the root.
type Located = Option<(Option<Arc<Dir>>, OsString, PathBuf)>;

fn locate(dir: &Arc<Dir>, undo: &Undo, root: Root<'_>) -> io::Result<Located> {
    if let Some(name) = undo.record.name_beside() {
        return Ok(Some((Some(Arc::clone(dir)), name.into(), name.to_owned())));
    }
    let real = sys::real_path(root.path)?;
    let below = undo.record.target.strip_prefix(real).ok();
    let Some((below, name)) = below.and_then(|below| Some((below, below.file_name()?))) else {
        return Ok(None);
    };
    let parent = below.parent().unwrap_or(Path::new(""));
    let opened = absent(root.dir.open_beneath(parent))?.map(Arc::new);
    Ok(Some((opened, name.to_owned(), below.to_owned())))
}

/// Before a save: recovers what earlier ones left of its target, unless one is at work right now. True if something was
/// restored.
pub(super) fn recover_pending(target: &Target, options: &WriteOptions) -> Result<bool> {
    let mut restored = false;
    for undo in undo_dirs(target, options) {
        if undo.dir.stat_at(&undo.name).is_err() {
            continue;
        }
        let fail = |e| Error::io("restore the old content of", &target.path, e);
        let file = match target.dir.open_file_to_lock(&target.name) {
            // Then it can't be overwritten either.
            Err(e) if sys::is_forbidden(&e) => continue,
            opened => opened.map_err(fail)?,
        };
        if file.try_lock().map_err(fail)? == Lock::Held {
            let is_restored = recover_here(&undo, &file, target);
            let _ = file.unlock();
            restored |= is_restored?;
        }
    }
    Ok(restored)
}

/// Recovers what earlier saves left of the target, for a save that has locked the file.
pub(super) fn recover_by_holder(target: &Target, options: &WriteOptions, file: &File) -> Result<()> {
    for undo in undo_dirs(target, options) {
        recover_here(&undo, file, target)?;
    }
    Ok(())
}

/// By the save that made it, which knows that the file is its own work.
pub(super) fn restore_own(undo: &UndoDir, file: &File) -> io::Result<()> {
    let holder = Holder::new(&undo.dir, &undo.name, RemnantPolicy::default());
    match holder.open()? {
        Ok(copy) => holder.restore(&copy, file),
        Err(_) => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A directory that can't be opened holds nothing that could be used.
fn undo_dirs(target: &Target, options: &WriteOptions) -> impl Iterator<Item = UndoDir> {
    let named = UndoDir::named(target, options).unwrap_or(None);
    std::iter::once(UndoDir::of_target(target)).chain(named)
}

fn recover_here(undo: &UndoDir, file: &File, target: &Target) -> Result<bool> {
    let fail = |e| Error::io("restore the old content of", &target.path, e);
    let holder = Holder::new(&undo.dir, &undo.name, RemnantPolicy::default());
    let state = match holder.open().map_err(fail)? {
        Ok(copy) => {
            let ino = sys::lasting_ino(file.stat().map_err(fail)?.id);
            let state = match copy.record.ino == ino {
                true => holder.recover_locked(&copy, file).map_err(fail)?,
                // It is of the file that this one has replaced.
                false => UndoState::Left(holder.quarantine().map_err(fail)?),
            };
            match state {
                UndoState::Restored => return Ok(true),
                UndoState::Left(state) => state,
            }
        }
        Err(state) => state,
    };
    let mut report = RecoveryReport::default();
    report.add(state, &undo.name);
    match report.stopper(&|_| true) {
        Some((kind, name)) => Err(Error::new(kind, RECORD, &undo.path.join(name))),
        None => Ok(false),
    }
}

const RECORD: &str = "recover the interrupted save of the record";

enum UndoState {
    Restored,
    Left(RemnantState),
}

/// The owner of the undo copy of this name, which deals with it.
struct Holder<'d> {
    trust: Trust<'d>,
    name: &'d OsStr,
    policy: RemnantPolicy,
}

impl<'d> Holder<'d> {
    fn new(dir: &'d Dir, name: &'d OsStr, policy: RemnantPolicy) -> Holder<'d> {
        // Whoever may write in the tree may not for that reason say what a file held.
        let policy = RemnantPolicy { trust_others: false, ..policy };
        let trust = Trust::new(dir, TrustPolicy { others: false, no_probe: policy.dry_run });
        Holder { trust, name, policy }
    }

    /// Opens the copy if it is to be obeyed; else says what became of it.
    fn open(&self) -> io::Result<std::result::Result<Undo, RemnantState>> {
        let file = match self.trust.open_file(self.name, Level::Obeyed)? {
            Found::Absent => return Ok(Err(RemnantState::Ignored)),
            Found::Untrusted => return Ok(Err(RemnantState::Untrusted)),
            Found::Trusted(file) => file,
        };
        match Undo::read(file)? {
            Ok(undo) if name_for(&undo.record.target) == self.name => Ok(Ok(undo)),
            Err(Unusable::Unknown) if !self.policy.abandon => Ok(Err(RemnantState::Unreadable)),
            Ok(_) | Err(_) => self.quarantine().map(Err),
        }
    }

    /// The file is locked: no save is at work, and no other recovery.
    fn recover_locked(&self, undo: &Undo, file: &File) -> io::Result<UndoState> {
        // The save may have ended between finding and locking.
        let copy = undo.file.stat()?.id;
        if !self.trust.dir().leads_to(self.name, copy)? {
            return Ok(UndoState::Left(RemnantState::Ignored));
        }
        if !undo.is_sound()? || !undo.explains(file)? {
            return self.quarantine().map(UndoState::Left);
        }
        if !self.policy.dry_run {
            self.restore(undo, file)?;
        }
        Ok(UndoState::Restored)
    }

    /// The copy goes once the file is durable, and its removal is made durable: were it to come back after a later
    /// save, it would be in the way of that one.
    fn restore(&self, undo: &Undo, file: &File) -> io::Result<()> {
        undo.restore(file)?;
        absent(self.trust.dir().unlink(self.name))?;
        sync_parent(self.trust.dir()).map(|_| ())
    }

    fn quarantine(&self) -> io::Result<RemnantState> {
        self.policy.quarantine(&self.trust, self.name)
    }
}
