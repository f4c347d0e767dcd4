//! The new content, on its way: a file that no reader sees yet.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::metadata;
use super::names::{self, Role};
use super::stream::Stream;
use super::sync_set::How;
use super::target::Target;
use crate::options::WriteOptions;
use crate::sys::{Dir, Existing, File, Kind, Lock, Stat};
use crate::{Error, Result};

/// How often a name that is taken, or was taken for an orphan, is tried anew.
pub(super) const TRIES: usize = 16;

/// A staged file and where it will go. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    /// The name that it has beside the target, if it has one. Dropped first, under the lock.
    pub(super) name: Option<StagedName>,
    /// What is written into it.
    pub(crate) stream: Stream,
    /// Its stat right after creation.
    pub(super) stat: Stat,
    pub(crate) target: Target,
}

impl Staged {
    /// Creates the staged file, and makes sure that it can be published.
    pub(crate) fn create(target: Target, options: &WriteOptions) -> Result<Staged> {
        names::prepare();
        match create_file(&target, options) {
            Ok((name, file, stat)) => {
                let stream = Stream::new(file, &target.path, options.into());
                Ok(Staged { name, stream, stat, target })
            }
            Err(e) => Err(Error::io("create a file beside", &target.path, e)),
        }
    }

    /// Everything that must be true of the file before a name leads to it.
    pub(super) fn finish(&mut self, how: How, options: &WriteOptions) -> Result<()> {
        metadata::apply(self.file(), &self.stat, self.target.existing.as_ref(), options)
            .map_err(|e| Error::io("set the metadata of", &self.target.path, e))?;
        let synced = match how {
            How::Nothing => Ok(()),
            How::SingleFlush => self.file().written_out(),
            How::PerFile | How::Together | How::Adaptive | How::AdaptiveInTurn | How::FileSystem => {
                self.file().sync()
            }
        };
        synced.map_err(|e| Error::io("sync", &self.target.path, e))
    }

    pub(crate) fn discard(mut self) -> Result<()> {
        let removed = self.name.take().map_or(Ok(()), StagedName::remove);
        removed.map_err(|e| Error::io("remove the staged file of", &self.target.path, e))
    }

    pub(super) fn file(&self) -> &File {
        self.stream.file()
    }
}

/// A name that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct StagedName {
    dir: Arc<Dir>,
    name: OsString,
}

impl StagedName {
    pub(super) fn new(dir: &Arc<Dir>, name: OsString) -> StagedName {
        StagedName { dir: Arc::clone(dir), name }
    }

    pub(crate) fn as_name(&self) -> &OsStr {
        &self.name
    }

    /// It is not ours any more.
    pub(crate) fn leave(mut self) {
        self.name.clear();
    }

    fn remove(mut self) -> io::Result<()> {
        let name = std::mem::take(&mut self.name);
        self.dir.unlink(&name)
    }
}

impl Drop for StagedName {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            // An error here is one more on the way out of another; recovery takes care of the rest.
            let _ = self.dir.unlink(&self.name);
        }
    }
}

pub(crate) type Created = (Option<StagedName>, File, Stat);

/// Without a name where possible: then a crash leaves nothing, and nobody can have planted
/// anything at the name.
fn create_file(target: &Target, options: &WriteOptions) -> io::Result<Created> {
    if let Some(file) = target.dir.create_unnamed(creation_mode(target, options))? {
        if file.can_be_linked(&target.dir) {
            let stat = file.stat()?;
            return Ok((None, file, stat));
        }
    }
    create_with_name(target, options)
}

/// It has a name from the start: nobody else may open it before owner and group are right.
pub(super) fn create_with_name(target: &Target, options: &WriteOptions) -> io::Result<Created> {
    let mode = creation_mode(target, options);
    let keeps = metadata::is_needed(target.existing.as_ref(), options);
    create_named(target, if keeps { mode & 0o700 } else { mode })
}

/// The mode to create a staged file with; never wider than the target's will be.
pub(crate) fn creation_mode(target: &Target, options: &WriteOptions) -> u32 {
    creation_mode_of(target.existing.as_ref(), options)
}

/// The same by what stands at the target's name.
pub(crate) fn creation_mode_of(existing: Option<&Existing>, options: &WriteOptions) -> u32 {
    let old = existing.filter(|old| old.stat.kind == Kind::File && !options.forget_metadata);
    match (&options.permissions, old) {
        (Some(permissions), _) => super::mode_of_permissions(permissions) & 0o700,
        (None, Some(old)) => old.stat.mode & 0o777,
        (None, None) => 0o666,
    }
}

pub(super) fn create_named(target: &Target, mode: u32) -> io::Result<Created> {
    create_named_in(&target.dir, mode)
}

/// A staged file with a name, locked, in this directory.
pub(crate) fn create_named_in(dir: &Arc<Dir>, mode: u32) -> io::Result<Created> {
    for _ in 0..TRIES {
        let name = names::fresh(Role::Stage);
        let file = match dir.create_new(&name, mode) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            created => created?,
        };
        let name = StagedName::new(dir, name);
        if let Some(stat) = lock_named(&file)? {
            return Ok((Some(name), file, stat));
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The lock tells recovery that the writer lives. None if a recovery that runs right now was
/// quicker and took the file for an orphan.
fn lock_named(file: &File) -> io::Result<Option<Stat>> {
    let locked = file.try_lock()?;
    let stat = file.stat()?;
    Ok((locked != Lock::Elsewhere && stat.nlink > 0).then_some(stat))
}
