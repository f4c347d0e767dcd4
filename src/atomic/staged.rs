//! Step 3: the staged file, which no reader sees yet.

use std::ffi::{OsStr, OsString};
use std::io;
use std::sync::Arc;

use crate::atomic::content::ContentWriter;
use crate::atomic::metadata;
use crate::atomic::sync_mode::FileSync;
use crate::atomic::target::Target;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::{self, Role};
use crate::options::WriteOptions;
use crate::sys::{self, Dir, File, Kind, Lock, ProcessMark, Stat, TargetMeta};

/// How often a name that is taken, or was taken for an orphan, is tried anew.
pub(crate) const TRIES: usize = 16;

/// A staged file and where it will go. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    /// The name that it has beside the target, if it has one. Dropped first, under the lock.
    pub(crate) name: Option<StagedName>,
    /// The content that is written into it.
    pub(crate) stream: ContentWriter,
    /// Its stat right after creation.
    pub(crate) stat: Stat,
    pub(crate) target: Target,
    /// Whether it has all the metadata that it was to keep.
    pub(crate) keeps_metadata: bool,
    /// The file isn't in the target's directory, and so can't be given the target's name.
    pub(crate) is_elsewhere: bool,
}

impl Staged {
    /// Step 3: creates the staged file.
    pub(crate) fn create(target: Target, options: &WriteOptions) -> Result<Staged> {
        names::prepare();
        match create_file(&target, options) {
            Ok((name, file, stat)) => {
                if let Some(old) = &target.existing {
                    // Before anything is written that would be on the disk as plain text.
                    let checked = metadata::check_encryption(&old.stat, &stat);
                    checked.map_err(|e| Error::io(Error::CREATE_BESIDE, &target.path, e))?;
                }
                let stream = ContentWriter::new(file, &target.path, options.into());
                Ok(Staged { name, stream, stat, target, keeps_metadata: true, is_elsewhere: false })
            }
            Err(e) => Err(Error::io(Error::CREATE_BESIDE, &target.path, e)),
        }
    }

    /// The caller keeps it: a child that is forked meanwhile has a copy, and must not remove the name.
    pub(crate) fn may_be_forked(mut self) -> Staged {
        if let Some(name) = &mut self.name {
            name.made_by = Some(ProcessMark::this());
        }
        self
    }

    /// Steps 5 and 6: everything that must be true of the file before a name leads to it.
    pub(crate) fn finish(&mut self, sync: FileSync, options: &WriteOptions) -> Result<()> {
        self.keeps_metadata =
            metadata::apply(self.file(), &self.stat, self.target.existing.as_ref(), options)
                .map_err(|e| Error::io("set the metadata of", &self.target.path, e))?;
        sync.perform(self.file()).map_err(|e| Error::io("sync", &self.target.path, e))
    }

    /// Chooses another target, which may be in another directory of the same file system.
    pub(crate) fn retarget(&mut self, target: Target, options: &WriteOptions) -> Result<()> {
        let fail = |e| Error::io("move the staged file to the directory of", &target.path, e);
        let [from, to] = [&self.target, &target].map(|target| target.dir.stat());
        let (from, to) = (from.map_err(fail)?, to.map_err(fail)?);
        if from.id.dev != to.id.dev {
            return Err(Error::new(ErrorKind::CrossDevice, Error::PUBLISH, &target.path));
        }
        let elsewhere = from.id != to.id || self.is_elsewhere;
        if let Some(name) = self.name.take_if(|_| elsewhere) {
            let name = name.move_to(&target.dir).map_err(|(name, e)| {
                drop(name);
                match sys::crosses_devices(&e) {
                    true => Error::io(Error::PUBLISH, &target.path, e),
                    false => Error::naming(Error::CREATE_BESIDE, &target.path, e),
                }
            })?;
            (self.name, self.is_elsewhere) = (Some(name), false);
        }
        // It was made for another directory, or for none.
        let is_foreign = from.id != to.id || self.target.name.is_empty();
        let is_file = target.existing.as_ref().is_some_and(|old| old.stat.kind == Kind::File);
        if is_foreign && (options.forget_metadata || !is_file) {
            self.become_like_new_in(&target, options)?;
        }
        self.target = target;
        Ok(())
    }

    /// Takes the mode, the group and the ACL that a new file in the target's directory gets.
    fn become_like_new_in(&mut self, target: &Target, options: &WriteOptions) -> Result<()> {
        const NEW: u32 = 0o666;
        if cfg!(windows) {
            return Ok(());
        }
        let fail = |e| Error::io(Error::CREATE_BESIDE, &target.path, e);
        let probe = || match target.dir.create_unnamed(NEW)? {
            Some(probe) => Ok((None, probe)),
            None => create_named_in(&target.dir, NEW).map(|(name, probe, _)| (name, probe)),
        };
        let (name, probe) = probe().map_err(fail)?;
        let like =
            probe.existing().and_then(|new| metadata::copy_metadata(self.file(), &new)).map_err(fail)?;
        if !like && cfg!(any(target_os = "linux", target_os = "android")) {
            // Only what is created there gets the group of that directory, whoever the caller is.
            let mut stream = ContentWriter::new(probe, &target.path, options.into());
            stream.copy_from(self.file(), "copy the staged file of")?;
            (self.stream, self.name) = (stream, name);
        }
        self.stat = self.file().stat().map_err(fail)?;
        Ok(())
    }

