//! Who may be believed: the one function that every reader of a remnant asks.
//!
//! A name proves nothing: anybody can work one out. What counts is the file or directory behind it, and it
//! is judged on the handle that is used afterwards. Judged by name and then opened, it may have been
//! exchanged for another one in between.

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::io;

use crate::error_kind::ErrorKind;
use crate::names::{self, Role};
use crate::sys::{self, Dir, File, Kind, Stat, absent};

/// The use that is made of a remnant that is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The remnant says what to change: a record, and the directory that a record names. It is mine, has one name,
    /// and neither its group nor others can write to it.
    Obeyed,
    /// The remnant is only removed. It is mine and not everybody can write to it, or it lies where nobody but root and me
    /// can create a name.
    Removed,
}

/// The file or directory that a name leads to, as far as it is believed.
#[derive(Debug)]
pub(crate) enum Found<T> {
    Absent,
    /// Somebody else can have made it, or have changed what is in it.
    Untrusted,
    Trusted(T),
}

/// How much of a directory may be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// With everything in it: nobody else can have given it its name.
    Whole,
    /// Only if it is empty.
    IfEmpty,
}

/// Whom a caller wants to believe.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TrustPolicy {
    /// Everybody who can write in the tree.
    pub(crate) others: bool,
    /// Nothing may be created, not even a file to see what mine looks like here.
    pub(crate) no_probe: bool,
}

/// Whom to believe about the names of one directory.
#[derive(Debug)]
pub(crate) struct Trust<'d> {
    dir: &'d Dir,
    policy: TrustPolicy,
    stat: OnceCell<Stat>,
    probed: OnceCell<Option<View>>,
}

/// A view of whose a file is and who can write to it, as the file system shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct View {
    uid: u32,
    /// Bits that a mode shows though nobody asked for them.
    added: u32,
}

const BY_OTHERS: u32 = 0o002;
const BY_GROUP_OR_OTHERS: u32 = 0o022;

impl View {
    fn own() -> View {
        View { uid: sys::effective_uid(), added: 0 }
    }

    fn is_mine(self, stat: &Stat) -> bool {
        stat.uid == self.uid
    }

    /// An ACL's rights are within those that the group shows.
    fn can_write(self, stat: &Stat, who: u32) -> bool {
        stat.mode & !self.added & who != 0
    }

    /// Can nobody but root and me create a name in this directory?
    fn is_private(self, dir: &Stat) -> bool {
        (self.is_mine(dir) || dir.uid == 0) && !self.can_write(dir, BY_GROUP_OR_OTHERS)
    }

    fn obeys(self, stat: &Stat) -> bool {
        let has_one_name = stat.kind == Kind::Dir || stat.nlink == 1;
        self.is_mine(stat) && has_one_name && !self.can_write(stat, BY_GROUP_OR_OTHERS)
    }

    fn believes(self, stat: &Stat, dir: &Stat, level: Level) -> bool {
        match level {
            Level::Obeyed => self.obeys(stat),
            Level::Removed => {
                self.is_private(dir) || (self.is_mine(stat) && !self.can_write(stat, BY_OTHERS))
            }
        }
    }
}

impl<'d> Trust<'d> {
    pub(crate) fn new(dir: &'d Dir, policy: TrustPolicy) -> Trust<'d> {
        Trust { dir, policy, stat: OnceCell::new(), probed: OnceCell::new() }
    }

    pub(crate) fn dir(&self) -> &'d Dir {
        self.dir
    }

    /// Opens a file if it may be believed so far.
    pub(crate) fn open_file(&self, name: &OsStr, level: Level) -> io::Result<Found<File>> {
        self.open(name, Kind::File, level, || open_file(self.dir, name), File::stat)
    }

    /// Opens a file by `open` and judges the handle, as [`open_file`](Trust::open_file) does.
    pub(crate) fn open_file_by<M>(
        &self,
        name: &OsStr,
        level: Level,
        open: impl FnOnce(&Dir) -> io::Result<(File, M)>,
    ) -> io::Result<Found<(File, M)>> {
        self.open(name, Kind::File, level, || open(self.dir), |(file, _)| file.stat())
    }

