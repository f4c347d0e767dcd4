//! Judging one remnant: whose it is, whether its writer lives, and what to do with it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::error_kind::ErrorKind;
use crate::names::{self, Role};
use crate::remnant::readers::is_read_inside;
use crate::remnant::remove_tree::remove_opened;
use crate::remnant::report::RemnantState;
use crate::remnant::trust::{Found, Level, Removal, Trust, TrustPolicy, tie_of};
use crate::sys::{self, Dir, File, Kind, Lock, Share, Stat, absent};

/// How a recovery treats remnants.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RemnantPolicy {
    pub(crate) min_age: Duration,
    pub(crate) dry_run: bool,
    /// Believe everybody who can write in the tree.
    pub(crate) trust_others: bool,
    /// Move a record that can't be completed aside.
    pub(crate) abandon: bool,
    /// Leaves a remnant that can't be decided where it is: a recovery moves it aside, a writer only fails.
    pub(crate) keep_undecided: bool,
    /// Nobody writes a version of a directory that was listed here.
    pub(crate) knows_no_writer: bool,
}

/// A directory that nobody uses any more.
struct Abandoned {
    dir: Dir,
    is_empty: bool,
    /// Its writer's lock file is in it, and not locked.
    has_lock: bool,
}

impl Drop for Abandoned {
    /// Not by closing: a child that is being started may have it open for a moment, and whoever looks next would
    /// take it for in use.
    fn drop(&mut self) {
        let _ = self.dir.unlock();
    }
}

