//! The new content, on its way: a file that no reader sees yet.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use super::metadata;
use super::names::{self, Role};
use super::target::Target;
use crate::options::{Durability, WriteOptions};
use crate::sys::{Dir, File, Kind, Lock, Stat};
use crate::{Error, ErrorKind, Result};

/// One write passes at most so much, so that nothing uninterruptible lasts long.
const CHUNK: usize = 1 << 20;

/// After so much new data, write-back to the device is started, and the stretch before is
/// waited for: never more than twice this is left for the sync.
const WRITE_OUT: u64 = 8 << 20;

/// How often a name that is taken, or was taken for an orphan, is tried anew.
pub(super) const TRIES: usize = 16;

/// A staged file and where it will go. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    /// The name that it has beside the target, if it has one. Dropped first, under the lock.
    pub(super) name: Option<StagedName>,
    pub(super) file: File,
    /// Its stat right after creation.
    pub(super) stat: Stat,
    pub(crate) target: Target,
    /// Where the stretch begins that is not on its way to the device yet.
    started: u64,
}

impl Staged {
    /// Creates the staged file, and makes sure that it can be published.
    pub(crate) fn create(target: Target, options: &WriteOptions) -> Result<Staged> {
        names::prepare();
        match create_file(&target, options) {
            Ok((name, file, stat)) => Ok(Staged { name, file, stat, target, started: 0 }),
            Err(e) => Err(Error::io("create a file beside", &target.path, e)),
        }
    }

    /// Writes all of it at `offset`.
    pub(crate) fn write_all_at(&mut self, data: &[u8], offset: u64, options: &WriteOptions) -> Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        if options.size_limit.is_some_and(|limit| end > limit) {
            return Err(Error::new(ErrorKind::TooLarge, "write", &self.target.path));
        }
        let mut at = offset;
        for chunk in data.chunks(CHUNK) {
            self.write_chunk(chunk, at).map_err(|e| Error::io("write", &self.target.path, e))?;
            at += chunk.len() as u64;
            if options.durability != Durability::None {
                self.start_write_out(at);
            }
        }
        Ok(())
    }

    fn write_chunk(&self, mut chunk: &[u8], mut at: u64) -> io::Result<()> {
        while !chunk.is_empty() {
            match self.file.write_at(chunk, at)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => {
                    chunk = chunk.get(written..).unwrap_or_default();
                    at += written as u64;
                }
            }
        }
        Ok(())
    }

    fn start_write_out(&mut self, end: u64) {
        let length = end.saturating_sub(self.started);
        if length >= WRITE_OUT {
            if let Some(before) = self.started.checked_sub(length) {
                self.file.write_out(before, length, true);
            }
            self.file.write_out(self.started, length, false);
            self.started = end;
        }
    }

    /// Everything that must be true of the file before a name leads to it.
    pub(super) fn finish(&mut self, options: &WriteOptions) -> Result<()> {
        metadata::apply(&self.file, &self.stat, &self.target, options)
            .map_err(|e| Error::io("set the metadata of", &self.target.path, e))?;
        if options.durability == Durability::None {
            return Ok(());
        }
        self.file.sync().map_err(|e| Error::io("sync", &self.target.path, e))
    }

    pub(crate) fn discard(mut self) -> Result<()> {
        let removed = self.name.take().map_or(Ok(()), StagedName::remove);
        removed.map_err(|e| Error::io("remove the staged file of", &self.target.path, e))
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// A name that goes when this is dropped.
#[derive(Debug)]
pub(super) struct StagedName {
    dir: Arc<Dir>,
    name: OsString,
}

impl StagedName {
    pub(super) fn new(dir: &Arc<Dir>, name: OsString) -> StagedName {
        StagedName { dir: Arc::clone(dir), name }
    }

    pub(super) fn as_name(&self) -> &OsStr {
        &self.name
    }

    /// It is not ours any more.
    pub(super) fn leave(mut self) {
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

type Created = (Option<StagedName>, File, Stat);

/// Without a name where possible: then a crash leaves nothing, and nobody can have planted
/// anything at the name.
fn create_file(target: &Target, options: &WriteOptions) -> io::Result<Created> {
    let replaces =
        target.existing.as_ref().filter(|old| old.stat.kind == Kind::File && !options.forget_metadata);
    let mode = match (&options.permissions, replaces) {
        (Some(permissions), _) => super::mode_of_permissions(permissions) & 0o700,
        (None, Some(old)) => old.stat.mode & 0o777,
        (None, None) => 0o666,
    };
    if let Some(file) = target.dir.create_unnamed(mode)? {
        if file.can_be_linked(&target.dir) {
            let stat = file.stat()?;
            return Ok((None, file, stat));
        }
    }
    // It has a name from the start: nobody else may open it before owner and group are right.
    let mode = if replaces.is_some() { mode & 0o700 } else { mode };
    create_named(target, mode)
}

fn create_named(target: &Target, mode: u32) -> io::Result<Created> {
    for _ in 0..TRIES {
        let name = names::fresh(Role::Stage);
        let file = match target.dir.create_new(&name, mode) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            created => created?,
        };
        let name = StagedName::new(&target.dir, name);
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
