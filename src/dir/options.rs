//! How a directory is replaced.

use std::time::Duration;

use crate::cancel::CancelToken;
use crate::options::durability::{Durability, SyncStrategy};
use crate::options::{SpecialFiles, WriteOptions};
use crate::set::options::SetOptions;

/// How [`AtomicDir::update`](crate::AtomicDir::update) carries over the files that the caller neither replaces nor
/// removes.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("site");
/// use durafile::{Carry, DirOptions};
///
/// // Nothing ever writes in place into the files of this directory.
/// let site = DirOptions::new().carry(Carry::HardLink).update(&path)?;
/// site.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Carry {
    /// Copies them. Large files share their blocks with the original where the file system can do that
    /// (XFS, btrfs). The versions are independent of each other.
    #[default]
    Copy,
    /// Gives each file a second name. This is much faster, at a price: while both versions exist they
    /// hold *the same* file.
    ///
    /// A program that replaces files (as this crate does) changes one version only. But one that writes
    /// *in place* into a file that was carried over changes every version that has it: below
    /// [`staging`](crate::AtomicDir::staging), before the commit, the live directory at once, with all that this
    /// crate prevents (half of a write may be seen, and is what a crash leaves); in the target, after the
    /// commit, what a [`DirSnapshot`](crate::DirSnapshot) of the old version reads. So do changes of mode, owner,
    /// attributes and times.
    ///
    /// What is carried over is written out to the device, but not synced file by file: a file that
    /// another program wrote and did not sync itself may be lost in a power cut, as it would be without
    /// the update. Files that can't be linked (another user's, too many links) are copied.
    HardLink,
}

/// How to replace a directory; a builder, passed by value.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("site");
/// use std::time::Duration;
///
/// use durafile::DirOptions;
///
/// let options = DirOptions::new().create_parents(true).lock_timeout(Duration::from_secs(5));
/// let mut site = options.update(&path)?;
/// site.write("index.html", "<p>Hello")?;
/// site.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `create` or `update`"]
pub struct DirOptions {
    pub(crate) set: SetOptions,
    pub(crate) carry: Carry,
    pub(crate) special_files: SpecialFiles,
    pub(crate) allow_fallback: bool,
}

impl Default for DirOptions {
    fn default() -> DirOptions {
        DirOptions::new()
    }
}

impl DirOptions {
    /// The defaults: fully durable, files synced together, [`Locked`](crate::ErrorKind::Locked) at once,
    /// copies, fallbacks allowed.
    ///
    /// ```
    /// use durafile::DirOptions;
    ///
    /// const OPTIONS: DirOptions = DirOptions::new();
    /// # let _ = OPTIONS;
    /// ```
    pub const fn new() -> DirOptions {
        DirOptions {
            set: SetOptions::new(),
            carry: Carry::Copy,
            special_files: SpecialFiles::Refuse,
            allow_fallback: true,
        }
    }

