//! Steps 5 to 11: from a staged file to the target's name, and the truth about what happened.

use std::ffi::OsStr;
use std::io;

use crate::atomic::announce::{announce, can_be_announced};
use crate::atomic::content::ContentWriter;
use crate::atomic::new_name::move_new;
use crate::atomic::outcome::{Outcome, outcome};
use crate::atomic::parent_sync::{needs_parent_sync, reached, sync_parent};
use crate::atomic::previous::{self, UndoKeeping};
use crate::atomic::staged::{Staged, StagedName, TRIES, create_with_name};
use crate::atomic::sync_mode::FileSync;
use crate::atomic::target::Target;
use crate::cancel::CancelToken;
use crate::error::{Error, Result, TargetState};
use crate::names::{self, Role};
use crate::options::WriteOptions;
use crate::options::durability::{Committed, Durability};
use crate::sys::{self, Dir, File, FsKind, Stat};

/// The lock of a save with a condition, and its last check: others can't replace the target until the save has.
pub(crate) trait Guard {
    /// Fails if the target is not what the save expects. Asked last, right before names or content are touched.
    fn last_check(&self, target: &Target) -> Result<()>;

    /// Lets others go on, right after a rename. After an overwrite they go on once the guard is dropped.
    fn release(&mut self);

    /// The target itself, if that is what is locked.
    fn locked_target(&self) -> Option<&File>;
}

/// For a save without a condition.
pub(crate) struct Unguarded;

impl Guard for Unguarded {
    fn last_check(&self, _target: &Target) -> Result<()> {
        Ok(())
    }

    fn release(&mut self) {}

    fn locked_target(&self) -> Option<&File> {
        None
    }
}

/// The decisions of the options about steps 6, 8 and 10. They are reached by these pointers only, so that the linker leaves
/// them out of a program that saves with the default options.
struct Choices {
    file_sync: fn(&WriteOptions, &Dir, (FsKind, &Stat)) -> FileSync,
    keep_previous: fn(&Target, &WriteOptions) -> Result<Option<UndoKeeping>>,
    needs_parent_sync: fn(&WriteOptions, FsKind, &Stat) -> bool,
}

static OF_OPTIONS: Choices = Choices {
    file_sync: |options, dir, at| FileSync::resolve(options.durability, options.single_flush, dir, at),
    keep_previous: previous::keep,
    needs_parent_sync: |options, kind, stat| needs_parent_sync(options.durability, kind, stat),
};

/// The answers that [`OF_OPTIONS`] gives for [`WriteOptions::new`].
static DEFAULT: Choices = Choices {
    file_sync: |_, _, _| FileSync::Fsync,
    keep_previous: |_, _| Ok(None),
    needs_parent_sync: |_, _, _| true,
};

impl Staged {
    /// Makes the staged content the target.
    pub(crate) fn publish(self, options: &WriteOptions) -> Result<Committed> {
        self.publish_guarded(options, &mut Unguarded)
    }

    /// [`publish`](Staged::publish) with the default options.
    pub(crate) fn publish_by_default(self) -> Result<Committed> {
        self.publish_chosen(&WriteOptions::new(), &DEFAULT, &mut Unguarded)
    }

    /// Publishes the file unless the guard's last check fails. That check is made right before step 8, and the guard
    /// is released right after that step. The link of an unnamed file to a name that nothing had is not checked: it
    /// fails if anything is there, and what comes then is a rename.
    pub(crate) fn publish_guarded(self, options: &WriteOptions, guard: &mut dyn Guard) -> Result<Committed> {
        self.publish_chosen(options, &OF_OPTIONS, guard)
    }

    fn publish_chosen(
        mut self,
        options: &WriteOptions,
        choices: &Choices,
        guard: &mut dyn Guard,
    ) -> Result<Committed> {
        let mut durability = options.durability;
        let kind = self.file().fs_kind(&self.stat).map_err(|e| Error::io("inspect", &self.target.path, e))?;
        let sync = (choices.file_sync)(options, &self.target.dir, (kind, &self.stat));
        self.finish(sync, options)?;
        CancelToken::check(options.cancel.as_ref(), &self.target.path)?;
        self.target.unpin_unless_needed(kind);
        let stat = self.stat;
        let is_in_place = self.name.is_none() && self.link_unnamed(sync, options, kind)?;
        let kept_metadata = self.keeps_metadata;
        let target = if is_in_place {
            self.close()
        } else {
            guard.last_check(&self.target)?;
            let undo_keeping = (choices.keep_previous)(&self.target, options)?;
            let name = self.target.name.clone();
            self.move_into_place(options.create_new, kind).inspect_err(|e| {
                if let Some(undo) = undo_keeping.filter(|_| e.target() == TargetState::Unchanged) {
                    undo(&name);
                }
            })?
        };
        guard.release();
        if (choices.needs_parent_sync)(options, kind, &stat) {
            // Step 10.
            let synced = sync_parent(&target.dir).map_err(|e| {
                Error::io("sync the directory of", &target.path, e).with_target(TargetState::Replaced)
            })?;
            durability = reached(durability, synced);
        }
        // Step 11: the replaced file is closed with `target`, the directory before it.
        Ok(Committed { kept_metadata, ..Committed::new(kind.cap_durability(durability)) })
    }