    pub(crate) fn discard(mut self) -> Result<()> {
        let removed = self.name.take().map_or(Ok(()), StagedName::remove);
        removed.map_err(|e| Error::io("remove the staged file of", &self.target.path, e))
    }

    pub(crate) fn file(&self) -> &File {
        self.stream.file()
    }
}

/// A name that goes when this is dropped.
#[derive(Debug)]
pub(crate) struct StagedName {
    dir: Arc<Dir>,
    name: OsString,
    /// The process that made the name, where this value outlives a call of the library. A child that is forked
    /// meanwhile has a copy of the value, and must not remove the name: see [`Staged::may_be_forked`].
    made_by: Option<ProcessMark>,
}

impl StagedName {
    pub(crate) fn new(dir: &Arc<Dir>, name: OsString) -> StagedName {
        StagedName { dir: Arc::clone(dir), name, made_by: None }
    }

    pub(crate) fn as_name(&self) -> &OsStr {
        &self.name
    }

    /// Leaves the name where it is: a rename has taken it away, or may have.
    pub(crate) fn keep(mut self) {
        self.name.clear();
    }

    /// Moves the file, under another name, to this directory.
    fn move_to(mut self, dir: &Arc<Dir>) -> std::result::Result<StagedName, (StagedName, io::Error)> {
        let name = names::fresh(Role::Stage);
        match self.dir.rename_into(&self.name, dir, &name) {
            Ok(()) => {
                let made_by = self.made_by.take();
                self.name.clear();
                Ok(StagedName { dir: Arc::clone(dir), name, made_by })
            }
            Err(e) => {
                // It may be a lost answer. Nobody needs the file any more.
                let _ = dir.unlink(&name);
                Err((self, e))
            }
        }
    }

    fn remove(mut self) -> io::Result<()> {
        let name = std::mem::take(&mut self.name);
        self.dir.unlink(&name)
    }
}

impl Drop for StagedName {
    fn drop(&mut self) {
        let is_forked = self.made_by.as_ref().is_some_and(|mark| !mark.is_this());
        if !self.name.is_empty() && !is_forked {
            // An error here is one more on the way out of another; recovery takes care of the rest.
            let _ = self.dir.unlink(&self.name);
        }
    }
}

pub(crate) type Created = (Option<StagedName>, File, Stat);

/// Creates a staged file, without a name where possible: then a crash leaves nothing, and nobody can have
/// planted anything at the name.
fn create_file(target: &Target, options: &WriteOptions) -> io::Result<Created> {
    if let Some(file) = target.dir.create_unnamed(creation_mode(target, options))? {
        let stat = file.stat()?;
        if !sys::is_known_to_refuse_links(&stat) {
            return Ok((None, file, stat));
        }
    }
    create_with_name(target, options)
}

/// Creates a staged file that has a name from the start.
pub(crate) fn create_with_name(target: &Target, options: &WriteOptions) -> io::Result<Created> {
    let mode = named_mode(creation_mode(target, options), target.existing.as_ref(), options);
    create_named_in(&target.dir, mode)
}

/// The mode to create a staged file with that others can see at once: nobody else may open it before owner and group
/// are right, where they are still to be set.
pub(crate) fn named_mode(mode: u32, existing: Option<&TargetMeta>, options: &WriteOptions) -> u32 {
    if metadata::is_needed(existing, options) { mode & 0o700 } else { mode }
}

/// The mode to create a staged file with; never wider than the target's will be.
pub(crate) fn creation_mode(target: &Target, options: &WriteOptions) -> u32 {
    const PRIVATE: u32 = 0o600;
    // What has no target yet may become a file that nobody else may read.
    if target.name.is_empty() {
        return PRIVATE;
    }
    creation_mode_of(target.existing.as_ref(), options)
}

/// The mode to create a staged file with, by what stands at the target's name.
pub(crate) fn creation_mode_of(existing: Option<&TargetMeta>, options: &WriteOptions) -> u32 {
    let old = existing.filter(|old| old.stat.kind == Kind::File && !options.forget_metadata);
    match (options.asked_mode(), old) {
        (Some(mode), _) => mode & 0o700,
        (None, Some(old)) => old.stat.mode & 0o777,
        (None, None) => 0o666,
    }
}

/// A staged file with a name, locked, in this directory.
pub(crate) fn create_named_in(dir: &Arc<Dir>, mode: u32) -> io::Result<Created> {
    for _ in 0..TRIES {
        let name = names::fresh(Role::Stage);
        let file = match dir.create_new(&name, mode) {
            Err(e) if sys::already_exists(&e) => continue,
            created => created?,
        };
        let name = StagedName::new(dir, name);
        if let Some(stat) = lock_named(&file)? {
            return Ok((Some(name), file, stat));
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// The lock tells a recovery that the writer lives. None if a recovery that runs right now was quicker and
/// took the file for an orphan.
fn lock_named(file: &File) -> io::Result<Option<Stat>> {
    let locked = sys::lock_unless_refused(file.try_lock())?;
    let stat = file.stat()?;
    Ok((locked != Lock::Elsewhere && stat.nlink > 0).then_some(stat))
}

/// Gives an unnamed and empty file a name. None where that is refused: one with a name is the way then.
pub(crate) fn link_or_drop(file: File, dir: &Dir, name: &OsStr) -> io::Result<Option<File>> {
    match file.link_as(dir, name) {
        Err(e) if sys::is_link_refused(&e) => Ok(None),
        linked => linked.map(|()| Some(file)),
    }
}