    /// Opens a lock file in this way. It may be anybody's: there is nothing in it.
    pub(crate) fn open_lock<M>(
        &self,
        name: &OsStr,
        open: impl FnOnce(&Dir) -> io::Result<(File, M)>,
    ) -> io::Result<Found<(File, M)>> {
        match absent(self.dir.stat_at(name))? {
            None => return Ok(Found::Absent),
            Some(found) if !is_lock_file(&found) => return Ok(Found::Untrusted),
            Some(_) => {}
        }
        let Some(opened) = absent(open(self.dir))? else { return Ok(Found::Absent) };
        Ok(if is_lock_file(&opened.0.stat()?) { Found::Trusted(opened) } else { Found::Untrusted })
    }

    /// Opens a directory if it may be believed so far. Whether it may be removed with what is in it,
    /// [`removal`](Trust::removal) tells.
    pub(crate) fn open_dir(&self, name: &OsStr, level: Level) -> io::Result<Found<Dir>> {
        self.open(name, Kind::Dir, level, || self.dir.open_child(name), Dir::stat)
    }

    /// Opens a whole version of a directory that a record names. What its group can write there it could
    /// write at the target, too, whose mode it has: that is no reason to distrust it where nobody else
    /// can have put it there.
    pub(crate) fn open_version(&self, name: &OsStr) -> io::Result<Found<Dir>> {
        let is_private = self.is_private()?;
        self.open_dir(name, if is_private { Level::Removed } else { Level::Obeyed })
    }

    fn open<T>(
        &self,
        name: &OsStr,
        kind: Kind,
        level: Level,
        open: impl FnOnce() -> io::Result<T>,
        stat: impl FnOnce(&T) -> io::Result<Stat>,
    ) -> io::Result<Found<T>> {
        // Opening what somebody else has put there might wait, or do something.
        let Some(found) = absent(self.dir.stat_at(name))? else { return Ok(Found::Absent) };
        if !self.believes(&found, kind, level)? {
            return Ok(Found::Untrusted);
        }
        let Some(opened) = absent(open())? else { return Ok(Found::Absent) };
        let is_trusted = self.believes(&stat(&opened)?, kind, level)?;
        Ok(if is_trusted { Found::Trusted(opened) } else { Found::Untrusted })
    }

    /// Is what was opened here of this kind, and to be believed so far?
    pub(crate) fn believes(&self, stat: &Stat, kind: Kind, level: Level) -> io::Result<bool> {
        if stat.kind != kind {
            return Ok(false);
        }
        let dir = self.dir_stat()?;
        let believed = |view: View| view.believes(stat, &dir, level);
        Ok(self.policy.others || believed(View::own()) || self.probed().is_some_and(believed))
    }

    /// How much of a directory that is open may go. Where others can create names, anybody can give any
    /// directory of mine the name of a remnant; there it goes only if something in it that only I
    /// could have put there says that the name is its own: see [`tie_to_name`](Trust::tie_to_name).
    pub(crate) fn removal(&self, name: &OsStr, tree: &Dir) -> io::Result<Removal> {
        if self.is_private()? {
            return Ok(Removal::Whole);
        }
        let (root, tie) = (tree.stat()?, absent(tree.stat_at(&tie_of(name)))?);
        let is_tied = |view: View| {
            let tied = tie.is_some_and(|tie| tie.kind == Kind::File && view.obeys(&tie));
            tied && view.obeys(&root)
        };
        let is_tied = is_tied(View::own()) || self.probed().is_some_and(is_tied);
        Ok(if is_tied { Removal::Whole } else { Removal::IfEmpty })
    }

    /// Does a directory need a file in it that ties it to its name? Where others can rename it; and where
    /// its own lock tells nobody that it is used.
    pub(crate) fn needs_tie(&self) -> io::Result<bool> {
        Ok(!self.is_private()? || !sys::shares_locks_of_dirs(self.dir))
    }

