//! How a new version of a directory begins: lock, what is pending, draft.

use std::path::Path;
use std::sync::Mutex;

use crate::dir::draft::Draft;
use crate::dir::options::DirOptions;
use crate::dir::recovery::recover_pending;
use crate::dir::spelling::EntryLock;
use crate::dir::target::DirTarget;
use crate::dir::{AtomicDir, Inner};
use crate::error::{Error, Result};
use crate::failing;
use crate::set::collector::Collector;
use crate::sys;

impl DirOptions {
    /// [`AtomicDir::create`] with these options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::DirOptions::new().create_parents(true).create(path.join("v1"))?;
    /// site.write("index.html", "<p>Hello")?;
    /// site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`AtomicDir::create`]. [`TimedOut`](crate::ErrorKind::TimedOut) in place of `Locked` with
    /// [`lock_timeout`](DirOptions::lock_timeout), and [`Unsupported`](crate::ErrorKind::Unsupported) if
    /// [`files`](DirOptions::files) has an option that a directory does not take.
    pub fn create(&self, target: impl AsRef<Path>) -> Result<AtomicDir> {
        begin(target.as_ref(), self, false)
    }

    /// [`AtomicDir::update`] with these options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::DirOptions::new().allow_fallback(true).update(&path)?;
    /// site.write("index.html", "<p>Hello")?;
    /// site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`create`](DirOptions::create).
    pub fn update(&self, target: impl AsRef<Path>) -> Result<AtomicDir> {
        begin(target.as_ref(), self, true)
    }
}

fn begin(path: &Path, options: &DirOptions, keep: bool) -> Result<AtomicDir> {
    failing::check(path)?;
    options.set.check(path)?;
    let mut target = DirTarget::resolve_to_save(path, &options.set)?;
    let lock = EntryLock::take(&mut target, &options.set)?;
    recover_pending(&target)?;
    let draft = Draft::create(target, lock, keep)?;
    let fail = |e| Error::io("inspect", path, e);
    let kind = sys::fs_kind(&*draft.stage.root.dir, &draft.stage.root.stat).map_err(fail)?;
    let sync = options.set.sync_request().resolve(&draft.target.parent, kind, &draft.stage.root.stat);
    let staging = draft.target.place.join(draft.stage.name());
    let (options, collector) = (options.clone(), Collector::default());
    let inner = Mutex::new(Inner { draft, files: Vec::new(), failed: None });
    Ok(AtomicDir { staging, options, kind, sync, collector, inner })
}
