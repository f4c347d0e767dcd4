//! The next version of a directory, on its way: a directory beside the target.
//!
//! A shared lock on its root says that its writer lives, and stays when the root becomes the
//! target: readers share it, and there is no moment in which a version in use is not locked.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::names::{self, Role};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::remove_tree::remove_opened;
use crate::set::staging_dir::{empty_and_unlock, make_locked};
use crate::set::writer_lock::WriterLock;
use crate::sys::{self, Dir, Lock, ProcessMark, Stat, TargetMeta};

/// A version that is not published yet. Dropped, it is removed with everything in it.
#[derive(Debug)]
pub(crate) struct StagedVersion {
    parent: Arc<Dir>,
    /// Its name in `parent`. Empty once it is published, or may be, or is removed: then nothing is left to remove.
    name: OsString,
    pub(crate) root: LockedVersion,
    /// The lock on a file in it, where the lock of the directory is not enough: see `Trust::needs_tie`.
    lock: Option<WriterLock>,
    /// The mode that the root gets when it is complete.
    final_mode: Option<u32>,
}

impl StagedVersion {
    /// The error is `Unsupported` where the file system has no locks.
    ///
    /// Where others can create names, it is mine alone until it is complete: so nothing of theirs is taken for it, and
    /// what ties it to its name can't be theirs.
    pub(crate) fn create(parent: &Arc<Dir>, mode: u32) -> io::Result<StagedVersion> {
        const MINE_ALONE: u32 = 0o700;
        let policy = RemnantPolicy::default();
        let is_shared = !policy.trust(parent).is_private()?;
        let at_first = if is_shared { MINE_ALONE } else { mode };
        let (name, (root, lock)) = make_locked(parent, Role::Tree, at_first, &|name| locked(parent, name))?;
        let mut stage = StagedVersion { parent: Arc::clone(parent), name, root, lock, final_mode: None };
        if mode != at_first {
            stage.final_mode = Some(mode_of_new(&stage.root.dir, mode)?);
        }
        Ok(stage)
    }

    pub(crate) fn name(&self) -> &OsStr {
        &self.name
    }

    pub(crate) fn is_tied(&self) -> bool {
        self.lock.is_some()
    }

    /// Is this the file that ties it to its name? That is no content of the target.
    pub(crate) fn is_tie(&self, name: &OsStr) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.name() == name)
    }

    /// The version is complete: its root gets its mode, unless somebody has given it another one, and the file that tied it
    /// to its name goes.
    pub(crate) fn untie(&mut self) -> io::Result<()> {
        self.lock = None;
        match self.final_mode.take() {
            Some(mode) if self.root.dir.stat()?.mode == self.root.stat.mode => self.root.dir.set_mode(mode),
            _ => Ok(()),
        }
    }

    /// Removes it now.
    pub(crate) fn remove(&mut self) -> io::Result<()> {
        if self.root.is_forked() {
            return Ok(());
        }
        let name = std::mem::take(&mut self.name);
        if name.is_empty() {
            self.lock = None;
            return Ok(());
        }
        if let Some(lock) = self.lock.take() {
            empty_and_unlock(&self.parent, &name, &self.root.dir, lock)?;
        }
        remove_opened(&self.parent, &name, &self.root.dir)
    }

    /// Leaves a version that is the target now, or may be. Returns the name that it had.
    pub(crate) fn keep(&mut self) -> OsString {
        std::mem::take(&mut self.name)
    }
}

impl Drop for StagedVersion {
    fn drop(&mut self) {
        // An error here is one more on the way out of another; recovery takes care of the rest.
        let _ = self.remove();
    }
}

/// The mode that a new directory gets where this private one is: the umask has a say, and so may an inherited ACL.
fn mode_of_new(private: &Dir, mode: u32) -> io::Result<u32> {
    let name = names::fresh(Role::Tree);
    private.mkdir(&name, mode)?;
    let found = private.stat_at(&name);
    private.rmdir(&name)?;
    Ok(found?.mode)
}

fn locked(parent: &Dir, name: &OsStr) -> io::Result<Option<(LockedVersion, Option<WriterLock>)>> {
    let dir = match parent.open_child(name) {
        Err(e) if sys::is_not_found(&e) => return Ok(None),
        opened => opened?,
    };
    let policy = RemnantPolicy::default();
    let trust = policy.trust(parent);
    if !trust.is_as_made(&dir)? {
        return Ok(None);
    }
    match dir.try_lock_shared()? {
        Lock::Held => {}
        Lock::Elsewhere => return Ok(None),
        Lock::Unsupported => return Err(io::ErrorKind::Unsupported.into()),
    }
    let stat = dir.stat()?;
    let root = LockedVersion::new(dir, stat);
    let lock = match trust.needs_tie()? {
        false => None,
        true => match WriterLock::try_take(&root.dir, name)? {
            None => return Ok(None),
            lock => lock,
        },
    };
    match parent.leads_to(name, stat.id) {
        Ok(true) => Ok(Some((root, lock))),
        // Nobody can tell what a swap has done.
        Ok(false) if matches!(parent.is_changing_inodes(name), Ok(true)) => {
            Err(io::ErrorKind::Unsupported.into())
        }
        _ => Ok(None),
    }
}

/// The root of one version of a directory, locked against deletion: whoever deletes a version
/// takes the exclusive lock before.
#[derive(Debug)]
pub(crate) struct LockedVersion {
    pub(crate) dir: Arc<Dir>,
    pub(crate) stat: Stat,
    /// A forked child has the lock, too, and must not give it up.
    held_by: ProcessMark,
}

impl LockedVersion {
    /// `dir` is locked.
    pub(crate) fn new(dir: Dir, stat: Stat) -> LockedVersion {
        LockedVersion { dir: Arc::new(dir), stat, held_by: ProcessMark::this() }
    }

    pub(crate) fn is_forked(&self) -> bool {
        !self.held_by.is_this()
    }

    pub(crate) fn existing(&self) -> io::Result<TargetMeta> {
        self.dir.as_inode()?.existing()
    }
}

impl Drop for LockedVersion {
    fn drop(&mut self) {
        if !self.is_forked() {
            // Not by closing: a child that is being started may have it open for a moment.
            let _ = self.dir.unlock();
        }
    }
}

pub(crate) fn open_parent(root: &Dir, rel: &Path) -> io::Result<Dir> {
    root.open_beneath(rel.parent().unwrap_or(Path::new("")))
}
