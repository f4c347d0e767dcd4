//! Which process made something: a forked child has a copy of all that its parent has open, and must not
//! take it for its own.

#[cfg(any(target_os = "linux", target_os = "android"))]
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

/// The mark of the process that made it.
///
/// The number of a process is not enough: in a nested name space of process numbers a child may have the
/// number that its parent has outside. So there is a file in memory, too, which the process has locked by
/// the kind of lock that a fork doesn't inherit (POSIX): whoever can lock it again is the same process.
#[derive(Clone, Debug)]
pub(crate) struct ProcessMark {
    anchor: Arc<Anchor>,
}

#[derive(Debug)]
struct Anchor {
    pid: u32,
    /// `None` where such files are refused; then only the number tells.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    locked: Option<OwnedFd>,
}

impl ProcessMark {
    /// The mark of this process. It is made once, and once for each mark in a forked child.
    pub(crate) fn this() -> ProcessMark {
        static ANCHOR: OnceLock<Arc<Anchor>> = OnceLock::new();
        let first = ANCHOR.get_or_init(|| Arc::new(Anchor::new()));
        let anchor = if first.is_this() { Arc::clone(first) } else { Arc::new(Anchor::new()) };
        ProcessMark { anchor }
    }

    /// Is this the process that made the mark?
    pub(crate) fn is_this(&self) -> bool {
        self.anchor.is_this()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
impl Anchor {
    fn new() -> Anchor {
        use rustix::fs::{MemfdFlags, memfd_create};
        let file = memfd_create(c"durafile", MemfdFlags::CLOEXEC).ok();
        Anchor { pid: std::process::id(), locked: file.filter(is_locked_by_this) }
    }

    fn is_this(&self) -> bool {
        self.pid == std::process::id() && self.locked.as_ref().is_none_or(is_locked_by_this)
    }
}

/// Locks it, or finds that this process has it locked already.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn is_locked_by_this(file: &OwnedFd) -> bool {
    use rustix::fs::{FlockOperation, fcntl_lock};
    fcntl_lock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
impl Anchor {
    fn new() -> Anchor {
        Anchor { pid: std::process::id() }
    }

    fn is_this(&self) -> bool {
        self.pid == std::process::id()
    }
}
