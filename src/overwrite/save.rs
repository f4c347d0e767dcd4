//! A save that may overwrite its target: when it does, and the steps.

use std::io;

use crate::atomic::parent_sync::{reached, sync_parent};
use crate::atomic::publish::Guard;
use crate::atomic::staged::Staged;
use crate::atomic::sync_mode::FileSync;
use crate::atomic::target::{Target, refuse_no_path};
use crate::cancel::CancelToken;
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::options::durability::{Committed, Durability};
use crate::options::{InPlace, Symlinks, WriteOptions};
use crate::overwrite::lock::LockedFile;
use crate::overwrite::record::CHUNK;
use crate::overwrite::recovery::{recover_by_holder, recover_pending, restore_own};
use crate::overwrite::undo_copy::UndoDir;
use crate::sys::{self, File, Kind};

const OVERWRITE: &str = "overwrite in place";

/// Setuid and setgid.
const SET_IDS: u32 = 0o6000;

/// Refuses what makes no sense together, before anything is touched: what is overwritten keeps nothing of what it was.
pub(crate) fn check(options: &WriteOptions, path: &std::path::Path) -> Result<()> {
    if let Some(undo_dir) = &options.undo_dir {
        refuse_no_path("open the undo directory", undo_dir)?;
    }
    if options.in_place == InPlace::Never {
        return Ok(());
    }
    let other = match options {
        WriteOptions { create_new: true, .. } => "`create_new`",
        WriteOptions { keep_previous: Some(_), .. } => "`keep_previous`",
        WriteOptions { symlinks: Symlinks::Replace, .. } => "`Symlinks::Replace`",
        _ => return Ok(()),
    };
    let refused = Error::new(ErrorKind::Unsupported, OVERWRITE, path);
    Err(refused.because(format!("`InPlace::Fallback` and {other} exclude each other")))
}

/// Creates the staged file of a save, in the undo directory if the target's own takes none.
pub(crate) fn stage(target: Target, options: &WriteOptions) -> Result<Staged> {
    if !may_overwrite(&target, options) {
        return Staged::create(target, options);
    }
    match Staged::create(target.clone(), options) {
        Err(e) if e.is_refused_replacement() => {}
        created => return created,
    }
    match UndoDir::named(&target, options)? {
        Some(undo) => undo.stage(target, options).map_err(|e| nowhere(e, &undo)),
        None => Err(no_undo_dir(&target)),
    }
}

/// The first step of a save, once its target is known: what an earlier save left half overwritten gets its old content
/// back.
pub(crate) fn begin(target: &mut Target, options: &WriteOptions) -> Result<()> {
    if may_overwrite(target, options) && recover_pending(target, options)? {
        target.judge_again(options)?;
    }
    Ok(())
}

/// Makes the staged content the target's: by a rename if that can be, else by overwriting the target. The guard's last
/// check is made right before either.
pub(crate) fn publish(staged: Staged, options: &WriteOptions, guard: &mut dyn Guard) -> Result<Committed> {
    if !may_overwrite(&staged.target, options) {
        return staged.publish_guarded(options, guard);
    }
    let (target, path) = (staged.target.without_pin(), staged.target.path.clone());
    let new = staged.file().duplicate().map_err(|e| Error::io("keep the staged file of", &path, e))?;
    let is_mount_point = target.existing.as_ref().is_some_and(|existing| existing.stat.mount_root);
    if staged.is_elsewhere || is_mount_point {
        // Step 1. What can't be written out could not be read back either.
        sync_mode(&new, &target, options)?.perform(&new).map_err(|e| Error::io("sync", &path, e))?;
        staged.discard()?;
        return overwrite(&target, &new, options, guard);
    }
    // A replacement that is refused leaves the guard as it was.
    match staged.publish_guarded(options, guard) {
        Err(e) if e.is_refused_replacement() => overwrite(&target, &new, options, guard),
        published => published,
    }
}

/// Only a file can be overwritten, and not on Windows: a locked file has one handle there.
fn may_overwrite(target: &Target, options: &WriteOptions) -> bool {
    let is_file = target.existing.as_ref().is_some_and(|existing| existing.stat.kind == Kind::File);
    is_file && options.in_place == InPlace::Fallback && cfg!(not(windows))
}

fn sync_mode(file: &File, target: &Target, options: &WriteOptions) -> Result<FileSync> {
    let fail = |e| Error::io("inspect", &target.path, e);
    let stat = file.stat().map_err(fail)?;
    let kind = file.fs_kind(&stat).map_err(fail)?;
    // With `None`, too: what a power cut leaves must be what a recovery can make sense of.
    let durability = options.durability.max(Durability::Data);
    Ok(FileSync::resolve(durability, false, &target.dir, (kind, &stat)))
}

