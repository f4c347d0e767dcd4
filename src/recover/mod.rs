//! Start-up: settling what a crash left behind.

pub(crate) mod report;
mod walk;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomic::target::refuse_no_path;
use crate::error::{Error, Result};
use crate::recover::report::Recovery;
use crate::recover::walk::Walk;
use crate::remnant::orphan::RemnantPolicy;
use crate::sys::{self, Dir};

/// Cleans up what saves that were cut short by a crash have left below `root`.
///
/// Call it when the program starts, before its first save; it is safe at any other time too. It removes staged files
/// whose writers have died, finishes changes that were decided before the crash, and undoes those that were not. Live
/// writers, in this or any other process, are left alone: each of them holds a kernel lock, which ends with the
/// process. They don't notice a recovery, except that a new [`Transaction`](crate::Transaction) or
/// [`AtomicDir`](crate::AtomicDir) waits while a recovery finishes what is pending in the same place.
///
/// # Whom it believes
///
/// Anyone can give a file the kind of name that this crate uses ([`is_remnant`](crate::is_remnant)). So a *record*, and
/// what it has staged, is obeyed only if the effective user owns it, it has one name, and neither its group nor others
/// can write to it. Something that only has to be *removed* must belong to the effective user and not be writable by
/// everybody, or lie in a directory in which nobody but root and the user can create names. Where others can create
/// names, they can also rename a directory of the user's to the name of a remnant. So a directory is removed there only
/// if it is empty, or contains a mark that ties it to its name. Directories made by this crate have one, but for moments: a new
/// version while its last sync is under way, a version between the steps of a swap, and what `remove_dir_all` has just
/// renamed. What is killed in such a moment stays there, and is reported. An empty lock file may be anybody's.
///
/// Some mounts show another owner, or one mode for everything (NFS with `all_squash`, FUSE with a forced
/// owner, Windows file systems). There a file is created beside the remnant and looked at: what has the same owner
/// counts as the user's. Such a server hides its users behind a single one, and whoever can create files in the root
/// is believed.
///
/// What isn't believed is left alone and reported: [`Recovery::untrusted`]. As long as such a record is there, a
/// transaction in its root, or a swap of the directory that it is about, fails with
/// [`Untrusted`](crate::ErrorKind::Untrusted). Its owner, or an administrator with
/// [`trust_others`](RecoveryOptions::trust_others), can recover it.
///
/// # What it costs
///
/// Links are not followed. A recovery lists each folder below `root` once, one with what is left of a transaction or of an
/// `AtomicDir` up to three times more, and makes a few system calls for each remnant. An empty directory that a writer may have created this very moment is removed and not reported; that writer
/// creates another one.
///
/// A recovery can be killed at any point and run again. To finish what was decided takes a little space. If the disk is
/// full, everything that can be removed is removed first, then the error is reported, and no content is lost.
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
/// If `root` can't be opened or listed, or if the disk is full. A root that doesn't exist is clean; an empty path is
/// [`InvalidPath`](crate::ErrorKind::InvalidPath). Folders and remnants that can't be opened, listed or removed, for whatever
/// reason, are not errors; [`Recovery::unreadable`] lists them.
pub fn recover(root: impl AsRef<Path>) -> Result<Recovery> {
    RecoveryOptions::new().run(root)
}

/// How to recover; a builder, passed by value.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use std::time::Duration;
///
/// use durafile::RecoveryOptions;
///
/// let recovery = RecoveryOptions::new().one_file_system(true).run(dir)?;
/// assert!(recovery.is_clean());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `run`"]
pub struct RecoveryOptions {
    recursive: bool,
    one_file_system: bool,
    undo_dir: Option<PathBuf>,
    policy: RemnantPolicy,
}

impl Default for RecoveryOptions {
    fn default() -> RecoveryOptions {
        RecoveryOptions::new()
    }
}

impl RecoveryOptions {
    /// The defaults: all folders below the root are searched, and remnants of any age are dealt with.
    ///
    /// ```
    /// use durafile::RecoveryOptions;
    ///
    /// const OPTIONS: RecoveryOptions = RecoveryOptions::new();
    /// # let _ = OPTIONS;
    /// ```
    pub const fn new() -> RecoveryOptions {
        let policy = RemnantPolicy {
            min_age: Duration::ZERO,
            dry_run: false,
            trust_others: false,
            abandon: false,
            keep_undecided: false,
            knows_no_writer: false,
        };
        RecoveryOptions { recursive: true, one_file_system: false, undo_dir: None, policy }
    }

