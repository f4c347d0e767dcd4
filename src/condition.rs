//! Saves that replace one certain version, and the lock by which they exclude each other.
//!
//! The lock is that of a writer ([`WriterLock`]): a file beside the target, which goes when it is given up. Where
//! no file can be created there, the target itself is locked. Either way whoever gets the lock makes sure that the
//! name still leads to what it locked, so that nobody goes on over a version that was replaced meanwhile. Names
//! that differ in case only share a lock, since they may be one file's.
//!
//! A save compares under the lock, as the last thing before the rename, and gives the lock up right after it. The
//! next one may go on over a version that is not durable yet: its own sync of the directory makes both durable.

use std::sync::Arc;
use std::time::Duration;

use crate::atomic::publish::{Guard, Unguarded};
use crate::atomic::spelling::lower_case;
use crate::atomic::staged::Staged;
use crate::atomic::target::Target;
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::journal::checksum::{Checksum, checksum};
use crate::options::durability::Committed;
use crate::options::file_version::FileVersion;
use crate::options::{InPlace, Symlinks, WriteOptions};
use crate::overwrite::lock::LockedFile;
use crate::overwrite::save;
use crate::set::writer_lock::{Patience, WriterLock};
use crate::sys::{self, File, Kind, absent};

/// The version that must stand at the target's name.
#[derive(Debug)]
pub(crate) enum Expected {
    /// This version; and the kind of error if nothing is there.
    Version(FileVersion, ErrorKind),
    Absent,
}

/// The version that a save expects, and the lock under which it makes sure of it.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) lock: TargetLock,
    pub(crate) expected: Expected,
}

impl Condition {
    /// Takes the lock for a save with [`expect`](WriteOptions::expect), and looks at the target anew: much may have
    /// happened before that. None for any other save.
    pub(crate) fn enter(target: &mut Target, options: &WriteOptions) -> Result<Option<Condition>> {
        let Some(expected) = &options.expect else { return Ok(None) };
        let lock = TargetLock::take(target, options)?;
        target.judge_again(options)?;
        if target.existing.as_ref().is_some_and(|found| found.stat.kind == Kind::Symlink) {
            return Err(refuse_link(target, options));
        }
        let size = expected.size();
        let expected = Expected::Version(expected.clone(), ErrorKind::NotFound);
        match &target.existing {
            // Compared later, unless the save ends with a comparison of its own.
            Some(found) if found.stat.size == size && !options.skip_unchanged => {}
            _ => expected.check(target)?,
        }
        Ok(Some(Condition { lock, expected }))
    }

    /// The result of a save that found its content there already.
    pub(crate) fn unchanged(self, target: &Target, committed: Committed, checksum: u64) -> Result<Committed> {
        let version = FileVersion::at(&target.dir, &target.name, checksum);
        let version = version.map_err(|e| Error::io("inspect", &target.path, e))?;
        Ok(Committed { version: Some(version), ..committed })
    }
}

impl Expected {
    /// The error if something else than what is expected stands at the name.
    ///
    /// The content decides, even if inode, size and modification time are the same: a clock of the kernel
    /// ticks every few milliseconds, in which a file is saved several times and the number of an inode
    /// is given away anew.
    fn check(&self, target: &Target) -> Result<()> {
        let changed = || Err(Error::new(ErrorKind::Changed, "save", &target.path));
        let fail = |e| Error::io("compare", &target.path, e);
        let found = absent(target.dir.stat_at(&target.name)).map_err(fail)?;
        let Expected::Version(version, if_missing) = self else {
            return found.map_or(Ok(()), |_| changed());
        };
        let missing = || Error::new(*if_missing, "save", &target.path);
        let found = found.ok_or_else(missing)?;
        if found.kind != Kind::File || found.size != version.size() {
            return changed();
        }
        let sum = match target.dir.open_file(&target.name).and_then(|file| checksum(&file)) {
            Err(e) if sys::is_not_found(&e) => return Err(missing()),
            sum => sum.map_err(fail)?,
        };
        if sum == version.checksum() { Ok(()) } else { changed() }
    }
}

/// A condition whose lock is given up once the target is replaced or, at the latest, when this is dropped.
struct Guarded {
    lock: Option<TargetLock>,
    expected: Expected,
}

impl Guard for Guarded {
    fn last_check(&self, target: &Target) -> Result<()> {
        self.expected.check(target)
    }

    fn release(&mut self) {
        self.lock = None;
    }

    fn locked_target(&self) -> Option<&File> {
        match &self.lock {
            Some(TargetLock::Itself(locked)) => Some(&locked.file),
            Some(TargetLock::Beside(_)) | None => None,
        }
    }
}

