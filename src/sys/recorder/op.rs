//! The calls that are recorded, and what they return.

use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;

use crate::sys::{Dir, File};

/// One state-changing call, as the `sys` door is about to make it.
#[derive(Debug)]
#[expect(dead_code, reason = "what was asked for; the model reads back what came of it")]
pub(crate) enum Op<'a> {
    CreateUnnamed { dir: &'a Dir, mode: u32 },
    Create { dir: &'a Dir, name: &'a OsStr },
    Mkdir { dir: &'a Dir, name: &'a OsStr },
    Symlink { dir: &'a Dir, name: &'a OsStr, target: &'a OsStr },
    Write { file: &'a File, offset: u64, data: &'a [u8] },
    Truncate { file: &'a File, len: u64 },
    Reserve { file: &'a File, len: u64 },
    SetMode { file: &'a File, mode: u32 },
    SetOwner { file: &'a File, uid: Option<u32>, gid: Option<u32> },
    SetXattr { file: &'a File, name: &'a CStr, value: &'a [u8] },
    RemoveXattr { file: &'a File, name: &'a CStr },
    SetDirMode { dir: &'a Dir, mode: u32 },
    WriteOut { file: &'a File, offset: u64, len: u64, wait: bool },
    Lock { file: &'a File },
    LockDir { dir: &'a Dir },
    SyncFile { file: &'a File },
    SyncDir { dir: &'a Dir },
    SyncFs { dir: &'a Dir },
    LinkUnnamed { file: &'a File, dir: &'a Dir, name: &'a OsStr },
    Link { dir: &'a Dir, from: &'a OsStr, to_dir: &'a Dir, to: &'a OsStr },
    Rename { dir: &'a Dir, from: &'a OsStr, to_dir: &'a Dir, to: &'a OsStr },
    RenameNew { dir: &'a Dir, from: &'a OsStr, to_dir: &'a Dir, to: &'a OsStr },
    Exchange { dir: &'a Dir, from: &'a OsStr, to_dir: &'a Dir, to: &'a OsStr },
    Unlink { dir: &'a Dir, name: &'a OsStr },
    Rmdir { dir: &'a Dir, name: &'a OsStr },
}

/// The results of calls, as far as the recorder must know them.
pub(crate) trait Recordable: Sized {
    /// The file that was created.
    fn created(&self) -> Option<&OwnedFd> {
        None
    }

    /// How many bytes were written.
    fn written(&self) -> usize {
        0
    }

    /// This outcome without the call; none if that makes no sense.
    fn pretended(_written: usize) -> Option<Self> {
        None
    }
}

impl Recordable for () {
    fn pretended(_written: usize) -> Option<()> {
        Some(())
    }
}

impl Recordable for usize {
    fn written(&self) -> usize {
        *self
    }

    fn pretended(written: usize) -> Option<usize> {
        Some(written)
    }
}

impl Recordable for OwnedFd {
    fn created(&self) -> Option<&OwnedFd> {
        Some(self)
    }
}
