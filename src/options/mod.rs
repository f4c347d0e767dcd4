//! The options of a save, and its result.

pub(crate) mod choices;
pub(crate) mod durability;
pub(crate) mod file_version;

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::options::durability::Durability;
use crate::options::file_version::FileVersion;
use crate::sys::mode_of_permissions;

pub use crate::options::choices::{HardLinks, InPlace, SpecialFiles, Symlinks};

/// How to save; a builder, passed by value.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("state/token");
/// use durafile::WriteOptions;
///
/// WriteOptions::new().create_parents(true).create_new(true).write(&path, "secret")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until `write`, `write_json`, `write_from` or `open`"]
pub struct WriteOptions {
    pub(crate) durability: Durability,
    pub(crate) create_new: bool,
    pub(crate) create_parents: bool,
    pub(crate) permissions: Option<Permissions>,
    /// The permissions are only a wish: mounts with one mode for everything can't fulfil it.
    pub(crate) permissions_may_differ: bool,
    pub(crate) forget_metadata: bool,
    pub(crate) symlinks: Symlinks,
    pub(crate) skip_unchanged: bool,
    pub(crate) size_limit: Option<u64>,
    pub(crate) single_flush: bool,
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) expect: Option<FileVersion>,
    pub(crate) hard_links: HardLinks,
    pub(crate) keep_previous: Option<OsString>,
    pub(crate) in_place: InPlace,
    pub(crate) undo_dir: Option<PathBuf>,
    pub(crate) busy_timeout: Option<Duration>,
    #[cfg(feature = "json")]
    pub(crate) pretty: bool,
    #[cfg(feature = "json")]
    pub(crate) final_newline: bool,
}

impl WriteOptions {
    /// The defaults: the save is fully durable, follows links, and keeps the metadata of the file that it replaces.
    ///
    /// ```
    /// use durafile::WriteOptions;
    ///
    /// const OPTIONS: WriteOptions = WriteOptions::new();
    /// # let _ = OPTIONS;
    /// ```
    pub const fn new() -> WriteOptions {
        WriteOptions {
            durability: Durability::Full,
            create_new: false,
            create_parents: false,
            permissions: None,
            permissions_may_differ: false,
            forget_metadata: false,
            symlinks: Symlinks::Follow,
            skip_unchanged: false,
            size_limit: None,
            single_flush: false,
            cancel: None,
            expect: None,
            hard_links: HardLinks::Detach,
            keep_previous: None,
            in_place: InPlace::Never,
            undo_dir: None,
            busy_timeout: None,
            #[cfg(feature = "json")]
            pretty: false,
            #[cfg(feature = "json")]
            final_newline: false,
        }
    }