    /// Whether to look into folders below the root. Default: true.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// durafile::RecoveryOptions::new().recursive(false).run(dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn recursive(mut self, yes: bool) -> Self {
        self.recursive = yes;
        self
    }

    /// Treat remnants that were changed within this time as in use. Default: zero.
    ///
    /// This matters only on file systems without locks. There nothing but the age of a remnant can tell a dead writer
    /// from a live one, and with zero every remnant counts as in use.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::time::Duration;
    ///
    /// use durafile::RecoveryOptions;
    ///
    /// // No save here takes longer than an hour.
    /// RecoveryOptions::new().min_age(Duration::from_secs(3600)).run(dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn min_age(mut self, age: Duration) -> Self {
        self.policy.min_age = age;
        self
    }

    /// Stay on the file system of the root: folders on which something else is mounted are not entered.
    /// Default: false.
    ///
    /// A mount that answers with errors is skipped and reported in any case. A mount that does not answer at all, such
    /// as a network share whose server is gone, blocks every program that looks at it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// durafile::RecoveryOptions::new().one_file_system(true).run(dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn one_file_system(mut self, yes: bool) -> Self {
        self.one_file_system = yes;
        self
    }

    /// Believe every record and remnant, whoever owns it or may write to it, and obey it with the caller's
    /// rights, wherever below the root it leads. Default: false. Records and remnants of others are then left alone and
    /// reported in [`Recovery::untrusted`].
    ///
    /// For a tree whose every writer may decide over all of it: a restored backup that belongs to
    /// somebody else, or a folder that a team shares. Whoever can create a file anywhere below the root can have
    /// anything below it changed or deleted by this.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// // A backup that was restored a moment ago, to which nobody else has access yet.
    /// durafile::RecoveryOptions::new().trust_others(true).run(dir)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn trust_others(mut self, yes: bool) -> Self {
        self.policy.trust_others = yes;
        self
    }

    /// Look for the undo copies of [`InPlace::Fallback`](crate::InPlace::Fallback) in this directory, too: the one
    /// that the saves were given as [`undo_dir`](crate::WriteOptions::undo_dir).
    ///
    /// Only copies of files that lie below the root and have the recorded inode are used, so that several programs
    /// and roots may share such a directory. A copy must belong to the effective user, and nobody else may be able to
    /// write to it; [`trust_others`](RecoveryOptions::trust_others) changes nothing about that. A directory that
    /// doesn't exist holds nothing; one that can't be opened or listed is reported in [`Recovery::unreadable`]. An
    /// empty path is [`InvalidPath`](crate::ErrorKind::InvalidPath) when the recovery runs.
    ///
    /// ```
    /// # let (data, undo) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// # let (data, undo) = (data.path(), undo.path());
    /// use durafile::RecoveryOptions;
    ///
    /// let recovery = RecoveryOptions::new().undo_dir(undo).run(data)?;
    /// for path in recovery.rolled_back() {
    ///     eprintln!("an interrupted save was undone: {}", path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn undo_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.undo_dir = Some(path.as_ref().to_owned());
        self
    }

    /// Report what would be done, and change nothing. Default: false.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let would = durafile::RecoveryOptions::new().dry_run(true).run(dir)?;
    /// println!("{} remnants would be removed", would.removed().len());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.policy.dry_run = yes;
        self
    }

    /// Give up changes that can't be completed. Default: false.
    ///
    /// A record whose changes the system refuses for good (a name that this file system doesn't take, a
    /// sandbox, a record of another version of this crate) keeps its root from being used: each recovery and each
    /// `begin` fails at it. With true it is moved aside with its stage, where [`Recovery::quarantined`] names
    /// them, and **the part that was already applied stays**: the directory may then hold half of a transaction, which
    /// a person has to put right. A change that only lacks space is not given up.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let recovery = durafile::RecoveryOptions::new().abandon(true).run(dir)?;
    /// for path in recovery.quarantined() {
    ///     eprintln!("look at what this was about: {}", path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn abandon(mut self, yes: bool) -> Self {
        self.policy.abandon = yes;
        self
    }

    /// [`recover`] with these options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let recovery = durafile::RecoveryOptions::new().recursive(false).run(dir)?;
    /// assert!(recovery.is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`recover`].
    pub fn run(&self, root: impl AsRef<Path>) -> Result<Recovery> {
        let root = root.as_ref();
        refuse_no_path("recover", root)?;
        if let Some(undo_dir) = &self.undo_dir {
            refuse_no_path("look for undo copies in", undo_dir)?;
        }
        let dir = match Dir::open(root) {
            // A crash before its first save has left nothing.
            Err(e) if sys::is_not_found(&e) => return Ok(Recovery::default()),
            opened => opened.map_err(|e| Error::io("open", root, e))?,
        };
        let mut walk = Walk {
            root,
            dir,
            policy: self.policy,
            one_file_system: self.one_file_system,
            pending: Vec::new(),
            without_room: Vec::new(),
            found: Recovery::default(),
        };
        walk.enter(Path::new(""))?;
        while let Some(folder) = walk.pending.pop().filter(|_| self.recursive) {
            walk.enter(&folder)?;
        }
        let undo_dir = self.undo_dir.as_deref().map(sys::absolute);
        if let Some(path) = &undo_dir {
            walk.enter_undo_dir(path);
        }
        // What was removed since may be room enough.
        for (folder, _) in std::mem::take(&mut walk.without_room) {
            match undo_dir.as_ref() == Some(&folder) {
                true => walk.enter_undo_dir(&folder),
                false => walk.enter(&folder)?,
            }
        }
        match walk.without_room.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(walk.found.sorted()),
        }
    }
}
