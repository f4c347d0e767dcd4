//! Would a save work here? A whole one is tried, short of publishing.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::parent_sync::sync_parent;
use crate::atomic::staged::{Staged, StagedName};
use crate::atomic::target::Target;
use crate::error::{Error, Result};
use crate::names::{self, Role};
use crate::options::WriteOptions;
use crate::sys::{self, Dir, Lock, Volume};

/// The abilities of a file system, found out on the way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Abilities {
    /// Synced content survives power loss, as far as the file system knows.
    pub(crate) durable: bool,
    pub(crate) locks: bool,
    /// Two names can be exchanged in one step.
    pub(crate) exchange: bool,
    /// A file shows another owner, or rights that it was not created with.
    pub(crate) fixed_owners: bool,
}

/// One block: the smallest thing that a full disk refuses.
const CONTENT: [u8; 4096] = [b'd'; 4096];

/// Creates, writes, syncs and removes a file, in the way of a save and with its errors. Without
/// a name where possible, so that nothing can be left; else [`recover`](crate::recover) knows
/// what a kill at the wrong moment leaves.
pub(crate) fn probe(dir: &Arc<Dir>, volume: &Volume, path: &Path) -> Result<Abilities> {
    let name = names::fresh(Role::Stage);
    let target = Target::new(Arc::clone(dir), name, path);
    let private = WriteOptions { permissions: sys::private_permissions(), ..WriteOptions::new() };
    let mut staged = Staged::create(target, &private)?;
    let rights_of_others = staged.stat.mode & 0o077;
    let fixed_owners = cfg!(unix) && (staged.stat.uid != sys::effective_uid() || rights_of_others != 0);
    staged.stream.write_whole(&CONTENT)?;
    let failed = |operation| move |e| Error::io(operation, path, e);
    staged.file().sync().map_err(failed("sync a file in"))?;
    let locks =
        sys::lock_unless_refused(staged.file().try_lock()).map_err(failed("lock a file in"))? == Lock::Held;
    let synced = sync_parent(dir).map_err(failed("sync"))?;
    let exchange = can_exchange(dir, volume).map_err(failed("exchange two names in"))?;
    staged.discard()?;
    let durable = synced && !volume.kind.memory_backed;
    Ok(Abilities { durable, locks, exchange, fixed_owners })
}

/// For the file systems that are known, without creating a name: no argument makes the others
/// tell before they really exchange something.
fn can_exchange(dir: &Arc<Dir>, volume: &Volume) -> io::Result<bool> {
    let fresh = || names::fresh(Role::Stage);
    if !dir.may_exchange(&fresh(), &fresh()) {
        return Ok(false);
    }
    if volume.is_known_to_exchange {
        return Ok(true);
    }
    let (one, other) = (create_locked(dir)?, create_locked(dir)?);
    match dir.try_exchange(one.0.as_name(), other.0.as_name()) {
        Err(e) if sys::rename_unsupported(&e) => Ok(false),
        exchanged => exchanged.map(|()| true),
    }
}

/// Locked, as the stage of a save is, so that no recovery takes it for an orphan.
fn create_locked(dir: &Arc<Dir>) -> io::Result<(StagedName, sys::File)> {
    let name = names::fresh(Role::Stage);
    let file = dir.create_new(&name, 0o600)?;
    let name = StagedName::new(dir, name);
    sys::lock_unless_refused(file.try_lock())?;
    Ok((name, file))
}
