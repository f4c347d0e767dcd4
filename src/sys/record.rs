//! Recording of operations, for `crash_testing`.
//!
//! A thread that has entered a session logs every state-changing call that passes the `sys`
//! door, after performing it on the real file system. Handles carry nothing extra: what they
//! are is found by device and inode number when the call is made.

mod fault;
mod session;
mod step;
mod xattrs;

use std::cell::RefCell;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Dir, File, FsKind};

pub use fault::Fault;
pub(crate) use session::{Session, Setup};
pub(crate) use step::{Access, Birth, Event, Fate, NO_NODE, Node, Step};
pub(crate) use xattrs::{set_xattr_of, xattrs_of};

/// One state-changing call, as the `sys` door is about to make it.
#[derive(Debug)]
#[allow(dead_code, reason = "what was asked for; the model reads back what came of it")]
pub(crate) enum Op<'a> {
    CreateUnnamed {
        dir: &'a Dir,
        mode: u32,
    },
    Create {
        dir: &'a Dir,
        name: &'a OsStr,
    },
    Mkdir {
        dir: &'a Dir,
        name: &'a OsStr,
    },
    Symlink {
        dir: &'a Dir,
        name: &'a OsStr,
        target: &'a OsStr,
    },
    Write {
        file: &'a File,
        offset: u64,
        data: &'a [u8],
    },
    Truncate {
        file: &'a File,
        len: u64,
    },
    SetMode {
        file: &'a File,
        mode: u32,
    },
    SetOwner {
        file: &'a File,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    SetXattr {
        file: &'a File,
        name: &'a CStr,
        value: &'a [u8],
    },
    RemoveXattr {
        file: &'a File,
        name: &'a CStr,
    },
    /// The same four for a directory.
    SetDirMode {
        dir: &'a Dir,
        mode: u32,
    },
    SetDirOwner {
        dir: &'a Dir,
        uid: Option<u32>,
        gid: Option<u32>,
    },
    SetDirXattr {
        dir: &'a Dir,
        name: &'a CStr,
        value: &'a [u8],
    },
    RemoveDirXattr {
        dir: &'a Dir,
        name: &'a CStr,
    },
    WriteOut {
        file: &'a File,
        offset: u64,
        len: u64,
        wait: bool,
    },
    Lock {
        file: &'a File,
    },
    LockDir {
        dir: &'a Dir,
    },
    SyncFile {
        file: &'a File,
    },
    SyncDir {
        dir: &'a Dir,
    },
    SyncFs {
        dir: &'a Dir,
    },
    LinkUnnamed {
        file: &'a File,
        dir: &'a Dir,
        name: &'a OsStr,
    },
    Link {
        dir: &'a Dir,
        from: &'a OsStr,
        to_dir: &'a Dir,
        to: &'a OsStr,
    },
    Rename {
        dir: &'a Dir,
        from: &'a OsStr,
        to_dir: &'a Dir,
        to: &'a OsStr,
    },
    RenameNew {
        dir: &'a Dir,
        from: &'a OsStr,
        to_dir: &'a Dir,
        to: &'a OsStr,
    },
    Exchange {
        dir: &'a Dir,
        from: &'a OsStr,
        to_dir: &'a Dir,
        to: &'a OsStr,
    },
    Unlink {
        dir: &'a Dir,
        name: &'a OsStr,
    },
    Rmdir {
        dir: &'a Dir,
        name: &'a OsStr,
    },
}

/// What calls return, as far as the recorder must know it.
pub(crate) trait Outcome: Sized {
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

impl Outcome for () {
    fn pretended(_written: usize) -> Option<()> {
        Some(())
    }
}

impl Outcome for usize {
    fn written(&self) -> usize {
        *self
    }

    fn pretended(written: usize) -> Option<usize> {
        Some(written)
    }
}

impl Outcome for OwnedFd {
    fn created(&self) -> Option<&OwnedFd> {
        Some(self)
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Session>>> = const { RefCell::new(None) };
}

/// The session of this thread, to be entered on another one.
pub(crate) fn current() -> Option<Arc<Session>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Makes this thread record into a session, or into none, until dropped.
pub(crate) fn enter(session: Option<Arc<Session>>) -> Entered {
    Entered { before: CURRENT.replace(session) }
}

/// Restores what the thread recorded into before.
#[derive(Debug)]
pub(crate) struct Entered {
    before: Option<Arc<Session>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

/// Wraps the body of a new thread, so that it records into the session of the thread that
/// calls this.
pub(crate) fn inherit<T>(body: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let session = current();
    move || {
        let _entered = enter(session);
        body()
    }
}

/// Performs a call; in a session, through it.
pub(crate) fn perform<'a, T: Outcome>(
    op: impl FnOnce() -> Op<'a>,
    call: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    match current() {
        Some(session) => session.perform(&op(), call),
        None => call(),
    }
}

/// What the file system under a session counts as.
pub(crate) fn assumed_fs_kind() -> Option<FsKind> {
    Some(current()?.setup().fs)
}

/// Does the session pretend that an open file can't be given a name?
pub(crate) fn refuses_links_by_descriptor() -> bool {
    current().is_some_and(|session| session.setup().no_links_by_descriptor)
}