    /// How much must survive a power cut. Default: [`Durability::Full`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("cache.bin");
    /// use durafile::{Durability, WriteOptions};
    ///
    /// WriteOptions::new().durability(Durability::None).write(&path, "can be computed again")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Fail with [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if anything has that name already, even a dangling
    /// link. This is atomic: of many racing callers exactly one wins. The others know that
    /// the name is taken, but not that what has it is already durable: [`sync`](crate::sync) makes it so. Default: false.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("token");
    /// use durafile::{ErrorKind, WriteOptions};
    ///
    /// let options = WriteOptions::new().create_new(true);
    /// options.write(&path, "mine")?;
    /// assert_eq!(options.write(&path, "yours").unwrap_err().kind(), ErrorKind::AlreadyExists);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_new(mut self, yes: bool) -> Self {
        self.create_new = yes;
        self
    }

    /// Create missing parent directories, and make each of them durable in its own parent. They stay even if the save
    /// fails later. Default: false, and a missing parent is [`NotFound`](crate::ErrorKind::NotFound).
    ///
    /// This costs one more sync even if nothing is missing, because a process that was killed may have created the
    /// directory and not synced it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::WriteOptions;
    ///
    /// WriteOptions::new().create_parents(true).write(dir.join("2026/05/talk.json"), "{}")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_parents(mut self, yes: bool) -> Self {
        self.create_parents = yes;
        self
    }

    /// Give the file exactly these permissions, whatever the umask is and whatever the replaced file had. The ACLs of
    /// the replaced file and ACLs inherited from the directory are dropped. Default: the permissions of the replaced file
    /// or, for a new file, those that the umask leaves.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("token");
    /// # #[cfg(unix)] {
    /// use std::fs::Permissions;
    /// use std::os::unix::fs::PermissionsExt;
    ///
    /// use durafile::WriteOptions;
    ///
    /// WriteOptions::new().permissions(Permissions::from_mode(0o600)).write(&path, "secret")?;
    /// assert_eq!(std::fs::metadata(&path)?.permissions().mode() & 0o777, 0o600);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn permissions(mut self, permissions: Permissions) -> Self {
        self.permissions = Some(permissions);
        self
    }

    /// Whether replacing a file keeps its mode (less setuid and setgid), owner, group, ACLs and
    /// extended attributes, as far as that is permitted. Default: true. With false the file is like any
    /// new file.
    ///
    /// On Windows only the attribute "read-only" is kept; on macOS all of these except ACLs.
    ///
    /// Some things are never kept: `security.capability`, `security.ima` and `security.evm` (they
    /// vouch for the old content), times, and inode flags (`chattr`). Other hard links to the old file keep the old
    /// content.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// use durafile::WriteOptions;
    ///
    /// WriteOptions::new().preserve_metadata(false).write(&path, "like any new file")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn preserve_metadata(mut self, yes: bool) -> Self {
        self.forget_metadata = !yes;
        self
    }

    /// What to do when the target is a symbolic link. Default: [`Symlinks::Follow`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// use durafile::{Symlinks, WriteOptions};
    ///
    /// WriteOptions::new().symlinks(Symlinks::Refuse).write(&path, "never through a link")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn symlinks(mut self, symlinks: Symlinks) -> Self {
        self.symlinks = symlinks;
        self
    }

    /// Do not replace a file that already holds the same bytes, so that its inode and modification time stay. It is
    /// made durable all the same. Default: false.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// let options = durafile::WriteOptions::new().skip_unchanged(true);
    /// options.write(&path, "same")?;
    /// assert!(options.write(&path, "same")?.is_unchanged());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn skip_unchanged(mut self, yes: bool) -> Self {
        self.skip_unchanged = yes;
        self
    }

    /// Accept at most this many bytes. Longer content fails with [`TooLarge`](crate::ErrorKind::TooLarge) as soon as
    /// the limit is passed, also in the middle of a stream, and nothing is published. Default: no limit.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("upload");
    /// use durafile::{ErrorKind, WriteOptions};
    ///
    /// let endless = std::io::repeat(0);
    /// let refused = WriteOptions::new().size_limit(1 << 20).write_from(&path, endless);
    /// assert_eq!(refused.unwrap_err().kind(), ErrorKind::TooLarge);
    /// assert!(!path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = Some(bytes);
        self
    }

    /// Stop with [`Cancelled`](crate::ErrorKind::Cancelled) once the token is cancelled, unless the
    /// new content is already in place by then. Default: nothing stops a save.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("upload");
    /// use durafile::{CancelToken, ErrorKind, WriteOptions};
    ///
    /// let token = CancelToken::new();
    /// token.cancel();
    /// let stopped = WriteOptions::new().cancel(&token).write(&path, "too late");
    /// assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// Save with one device flush instead of two, where that is as safe. Default: false.
    ///
    /// On file systems whose journal is totally ordered (ext4 with an ordinary journal of its own
    /// and XFS, since Linux 5.2), the data is written out and waited for, then the file is renamed, and the flush of the
    /// directory's sync makes both durable. The promise against power loss is the same; a flush
    /// that fails is then reported after the rename, as
    /// [`TargetState::Replaced`](crate::TargetState::Replaced). On other file systems, and where the system does not tell
    /// which one it is, this option changes nothing. The mount is looked at once a second.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// durafile::WriteOptions::new().single_flush(true).write(&path, "durable all the same")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn single_flush(mut self, yes: bool) -> Self {
        self.single_flush = yes;
        self
    }

    /// Save only if the target is still the version that was read with
    /// [`read_version`](crate::read_version); otherwise fail with
    /// [`Changed`](crate::ErrorKind::Changed), or with [`NotFound`](crate::ErrorKind::NotFound) if it is missing.
    ///
    /// Only the content counts: a file that was saved again with the same content is still the same version. Saves
    /// with `expect` and calls of [`update`](crate::update()) on one path wait for each other, in all threads and
    /// processes; a stream ([`open`](WriteOptions::open)) does so when it is committed. A save without `expect`, by
    /// another program for example, is overwritten if it falls into the instant between the last comparison and the
    /// rename. [`Committed::version`](crate::Committed::version) is what the next save expects.
    ///
    /// The counterpart for a file that must not exist yet is [`create_new`](WriteOptions::create_new). The two exclude
    /// each other: together they are [`Unsupported`](crate::ErrorKind::Unsupported). So are a link that would be replaced
    /// ([`Symlinks::Replace`]) and a file system without locks.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("notes.txt");
    /// use durafile::{ErrorKind, WriteOptions, read_version};
    ///
    /// durafile::write(&path, "one")?;
    /// let (_, opened) = read_version(&path)?;
    /// durafile::write(&path, "by somebody else")?;
    /// let refused = WriteOptions::new().expect(&opened).write(&path, "two");
    /// assert_eq!(refused.unwrap_err().kind(), ErrorKind::Changed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn expect(mut self, version: &FileVersion) -> Self {
        self.expect = Some(version.clone());
        self
    }

    /// What to do when the replaced file has other hard links. Default: [`HardLinks::Detach`]. The
    /// link that a crash during a save with [`keep_previous`](WriteOptions::keep_previous) leaves does not count.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// use durafile::{HardLinks, WriteOptions};
    ///
    /// WriteOptions::new().hard_links(HardLinks::Refuse).write(&path, "it has one name only")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hard_links(mut self, hard_links: HardLinks) -> Self {
        self.hard_links = hard_links;
        self
    }

    /// Keep the replaced version under this file name, in the directory of the resolved target. Whatever has that
    /// name is replaced in one step. If the save creates a new file or changes nothing, that name is not touched.
    /// Default: the replaced version is not kept.
    ///
    /// The old version gets this name right before the target is replaced, by a link and a rename or, where links are
    /// refused, by a durable copy. The target's own name is never missing, and one sync of the directory makes both names
    /// durable. After a crash both names may lead to the old version. If the target then can't be replaced, this
    /// name gets back what it had; except where names can't be exchanged (network shares, Windows) or linked, where it
    /// stays with the present version.
    ///
    /// The name must be a single file name, differ from the target's, and not be a
    /// [remnant's](crate::is_remnant); anything else is [`InvalidPath`](crate::ErrorKind::InvalidPath). A
    /// [`Batch`](crate::Batch) does not take this option.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("notes.txt");
    /// let options = durafile::WriteOptions::new().keep_previous("notes.txt~");
    /// options.write(&path, "one")?;
    /// options.write(&path, "two")?;
    /// assert_eq!(std::fs::read(path.with_file_name("notes.txt~"))?, b"one");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_previous(mut self, name: impl AsRef<OsStr>) -> Self {
        self.keep_previous = Some(name.as_ref().to_owned());
        self
    }

    /// Whether a file that can't be replaced may be overwritten in place. Default: [`InPlace::Never`].
    ///
    /// New content of some 64 GiB or more is [`TooLarge`](crate::ErrorKind::TooLarge) in place: the record that goes with the
    /// undo copy grows with it.
    ///
    /// ```
    /// # let (dir, undo) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// # let (path, undo) = (dir.path().join("settings.toml"), undo.path());
    /// use durafile::{InPlace, RecoveryOptions, WriteOptions};
    ///
    /// // When the program starts: what a crash left half overwritten.
    /// RecoveryOptions::new().undo_dir(undo).run(dir.path())?;
    ///
    /// let options = WriteOptions::new().in_place(InPlace::Fallback).undo_dir(undo);
    /// if options.write(&path, "theme = 'dark'")?.was_in_place() {
    ///     eprintln!("the file could not be replaced, and was overwritten");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_place(mut self, in_place: InPlace) -> Self {
        self.in_place = in_place;
        self
    }

    /// A directory for the undo copy of [`InPlace::Fallback`], for targets whose own directory can't hold it. Default:
    /// none.
    ///
    /// The directory must exist, must last as long as the file (so it must not be in memory), and should belong to the
    /// user alone: whoever may write to it can delete the copy.
    /// [`RecoveryOptions::undo_dir`](crate::RecoveryOptions::undo_dir) must name the same directory, unless it lies below
    /// the root of the recovery. Several programs and files may share it. The copy records the path of the target with
    /// all links resolved, and recovery has to find the target under that path. An empty path is
    /// [`InvalidPath`](crate::ErrorKind::InvalidPath) when something is saved.
    ///
    /// ```
    /// # let (dir, undo) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// # let (path, undo) = (dir.path().join("a.txt"), undo.path());
    /// use durafile::{InPlace, WriteOptions};
    ///
    /// WriteOptions::new().in_place(InPlace::Fallback).undo_dir(undo).write(&path, "new")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn undo_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.undo_dir = Some(path.as_ref().to_owned());
        self
    }

    /// On Windows, how long to keep trying while another program has the target open. It has no effect elsewhere.
    /// Default: one second.
    ///
    /// Windows does not replace a file that a program has opened in a way that forbids it. Virus scanners and indexers
    /// do that for some milliseconds when a file is new. Once the time has passed, the error is
    /// [`Busy`](crate::ErrorKind::Busy). Zero means that the save tries only once.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// use std::time::Duration;
    ///
    /// use durafile::WriteOptions;
    ///
    /// WriteOptions::new().busy_timeout(Duration::from_secs(5)).write(&path, "new")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = Some(timeout);
        self
    }

    /// Whether `write_json` indents, as `serde_json::to_vec_pretty` does. Default: false.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.json");
    /// durafile::WriteOptions::new().pretty(true).write_json(&path, &[1])?;
    /// assert_eq!(std::fs::read_to_string(&path)?, "[\n  1\n]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "json")]
    pub fn pretty(mut self, yes: bool) -> Self {
        self.pretty = yes;
        self
    }

    /// Whether `write_json` ends the text with a newline. Default: false.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.json");
    /// durafile::WriteOptions::new().final_newline(true).write_json(&path, &[1])?;
    /// assert_eq!(std::fs::read_to_string(&path)?, "[1]\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "json")]
    pub fn final_newline(mut self, yes: bool) -> Self {
        self.final_newline = yes;
        self
    }

    /// The permission bits that were asked for.
    pub(crate) fn asked_mode(&self) -> Option<u32> {
        self.permissions.as_ref().map(mode_of_permissions)
    }

    /// Refuses conditions that can't be met together.
    pub(crate) fn check_condition(&self, path: &Path) -> Result<()> {
        if self.create_new && self.expect.is_some() {
            let refused = Error::new(ErrorKind::Unsupported, "save", path);
            return Err(refused.because("`create_new` and `expect` exclude each other"));
        }
        Ok(())
    }

    /// Refuses content that is known to be too large, before anything is touched.
    pub(crate) fn check_size(&self, contents: &[u8], path: &Path) -> Result<()> {
        Error::check_size(contents.len() as u64, self.size_limit, path)
    }
}
