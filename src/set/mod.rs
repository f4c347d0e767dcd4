//! The parts that sets of files share: `Batch`, `Transaction` and `AtomicDir`.
//!
//! A file of a set goes through the steps of a single save ([`atomic`](crate::atomic)), but many go through each
//! step together. Steps 3 to 5 happen as a file is added: it is created in a private directory beside its target
//! ([`staging_dir`]), filled ([`staged_file`]), and left for the commit ([`collector`]). Step 6 is shared
//! ([`sync_request`] decides how, [`group_sync`] does it, on the threads of [`sync_pool`]). Step 7 is empty: the file has
//! a name in the private directory from step 3 on, and the lock on that directory stands for all files in it. The commit
//! then renames file after file ([`publish`], step 8), and syncs each directory once (step 10, several at a time:
//! [`parallel`]). A transaction with a record (`transaction::apply`) and a swap of directories (`dir`) have steps of
//! their own instead of step 8.
//!
//! # Open descriptors
//!
//! A process may have 1,024 of them by default, and needs most for itself. A set stays within [`BUDGET`] at any
//! size, and over any number of directories, on up to [`MOUNTS`] mounts and subvolumes. Each further one costs
//! one more, or [`PER_STAGING_DIR`] where others can create names.
//!
//! | open at the same time | while files are added | while they are published |
//! | --- | --- | --- |
//! | staging directories and their locks, until the end | [`OWN_STAGING_DIRS`] times [`PER_STAGING_DIR`] | the same |
//! | target directories | [`CACHED_DIRS`], and one that is being opened | [`SYNCED_AT_ONCE`], and [`CACHED_DIRS`] |
//! | complete files whose sync is not done | [`IN_FLIGHT`] | |
//! | the file that is being written, and the one that it will replace | 2 | |
//! | replaced files whose blocks must stay | | [`PINNED`] |
//! | `/proc/meminfo` | 1 | |
//!
//! Streams that the caller holds are the caller's.

pub(crate) mod collector;
pub(crate) mod enclosing;
pub(crate) mod group_sync;
pub(crate) mod options;
pub(crate) mod parallel;
pub(crate) mod publish;
pub(crate) mod spelling;
pub(crate) mod staged_file;
pub(crate) mod staging_dir;
pub(crate) mod sync_pool;
pub(crate) mod sync_request;
pub(crate) mod unchanged;
pub(crate) mod writer_lock;

/// The most descriptors that a set opens.
const BUDGET: usize = 128;

/// A staging directory and its lock, where that is on a file of its own. Its parent is opened again when it goes.
const PER_STAGING_DIR: usize = 2;

/// On each of them a staging directory is open, which is its own lock.
const MOUNTS: usize = 32;

/// So many directories have a staging directory of their own. Files of further ones on the same mount are
/// created where they belong, and wait under a name in one of these.
pub(crate) const OWN_STAGING_DIRS: usize = 8;

/// So many target directories are kept open, those that were used last.
pub(crate) const CACHED_DIRS: usize = 8;

/// So many complete files are gathered before they are handed to the threads.
pub(crate) const GATHERED: usize = 22;

/// So many complete files may be on their way, those that are gathered included.
pub(crate) const IN_FLIGHT: usize = 3 * GATHERED;

/// So many replaced files are held open where they have to be, until their directories are synced.
pub(crate) const PINNED: usize = 32;

/// So many directories are open at once while they are synced.
pub(crate) const SYNCED_AT_ONCE: usize = 48;

/// Up to so many files or directories are synced one after the other: starting threads would take longer.
pub(crate) const FEW: usize = 4;

/// The more syncs the file system sees at once, the more share one commit of its journal and one flush; but
/// each thread that waits is one to be woken.
pub(crate) const THREADS: usize = 16;

const STAGING: usize = MOUNTS;
const _: () = assert!(OWN_STAGING_DIRS * PER_STAGING_DIR <= STAGING);
const WHILE_ADDED: usize = STAGING + CACHED_DIRS + 1 + IN_FLIGHT + 2 + 1;
const WHILE_PUBLISHED: usize = STAGING + SYNCED_AT_ONCE + CACHED_DIRS + PINNED;
const _: () = assert!(WHILE_ADDED <= BUDGET && WHILE_PUBLISHED <= BUDGET);