    /// How much must survive a power cut; see [`Durability`]. Default: [`Durability::Full`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("cache");
    /// use durafile::{DirOptions, Durability};
    ///
    /// let cache = DirOptions::new().durability(Durability::Data).create(&path)?;
    /// assert!(cache.commit()?.durability() <= Durability::Data);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn durability(mut self, durability: Durability) -> Self {
        self.set.durability = durability;
        self
    }

    /// How the files are made durable; see [`SyncStrategy`]. Default: [`SyncStrategy::Auto`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// use durafile::{DirOptions, SyncStrategy};
    ///
    /// let site = DirOptions::new().sync(SyncStrategy::PerFile).create(&path)?;
    /// # site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sync(mut self, strategy: SyncStrategy) -> Self {
        self.set.sync = strategy;
        self
    }

    /// Use fewer device flushes where that is as safe; see
    /// [`WriteOptions::single_flush`]. Default: false.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let site = durafile::DirOptions::new().single_flush(true).create(&path)?;
    /// # site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn single_flush(mut self, yes: bool) -> Self {
        self.set.single_flush = yes;
        self
    }

    /// Stop with [`Cancelled`](crate::ErrorKind::Cancelled) once the token is cancelled, unless the new
    /// version is in place by then. Default: nothing stops it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// use durafile::{CancelToken, DirOptions, ErrorKind};
    ///
    /// let token = CancelToken::new();
    /// let mut site = DirOptions::new().cancel(&token).create(&path)?;
    /// site.write("index.html", "<p>Hello")?;
    /// token.cancel();
    /// assert_eq!(site.commit().unwrap_err().kind(), ErrorKind::Cancelled);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.set.cancel = Some(token.clone());
        self
    }

    /// Wait this long for another writer of the same directory, then fail with
    /// [`TimedOut`](crate::ErrorKind::TimedOut). Default: zero, which is [`Locked`](crate::ErrorKind::Locked) at once.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// use std::time::Duration;
    ///
    /// use durafile::{AtomicDir, DirOptions, ErrorKind};
    ///
    /// let first = AtomicDir::create(&path)?;
    /// let second = DirOptions::new().lock_timeout(Duration::from_millis(30)).create(&path);
    /// assert_eq!(second.unwrap_err().kind(), ErrorKind::TimedOut);
    /// # drop(first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.set.lock_timeout = timeout;
        self
    }

    /// Create missing directories above the target, each durable in its own parent. They stay, whatever
    /// happens later. Default: false, and a parent that is missing is
    /// [`NotFound`](crate::ErrorKind::NotFound). Costs one more sync where nothing is missing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("new");
    /// use durafile::DirOptions;
    ///
    /// let site = DirOptions::new().create_parents(true).create(path.join("folder/site"))?;
    /// site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_parents(mut self, yes: bool) -> Self {
        self.set.create_parents = yes;
        self
    }

    /// How the files that are put into the new version are saved. Default: as by [`write`](crate::write()).
    ///
    /// Of the options of single files, these are accepted: `pretty`, `final_newline`, `permissions`, `preserve_metadata`,
    /// `size_limit`, `skip_unchanged` and `hard_links`. Any other that isn't at its default is
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when `create` or `update` is called.
    ///
    /// With `skip_unchanged`, a file that the present version holds with the same bytes is carried over as if it
    /// had not been mentioned, with its time and, under [`Carry::HardLink`], its inode. So it has no effect on
    /// a version that begins with nothing ([`create`](crate::AtomicDir::create)), nor after
    /// [`staging`](crate::AtomicDir::staging). What is carried over is neither limited in size nor given the permissions.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let talks = dir.path().join("conversations");
    /// use durafile::{DirOptions, WriteOptions};
    ///
    /// let files = WriteOptions::new().final_newline(true).skip_unchanged(true);
    /// let options = DirOptions::new().create_parents(true).files(files);
    /// let mut talk = options.update(talks.join("2026/first"))?;
    /// talk.write("title.txt", "Hello")?;
    /// talk.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn files(mut self, options: WriteOptions) -> Self {
        self.set.files = options;
        self
    }

    /// How `update` carries over the files that the caller neither replaces nor removes. Default: [`Carry::Copy`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// use durafile::{Carry, DirOptions};
    ///
    /// let site = DirOptions::new().carry(Carry::HardLink).update(&path)?;
    /// # site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn carry(mut self, carry: Carry) -> Self {
        self.carry = carry;
        self
    }

    /// What `update` does with FIFOs, sockets and devices that it finds. Default: [`SpecialFiles::Refuse`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("talk");
    /// use durafile::{DirOptions, SpecialFiles};
    ///
    /// let talk = DirOptions::new().special_files(SpecialFiles::Skip).update(&path)?;
    /// # talk.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn special_files(mut self, special_files: SpecialFiles) -> Self {
        self.special_files = special_files;
        self
    }

    /// Whether a slower way may be taken where the file system can't exchange two directories in
    /// one step. Default: true; [`AtomicDir`](crate::AtomicDir) says what that means. With false, the commit fails with
    /// [`Unsupported`](crate::ErrorKind::Unsupported) there, and changes nothing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// use durafile::{DirOptions, ErrorKind};
    ///
    /// let site = DirOptions::new().allow_fallback(false).create(&path)?;
    /// match site.commit() {
    ///     Err(e) if e.kind() == ErrorKind::Unsupported => eprintln!("not in one step on this file system"),
    ///     saved => drop(saved?),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn allow_fallback(mut self, yes: bool) -> Self {
        self.allow_fallback = yes;
        self
    }
}
