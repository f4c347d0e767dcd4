//! The log: what was done, in terms of nodes and names.

use std::ffi::{CString, OsString};
use std::sync::Arc;

use crate::sys::Xattrs;

/// A file, directory or symbolic link of one session. Inode numbers are reused, these are not.
pub(crate) type Node = usize;

/// Stands for what a failed creation did not create.
pub(crate) const NO_NODE: Node = usize::MAX;

/// Owner and permission bits after a change of metadata; the kernel adjusts both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The metadata that a new inode has from the start; attributes come from the directory's default ACL.
#[derive(Clone, Debug, Default)]
pub(crate) struct Birth {
    pub(crate) access: Access,
    pub(crate) xattrs: Xattrs,
}

/// An operation, in terms of nodes.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    CreateUnnamed { node: Node, birth: Birth },
    Create { dir: Node, name: OsString, node: Node, birth: Birth },
    Mkdir { dir: Node, name: OsString, node: Node, birth: Birth },
    Symlink { dir: Node, name: OsString, node: Node, target: OsString },
    Write { node: Node, offset: u64, data: Arc<[u8]> },
    Truncate { node: Node, len: u64 },
    Reserve { node: Node, len: u64 },
    SetMode { node: Node, access: Access },
    SetOwner { node: Node, access: Access },
    SetXattr { node: Node, name: CString, value: Vec<u8>, access: Access },
    RemoveXattr { node: Node, name: CString, access: Access },
    WriteOut { node: Node, offset: u64, len: u64, wait: bool },
    Lock { node: Node },
    SyncFile { node: Node },
    SyncDir { node: Node },
    SyncFs,
    LinkUnnamed { node: Node, dir: Node, name: OsString },
    Link { dir: Node, from: OsString, to_dir: Node, to: OsString },
    Rename { dir: Node, from: OsString, to_dir: Node, to: OsString },
    RenameNew { dir: Node, from: OsString, to_dir: Node, to: OsString },
    Exchange { dir: Node, from: OsString, to_dir: Node, to: OsString },
    Unlink { dir: Node, name: OsString },
    Rmdir { dir: Node, name: OsString },
}

impl Step {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Step::CreateUnnamed { .. } => "create unnamed",
            Step::Create { .. } => "create",
            Step::Mkdir { .. } => "mkdir",
            Step::Symlink { .. } => "symlink",
            Step::Write { .. } => "write",
            Step::Truncate { .. } => "truncate",
            Step::Reserve { .. } => "reserve",
            Step::SetMode { .. } => "set mode",
            Step::SetOwner { .. } => "set owner",
            Step::SetXattr { .. } => "set xattr",
            Step::RemoveXattr { .. } => "remove xattr",
            Step::WriteOut { .. } => "write out",
            Step::Lock { .. } => "lock",
            Step::SyncFile { .. } => "sync file",
            Step::SyncDir { .. } => "sync directory",
            Step::SyncFs => "sync file system",
            Step::LinkUnnamed { .. } => "link unnamed",
            Step::Link { .. } => "link",
            Step::Rename { .. } => "rename",
            Step::RenameNew { .. } => "rename new",
            Step::Exchange { .. } => "exchange",
            Step::Unlink { .. } => "unlink",
            Step::Rmdir { .. } => "rmdir",
        }
    }

    pub(crate) fn is_sync(&self) -> bool {
        matches!(self, Step::SyncFile { .. } | Step::SyncDir { .. } | Step::SyncFs)
    }
}

/// How an operation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    /// The call failed with this errno and changed nothing.
    Failed(i32),
    /// The call was done, and reported as failed with this errno.
    ReplyLost(i32),
    /// A sync that failed with this errno; the kernel has forgotten the dirty data.
    Dropped(i32),
    /// A sync that said `Ok` and did nothing.
    Lied,
}

/// An entry of the log.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Did(Step, Fate),
    /// The program under test says that something is done.
    Ack(String),
}
