//! The types that the system calls of every platform take and give.

use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

/// The kind of thing that a name leads to, links not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Dir,
    Symlink,
    /// Windows has no such things in directories.
    #[cfg_attr(windows, expect(dead_code, reason = "the core asks for it on every platform"))]
    Other,
}

/// Properties of a directory that a new one in its place might not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DirNature {
    /// Files that are created in it are encrypted (fscrypt).
    pub(crate) is_encrypted: bool,
    /// Files that are created in it count to the quota of its project.
    pub(crate) inherits_project: bool,
    /// The root of a subvolume of btrfs, a snapshot perhaps.
    pub(crate) is_subvolume: bool,
}

/// The identity of a file: two handles with the same one are the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FileId {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

/// An identity that tells a file from every copy of it, also after a restart.
///
/// A file system gives the inode number of a deleted file to one of the next, so that a tree restored
/// over another may have the same numbers again. The time at which a file was created can't be set
/// on most file systems.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LastingId {
    pub(crate) ino: u64,
    /// In nanoseconds since 1970; 0 where that isn't told.
    pub(crate) born: u64,
}

impl LastingId {
    /// A kernel may tell the creation time to one process and not to the next.
    pub(crate) fn is_same(self, other: LastingId) -> bool {
        self.ino == other.ino && (self.born == other.born || self.born == 0 || other.born == 0)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    pub(crate) id: FileId,
    pub(crate) size: u64,
    pub(crate) nlink: u64,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// A mount, by an id that is never reused while the system runs; none where the kernel is
    /// older than 6.8.
    pub(crate) mount: Option<u64>,
    /// Something is mounted on this very name, as far as the system says so.
    pub(crate) mount_root: bool,
    /// Whether the system would say so: Linux does from 5.8 on.
    pub(crate) tells_mount_root: bool,
    /// The file can't be changed by anybody, or only appended to.
    pub(crate) is_immutable_or_append_only: bool,
    /// The file is encrypted on the disk, by itself (EFS of Windows) or because its directory was (fscrypt).
    pub(crate) is_encrypted: bool,
}

impl Stat {
    /// What tells its mount from every other; before Linux 6.8 only the file system.
    pub(crate) fn mount_key(&self) -> (u64, Option<u64>) {
        (self.id.dev, self.mount)
    }
}

/// A fingerprint that tells a file from any that is saved at the same name later. A change of mode, owner or links
/// doesn't change it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    /// When its content was last changed; before 1970 as in two's complement.
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u64,
    pub(crate) is_dir: bool,
}

/// The properties of a file system that decide what it can be trusted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FsKind {
    /// The file system lives in memory: nothing survives power loss.
    pub(crate) memory_backed: bool,
    /// A reply can be lost, so that the outcome of a rename isn't known from its error.
    pub(crate) remote: bool,
    pub(crate) family: Family,
}

/// The file systems that the crate knows more about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Ext2 and ext3 too, which have the same magic number.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Ext4,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Xfs,
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Btrfs,
    Other,
}

/// The file, directory or link at a name, found without side effects on FIFOs and devices.
#[derive(Clone, Debug)]
pub(crate) struct TargetMeta {
    pub(crate) stat: Stat,
    /// The attributes of a regular file, if they were asked for and as far as the caller may read them.
    /// Windows has none: access rights come from the directory.
    pub(crate) xattrs: Xattrs,
    /// Whether `xattrs` and the mode are all that there is to keep beside the owner.
    pub(crate) is_complete: bool,
    pub(crate) owner_names: OwnerNames,
}

/// Whether owner and group of a file are those that their numbers say: not so in a user namespace that has no number
/// for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OwnerNames {
    pub(crate) uid: bool,
    pub(crate) gid: bool,
}

impl OwnerNames {
    pub(crate) const BOTH: OwnerNames = OwnerNames { uid: true, gid: true };
}

/// Extended attributes, ACLs among them.
pub(crate) type Xattrs = Vec<(CString, Vec<u8>)>;

/// The access ACL, as Linux stores it.
pub(crate) const ACL: &std::ffi::CStr = c"system.posix_acl_access";

/// The ACL that a directory hands on to what is created in it.
pub(crate) const DEFAULT_ACL: &std::ffi::CStr = c"system.posix_acl_default";

/// The outcome of trying to take a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Held,
    Elsewhere,
    /// The file system has no locks. Never so on Windows, where every one has modes of sharing.
    Unsupported,
}

/// How many may hold a lock at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    /// One holder, and nobody else.
    Exclusive,
    /// Any number of holders.
    Shared,
}

/// The file system under a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Volume {
    /// The space that callers without privileges can fill, by their quota on Windows.
    pub(crate) free_bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) used_percent: f64,
    pub(crate) kind: FsKind,
    /// The file system can exchange two names in every kernel that this crate runs on.
    pub(crate) is_known_to_exchange: bool,
}

impl Volume {
    /// The percentage that is in use, as `df` reckons: space that only root may use counts as neither
    /// used nor free.
    pub(super) fn percentage(used: u64, available: u64) -> f64 {
        let usable = used.saturating_add(available);
        if usable == 0 { 0.0 } else { used as f64 / usable as f64 * 100.0 }
    }
}

/// A mark that tells one process from all others that ever had its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// When it started, in ticks since the system did. Not known on Windows.
    pub(crate) started: Option<u64>,
    /// The name space that the number belongs to. Windows has none.
    pub(crate) space: Option<String>,
    /// The run of the system. Not known on Windows.
    pub(crate) boot: Option<String>,
}

/// A lock serves only a recovery: its refusal, by whatever errno, fails nothing, and means that nobody has one.
pub(crate) fn lock_unless_refused(locked: io::Result<Lock>) -> io::Result<Lock> {
    match locked {
        Err(e) if !crate::sys::is_transient(&e) => Ok(Lock::Unsupported),
        locked => locked,
    }
}

/// The path without links in it.
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    loop {
        match std::fs::canonicalize(path) {
            Err(e) if crate::sys::is_interrupted(&e) => {}
            // A volume that can't tell what a path leads to in the end (RAM disks of Windows).
            Err(e) if cfg!(windows) && crate::sys::is_unsupported(&e) => return std::path::absolute(path),
            found => return found,
        }
    }
}

/// Makes a path absolute, if the current directory can be told.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
