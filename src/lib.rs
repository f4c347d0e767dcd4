//! Durable, atomic writes of files, for the save paths of applications.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod atomic;
#[cfg(feature = "crash_testing")]
pub mod crash_testing;
mod error;
mod file;
mod options;
mod recover;
mod sys;

pub use atomic::names::is_remnant;
pub use error::{Error, ErrorKind, Result, TargetState};
#[cfg(feature = "json")]
pub use file::write_json;
pub use file::{AtomicFile, write};
pub use options::{Committed, Durability, Symlinks, WriteOptions};
pub use recover::{Recovery, RecoveryOptions, recover};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
