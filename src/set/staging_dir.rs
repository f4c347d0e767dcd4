//! A private directory beside the targets of a set, in which their new content is staged.
//!
//! A set of thousands of files can't keep each of them open, so their names have to say whose
//! they are: one lock, held until the end, stands for all of them. It is on the directory itself, or on a file in it
//! where the lock of a directory is not enough: it is seen by one client of a network file system alone, and where
//! others can rename the directory, it doesn't say whose the name is. The name of that file follows from the directory's.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::staged::TRIES;
use crate::names::{self, Role, name_of};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::remove_tree::{empty_but, remove_opened};
use crate::set::writer_lock::WriterLock;
use crate::sys::{self, Dir, File, Lock, ProcessMark};

#[derive(Debug)]
pub(crate) struct StagingDir {
    name: OsString,
    /// Open. Its parent is opened again when this goes, so that it costs no descriptor meanwhile.
    dir: Arc<Dir>,
    lock: StagingLock,
    made_by: ProcessMark,
    next: u64,
    /// Not to be removed any more.
    kept: bool,
}

impl StagingDir {
    pub(crate) fn create(parent: &Dir, role: Role) -> io::Result<StagingDir> {
        let (name, (dir, lock)) = make_locked(parent, role, 0o700, &|name| locked(parent, name))?;
        Ok(StagingDir { name, dir, lock, made_by: ProcessMark::this(), next: 0, kept: false })
    }

    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Its name in its parent.
    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    /// The number of a file that it has never had.
    pub(crate) fn fresh_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Creates a file in it.
    pub(crate) fn create_file(&mut self, mode: u32) -> io::Result<(u64, File)> {
        let number = self.fresh_number();
        let file = self.dir.create_new(&name_of(number), mode)?;
        Ok((number, file))
    }

    /// Removes it with everything in it, whether it was to stay or not.
    pub(crate) fn remove(mut self) -> io::Result<()> {
        if !self.made_by.is_this() {
            return Ok(());
        }
        self.kept = true;
        self.remove_now()
    }

    /// The lock goes last: what is left without it is an orphan.
    fn remove_now(&mut self) -> io::Result<()> {
        let parent = self.dir.open_at(Path::new(".."))?;
        match std::mem::replace(&mut self.lock, StagingLock::None) {
            StagingLock::File(lock) => empty_and_unlock(&parent, &self.name, &self.dir, lock)?,
            other => self.lock = other,
        }
        let removed = match parent.rmdir(&self.name) {
            Err(_) => remove_opened(&parent, &self.name, &self.dir),
            removed => removed,
        };
        self.unlock();
        removed
    }

    /// Not by closing: a child that is being started may have it open for a moment.
    fn unlock(&mut self) {
        if matches!(self.lock, StagingLock::Dir) {
            let _ = self.dir.unlock();
        }
        self.lock = StagingLock::None;
    }

    /// Whether it stays when this is dropped, for recovery: what happened to its files isn't known, or
    /// they are needed.
    pub(crate) fn keep(&mut self, yes: bool) {
        self.kept = yes;
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        if self.kept {
            // So that whoever recovers it can tell its name from one that somebody has given it.
            match std::mem::replace(&mut self.lock, StagingLock::None) {
                StagingLock::File(lock) => lock.leave_file(),
                StagingLock::Dir if self.made_by.is_this() => drop(self.dir.unlock()),
                StagingLock::Dir | StagingLock::None => {}
            }
            return;
        }
        if !self.made_by.is_this() {
            return;
        }
        // An error here is one more on the way out of another; recovery takes care of the rest.
        let _ = self.remove_now();
    }
}

/// The lock that says that the writer of a staging directory lives.
#[derive(Debug)]
enum StagingLock {
    /// The directory's own lock.
    Dir,
    /// One on a file in it.
    File(WriterLock),
    /// The file system has no locks: then only its age tells.
    None,
}

/// Empties a directory of ours, the file of its lock last: a recovery needs it to go on. That is closed before the directory goes,
/// since a network file system keeps an open file under another name.
pub(crate) fn empty_and_unlock(parent: &Dir, name: &OsStr, dir: &Dir, lock: WriterLock) -> io::Result<()> {
    let emptied = empty_but(parent, name, dir, lock.name());
    match emptied {
        Ok(()) => drop(lock),
        Err(_) => lock.leave_file(),
    }
    emptied
}

/// Makes a directory under a fresh name of this role and locks it by `lock`, which says `None` of one that it must not use:
/// a recovery that runs right now has taken it for an orphan, or another directory has its name.
pub(crate) fn make_locked<T>(
    parent: &Dir,
    role: Role,
    mode: u32,
    lock: &dyn Fn(&OsStr) -> io::Result<Option<T>>,
) -> io::Result<(OsString, T)> {
    names::prepare();
    for _ in 0..TRIES {
        let name = names::fresh(role);
        match parent.mkdir(&name, mode) {
            Err(e) if sys::already_exists(&e) => continue,
            made => made?,
        }
        let locked = lock(&name);
        if let Ok(Some(locked)) = locked {
            return Ok((name, locked));
        }
        let _ = parent.rmdir(&name);
        locked?;
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

type Locked = (Arc<Dir>, StagingLock);

/// Opens a new directory and locks it. None if it was taken for an orphan meanwhile.
fn locked(parent: &Dir, name: &OsStr) -> io::Result<Option<Locked>> {
    let dir = match parent.open_child(name) {
        Err(e) if sys::is_not_found(&e) => return Ok(None),
        opened => Arc::new(opened?),
    };
    let policy = RemnantPolicy::default();
    let trust = policy.trust(parent);
    if !trust.is_as_made(&dir)? {
        return Ok(None);
    }
    if sys::holds_dirs_by_their_locks(parent) && !trust.needs_tie()? {
        match sys::lock_unless_refused(dir.try_lock_shared())? {
            Lock::Held => {
                // Nobody else can give that name to anything: a recovery has removed the directory, or it is there.
                return Ok(parent.stat_at(name).is_ok().then_some((dir, StagingLock::Dir)));
            }
            Lock::Elsewhere => return Ok(None),
            Lock::Unsupported => {}
        }
    }
    match WriterLock::try_take(&dir, name) {
        // Its own directory lets files be created: so it is the lock that is refused.
        Err(e) if sys::is_unsupported(&e) => Ok(Some((dir, StagingLock::None))),
        Err(e) if sys::is_forbidden(&e) => Ok(Some((dir, StagingLock::None))),
        Err(e) if sys::is_not_found(&e) => Ok(None),
        lock => Ok(lock?.map(|lock| (dir, StagingLock::File(lock)))),
    }
}