/// Steps 2 to 6.
fn overwrite(target: &Target, new: &File, options: &WriteOptions, guard: &dyn Guard) -> Result<Committed> {
    CancelToken::check(options.cancel.as_ref(), &target.path)?;
    let old = LockedFile::open(target, options, guard.locked_target())?;
    recover_by_holder(target, options, &old.file)?;
    guard.last_check(target)?;
    // What can fail for no reason of its own comes before the copy is made.
    let sync = sync_mode(&old.file, target, options)?;
    let kind = old.file.fs_kind(&old.stat).map_err(|e| Error::io("inspect", &target.path, e))?;
    let (undo, undo_durability) = make_copy(&old, new, target, options)?;
    let saving = Overwriting { old: &old, new, target, undo: &undo };
    saving.reserve()?;
    saving.write(options)?;
    saving.sync(sync)?;
    let mut durability = saving.commit(options.durability)?;
    if undo_durability < Durability::Full {
        // A power cut might have found the file torn, and no undo copy.
        durability = Durability::None;
    }
    Ok(Committed { in_place: true, ..Committed::new(kind.cap_durability(durability)) })
}

/// Step 3, in the first directory that takes the copy.
fn make_copy(
    old: &LockedFile,
    new: &File,
    target: &Target,
    options: &WriteOptions,
) -> Result<(UndoDir, Durability)> {
    let beside = UndoDir::of_target(target);
    match beside.make_copy(old, new, target, options) {
        Err(e) if e.is_refused_replacement() => {}
        made => return made.map(|durability| (beside, durability)),
    }
    let Some(undo) = UndoDir::named(target, options)? else { return Err(no_undo_dir(target)) };
    match undo.make_copy(old, new, target, options) {
        Err(e) => Err(nowhere(e, &undo)),
        made => made.map(|durability| (undo, durability)),
    }
}

fn no_undo_dir(target: &Target) -> Error {
    let told = Error::new(ErrorKind::Unsupported, OVERWRITE, &target.path);
    told.because("its directory takes no undo copy, and `undo_dir` names no other one")
}

/// An error of the directory that the caller named: where that takes no file, nothing can be overwritten.
fn nowhere(e: Error, undo: &UndoDir) -> Error {
    match e.is_refused_replacement() {
        true => Error::caused(ErrorKind::Unsupported, "make an undo copy in", &undo.path, e),
        false => e,
    }
}

/// A file whose undo copy is made.
struct Overwriting<'a> {
    old: &'a LockedFile,
    new: &'a File,
    target: &'a Target,
    undo: &'a UndoDir,
}

impl Overwriting<'_> {
    /// Step 4. Nothing has changed yet.
    fn reserve(&self) -> Result<()> {
        let reserved = self.new.stat().and_then(|new| self.old.file.reserve(new.size));
        reserved.map_err(|e| {
            let _ = self.undo.dir.unlink(&self.undo.name);
            Error::io("reserve room for", &self.target.path, e)
        })
    }

    /// Step 5, less the sync. If it fails, the old content comes back.
    fn write(&self, options: &WriteOptions) -> Result<()> {
        let written = self.set_mode(options).and_then(|()| self.copy());
        written.map_err(|e| {
            let failed = Error::io(OVERWRITE, &self.target.path, e);
            match restore_own(self.undo, &self.old.file) {
                Ok(()) => failed,
                Err(_) => failed.with_target(TargetState::Pending),
            }
        })
    }

    /// The mode that was asked for, else the old one without setuid and setgid: they were given to the old content.
    fn set_mode(&self, options: &WriteOptions) -> io::Result<()> {
        let asked = options.asked_mode();
        let (old, file) = (self.old.stat.mode, &self.old.file);
        match asked.unwrap_or(old & !SET_IDS) {
            mode if mode == old => Ok(()),
            mode => match file.set_mode(mode) {
                // The write drops them for those who may not.
                Err(e) if asked.is_none() && sys::is_denied(&e) => Ok(()),
                set => set,
            },
        }
    }

    fn copy(&self) -> io::Result<()> {
        let (mut chunk, mut at) = (vec![0; CHUNK as usize], 0);
        loop {
            let read = self.new.read_full(&mut chunk, at)?;
            let Some(data) = chunk.get(..read).filter(|data| !data.is_empty()) else { break };
            self.old.file.write_full(data, at)?;
            at += read as u64;
        }
        match self.old.file.stat()?.size == at {
            true => Ok(()),
            false => self.old.file.truncate(at),
        }
    }

    /// Step 5: after a failed sync nobody knows what is on the disk, and nothing is synced again here.
    fn sync(&self, sync: FileSync) -> Result<()> {
        let synced = sync.perform(&self.old.file);
        synced.map_err(|e| Error::io("sync", &self.target.path, e).with_target(TargetState::Pending))
    }

    /// Step 6.
    fn commit(&self, durability: Durability) -> Result<Durability> {
        let UndoDir { dir, name, .. } = self.undo;
        // As long as there is one, a recovery brings the old content back.
        dir.unlink(name).map_err(|e| {
            let failed = Error::io("remove the undo copy of", &self.target.path, e);
            failed.with_target(TargetState::Pending)
        })?;
        if durability != Durability::Full {
            return Ok(durability);
        }
        let synced = sync_parent(dir).map_err(|e| {
            let failed = Error::io("sync the undo directory of", &self.target.path, e);
            failed.with_target(TargetState::Replaced)
        })?;
        Ok(reached(durability, synced))
    }
}
