//! Start-up: settling what a crash left behind.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::atomic::dir_settle::{Found, settle_swaps};
use crate::atomic::names::{self, Role};
use crate::atomic::settle::{Settled, settle};
use crate::atomic::sweep::{Judge, Verdict};
use crate::sys::{Dir, Kind};
use crate::{Error, ErrorKind, Result};

/// Settles what crashed saves left below `root`. For the start of a program, before its first
/// save; safe at any other time too.
///
/// Staged files whose writers died are removed. Those of live writers, in this or any other
/// process, are left alone: a writer holds a kernel lock on its staged file, which ends with it.
/// Where a save was cut short, the target holds complete old or complete new content with or
/// without this; recovery only tidies up.
///
/// Judged are only entries with a name of ours ([`is_remnant`](crate::is_remnant)) that belong to
/// the effective user and are not writable by everybody; a look-alike of another user is not
/// touched. So what a privileged program leaves when it is killed in the microseconds between
/// naming and renaming a file that it saves *for another user* stays, as does that of a file with
/// mode 0666. Links are not followed. The cost is one directory listing for each folder below
/// `root`, and a few system calls for each remnant.
///
/// Can be killed anywhere and run again. To finish what was decided takes a little room; a full disk
/// is told once all that could be removed is gone, and no content is lost by it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let data = dir.path();
/// let recovery = durafile::recover(data)?;
/// for path in recovery.removed() {
///     eprintln!("removed the rest of an interrupted save: {}", path.display());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// If `root` can't be opened or listed, or the disk fails. Folders and remnants that the caller
/// has no right to are not errors; [`Recovery::unreadable`] lists them.
pub fn recover(root: impl AsRef<Path>) -> Result<Recovery> {
    RecoveryOptions::new().run(root)
}

/// How to recover; a builder, passed by value.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `run`"]
pub struct RecoveryOptions {
    recursive: bool,
    min_age: Duration,
    dry_run: bool,
}

impl Default for RecoveryOptions {
    fn default() -> RecoveryOptions {
        RecoveryOptions::new()
    }
}

impl RecoveryOptions {
    /// The defaults: all folders below the root, remnants of any age, for real.
    pub const fn new() -> RecoveryOptions {
        RecoveryOptions { recursive: true, min_age: Duration::ZERO, dry_run: false }
    }

    /// Whether to look into folders below the root. Default: true.
    pub fn recursive(mut self, yes: bool) -> Self {
        self.recursive = yes;
        self
    }

    /// Take remnants that changed more recently for in use. Default: zero.
    ///
    /// Needed only where the file system has no locks: there nothing else can tell a dead writer
    /// from a live one, and with zero every remnant counts as in use.
    pub fn min_age(mut self, age: Duration) -> Self {
        self.min_age = age;
        self
    }

    /// Report what would be done and do nothing. Default: false.
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }

    /// [`recover`] with these options.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn run(&self, root: impl AsRef<Path>) -> Result<Recovery> {
        let root = root.as_ref();
        let mut walk = Walk {
            root,
            dir: Dir::open(root).map_err(|e| Error::io("open", root, e))?,
            judge: Judge { min_age: self.min_age, dry_run: self.dry_run },
            pending: Vec::new(),
            without_room: Vec::new(),
            found: Recovery::default(),
        };
        walk.enter(Path::new(""))?;
        while let Some(folder) = walk.pending.pop().filter(|_| self.recursive) {
            walk.enter(&folder)?;
        }
        // What was removed since may be room enough.
        for (folder, _) in std::mem::take(&mut walk.without_room) {
            walk.enter(&folder)?;
        }
        match walk.without_room.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(walk.found.sorted()),
        }
    }
}