/// A remnant that is to be moved aside; nobody uses it.
enum Orphan {
    Tree(#[expect(dead_code, reason = "its lock is held until this is dropped")] Abandoned),
    File(#[expect(dead_code, reason = "its lock is held until this is dropped")] InTurn),
}

/// A file that nobody uses any more, locked.
struct AbandonedFile(File);

impl Drop for AbandonedFile {
    /// As for [`Abandoned`].
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// The right to remove or rename what has a name that others may give anew, such as that of a lock: after one recovery has
/// removed the orphan, a writer makes a new file of this name, which another recovery must not take for the orphan. They
/// share the lock of the orphan; so they look at the name and act on it one after the other, by the lock of the directory,
/// which no writer asks for.
struct InTurn {
    _orphan: AbandonedFile,
    dir: Option<Dir>,
}

impl InTurn {
    fn wait(dir: &Dir, name: &OsStr, orphan: AbandonedFile) -> Result<InTurn, Stays> {
        let is_given_anew = matches!(names::role_of(name), Some(Role::Lock | Role::Swap | Role::Undo));
        // Elsewhere the lock of the orphan is not shared.
        if !is_given_anew || !sys::shares_locks_of_dirs(dir) {
            return Ok(InTurn { _orphan: orphan, dir: None });
        }
        let stat = orphan.0.stat().map_err(state_after)?;
        // A descriptor of its own: locks belong to descriptors.
        let own = dir.open_at(Path::new("")).map_err(state_after)?;
        match sys::lock_unless_refused(own.try_lock()).map_err(state_after)? {
            // Another recovery is at work, or somebody reads a version of this directory.
            Lock::Elsewhere => return Err(Ok(RemnantState::InUse)),
            Lock::Held | Lock::Unsupported => {}
        }
        let turn = InTurn { _orphan: orphan, dir: Some(own) };
        still_at(dir, name, stat).map(|()| turn)
    }
}

impl Drop for InTurn {
    /// As for [`Abandoned`].
    fn drop(&mut self) {
        let _ = self.dir.as_ref().map(Dir::unlock);
    }
}

/// Why a remnant stays: `Ok` for what was found, `Err` for what went wrong on the way.
type Stays = io::Result<RemnantState>;

impl RemnantPolicy {
    /// For a writer that is about to begin.
    pub(crate) fn of_writer() -> RemnantPolicy {
        RemnantPolicy { keep_undecided: true, ..RemnantPolicy::default() }
    }

    /// Is a record whose steps end with this error to be given up? Not for want of room, nor for what a
    /// later attempt may not meet.
    pub(crate) fn gives_up(self, e: &io::Error) -> bool {
        self.abandon && !sys::is_out_of_space(e) && !sys::is_transient(e)
    }

    /// Whom to believe in a directory.
    pub(crate) fn trust(self, dir: &Dir) -> Trust<'_> {
        Trust::new(dir, TrustPolicy { others: self.trust_others, no_probe: self.dry_run })
    }

    /// Removes the staged file of a single save, or a lock file, if its writer is dead.
    pub(crate) fn remove_file(self, trust: &Trust<'_>, name: &OsStr) -> io::Result<RemnantState> {
        let orphan = self.orphaned_file(trust, name).and_then(|file| InTurn::wait(trust.dir(), name, file));
        self.remove(orphan, |_| trust.dir().unlink(name))
    }

    /// Removes a name that a file of a transaction had on its way to its target. As long as the file has its
    /// staged name, too, the transaction is under way, or its record is to be carried out.
    pub(crate) fn remove_passing(self, trust: &Trust<'_>, name: &OsStr) -> io::Result<RemnantState> {
        match absent(trust.dir().stat_now(name))? {
            Some(found) if found.kind == Kind::File && found.nlink > 1 => Ok(RemnantState::InUse),
            _ => self.remove_file(trust, name),
        }
    }

    /// Removes a directory in which files of a set were staged, if its writer is dead.
    pub(crate) fn remove_staging_dir(self, trust: &Trust<'_>, name: &OsStr) -> io::Result<RemnantState> {
        let orphan = self.unused_dir(trust, name).and_then(|stage| self.unwritten(stage, name));
        self.remove_dir(orphan, trust, name)
    }

    /// Whether nobody writes or reads a version of a directory that is not the target. If so, its writer is
    /// dead: nobody will ever write to it, or make a record for it.
    pub(crate) fn is_abandoned(self, trust: &Trust<'_>, name: &OsStr) -> io::Result<bool> {
        match self.abandoned_tree(trust, name) {
            Ok(_) => Ok(true),
            Err(stays) => stays.map(|_| false),
        }
    }

    /// Removes such a version.
    pub(crate) fn remove_tree(self, trust: &Trust<'_>, name: &OsStr) -> io::Result<RemnantState> {
        let orphan = self.abandoned_tree(trust, name);
        if orphan.is_ok() && !self.dry_run {
            // The swap that brought it here may not be durable: until then a power cut may make
            // this version the target again.
            trust.dir().sync_names()?;
        }
        self.remove_dir(orphan, trust, name)
    }

    /// Moves what can't be decided out of the way of everything.
    pub(crate) fn quarantine(self, trust: &Trust<'_>, name: &OsStr) -> io::Result<RemnantState> {
        if self.keep_undecided {
            return Ok(RemnantState::Undecided);
        }
        let dir = trust.dir();
        let held = match dir.stat_at(name) {
            Err(e) => return state_after(e),
            Ok(found) if found.kind == Kind::Dir => match self.abandoned_tree(trust, name) {
                // Anybody can have given it its name.
                Ok(tree) if trust.removal(name, &tree.dir)? != Removal::Whole => {
                    Err(Ok(RemnantState::Untrusted))
                }
                held => held.map(Orphan::Tree),
            },
            Ok(_) => {
                let orphan = self.orphaned_file(trust, name);
                orphan.and_then(|file| InTurn::wait(dir, name, file)).map(Orphan::File)
            }
        };
        let aside = names::fresh(Role::Quarantined);
        match held {
            Err(stays) => stays,
            Ok(_) if self.dry_run => Ok(RemnantState::Quarantined(name.to_owned())),
            // Still locked: nobody may put something else at this name meanwhile.
            Ok(_held) => match dir.rename(name, &aside) {
                Ok(()) => Ok(RemnantState::Quarantined(aside)),
                Err(e) => state_after(e),
            },
        }
    }

    /// A file that is to be believed and whose writer is dead, locked.
    fn orphaned_file(self, trust: &Trust<'_>, name: &OsStr) -> Result<AbandonedFile, Stays> {
        let open = |dir: &Dir| open_to_lock(dir, name);
        let found = match names::role_of(name) {
            Some(Role::Lock) => trust.open_lock(name, open),
            _ => trust.open_file_by(name, Level::Removed, open),
        };
        let (file, share) = self.known(found, trust.dir(), name)?;
        self.free(file.try_lock_as(share))?;
        let file = AbandonedFile(file);
        still_at(trust.dir(), name, file.0.stat().map_err(Err)?)?;
        Ok(file)
    }

    /// A directory that is to be believed so far and old enough.
    fn orphaned_dir(self, trust: &Trust<'_>, name: &OsStr) -> Result<Dir, Stays> {
        self.known(trust.open_dir(name, Level::Removed), trust.dir(), name)
    }

    /// A directory in which nobody writes: its writer has the file locked that ties it to its name, and
    /// makes that file before any other.
    fn unwritten(self, mut found: Abandoned, name: &OsStr) -> Result<Abandoned, Stays> {
        // A writer makes that file first and removes it last. So if there was something, then no such file, and
        // there is something still, its writer is dead.
        let is_empty = |dir: &Dir| Ok(dir.entries().map_err(state_after)?.next().is_none());
        found.is_empty = is_empty(&found.dir)?;
        if found.is_empty {
            return Ok(found);
        }
        found.has_lock = match open_to_lock(&found.dir, &tie_of(name)) {
            Err(e) if sys::is_gone(&e) => false,
            Err(e) => return Err(state_after(e)),
            // Given up at once: nobody begins to write in a directory that has been made before.
            Ok((file, share)) => {
                self.free(file.try_lock_as(share))?;
                let file = AbandonedFile(file);
                // It may have been removed while it was opened.
                file.0.stat().map_err(state_after)?.nlink > 0
            }
        };
        found.is_empty = !found.has_lock && is_empty(&found.dir)?;
        Ok(found)
    }

    /// Opens and locks such a directory, if nobody else has it locked.
    fn unused_dir(self, trust: &Trust<'_>, name: &OsStr) -> Result<Abandoned, Stays> {
        let dir = self.orphaned_dir(trust, name)?;
        let stat = dir.stat().map_err(Err)?;
        self.free(sys::lock_unless_refused(dir.try_lock()))?;
        let found = Abandoned { dir, is_empty: false, has_lock: false };
        still_at(trust.dir(), name, stat)?;
        Ok(found)
    }

    /// A version that nobody writes or reads, locked against both.
    fn abandoned_tree(self, trust: &Trust<'_>, name: &OsStr) -> Result<Abandoned, Stays> {
        let tree = self.unused_dir(trust, name)?;
        if is_read_inside(&tree.dir).map_err(state_after)? {
            return Err(Ok(RemnantState::InUse));
        }
        let tree = self.unwritten(tree, name)?;
        // The directory's own lock tells nothing there.
        let lock_tells_nothing =
            !tree.has_lock && !self.knows_no_writer && !sys::shares_locks_of_dirs(trust.dir());
        if lock_tells_nothing && self.min_age.is_zero() { Err(Ok(RemnantState::InUse)) } else { Ok(tree) }
    }

    fn known<T>(self, found: io::Result<Found<T>>, dir: &Dir, name: &OsStr) -> Result<T, Stays> {
        let opened = match found.map_err(state_after)? {
            Found::Absent => return Err(Ok(RemnantState::Ignored)),
            Found::Untrusted => return Err(Ok(RemnantState::Untrusted)),
            Found::Trusted(opened) => opened,
        };
        match self.is_young(dir, name) {
            Err(e) => Err(state_after(e)),
            Ok(true) => Err(Ok(RemnantState::InUse)),
            Ok(false) => Ok(opened),
        }
    }

    /// Has nobody the lock that was tried?
    fn free(self, tried: io::Result<Lock>) -> Result<(), Stays> {
        match tried.map_err(state_after)? {
            Lock::Held => Ok(()),
            Lock::Elsewhere => Err(Ok(RemnantState::InUse)),
            // Only age can tell; none was given, or `is_young` has looked at it.
            Lock::Unsupported if self.min_age.is_zero() => Err(Ok(RemnantState::InUse)),
            Lock::Unsupported => Ok(()),
        }
    }

    fn remove<T>(
        self,
        orphan: Result<T, Stays>,
        remove: impl FnOnce(T) -> io::Result<()>,
    ) -> io::Result<RemnantState> {
        match orphan {
            Err(stays) => stays,
            Ok(_) if self.dry_run => Ok(RemnantState::Removed),
            Ok(held) => remove(held).map(|()| RemnantState::Removed).or_else(state_after),
        }
    }

    fn remove_dir(
        self,
        orphan: Result<Abandoned, Stays>,
        trust: &Trust<'_>,
        name: &OsStr,
    ) -> io::Result<RemnantState> {
        match orphan {
            Ok(found) if found.is_empty => self.remove_empty(trust, name),
            Ok(found) if trust.removal(name, &found.dir)? == Removal::IfEmpty => Ok(RemnantState::Untrusted),
            orphan => self.remove(orphan, |orphan| remove_opened(trust.dir(), name, &orphan.dir)),
        }
    }

    /// An empty directory may be one that a writer has made this moment, and is about to lock: it makes
    /// another one then. Nothing is said of it, for such a writer is at work. Nor is it lost if it has been locked
    /// meanwhile: then something is in it.
    fn remove_empty(self, trust: &Trust<'_>, name: &OsStr) -> io::Result<RemnantState> {
        const SURELY_LOCKED: Duration = Duration::from_secs(1);
        let patient = RemnantPolicy { min_age: SURELY_LOCKED, ..self };
        let is_new = patient.is_young(trust.dir(), name).or_else(|e| state_after(e).map(|_| true))?;
        match if self.dry_run { Ok(()) } else { trust.dir().rmdir(name) } {
            Ok(()) if is_new => Ok(RemnantState::Ignored),
            Ok(()) => Ok(RemnantState::Removed),
            Err(e) if sys::already_exists(&e) => Ok(RemnantState::InUse),
            Err(e) => state_after(e),
        }
    }

    pub(crate) fn is_young(self, dir: &Dir, name: &OsStr) -> io::Result<bool> {
        if self.min_age.is_zero() {
            return Ok(false);
        }
        let changed = sys::changed_at(dir, name)?;
        Ok(SystemTime::now().duration_since(changed).unwrap_or_default() < self.min_age)
    }
}

/// Between finding and locking, the writer may have renamed it: then the lock is on the target, and the
/// name is gone.
fn still_at(dir: &Dir, name: &OsStr, locked: Stat) -> Result<(), Stays> {
    match absent(dir.stat_at(name)).map_err(Err)? {
        Some(now) if now.id == locked.id => Ok(()),
        // Somebody uses it; or the file system doesn't know its own files.
        Some(_) => Err(Ok(RemnantState::InUse)),
        None => Err(Ok(RemnantState::Ignored)),
    }
}

/// The outcome for a remnant after an operation on it has failed. Only a full disk is told.
fn state_after(e: io::Error) -> io::Result<RemnantState> {
    match ErrorKind::of(&e) {
        _ if sys::is_not_found(&e) => Ok(RemnantState::Ignored),
        // Windows opens no file that a live writer or reader has opened for itself.
        ErrorKind::Busy if cfg!(windows) => Ok(RemnantState::InUse),
        _ if sys::is_out_of_space(&e) => Err(e),
        _ => Ok(RemnantState::Unreadable),
    }
}

/// Opens a file to find out whether its writer has it locked, and says how to ask. A shared lock keeps a writer
/// out as well, and tells one who asks at the same time that it is no other writer that has it. It
/// takes a descriptor that can read. On a network file system an exclusive lock is asked for, which takes a
/// descriptor that can write: a client may grant a shared one by itself, where the server has delegated the file.
fn open_to_lock(dir: &Dir, name: &OsStr) -> io::Result<(File, Share)> {
    if !sys::shares_locks_of_dirs(dir) {
        if let Ok(file) = dir.open_file_to_lock(name) {
            return Ok((file, Share::Exclusive));
        }
    }
    match dir.open_file(name) {
        Err(e) if sys::is_forbidden(&e) => {}
        opened => return opened.map(|file| (file, Share::Shared)),
    }
    dir.open_file_to_write(name).map(|file| (file, Share::Exclusive))
}
