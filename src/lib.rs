//! Durable, atomic writes of files, for the save paths of applications.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
mod batch;
mod cancel;
#[cfg(feature = "crash_testing")]
pub mod crash_testing;
mod error;
mod file;
pub mod health;
mod lock;
mod note;
mod options;
mod recover;
mod staged_file;
mod sys;

pub use atomic::names::is_remnant;
pub use batch::{Batch, SyncStrategy};
pub use cancel::CancelToken;
#[cfg(feature = "signals")]
pub use cancel::EXIT_CANCELLED;
pub use error::{Error, ErrorKind, Result, TargetState};
#[cfg(feature = "json")]
pub use file::write_json;
pub use file::{AtomicFile, write};
pub use lock::{Holder, LockFile};
pub use options::{Committed, Durability, Symlinks, WriteOptions};
pub use recover::{Recovery, RecoveryOptions, recover};
pub use staged_file::StagedFile;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
