//! The moment that counts: from staged to in place, and the truth about what happened.

use std::ffi::OsStr;
use std::io;

use super::names::{self, Role};
use super::stage::{Staged, StagedName, TRIES, create_with_name};
use super::stream::Stream;
use super::sync_set::{How, Wish};
use crate::options::{Committed, Durability, WriteOptions};
use crate::sys::{self, Dir, File, FileId, FsKind, Stat};
use crate::{CancelToken, Error, ErrorKind, Result, TargetState};

/// What came of a rename or link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    NotDone,
    Done,
    Unknown,
}

impl Staged {
    /// Makes the staged content the target.
    pub(crate) fn publish(mut self, options: &WriteOptions) -> Result<Committed> {
        let kind = self.file().fs_kind(&self.stat).map_err(|e| Error::io("inspect", &self.target.path, e))?;
        let how = Wish::from(options).how(&self.target.dir, kind, &self.stat);
        self.finish(how, options)?;
        CancelToken::check(options.cancel.as_ref(), &self.target.path)?;
        self.put_in_place(how, options, kind)?;
        let Staged { target, stream, stat, .. } = self;
        // Closing gives up the lock, which would be in the way of the application's own.
        drop(stream);
        let reached = if is_rename_synced(options.durability, kind, &stat) {
            sync_rename(&target.dir, options.durability).map_err(|e| {
                Error::io("sync the directory of", &target.path, e).with_target(TargetState::Replaced)
            })?
        } else {
            options.durability
        };
        Ok(Committed { durability: kind.limit(reached), unchanged: false })
    }

    fn put_in_place(&mut self, how: How, options: &WriteOptions, kind: FsKind) -> Result<()> {
        if self.name.is_none() {
            match self.link_unnamed(options.create_new, kind) {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(e) if may_not_be_linked(e.kind()) => self.stage_again(how, options)?,
                Err(e) => return Err(e),
            }
        }
        if options.create_new { self.create_target(kind) } else { self.rename(kind) }
    }

    /// Gives the unnamed file the target's name, where nothing may be replaced or nothing is there, else
    /// one beside it. Is it the target's?
    fn link_unnamed(&mut self, create_new: bool, kind: FsKind) -> Result<bool> {
        if create_new || self.target.existing.is_none() {
            match self.link(&self.target.name, kind) {
                // Somebody else created it meanwhile: then this save replaces that one.
                Err(e) if e.kind() == ErrorKind::AlreadyExists && !create_new => {}
                linked => return linked.map(|()| true),
            }
        }
        self.give_name(kind).map(|()| false)
    }

    /// Once more, in a file that has a name from the start.
    fn stage_again(&mut self, how: How, options: &WriteOptions) -> Result<()> {
        let path = &self.target.path;
        let created = create_with_name(&self.target, options);
        let (name, file, stat) = created.map_err(|e| Error::io("create a file beside", path, e))?;
        let mut stream = Stream::new(file, path, options.into());
        stream.copy_from(self.file(), "read the staged file of")?;
        (self.name, self.stream, self.stat) = (name, stream, stat);
        self.finish(how, options)
    }

    /// Links the unnamed file; the name must be free.
    fn link(&self, name: &OsStr, kind: FsKind) -> Result<()> {
        let linked = self.file().link_as(&self.target.dir, name);
        self.judge(linked, name, kind)
    }

    fn give_name(&mut self, kind: FsKind) -> Result<()> {
        // Before it has a name, so that no recovery can mistake it for an orphan.
        self.file().try_lock().map_err(|e| Error::io("lock the staged file of", &self.target.path, e))?;
        let mut error = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            let name = names::fresh(Role::Stage);
            let linked = self.file().link_as(&self.target.dir, &name);
            if matches!(self.outcome(&linked, &name, kind), Outcome::Done) {
                self.name = Some(StagedName::new(&self.target.dir, name));
                return Ok(());
            }
            match linked {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                // The target is untouched; if the name exists after all, recovery finds it.
                linked => {
                    error = linked.err().unwrap_or(error);
                    break;
                }
            }
        }
        Err(Error::io("create a file beside", &self.target.path, error))
    }

    fn rename(&mut self, kind: FsKind) -> Result<()> {
        let Some(from) = self.name.take() else { return Ok(()) };
        let renamed = self.target.dir.rename(from.as_name(), &self.target.name);
        let judged = self.judge(renamed, &self.target.name, kind);
        from.settle(&judged);
        judged
    }

    /// Creates the target's name, which must be free.
    fn create_target(&mut self, kind: FsKind) -> Result<()> {
        let Some(from) = self.name.take() else { return Ok(()) };
        let dir = &self.target.dir;
        match dir.rename_new(from.as_name(), &self.target.name) {
            // Two names for a moment; dropping `from` removes the staged one.
            Err(e) if sys::is_unsupported(&e) => {
                let linked = dir.link(from.as_name(), &self.target.name).map_err(or_unsupported);
                self.judge(linked, &self.target.name, kind)
            }
            renamed => {
                let judged = self.judge(renamed, &self.target.name, kind);
                from.settle(&judged);
                judged
            }
        }
    }

    fn judge(&self, done: io::Result<()>, name: &OsStr, kind: FsKind) -> Result<()> {
        let outcome = self.outcome(&done, name, kind);
        let (Err(e), path) = (done, &self.target.path) else { return Ok(()) };
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::NotDone => Err(Error::publish(path, e)),
            Outcome::Unknown => Err(Error::publish(path, e).with_target(TargetState::Unknown)),
        }
    }

    fn outcome(&self, done: &io::Result<()>, name: &OsStr, kind: FsKind) -> Outcome {
        outcome(&self.target.dir, done, self.stat.id, name, kind.remote)
    }
}

