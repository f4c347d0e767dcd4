//! Durable, atomic writes for the save paths of applications.
//!
//! | I want to | use |
//! | --- | --- |
//! | save one file | [`write()`] |
//! | save a value as JSON | [`write_json`] |
//! | save with options: permissions, create only, size limit, ... | [`WriteOptions`] |
//! | write a long file piece by piece | [`AtomicFile`] |
//! | save many independent files fast | [`Batch`] |
//! | tidy up after a crash, at start | [`recover`] |
//! | try every crash state of my own save path | the feature `crash_testing` |
//!
//! # Atomicity and durability
//!
//! *Atomic*: at every instant, and after any crash, the target holds the complete old or the
//! complete new content. *Durable*: once a save returned `Ok`, the new content survives power loss.
//! These are two promises. A rename alone gives the first against the death of the process, and
//! neither against a power cut.
//!
//! The obvious code keeps neither:
//!
//! ```no_run
//! # let text = "";
//! std::fs::write("settings.toml", text)?; // a crash leaves it empty or torn
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! This keeps both:
//!
//! ```
//! # let dir = tempfile::tempdir()?;
//! # let text = "theme = 'dark'";
//! # std::env::set_current_dir(&dir)?;
//! durafile::write("settings.toml", text)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it does, in short: stage the content without a name in the same directory, give it the
//! old file's metadata, sync it, rename it over the old file, sync the directory; on any error
//! before the rename, leave nothing behind.
//!
//! # What an error means
//!
//! [`Error::target`] says what the target holds now, [`Error::kind`] what went wrong,
//! [`Error::is_transient`] whether to try again, [`Error::hint`] what to tell the user.
//!
//! # Limits
//!
//! * A replaced file is a new inode: other hard links keep the old content, and whoever has the old
//!   file open goes on reading it.
//! * The directory must be writable, not only the file. A file that is a mount point itself can't be
//!   replaced.
//! * Durable is what the device makes of a flush. A device that lies about flushes loses data.
//! * Files on tmpfs are not durable; [`Committed::durability`] says so.
//! * On Windows and macOS some promises are smaller; `docs/platforms.md` has a table.
//! * Two programs that save one path at the same time don't mix their content, but the last wins.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
mod batch;
mod cancel;
#[cfg(all(feature = "crash_testing", target_os = "linux"))]
pub mod crash_testing;
mod dir;
mod error;
mod file;
pub mod health;
mod lock;
mod note;
mod options;
mod recover;
mod staged_file;
mod sys;
mod transaction;

pub use atomic::names::is_remnant;
pub use batch::{Batch, SyncStrategy};
pub use cancel::CancelToken;
#[cfg(feature = "signals")]
pub use cancel::EXIT_CANCELLED;
pub use dir::{AtomicDir, Carry, DirOptions, DirSnapshot};
pub use error::{Error, ErrorKind, Result, TargetState};
#[cfg(feature = "json")]
pub use file::write_json;
pub use file::{AtomicFile, write};
pub use lock::{Holder, LockFile};
pub use options::{Committed, Durability, Symlinks, WriteOptions};
pub use recover::{Recovery, RecoveryOptions, recover};
pub use staged_file::StagedFile;
pub use transaction::{Transaction, TransactionOptions};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
