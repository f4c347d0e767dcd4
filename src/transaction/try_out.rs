//! Changes that could be refused after the commit point are tried before it.
//!
//! A name that the file system doesn't take (`12:30.md` where Windows is to read it), a directory in which nothing may be
//! created, or from or to which nothing may be moved, would keep the root from being used for ever: the record says
//! that the change is going to happen, and it never can. So each new name is given once, to something in the
//! private directory, and each directory that new files go to takes one of them for a moment. Nothing of this is
//! seen under a name that isn't ours, and what a crash leaves of it is an orphan.
//!
//! Where nothing can be moved to a directory, the content is copied after the commit point. It can't be staged there
//! before: a new directory would be seen, and a file with a name of ours needs a descriptor that holds its lock, of
//! which a set may have 128. So there must be room for the copies now: a full disk is told while nothing has changed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::name_of;
use crate::sys::{self, Dir};
use crate::transaction::Transaction;
use crate::transaction::dirs_below::DirCache;
use crate::transaction::record::{Action, TransactionRecord, distinct};

/// The least room that a copy takes: blocks are given away as a whole.
const BLOCK: u64 = 4096;

impl Transaction {
    pub(super) fn try_out(&self, record: &TransactionRecord) -> Result<()> {
        let Some(stage) = &self.stage else { return Ok(()) };
        let stage = stage.dir();
        for rel in &record.dirs {
            let name = rel.file_name().unwrap_or_default();
            let tried = stage.mkdir(name, 0o700).and_then(|()| stage.rmdir(name));
            self.passed(rel, unless_taken(tried))?;
        }
        let made = distinct(record.dirs.iter().map(|dir| dir.as_path()));
        let mut crosses: HashMap<&Path, bool> = HashMap::new();
        let mut copied = 0_u64;
        let mut below = DirCache::new(&self.root);
        for change in &record.changes {
            let Action::Put { number, content } = &change.action else { continue };
            let staged = name_of(*number);
            if change.before.is_none() {
                let name = change.path.file_name().unwrap_or_default();
                self.passed(&change.path, unless_taken(try_link(stage, &staged, stage, name)))?;
            }
            let parent = change.path.parent().unwrap_or(Path::new(""));
            // One that is yet to be made is like the one that it is made in, which is tried in its place.
            let nearest = parent.ancestors().find(|dir| made.binary_search(dir).is_err());
            let nearest = nearest.unwrap_or(Path::new(""));
            let crosses = match crosses.get(nearest) {
                Some(known) => *known,
                None => {
                    let moved =
                        below.dir(nearest).and_then(|dir| try_move((stage, &staged), &dir, &record.passing));
                    *crosses.entry(nearest).or_insert(self.passed(&change.path, moved)?)
                }
            };
            if crosses {
                copied = copied.saturating_add(content.size.next_multiple_of(BLOCK)).saturating_add(BLOCK);
            }
        }
        self.find_room(copied)
    }

    /// For all copies at the same time. Some mounts know no sizes; and a quota may be tighter.
    fn find_room(&self, copied: u64) -> Result<()> {
        if copied == 0 {
            return Ok(());
        }
        const OPERATION: &str = "find room for copies in";
        let volume = self.root.volume().map_err(|e| Error::io(OPERATION, &self.path, e))?;
        if volume.total_bytes > 0 && volume.free_bytes < copied {
            return Err(Error::new(ErrorKind::StorageFull, OPERATION, &self.path));
        }
        Ok(())
    }

    fn passed<T>(&self, rel: &Path, tried: io::Result<T>) -> Result<T> {
        tried.map_err(|e| Error::naming("try whether there could be", &self.path.join(rel), e))
    }
}

/// A staged file, or a name that was tried before, has it: so it can be had.
fn unless_taken(tried: io::Result<()>) -> io::Result<()> {
    match tried {
        Err(e) if sys::already_exists(&e) => Ok(()),
        tried => tried,
    }
}

/// As [`apply`](crate::transaction::apply) will do it, and back; true if it has to be copied there. The name is the
/// one that a recovery of the record looks for.
fn try_move((stage, staged): (&Dir, &OsStr), dir: &Dir, passing: &OsStr) -> io::Result<bool> {
    match try_link(stage, staged, dir, passing) {
        // What can't be moved there is copied; then it must be possible to create something.
        Err(e) if sys::crosses_devices(&e) => try_create(dir, passing).map(|()| true),
        tried => tried.map(|()| false),
    }
}

fn try_link(from: &Dir, staged: &OsStr, dir: &Dir, name: &OsStr) -> io::Result<()> {
    match from.link_into(staged, dir, name) {
        Err(e) if sys::cannot_link(&e) => try_create(dir, name),
        linked => linked.and_then(|()| forget(dir, name)),
    }
}

fn try_create(dir: &Dir, name: &OsStr) -> io::Result<()> {
    drop(dir.create_new(name, 0o600)?);
    forget(dir, name)
}

/// A recovery may have been quicker.
fn forget(dir: &Dir, name: &OsStr) -> io::Result<()> {
    match dir.unlink(name) {
        Err(e) if sys::is_not_found(&e) => Ok(()),
        removed => removed,
    }
}
