//! Files of a set that need not be published, because their targets hold the same content.
//!
//! This is decided when a set is committed: what was true when a file was added may not be so any more. Files that
//! were alike then are staged, but not synced yet.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::target::Target;
use crate::atomic::unchanged::{Content, unchanged_file};
use crate::error::{Error, Result};
use crate::options::WriteOptions;
use crate::set::collector::Collected;
use crate::sys::{Dir, File};

/// The open file that stands at a name, if it holds what is staged for it and has the permissions that are asked for.
pub(crate) fn same_file(
    (dir, name): (&Arc<Dir>, &OsStr),
    staged: &File,
    options: &WriteOptions,
) -> Option<File> {
    let existing = dir.lookup(name, false).ok()?;
    let content = Content::Staged(staged, staged.stat().ok()?.size);
    let mut target = Target::new(Arc::clone(dir), name.to_owned(), Path::new(name));
    target.existing = Some(existing);
    unchanged_file(&target, &content, options)
}

impl Collected {
    /// Decides about the file `tag` at the commit. One that is published after all, and whose sync was put off,
    /// is synced with the others.
    pub(crate) fn is_unchanged(
        &mut self,
        tag: usize,
        path: &Path,
        find_same: impl FnOnce(&File) -> Option<File>,
        open: impl FnOnce() -> io::Result<File>,
    ) -> Result<Option<File>> {
        let maybe_unchanged = self.maybe_unchanged.remove(&tag);
        let staged = match open() {
            // Its mode may forbid it. It was synced when it was complete.
            Err(_) if maybe_unchanged.is_none() => return Ok(None),
            opened => opened.map_err(|e| Error::io("open the staged file of", path, e))?,
        };
        let same = find_same(&staged);
        if let (None, Some(sync)) = (&same, maybe_unchanged) {
            self.add(sync, tag, staged);
        }
        Ok(same)
    }
}
