//! Step 8, before the rename: the version that is about to be replaced gets a second name, which it keeps.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

use crate::atomic::copy::copy_into;
use crate::atomic::spelling::is_one_entry;
use crate::atomic::staged::{StagedName, TRIES};
use crate::atomic::target::{KEEP_PREVIOUS as KEEP, Target, own_name_for_previous};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::{self, Role};
use crate::options::WriteOptions;
use crate::sys::{self, Dir, FileId, Kind, absent};

impl WriteOptions {
    /// Refuses a name that can't be that of a previous version, before anything is touched.
    pub(crate) fn check_previous(&self, path: &Path) -> Result<()> {
        let Some(name) = &self.keep_previous else { return Ok(()) };
        let refuse = |reason| Err(Error::new(ErrorKind::InvalidPath, KEEP, path).because(reason));
        let bytes = name.as_encoded_bytes();
        let is_name =
            matches!(Path::new(name).components().next(), Some(Component::Normal(only)) if only == name);
        if !is_name || bytes.contains(&0) {
            return refuse("the name for it is not a single file name");
        }
        names::refuse_ours(KEEP, path, [&**name])
    }
}

/// Gives the second name back, if the target of this name was not replaced after all. Dropped, what had the second name
/// before is gone.
pub(crate) type UndoKeeping = Box<dyn FnOnce(&OsStr)>;

/// A version that has got its second name.
struct Kept {
    dir: Arc<Dir>,
    name: OsString,
    id: FileId,
    before: Before,
}

/// The file that had the second name before.
enum Before {
    Nothing,
    /// Another file, which has this name until the target is replaced.
    Waiting(StagedName),
    /// A file that can't be had back.
    Gone,
}

impl Kept {
    /// The target was not replaced after all: the second name leads again to what it led to before.
    ///
    /// Another save may have replaced the target since, and rely on the second name. So both names must lead to the old
    /// version still; a save that comes between this look and the next call is not seen.
    fn undo(self, target: &OsStr) {
        let is_old = |name: &OsStr| matches!(self.dir.leads_to(name, self.id), Ok(true));
        if !is_old(target) || !is_old(&self.name) {
            return;
        }
        // An error here is one more on the way out of another.
        match &self.before {
            Before::Nothing => drop(self.dir.unlink(&self.name)),
            Before::Waiting(older) => drop(self.dir.try_exchange(older.as_name(), &self.name)),
            Before::Gone => {}
        }
    }
}

/// Gives what stands at the target its second name, if something does and a name was asked for. Whoever had that name
/// loses it in the same instant. The sync of the directory, step 10, makes both names durable.
pub(crate) fn keep(target: &Target, options: &WriteOptions) -> Result<Option<UndoKeeping>> {
    let Some(name) = &options.keep_previous else { return Ok(None) };
    let (dir, path) = (&target.dir, &target.path);
    let failed = |e| Error::io(KEEP, path, e);
    let Some(found) = absent(dir.stat_at(&target.name)).map_err(failed)? else { return Ok(None) };
    let before = dir.stat_at(name);
    match &before {
        // A directory that can't be listed doesn't tell: the names count as two then, as after a crash.
        Ok(kept)
            if kept.id == found.id
                && (kept.nlink < 2 || matches!(is_one_entry(dir, &target.name, name), Ok(Some(true)))) =>
        {
            return Err(own_name_for_previous(path));
        }
        // A crash between the two renames has left both names. A rename from one name of a file to another one
        // would do nothing.
        Ok(kept) if kept.id == found.id => return Ok(None),
        Ok(kept) if kept.kind == Kind::Dir => {
            let reason = "the name for it is that of a directory";
            return Err(Error::new(ErrorKind::IsADirectory, KEEP, path).because(reason));
        }
        _ => {}
    }
    let is_free = before.is_err_and(|e| sys::is_not_found(&e));
    let before = give_name(dir, &target.name, (name, is_free)).map_err(|e| Error::naming(KEEP, path, e))?;
    let kept = Kept { dir: Arc::clone(dir), name: name.clone(), id: found.id, before };
    Ok(Some(Box::new(move |target| kept.undo(target))))
}

/// By a link and a rename, so that the second name is never missing; by a durable copy where links are refused.
fn give_name(dir: &Arc<Dir>, target: &OsStr, (name, is_free): (&OsStr, bool)) -> io::Result<Before> {
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for _ in 0..TRIES {
        let passing = StagedName::new(dir, names::fresh(Role::Stage));
        match dir.link(target, passing.as_name()) {
            Err(e) if sys::is_link_refused(&e) && !sys::is_not_found(&e) => {
                return copy_into(dir, target, (dir, name), false).map(|()| Before::Gone);
            }
            Err(e) => {
                error = e;
                continue;
            }
            Ok(()) => {}
        }
        if !is_free && dir.try_exchange(passing.as_name(), name).is_ok() {
            // A rename would have refused a directory that has come there since.
            if !dir.stat_at(passing.as_name()).is_ok_and(|older| older.kind == Kind::Dir) {
                return Ok(Before::Waiting(passing));
            }
            dir.try_exchange(passing.as_name(), name)?;
            return Err(io::ErrorKind::IsADirectory.into());
        }
        match dir.rename(passing.as_name(), name) {
            // A recovery took it for an orphan: it is not locked, since the lock would be on the target.
            Err(e) if sys::is_not_found(&e) => error = e,
            Err(e) => return Err(e),
            Ok(()) => {
                passing.keep();
                return Ok(if is_free { Before::Nothing } else { Before::Gone });
            }
        }
    }
    Err(error)
}
