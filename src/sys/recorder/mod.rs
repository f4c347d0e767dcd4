//! Recording of operations, for `crash_testing`.
//!
//! A thread that has entered a session logs every state-changing call that passes the `sys`
//! door, after performing it on the real file system. Handles carry nothing extra: what they
//! are is found by device and inode number when the call is made.

mod fault;
mod log;
mod op;
mod session;
mod xattrs;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use super::FsKind;

pub use fault::Fault;
pub(crate) use log::{Access, Birth, Event, Fate, NO_NODE, Node, Step};
pub(crate) use op::{Op, Recordable};
pub(crate) use session::{Session, Setup};
pub(crate) use xattrs::{set_xattr_of, xattrs_of};
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
pub(crate) fn perform<'a, T: Recordable>(
    op: impl FnOnce() -> Op<'a>,
    call: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    match current() {
        Some(session) => session.perform(&op(), call),
        None => call(),
    }
}

/// The kind of file system that a session pretends to run on.
pub(crate) fn assumed_fs_kind() -> Option<FsKind> {
    Some(current()?.setup().fs)
}

/// Does the session pretend that an open file can't be given a name?
pub(crate) fn refuses_links_by_descriptor() -> bool {
    current().is_some_and(|session| session.setup().no_links_by_descriptor)
}