    /// Is this directory, which was opened by the name that it was made with, the one that was made? Where others can create
    /// names, they may have put another one there meanwhile: one of theirs, one of mine with something in it, or one of mine
    /// in which they may write.
    pub(crate) fn is_as_made(&self, dir: &Dir) -> io::Result<bool> {
        if self.is_private()? {
            return Ok(true);
        }
        let stat = dir.stat()?;
        let is_mine_alone = |view: View| view.is_mine(&stat) && !view.can_write(&stat, BY_GROUP_OR_OTHERS);
        let is_mine_alone = is_mine_alone(View::own()) || self.probed().is_some_and(is_mine_alone);
        Ok(is_mine_alone && dir.entries()?.next().is_none())
    }

    /// Ties an old version to the name that it has now, for whoever has to delete it if this process can't.
    /// Nobody else may put such a file into it: so the right to write goes first.
    pub(crate) fn tie_to_name(&self, name: &OsStr, tree: &Dir) -> io::Result<()> {
        if !self.needs_tie()? {
            return Ok(());
        }
        const OWNER: u32 = 0o700;
        let mode = tree.stat()?.mode;
        let tied = (mode | OWNER) & !BY_GROUP_OR_OTHERS;
        if mode != tied {
            tree.set_mode(tied)?;
        }
        tree.create_new(&tie_of(name), 0o600).map(|_| ())
    }

    /// Can nobody give a file of somebody else's a name here?
    pub(crate) fn is_private(&self) -> io::Result<bool> {
        let dir = self.dir_stat()?;
        let is_private = |view: View| view.is_private(&dir);
        Ok(self.policy.others || is_private(View::own()) || self.probed().is_some_and(is_private))
    }

    fn dir_stat(&self) -> io::Result<Stat> {
        if let Some(stat) = self.stat.get() {
            return Ok(*stat);
        }
        let stat = self.dir.stat()?;
        Ok(*self.stat.get_or_init(|| stat))
    }

    /// The view that shows a file of mine here, if it doesn't look like one: mounts show another owner, or
    /// one mode for everything. None if it looks as it should, or can't be told.
    fn probed(&self) -> Option<View> {
        *self.probed.get_or_init(|| {
            let view = if self.policy.no_probe { None } else { probe(self.dir).ok() };
            view.filter(|view| *view != View::own())
        })
    }
}

/// Can nobody but root and me create a name in a directory, as its own owner and mode say?
pub(crate) fn is_private(dir: &Stat) -> bool {
    View::own().is_private(dir)
}

/// Is this a lock file, and no link, FIFO, second name of some other file, or anything with something in it?
pub(crate) fn is_lock_file(stat: &Stat) -> bool {
    stat.kind == Kind::File && stat.nlink <= 1 && stat.size == 0
}

/// Looks at a file that only this process can have made.
fn probe(dir: &Dir) -> io::Result<View> {
    const PRIVATE: u32 = 0o600;
    let view = |stat: Stat| View { uid: stat.uid, added: stat.mode & !PRIVATE };
    if let Some(file) = dir.create_unnamed(PRIVATE)? {
        return file.stat().map(view);
    }
    let name = names::fresh(Role::Stage);
    let stat = dir.create_new(&name, PRIVATE)?.stat();
    let _ = dir.unlink(&name);
    stat.map(view)
}

/// The name of the file in a directory that says that this is the directory's own name.
pub(crate) fn tie_of(name: &OsStr) -> std::ffi::OsString {
    names::for_target(Role::Lock, name)
}

/// The staged copy of a file that its owner may only write is opened for writing.
pub(crate) fn open_file(dir: &Dir, name: &OsStr) -> io::Result<File> {
    match dir.open_file(name) {
        Err(e) if sys::is_forbidden(&e) => dir.open_file_to_write(name),
        opened => opened,
    }
}

/// The tree contradicts a record: there is a file where a directory should be, or the like.
pub(crate) fn is_contradiction(e: &io::Error) -> bool {
    use ErrorKind::{AlreadyExists, InvalidPath, IsADirectory, NotADirectory};
    matches!(ErrorKind::of(e), AlreadyExists | InvalidPath | IsADirectory | NotADirectory)
}
