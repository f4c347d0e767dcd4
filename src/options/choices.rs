//! What a save does with targets that are not plain files of one name: links, mount points, FIFOs.

/// What to do when the target is a symbolic link.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("config");
/// use durafile::{Symlinks, WriteOptions};
///
/// # #[cfg(unix)] {
/// std::os::unix::fs::symlink("elsewhere", &path)?;
/// WriteOptions::new().symlinks(Symlinks::Replace).write(&path, "a file now")?;
/// assert!(!path.is_symlink());
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Symlinks {
    /// Save to the file that the link leads to, as `std::fs::write` does. If the link dangles, that file is created.
    #[default]
    Follow,
    /// Replace the link itself with a file.
    Replace,
    /// Fail with [`InvalidPath`](crate::ErrorKind::InvalidPath).
    Refuse,
}

/// What to do when the replaced file has other hard links.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.txt");
/// use durafile::{ErrorKind, HardLinks, WriteOptions};
///
/// durafile::write(&path, "old")?;
/// std::fs::hard_link(&path, path.with_file_name("b.txt"))?;
/// let refused = WriteOptions::new().hard_links(HardLinks::Refuse).write(&path, "new");
/// assert_eq!(refused.unwrap_err().kind(), ErrorKind::HardLinked);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HardLinks {
    /// Replace this name; the other names keep the old content.
    #[default]
    Detach,
    /// Fail with [`HardLinked`](crate::ErrorKind::HardLinked), before anything is written.
    Refuse,
}

/// Whether a file that can't be replaced may be overwritten in place.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.txt");
/// use durafile::{InPlace, WriteOptions};
///
/// let committed = WriteOptions::new().in_place(InPlace::Fallback).write(&path, "new")?;
/// assert!(!committed.was_in_place()); // it could be replaced as ever
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InPlace {
    /// Fail, and leave the file as it is.
    #[default]
    Never,
    /// Overwrite the file where it can't be replaced.
    ///
    /// This is for a file that is itself a mount point (`EBUSY`), and for directories where permissions or the mount
    /// forbid creating or replacing a name (`EACCES`, `EPERM`, `EROFS`): another user's file in a sticky directory, or
    /// a writable file in a directory that is not writable. All other files are replaced as usual;
    /// [`Committed::was_in_place`](crate::Committed::was_in_place) tells which of the two happened.
    ///
    /// # What is promised
    ///
    /// Before the file is touched, the new content is complete and the old content is durable in an *undo copy*. Space
    /// is reserved too, where the system can do that. If something fails later, the old content is written back, or the
    /// error says [`Pending`](crate::TargetState::Pending). After a crash [`recover`](crate::recover()), or the next save
    /// with this option, writes it back: **after that, the file holds the complete old or the complete new content**.
    /// What another program has saved since then stays: the old content is written back only if each block of the file
    /// is an old or a new one, in the recorded inode. Otherwise the copy is moved aside, and
    /// [`Recovery::quarantined`](crate::Recovery::quarantined) names it.
    ///
    /// # What is not promised
    ///
    /// * Readers may see a mixture of both contents while the file is being written, and between a crash and the
    ///   recovery. A reader that takes a shared `flock` on the file never sees a save that is under way. Saves of this
    ///   kind exclude each other by such a lock, and wait up to 30 seconds for it. Where the file system has no locks,
    ///   they are [`Unsupported`](crate::ErrorKind::Unsupported).
    /// * The file keeps its inode, owner, mode and attributes, so its other hard links and programs that have it open
    ///   show the new content. Setuid and setgid are dropped.
    /// * If the undo copy is not durable (in memory, or in a directory that can't be synced), a power cut may leave the
    ///   file torn: [`Committed::durability`](crate::Committed::durability) is then `None`.
    ///
    /// The copy lies in the file's own directory or, where no file can be created there, in
    /// [`undo_dir`](crate::WriteOptions::undo_dir). If neither is possible, the save is
    /// [`Unsupported`](crate::ErrorKind::Unsupported) and nothing is touched. The same happens together with [`create_new`](crate::WriteOptions::create_new),
    /// [`keep_previous`](crate::WriteOptions::keep_previous) or [`Symlinks::Replace`]. A set ([`Batch`](crate::Batch) and the
    /// others) refuses this option. On Windows it changes nothing, because an open file can't be shared in this way there.
    Fallback,
}

/// What [`AtomicDir::update`](crate::AtomicDir::update) does with FIFOs, sockets and devices.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("talk");
/// use durafile::{DirOptions, SpecialFiles};
///
/// let talk = DirOptions::new().special_files(SpecialFiles::Skip).update(&path)?;
/// talk.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpecialFiles {
    /// Fail with [`InvalidPath`](crate::ErrorKind::InvalidPath), naming the file.
    #[default]
    Refuse,
    /// Leave them out of the new version.
    Skip,
}