/// Publishes what is staged, if the condition is met.
pub(crate) fn publish(
    staged: Staged,
    options: &WriteOptions,
    condition: Option<Condition>,
    checksum: &dyn Fn(&File) -> std::io::Result<u64>,
) -> Result<Committed> {
    let Some(condition) = condition else { return save::publish(staged, options, &mut Unguarded) };
    let version = || FileVersion::of(staged.file(), staged.stream.len(), checksum(staged.file())?);
    let version = version().map_err(|e| Error::io("inspect the new content of", &staged.target.path, e))?;
    let Condition { lock, expected } = condition;
    let path = staged.target.path.clone();
    // An overwritten file keeps its inode.
    let overwritten = (options.in_place != InPlace::Never)
        .then(|| (Arc::clone(&staged.target.dir), staged.target.name.clone()));
    let mut guard = Guarded { lock: Some(lock), expected };
    let committed = save::publish(staged, options, &mut guard)?;
    let version = match overwritten.filter(|_| committed.in_place) {
        Some((dir, name)) => FileVersion::at(&dir, &name, version.checksum())
            .map_err(|e| Error::io("inspect", &path, e).with_target(TargetState::Replaced))?,
        None => version,
    };
    Ok(Committed { version: Some(version), ..committed })
}

/// Reads the target, and says which version that was.
pub(crate) fn read(target: &Target) -> Result<(Vec<u8>, FileVersion)> {
    let fail = |e| Error::io("read", &target.path, e);
    let file = target.dir.open_file(&target.name).map_err(fail)?;
    let stat = file.stat().map_err(fail)?;
    match stat.kind {
        Kind::File => {}
        Kind::Dir => return Err(Error::new(ErrorKind::IsADirectory, "read", &target.path)),
        Kind::Symlink | Kind::Other => {
            return Err(Error::new(ErrorKind::InvalidPath, "read the FIFO, socket or device", &target.path));
        }
    }
    let content = read_all(&file, stat.size).map_err(fail)?;
    // Of what was read: another program may be writing to the file.
    let version = FileVersion::of(&file, content.len() as u64, Checksum::of(&content)).map_err(fail)?;
    Ok((content, version))
}

fn read_all(file: &File, size: u64) -> std::io::Result<Vec<u8>> {
    const ROOM_FOR_THE_END: usize = 1;
    let mut content = Vec::new();
    let size = usize::try_from(size).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    let room = size.saturating_add(ROOM_FOR_THE_END);
    content.try_reserve_exact(room).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
    content.resize(room, 0);
    let mut filled = 0;
    loop {
        match file.read_at(content.get_mut(filled..).unwrap_or_default(), filled as u64)? {
            0 => break,
            read => filled += read,
        }
        if filled == content.len() {
            // It grows meanwhile, or the file system doesn't know how long it is.
            content.try_reserve(filled).map_err(|_| std::io::ErrorKind::OutOfMemory)?;
            content.resize(filled.saturating_mul(2), 0);
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// A condition on what a link leads to can't be kept by replacing the link.
pub(crate) fn refuse_link(target: &Target, options: &WriteOptions) -> Error {
    match options.symlinks {
        Symlinks::Replace => Error::new(ErrorKind::Unsupported, "replace the link", &target.path)
            .because("the version that is expected is that of the file behind it"),
        // It has come since the path was resolved.
        Symlinks::Follow | Symlinks::Refuse => Error::new(ErrorKind::Changed, "save", &target.path),
    }
}

/// Excludes all others who would replace one certain version of this file. Given up when dropped.
#[derive(Debug)]
pub(crate) enum TargetLock {
    /// A lock file beside it.
    Beside(#[expect(dead_code, reason = "it is there to be dropped")] WriterLock),
    /// The lock on the file itself, where no file can be created beside it.
    Itself(LockedFile),
}

impl TargetLock {
    /// Waits until the lock is free, or the token of the options is cancelled.
    pub(crate) fn take(target: &Target, options: &WriteOptions) -> Result<TargetLock> {
        let cancel = options.cancel.as_ref();
        let name = lower_case(&target.name);
        let patience = Patience { path: &target.path, timeout: Duration::MAX, cancel };
        match WriterLock::take(&target.dir, &name, &patience) {
            Err(e) if may_not_create(&e) && target.existing.is_some() => {
                let open = || target.dir.open_to_lock_or_read(&target.name);
                LockedFile::wait(target, &open, Duration::MAX, cancel).map(TargetLock::Itself)
            }
            taken => taken.map(TargetLock::Beside),
        }
    }
}

fn may_not_create(e: &Error) -> bool {
    matches!(e.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}
