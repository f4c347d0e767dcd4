//! Directories below a root, opened without following links; the last one stays open.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sys::Dir;

#[derive(Debug)]
pub(crate) struct DirCache {
    root: Arc<Dir>,
    last: Option<(PathBuf, Arc<Dir>)>,
}

impl DirCache {
    pub(crate) fn new(root: &Arc<Dir>) -> DirCache {
        DirCache { root: Arc::clone(root), last: None }
    }

    /// The empty path is the root.
    pub(crate) fn dir(&mut self, path: &Path) -> io::Result<Arc<Dir>> {
        if path.as_os_str().is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some((_, dir)) = self.last.as_ref().filter(|(last, _)| last == path) {
            return Ok(Arc::clone(dir));
        }
        // A transaction is on one mount: a record that leads to another one is none of ours.
        let dir = Arc::new(self.root.open_on_this_mount(path)?);
        self.last = Some((path.to_owned(), Arc::clone(&dir)));
        Ok(dir)
    }

    /// The directory of a path, and its last name.
    pub(crate) fn parent_of<'p>(&mut self, path: &'p Path) -> io::Result<(Arc<Dir>, &'p OsStr)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.dir(path.parent().unwrap_or(Path::new("")))?, name))
    }
}