struct Walk<'a> {
    root: &'a Path,
    dir: Dir,
    judge: Judge,
    /// Folders to look into, relative to the root.
    pending: Vec<PathBuf>,
    /// Folders in which something could not be settled for want of room.
    without_room: Vec<(PathBuf, Error)>,
    found: Recovery,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path) -> Result<()> {
        if folder.as_os_str().is_empty() {
            let top = self.dir.open_at(folder).map_err(|e| Error::io("open", self.root, e))?;
            return self.visit(&Arc::new(top), folder);
        }
        match self.dir.open_beneath(folder) {
            Ok(dir) => self.visit(&Arc::new(dir), folder),
            // Removed, or replaced by a link, since it was listed.
            Err(e) if crate::sys::is_gone(&e) => Ok(()),
            Err(e) => self.pass_over(folder, e),
        }
    }

    fn pass_over(&mut self, folder: &Path, e: std::io::Error) -> Result<()> {
        let path = self.root.join(folder);
        if !crate::sys::is_forbidden(&e) {
            return Err(Error::io("open", &path, e));
        }
        self.found.unreadable.push(path);
        Ok(())
    }

    fn visit(&mut self, dir: &Arc<Dir>, folder: &Path) -> Result<()> {
        let entries = match dir.entries() {
            Ok(entries) => entries,
            Err(e) if folder.as_os_str().is_empty() => return Err(Error::io("list", self.root, e)),
            // Removed since it was opened, where that doesn't hold it.
            Err(e) if crate::sys::is_gone(&e) => return Ok(()),
            Err(e) => return self.pass_over(folder, e),
        };
        let mut remnants = Vec::new();
        for entry in entries {
            let (name, kind) = entry.map_err(|e| Error::io("list", &self.root.join(folder), e))?;
            let is_dir = |name: &OsStr| dir.stat_at(name).is_ok_and(|stat| stat.kind == Kind::Dir);
            match names::role_of(&name) {
                Some(role) => remnants.push((role, name)),
                None if kind == Some(Kind::Dir) => self.pending.push(folder.join(name)),
                None if kind.is_none() && is_dir(&name) => self.pending.push(folder.join(name)),
                None => {}
            }
        }
        // After the listing: removing entries while listing may make the system skip some.
        self.settle_all(dir, folder, remnants)
    }

    fn settle_all(&mut self, dir: &Arc<Dir>, folder: &Path, remnants: Vec<(Role, OsString)>) -> Result<()> {
        let of = |wanted: Role| {
            let names = remnants.iter().filter(move |(role, _)| *role == wanted);
            names.map(|(_, name)| name.clone()).collect::<Vec<_>>()
        };
        let (journals, staged) = (of(Role::Journal), of(Role::Change));
        if !journals.is_empty() || !staged.is_empty() {
            self.settle_transactions(dir, folder, &journals, &staged)?;
        }
        let swaps = Found { records: of(Role::Swap), kept: of(Role::Kept), trees: of(Role::Tree) };
        if !swaps.is_empty() {
            let mut settled = Settled::default();
            let done = settle_swaps(dir, &swaps, self.judge, &mut settled);
            self.take_down((settled, done), folder, swaps.names(), "settle the directories in")?;
        }
        for (role, name) in &remnants {
            let settled = self.settle(dir, *role, name, folder);
            self.unless_room_lacks(settled, folder)?;
        }
        Ok(())
    }

    /// Then the rest comes first: there may be something to remove.
    fn unless_room_lacks(&mut self, settled: Result<()>, folder: &Path) -> Result<()> {
        match settled {
            Err(e) if matches!(e.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                if self.without_room.last().is_none_or(|(last, _)| last != folder) {
                    self.without_room.push((folder.to_owned(), e));
                }
                Ok(())
            }
            settled => settled,
        }
    }

    fn settle_transactions(
        &mut self,
        dir: &Arc<Dir>,
        folder: &Path,
        journals: &[OsString],
        staged: &[OsString],
    ) -> Result<()> {
        let mut settled = Settled::default();
        let done = settle(dir, journals, staged, self.judge, &mut settled);
        self.take_down((settled, done), folder, journals.iter().chain(staged), "settle the transaction in")
    }

    fn take_down<'n>(
        &mut self,
        (settled, done): (Settled, io::Result<()>),
        folder: &Path,
        names: impl Iterator<Item = &'n OsString>,
        operation: &'static str,
    ) -> Result<()> {
        let base = self.root.join(folder);
        match done {
            // Refused by the system, or by us: somebody else has put something in the way.
            Err(e) if crate::sys::is_forbidden(&e) || e.kind() == io::ErrorKind::PermissionDenied => {
                let done = [&settled.removed, &settled.quarantined, &settled.in_use].map(|list| list.iter());
                let done: Vec<_> = done.into_iter().flatten().collect();
                let left = names.filter(|name| !done.iter().any(|path| path.as_os_str() == *name));
                self.found.unreadable.extend(left.map(|name| base.join(name)));
            }
            done => {
                let done = done.map_err(|e| Error::io(operation, &base, e));
                self.unless_room_lacks(done, folder)?;
            }
        }
        let full = |paths: Vec<PathBuf>| paths.into_iter().map(|path| base.join(path)).collect::<Vec<_>>();
        self.found.completed.extend(full(settled.completed));
        self.found.rolled_back.extend(full(settled.rolled_back));
        self.found.removed.extend(full(settled.removed));
        self.found.in_use.extend(full(settled.in_use));
        self.found.quarantined.extend(full(settled.quarantined));
        self.found.unreadable.extend(full(settled.unreadable));
        Ok(())
    }

    fn settle(&mut self, dir: &Dir, role: Role, name: &OsStr, folder: &Path) -> Result<()> {
        let path = self.root.join(folder).join(name);
        let verdict = match role {
            Role::Stage => self.judge.settle_stage(dir, name),
            Role::StageDir => self.judge.settle_stage_dir(dir, name),
            // The lock of a dead writer is an orphan like any other.
            Role::Lock => self.judge.settle_stage(dir, name),
            // Together with others of the folder, or left for a person to look at.
            Role::Change | Role::Journal | Role::Quarantined => return Ok(()),
            Role::Swap | Role::Kept | Role::Tree => return Ok(()),
        };
        match verdict.map_err(|e| Error::io("settle", &path, e))? {
            Verdict::Ignored => {}
            Verdict::InUse => self.found.in_use.push(path),
            Verdict::Removed => self.found.removed.push(path),
            Verdict::Unreadable => self.found.unreadable.push(path),
            Verdict::SetAside(aside) => self.found.quarantined.push(path.with_file_name(aside)),
        }
        Ok(())
    }
}

