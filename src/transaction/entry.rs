//! A change that a transaction will make, and where.

use std::path::PathBuf;
use std::sync::Arc;

use crate::sys::{Dir, Stat, TargetMeta};

#[derive(Debug)]
pub(super) struct Entry {
    /// The number of the staged file; none if the target is to be removed.
    pub(super) put: Option<u64>,
    pub(super) tag: usize,
    /// Directories that this change needs and that don't exist.
    pub(super) missing: Vec<PathBuf>,
    /// The target holds the staged content already.
    pub(super) is_unchanged: bool,
    /// Which change it was.
    pub(super) order: usize,
}

/// Where a change goes.
#[derive(Debug)]
pub(super) struct Site {
    /// The nearest directory that exists.
    pub(super) parent: Arc<Dir>,
    /// Directories to be created.
    pub(super) missing: Vec<PathBuf>,
    pub(super) existing: Option<TargetMeta>,
}

/// A directory that changes were found permitted in.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) path: PathBuf,
    pub(super) dir: Arc<Dir>,
    pub(super) stat: Stat,
}