/// `stat` is of any file of the mount that `kind` describes.
pub(crate) fn is_rename_synced(asked: Durability, kind: FsKind, stat: &Stat) -> bool {
    match asked {
        Durability::None => false,
        // A rename that a power cut undoes must find the old content as it was.
        Durability::Data => sys::frees_blocks_early(kind, stat),
        Durability::Full => true,
    }
}

/// Makes the names of a directory durable. What was reached, at most what was asked for.
pub(crate) fn sync_rename(dir: &Dir, asked: Durability) -> io::Result<Durability> {
    Ok(if dir.sync()? { asked } else { asked.min(Durability::Data) })
}

/// A file system, or what confines the process, has files without a name and no links for them: nothing
/// was done, and a file with a name is the way.
pub(crate) fn may_not_be_linked(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::PermissionDenied | ErrorKind::Unsupported)
}

/// Gives an unnamed and empty file a name. None where that is refused: one with a name is the way then.
pub(crate) fn link_or_drop(file: File, dir: &Dir, name: &OsStr) -> io::Result<Option<File>> {
    match file.link_as(dir, name) {
        Err(e) if may_not_be_linked(ErrorKind::of(&e)) => Ok(None),
        linked => linked.map(|()| Some(file)),
    }
}

/// An error may be a lost reply to something that was done. The name itself tells, on a local
/// file system; over a network only a hit proves anything.
fn outcome(dir: &Dir, done: &io::Result<()>, id: FileId, name: &OsStr, remote: bool) -> Outcome {
    let Err(e) = done else { return Outcome::Done };
    if sys::is_not_done(e, remote) {
        return Outcome::NotDone;
    }
    match dir.stat_at(name) {
        Ok(found) if found.id == id => Outcome::Done,
        Ok(_) if !remote => Outcome::NotDone,
        Err(e) if !remote && e.kind() == io::ErrorKind::NotFound => Outcome::NotDone,
        _ => Outcome::Unknown,
    }
}

/// What came of giving `file` a name.
pub(crate) fn outcome_of_link(
    dir: &Dir,
    done: &io::Result<()>,
    file: &File,
    name: &OsStr,
    remote: bool,
) -> Outcome {
    match (done, file.stat()) {
        (Ok(()), _) => Outcome::Done,
        (_, Ok(stat)) => outcome(dir, done, stat.id, name, remote),
        (_, Err(_)) => Outcome::Unknown,
    }
}

/// Renames a file out of a staging directory of ours. Nobody else renames there, so that the
/// staged name tells what an unclear error means; over a network it may be an old answer.
pub(crate) fn move_into_place(
    stage: &Dir,
    from: &OsStr,
    dir: &Dir,
    to: &OsStr,
    create_new: bool,
    remote: bool,
) -> (Outcome, Option<io::Error>) {
    let moved = if create_new { move_new(stage, from, dir, to) } else { stage.rename_into(from, dir, to) };
    let Err(e) = moved else { return (Outcome::Done, None) };
    let outcome = if sys::is_not_done(&e, remote) {
        Outcome::NotDone
    } else {
        match stage.stat_at(from) {
            Ok(_) if !remote => Outcome::NotDone,
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => Outcome::Done,
            _ => Outcome::Unknown,
        }
    };
    (outcome, Some(e))
}

fn move_new(stage: &Dir, from: &OsStr, dir: &Dir, to: &OsStr) -> io::Result<()> {
    match stage.rename_new_into(from, dir, to) {
        // Two names for a moment; the staged one goes with the staging directory.
        Err(e) if sys::is_unsupported(&e) => stage.link_into(from, dir, to).map_err(or_unsupported),
        moved => moved,
    }
}

/// No rename that doesn't replace, and no link: nothing is left that creates a name and never replaces.
fn or_unsupported(e: io::Error) -> io::Error {
    if sys::cannot_link(&e) { io::ErrorKind::Unsupported.into() } else { e }
}

impl StagedName {
    /// After a rename: removed if it certainly failed, otherwise not ours any more.
    fn settle(self, renamed: &Result<()>) {
        let failed = renamed.as_ref().is_err_and(|e| e.target() == TargetState::Unchanged);
        if !failed {
            self.leave();
        }
    }
}

impl FsKind {
    pub(crate) fn limit(self, reached: Durability) -> Durability {
        if self.volatile { Durability::None } else { reached }
    }
}
