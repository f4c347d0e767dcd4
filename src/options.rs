//! What a caller may ask of a save, and what a save achieved.

use std::fs::Permissions;

use std::path::Path;

use crate::{CancelToken, Error, ErrorKind, Result};

/// How much of a save survives a power cut once it returned `Ok`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// Atomic against the death of the process only. After a power cut the target may be torn.
    None,
    /// The content is synced before the rename, the rename itself is not: a power cut may bring
    /// back an earlier version (on btrfs not only the last one), never a torn one.
    ///
    /// On ext4 mounted with `data=writeback` the rename is synced nevertheless: there the blocks of
    /// the replaced file may be used anew before it is durable, and the earlier version that a power
    /// cut brings back would hold other files' data. An ext4 without any journal does the same, but
    /// keeps no order among names either: there only [`Full`](Durability::Full) counts after a power cut.
    Data,
    /// The new content survives power loss.
    #[default]
    Full,
}

/// What to do when the target is a symbolic link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Symlinks {
    /// Save to what it leads to, as `std::fs::write` does. A dangling link creates its referent.
    #[default]
    Follow,
    /// Replace the link itself with a file.
    Replace,
    /// Fail with [`InvalidPath`](crate::ErrorKind::InvalidPath).
    Refuse,
}

/// What a save achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    pub(crate) durability: Durability,
    pub(crate) unchanged: bool,
}

impl Committed {
    /// What was reached; at most what was asked for.
    ///
    /// Less than that where the file system keeps nothing (tmpfs: `None`), can't sync a
    /// directory, or the parent directory may not be opened for reading (`Data`). On Windows `Data`
    /// is the most: nothing there says when a rename is on the disk.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Whether [`skip_unchanged`](WriteOptions::skip_unchanged) found the same content already
    /// there; inode and modification time are then as before.
    pub fn is_unchanged(&self) -> bool {
        self.unchanged
    }
}

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
    pub(crate) forget_metadata: bool,
    pub(crate) symlinks: Symlinks,
    pub(crate) skip_unchanged: bool,
    pub(crate) size_limit: Option<u64>,
    pub(crate) single_flush: bool,
    pub(crate) cancel: Option<CancelToken>,
    #[cfg(feature = "json")]
    pub(crate) pretty: bool,
}

impl WriteOptions {
    /// The defaults: fully durable, follows links, keeps the metadata of what it replaces.
    pub const fn new() -> WriteOptions {
        WriteOptions {
            durability: Durability::Full,
            create_new: false,
            create_parents: false,
            permissions: None,
            forget_metadata: false,
            symlinks: Symlinks::Follow,
            skip_unchanged: false,
            size_limit: None,
            single_flush: false,
            cancel: None,
            #[cfg(feature = "json")]
            pretty: false,
        }
    }

    /// How much must survive a power cut. Default: [`Durability::Full`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Fail with [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if anything, a link too, has
    /// that name. Atomic: of many racing callers exactly one wins.
    pub fn create_new(mut self, yes: bool) -> Self {
        self.create_new = yes;
        self
    }

    /// Create missing parent directories, each durable in its own parent. They stay, whatever
    /// happens later.
    ///
    /// Costs one more sync where nothing is missing: a process that was killed may have made the
    /// directory and not synced it.
    pub fn create_parents(mut self, yes: bool) -> Self {
        self.create_parents = yes;
        self
    }

    /// Exactly these permissions, whatever the umask or the replaced file has. ACLs of the
    /// replaced file and ACLs inherited from the directory are dropped.
    pub fn permissions(mut self, permissions: Permissions) -> Self {
        self.permissions = Some(permissions);
        self
    }

    /// Whether replacing a file keeps its mode (less setuid and setgid), owner, group, ACLs and
    /// extended attributes, as far as permitted. Default: true. With false the file is like any
    /// new one.
    ///
    /// On Windows the mark "read-only" is all that is kept; on macOS all of these but ACLs.
    ///
    /// Not kept in any case: `security.capability`, `security.ima` and `security.evm` (they
    /// vouch for the old content), times, inode flags (`chattr`), and other hard links to the old
    /// file, which keep the old content.
    pub fn preserve_metadata(mut self, yes: bool) -> Self {
        self.forget_metadata = !yes;
        self
    }

    /// What to do when the target is a symbolic link. Default: [`Symlinks::Follow`].
    pub fn symlinks(mut self, symlinks: Symlinks) -> Self {
        self.symlinks = symlinks;
        self
    }

    /// Leave a file that holds the same bytes alone: inode and modification time stay. It is
    /// made durable all the same. Default: false.
    pub fn skip_unchanged(mut self, yes: bool) -> Self {
        self.skip_unchanged = yes;
        self
    }

    /// At most so many bytes; passing it is [`TooLarge`](crate::ErrorKind::TooLarge), noticed
    /// while streaming, and publishes nothing. Default: no limit.
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = Some(bytes);
        self
    }

    /// Stop with [`Cancelled`](crate::ErrorKind::Cancelled) once the token is cancelled, unless the
    /// new content is in place by then. Default: nothing stops a save.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// Save with one device flush instead of two, where that is as safe. Default: false.
    ///
    /// On file systems whose journal is totally ordered (ext4 with an ordinary journal of its own
    /// and XFS), the data is written out and waited for, then renamed, and the flush of the
    /// directory's sync makes both durable. The promise against power loss is the same; a flush
    /// that fails is then reported after the rename, as
    /// [`TargetState::Replaced`](crate::TargetState::Replaced). Everywhere else, and where the
    /// system doesn't tell, this changes nothing. The mount is looked at once a second.
    pub fn single_flush(mut self, yes: bool) -> Self {
        self.single_flush = yes;
        self
    }

    /// Whether `write_json` indents, as `serde_json::to_vec_pretty` does. Default: false.
    #[cfg(feature = "json")]
    pub fn pretty(mut self, yes: bool) -> Self {
        self.pretty = yes;
        self
    }

    /// What is known to be too large before anything is touched.
    pub(crate) fn check_size(&self, contents: &[u8], path: &Path) -> Result<()> {
        match self.size_limit {
            Some(limit) if contents.len() as u64 > limit => {
                Err(Error::new(ErrorKind::TooLarge, "write", path))
            }
            _ => Ok(()),
        }
    }
}