    /// Step 7: gives the unnamed file the target's name, where nothing may be replaced or nothing is there, else
    /// one beside it. Is it the target's?
    fn link_unnamed(&mut self, sync: FileSync, options: &WriteOptions, kind: FsKind) -> Result<bool> {
        let is_absent = options.create_new || self.target.existing.is_none();
        let mut is_new = is_absent && can_be_announced(options);
        if is_new {
            let linked = self.file().link_as(&self.target.dir, &self.target.name);
            match (self.outcome(&linked, &self.target.name, kind), &linked) {
                (Outcome::Done, _) => {
                    announce(&self.target.dir, &self.target.name);
                    return Ok(true);
                }
                // Somebody else created the target meanwhile: then this save replaces that one.
                (Outcome::NotDone, Err(e)) if sys::already_exists(e) && !options.create_new => is_new = false,
                (Outcome::NotDone, Err(e)) if sys::is_link_refused(e) => {}
                (outcome, _) => return ended(&self.target, outcome, linked).map(|()| true),
            }
        }
        if is_new || !self.give_name(kind)? {
            sys::remember_refused_link(&self.stat);
            self.stage_again(sync, options)?;
        }
        Ok(false)
    }

    /// Links the unnamed file to a name beside the target. False where links are refused.
    fn give_name(&mut self, kind: FsKind) -> Result<bool> {
        let fail = |e| Error::io(Error::CREATE_BESIDE, &self.target.path, e);
        // Locked before it has a name, so that no recovery can mistake it for an orphan.
        sys::lock_unless_refused(self.file().try_lock())
            .map_err(|e| Error::io("lock the staged file of", &self.target.path, e))?;
        let mut taken = io::Error::from(io::ErrorKind::AlreadyExists);
        for _ in 0..TRIES {
            let name = names::fresh(Role::Stage);
            let linked = self.file().link_as(&self.target.dir, &name);
            match (self.outcome(&linked, &name, kind), linked) {
                (Outcome::Done, _) => {
                    self.name = Some(StagedName::new(&self.target.dir, name));
                    return Ok(true);
                }
                (_, Err(e)) if sys::already_exists(&e) => taken = e,
                (Outcome::NotDone, Err(e)) if sys::is_link_refused(&e) => return Ok(false),
                // The target is untouched. If the name exists after all, recovery finds it.
                (_, linked) => return Err(fail(linked.err().unwrap_or(taken))),
            }
        }
        Err(fail(taken))
    }

    /// Steps 3 to 6 once more, in a file that has a name from the start.
    fn stage_again(&mut self, sync: FileSync, options: &WriteOptions) -> Result<()> {
        let path = &self.target.path;
        let created = create_with_name(&self.target, options);
        let (name, file, stat) = created.map_err(|e| Error::io(Error::CREATE_BESIDE, path, e))?;
        let mut stream = ContentWriter::new(file, path, options.into());
        stream.copy_from(self.file(), "read the staged file of")?;
        (self.name, self.stream, self.stat) = (name, stream, stat);
        self.finish(sync, options)
    }

    /// Steps 8 and 9: renames the staged file over the target or, if the target must be new, creates its name;
    /// then closes it.
    fn move_into_place(self, create_new: bool, kind: FsKind) -> Result<Target> {
        // Dropped in the opposite order: the name goes while the open file holds its lock.
        let Staged { target, stat, stream, name, .. } = self;
        let Some(name) = name else { return Ok(target) };
        let attempt = || {
            let (moved, is_gone) = rename(&target, name.as_name(), create_new);
            let outcome = outcome(&moved, stat.id, (&target.dir, &target.name), kind.remote);
            (outcome, moved, is_gone)
        };
        let (mut outcome, mut moved, mut is_gone) = attempt();
        if outcome == Outcome::NotDone && moved.as_ref().is_err_and(sys::is_refused_while_open) {
            // Some network shares rename no file that is open. Without its lock a recovery may take the file
            // for an orphan: then the rename fails, and the target stays as it is.
            drop(stream);
            (outcome, moved, is_gone) = attempt();
        }
        let ended = ended(&target, outcome, moved);
        match outcome {
            // There is no staged name any more, or it may be the only one.
            Outcome::Done if is_gone => name.keep(),
            Outcome::Unknown => name.keep(),
            Outcome::Done | Outcome::NotDone => drop(name),
        }
        ended.map(|()| target)
    }

    /// Step 9: closing gives up the lock, which would be in the way of an application's own.
    fn close(self) -> Target {
        self.target
    }

    fn outcome(&self, done: &io::Result<()>, name: &OsStr, kind: FsKind) -> Outcome {
        outcome(done, self.stat.id, (&self.target.dir, name), kind.remote)
    }
}

/// The answer to the caller, after a rename or link to the target's name.
fn ended(target: &Target, outcome: Outcome, done: io::Result<()>) -> Result<()> {
    match (outcome, done) {
        (Outcome::Done, _) | (_, Ok(())) => Ok(()),
        (outcome, Err(e)) => {
            let error = Error::refused(Error::PUBLISH, &target.path, (&target.dir, &target.name), e);
            Err(if outcome == Outcome::Unknown { error.with_target(TargetState::Unknown) } else { error })
        }
    }
}

/// Step 8. Says, too, whether success takes the staged name away.
fn rename(target: &Target, from: &OsStr, create_new: bool) -> (io::Result<()>, bool) {
    match create_new {
        true => move_new((&target.dir, from), (&target.dir, &target.name)),
        false => (target.dir.rename(from, &target.name), true),
    }
}

impl FsKind {
    pub(crate) fn cap_durability(self, reached: Durability) -> Durability {
        if self.memory_backed { Durability::None } else { reached }
    }
}
