//! The levels of durability, how sets reach them, and what a save achieved.

use crate::options::file_version::FileVersion;

/// How much of a save survives a power cut once the save has returned `Ok`.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("cache.bin");
/// use durafile::{Durability, WriteOptions};
///
/// // It can be computed again, so there is no need to wait for the disk.
/// WriteOptions::new().durability(Durability::None).write(&path, "cached")?;
/// assert!(Durability::None < Durability::Data && Durability::Data < Durability::Full);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// The save is atomic if the process dies, but not if the power fails: after a power cut the target may be torn
    /// or empty.
    ///
    /// On a network file system, and on FUSE, the content is synced before the rename all the same: a server
    /// that is full may say so only then. So it is where a file is
    /// [overwritten in place](crate::InPlace::Fallback).
    None,
    /// The content is synced before the rename, the rename itself is not: a power cut may bring
    /// back an earlier version (on btrfs not only the last one), never a torn one.
    ///
    /// On ext4 mounted with `data=writeback` the rename is synced nevertheless: there the blocks of
    /// the replaced file may be used anew before it is durable, and the earlier version that a power
    /// cut brings back would hold other files' data. An ext4 without any journal does the same, but
    /// keeps no order among names either: there only [`Full`](Durability::Full) counts after a power cut.
    Data,
    /// The new content survives power loss: content and name are synced before the save returns.
    #[default]
    Full,
}

/// What a successful save achieved.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("settings.toml");
/// use durafile::Durability;
///
/// let committed = durafile::write(&path, "theme = 'dark'")?;
/// if committed.durability() < Durability::Full {
///     eprintln!("saved, but a power cut may undo it");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub(crate) durability: Durability,
    pub(crate) unchanged: bool,
    pub(crate) in_place: bool,
    pub(crate) kept_metadata: bool,
    pub(crate) version: Option<FileVersion>,
}

impl Committed {
    /// An ordinary save that reached this.
    pub(crate) fn new(durability: Durability) -> Committed {
        Committed { durability, unchanged: false, in_place: false, kept_metadata: true, version: None }
    }

    /// Which level was reached: at most the one that was asked for.
    ///
    /// It is less where the file system is in memory (tmpfs: `None`), where it can't sync a directory, or where the
    /// parent directory can't be opened for reading (`Data`). On Windows `Data` is the most that can be reached, because
    /// nothing there tells when a rename is on the disk.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("settings.toml");
    /// use durafile::{Durability, WriteOptions};
    ///
    /// let committed = WriteOptions::new().durability(Durability::Data).write(&path, "theme = 'dark'")?;
    /// assert!(committed.durability() <= Durability::Data);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Whether [`skip_unchanged`](crate::WriteOptions::skip_unchanged) found the same content already
    /// there. The inode and the modification time are then as before.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("settings.toml");
    /// let options = durafile::WriteOptions::new().skip_unchanged(true);
    /// assert!(!options.write(&path, "theme = 'dark'")?.is_unchanged());
    /// assert!(options.write(&path, "theme = 'dark'")?.is_unchanged());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_unchanged(&self) -> bool {
        self.unchanged
    }

    /// Whether the file was overwritten in place because it could not be replaced; see
    /// [`InPlace::Fallback`](crate::InPlace::Fallback). The file then keeps its inode, and readers may have seen a mixture
    /// of the old and the new content.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("settings.toml");
    /// let committed = durafile::write(&path, "theme = 'dark'")?;
    /// assert!(!committed.was_in_place()); // only `InPlace::Fallback` can do that
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn was_in_place(&self) -> bool {
        self.in_place
    }

    /// Whether the new file has all the metadata of the replaced file that
    /// [`preserve_metadata`](crate::WriteOptions::preserve_metadata) lists. Metadata that the system refuses to keep does
    /// not make a save fail, as long as nobody gains access by it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("settings.toml");
    /// durafile::write(&path, "theme = 'dark'")?;
    /// if !durafile::write(&path, "theme = 'light'")?.kept_metadata() {
    ///     eprintln!("owner, mode, ACLs or attributes are not what they were");
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn kept_metadata(&self) -> bool {
        self.kept_metadata
    }

    /// The version that was saved, for the next save with [`expect`](crate::WriteOptions::expect). Only saves with
    /// `expect` and [`update`](crate::update) know it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("visits");
    /// let committed = durafile::update(&path, |_| Ok(b"1".to_vec()))?;
    /// assert_eq!(committed.version(), Some(durafile::read_version(&path)?.1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn version(&self) -> Option<FileVersion> {
        self.version.clone()
    }
}

/// How a set of files is made durable.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use durafile::{Batch, SyncStrategy};
///
/// let mut batch = Batch::new().sync(SyncStrategy::FileSystem);
/// batch.write(dir.join("a.txt"), "hello")?;
/// batch.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncStrategy {
    /// Starts writing each file to the device early, and then syncs the files, more than four of them on up to 16
    /// threads, whose flushes the file system merges. A set of fewer than 50 files never waits for data that other programs have written.
    ///
    /// A [`Transaction`](crate::Transaction) on ext4 or XFS with an ordinary journal waits until each file is written
    /// out, and then syncs only its record: the journal commits in order, so this one sync makes all of them durable
    /// (see `docs/protocols.md` in the repository). What follows does not concern it.
    ///
    /// From 50 files on it looks at how much data the system has yet to write, this set's own included
    /// (`/proc/meminfo`). While that is less than 128 KiB for each file and less than 8 MiB in all, one `syncfs` at
    /// the end is cheaper and replaces the syncs of the single files (Linux 5.17 and later; ext4 with a journal,
    /// XFS, btrfs). It looks again right before that call. If another program has begun to write, the files are opened
    /// once more and synced one by one; only files whose mode forbids that still need the `syncfs`.
    #[default]
    Auto,
    /// Syncs each file by itself, one after the other: 22 at a time, on the thread that adds the last of them, and the
    /// rest on the thread that commits.
    PerFile,
    /// Syncs the whole file system once (`syncfs`). That takes the fewest flushes for very many files, but it waits for
    /// the unwritten data of all other programs too.
    ///
    /// It is used only where `syncfs` is known to report errors and to flush last (Linux 5.8 and later; ext4 with a journal,
    /// XFS, btrfs), and where the process may call it; elsewhere the files are synced as with `PerFile`.
    FileSystem,
}