/// What a recovery found and did; every path that it settled, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    removed: Vec<PathBuf>,
    completed: Vec<PathBuf>,
    rolled_back: Vec<PathBuf>,
    in_use: Vec<PathBuf>,
    quarantined: Vec<PathBuf>,
    unreadable: Vec<PathBuf>,
}

impl Recovery {
    /// Whether nothing had to be settled. Live writers don't count.
    pub fn is_clean(&self) -> bool {
        [&self.removed, &self.completed, &self.rolled_back, &self.quarantined]
            .iter()
            .all(|list| list.is_empty())
    }

    /// Orphaned staged content, removed.
    pub fn removed(&self) -> &[PathBuf] {
        &self.removed
    }

    /// Changes that were decided before the crash and have been finished.
    pub fn completed(&self) -> &[PathBuf] {
        &self.completed
    }

    /// Changes that were begun and not decided, and have been undone.
    pub fn rolled_back(&self) -> &[PathBuf] {
        &self.rolled_back
    }

    /// What belongs to a live writer, or may, and was left alone.
    pub fn in_use(&self) -> &[PathBuf] {
        &self.in_use
    }

    /// What could not be decided and was moved aside. Never after a mere crash.
    pub fn quarantined(&self) -> &[PathBuf] {
        &self.quarantined
    }

    /// Folders that could not be looked into and remnants that could not be opened or removed,
    /// for want of rights.
    pub fn unreadable(&self) -> &[PathBuf] {
        &self.unreadable
    }

    fn sorted(mut self) -> Recovery {
        for list in [
            &mut self.removed,
            &mut self.completed,
            &mut self.rolled_back,
            &mut self.in_use,
            &mut self.quarantined,
            &mut self.unreadable,
        ] {
            list.sort();
            // What lacked room at first was looked at twice.
            list.dedup();
        }
        self
    }
}
