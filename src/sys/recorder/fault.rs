//! Faults that are injected while a session records.

/// A fault of the file system, injected while a save is recorded.
///
/// Operations are counted from 0, in the order of [`Trace::operations`]; a save that is run
/// again with a fault does the same up to there.
///
/// [`Trace::operations`]: crate::crash_testing::Trace::operations
///
/// ```
/// use durafile::crash_testing::{CrashTest, Fault};
///
/// const ENOSPC: i32 = 28;
///
/// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
/// let recording = test.fault(Fault::Refuse { name: "write", errno: ENOSPC }).record()?;
/// assert!(recording.result().is_err());
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// This operation fails with this errno, without effect.
    Fail {
        /// Which one.
        operation: usize,
        /// A number such as `libc::EIO`.
        errno: i32,
    },
    /// This operation is performed, and then fails all the same: a network file system lost
    /// the answer.
    LoseReply {
        /// Which one.
        operation: usize,
        /// A number such as `libc::EIO`.
        errno: i32,
    },
    /// This operation, if it is a write, takes so many bytes at most.
    ShortWrite {
        /// Which one.
        operation: usize,
        /// How many bytes.
        len: usize,
    },
    /// This operation, if it is a sync, fails with `EIO` and the dirty data is forgotten; every
    /// later sync of the same file says `Ok` and makes nothing durable. Linux does this.
    SyncLies {
        /// Which one.
        operation: usize,
    },
    /// Each operation of this kind ([`Operation::name`]) fails with this errno: the file system
    /// can't do it.
    ///
    /// [`Operation::name`]: crate::crash_testing::Operation::name
    Refuse {
        /// Which kind, such as `"create unnamed"`.
        name: &'static str,
        /// A number such as `libc::EOPNOTSUPP`.
        errno: i32,
    },
}

/// The fault that one operation meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Injection {
    Perform,
    Fail(i32),
    LoseReply(i32),
    Shorten(usize),
    Drop,
}

pub(super) fn injection(faults: &[Fault], index: usize, name: &str) -> Injection {
    for fault in faults {
        match *fault {
            Fault::Fail { operation, errno } if operation == index => return Injection::Fail(errno),
            Fault::LoseReply { operation, errno } if operation == index => {
                return Injection::LoseReply(errno);
            }
            Fault::ShortWrite { operation, len } if operation == index && name == "write" => {
                return Injection::Shorten(len);
            }
            Fault::SyncLies { operation } if operation == index => return Injection::Drop,
            Fault::Refuse { name: refused, errno } if refused == name => return Injection::Fail(errno),
            _ => {}
        }
    }
    Injection::Perform
}
