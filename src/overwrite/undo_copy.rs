//! Step 3: where the undo copy lies, and how it is made.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::metadata;
use crate::atomic::staged::Staged;
use crate::atomic::target::Target;
use crate::cancel::CancelToken;
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::journal::checksum::{Checksum, checksum};
use crate::journal::encoding::check_length;
use crate::names::{self, Role};
use crate::options::WriteOptions;
use crate::options::durability::Durability;
use crate::overwrite::lock::LockedFile;
use crate::overwrite::record::{CHUNK, UndoRecord, sums_of};
use crate::sys::{self, Dir, File};

/// A directory in which an undo copy of the target may lie, and the name that it has there.
#[derive(Debug)]
pub(super) struct UndoDir {
    pub(super) dir: Arc<Dir>,
    pub(super) name: OsString,
    /// Where the directory is, for messages.
    pub(super) path: PathBuf,
    /// How a record there says which file it is about.
    target: PathBuf,
}

/// The name of the undo copy of a target that a record speaks of so.
pub(super) fn name_for(target: &Path) -> OsString {
    names::for_target(Role::Undo, target.as_os_str())
}

impl UndoDir {
    /// The target's own directory.
    pub(super) fn of_target(target: &Target) -> UndoDir {
        let (dir, beside) = (Arc::clone(&target.dir), PathBuf::from(&target.name));
        let path = target.path.parent().unwrap_or(Path::new("")).to_owned();
        UndoDir { dir, name: name_for(&beside), path, target: beside }
    }

    /// The one that the caller named, if one was named.
    pub(super) fn named(target: &Target, options: &WriteOptions) -> Result<Option<UndoDir>> {
        let Some(path) = &options.undo_dir else { return Ok(None) };
        let cannot = |e| Error::caused(ErrorKind::Unsupported, "open the undo directory", path, e);
        let dir = Arc::new(Dir::open(path).map_err(cannot)?);
        let real = real_path(target)?;
        Ok(Some(UndoDir { dir, name: name_for(&real), path: path.clone(), target: real }))
    }

    /// A staged file in this directory for the new content of a target that lies elsewhere.
    pub(super) fn stage(&self, target: Target, options: &WriteOptions) -> Result<Staged> {
        let here = self.as_target(&target.path);
        let (cancel, size_limit) = (options.cancel.clone(), options.size_limit);
        let staged = Staged::create(here, &WriteOptions { cancel, size_limit, ..private() })?;
        Ok(Staged { target, is_elsewhere: true, ..staged })
    }

    /// The undo copy as something to be saved. Errors name the path of the file that it is of.
    fn as_target(&self, path: &Path) -> Target {
        Target::new(Arc::clone(&self.dir), self.name.clone(), path)
    }

    /// Makes the undo copy. Says how durable it is; where that is less than [`Durability::Full`], a power cut may
    /// take it and leave the file torn.
    pub(super) fn make_copy(
        &self,
        old: &LockedFile,
        new: &File,
        target: &Target,
        options: &WriteOptions,
    ) -> Result<Durability> {
        let path = &target.path;
        let fail = |e| Error::io("make the undo copy of", path, e);
        let record = self.record(old, new).map_err(fail)?;
        let options = WriteOptions { cancel: options.cancel.clone(), ..private() };
        let mut staged = Staged::create(self.as_target(path), &options)?;
        metadata::check_encryption(&old.stat, &staged.stat).map_err(fail)?;
        staged.stream.write(&record.encode())?;
        let mut sum = Checksum::new();
        let mut chunk = vec![0; CHUNK as usize];
        loop {
            CancelToken::check(options.cancel.as_ref(), path)?;
            let read = old.file.read_at(&mut chunk, sum.len()).map_err(fail)?;
            let Some(data) = chunk.get(..read).filter(|data| !data.is_empty()) else { break };
            sum.add(data);
            staged.stream.write(data)?;
        }
        if (sum.len(), sum.value()) != (record.old_len, record.old_sum) {
            let busy = Error::new(ErrorKind::Busy, "make the undo copy of", path);
            return Err(busy.because("another program is writing to it"));
        }
        staged.stream.finish()?;
        match staged.publish(&options) {
            Ok(committed) => Ok(committed.durability()),
            Err(e) if e.target() == TargetState::Unchanged => Err(e),
            Err(e) => {
                // The copy may have its name. The file that it is of is untouched, so that it can go; a recovery
                // that finds it restores what is there.
                let _ = self.dir.unlink(&self.name);
                Err(e.with_target(TargetState::Unchanged))
            }
        }
    }

    fn record(&self, old: &LockedFile, new: &File) -> std::io::Result<UndoRecord> {
        let (old_len, new_len) = (old.file.stat()?.size, new.stat()?.size);
        check_length(UndoRecord::length_for(&self.target, new_len))?;
        Ok(UndoRecord {
            target: self.target.clone(),
            ino: sys::lasting_ino(old.stat.id),
            mode: old.stat.mode,
            is_mount_point: old.stat.mount_root,
            old_len,
            old_sum: checksum(&old.file)?,
            new_len,
            new_sums: sums_of(new, new_len, old_len)?,
        })
    }
}

/// Nobody else may read what the file's owner hides, nor make up what a recovery obeys.
fn private() -> WriteOptions {
    let options = WriteOptions::new();
    WriteOptions { permissions: sys::private_permissions(), permissions_may_differ: true, ..options }
}

/// The path of the target without links in it. It must lead to where the target was found.
fn real_path(target: &Target) -> Result<PathBuf> {
    let fail = |e| Error::io("find the real path of", &target.path, e);
    let real = sys::real_path(&target.path).map_err(fail)?;
    let parent = Dir::open(real.parent().unwrap_or(Path::new("/"))).map_err(fail)?;
    let is_same = parent.stat().map_err(fail)?.id == target.dir.stat().map_err(fail)?.id;
    if is_same && real.file_name() == Some(OsStr::new(&target.name)) {
        return Ok(real);
    }
    let moved = Error::new(ErrorKind::Busy, "find the real path of", &target.path);
    Err(moved.because("the path leads elsewhere meanwhile"))
}
