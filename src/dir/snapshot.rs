//! Reading one version of a directory while writers replace it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::atomic::staged::TRIES;
use crate::atomic::target::is_inside;
use crate::dir::old_versions::release;
use crate::dir::target::DirTarget;
use crate::dir::version::LockedVersion;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::names::role_of;
use crate::set::enclosing::refuse_if_detached;
use crate::set::options::SetOptions;
use crate::sys::{self, Kind};

/// One version of a directory, readable and unchanged until it is dropped, whatever
/// [`AtomicDir`](crate::AtomicDir) writers commit meanwhile.
///
/// The last reader of a version that was replaced deletes it, if it may; otherwise the next commit
/// or [`recover`](crate::recover()) does. The lock that keeps it ends with the process.
///
/// A snapshot does not protect against programs that write into the files *in place*; with
/// [`Carry::HardLink`](crate::Carry::HardLink) that concerns old versions, too.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let talk = dir.path().join("talk");
/// use durafile::{AtomicDir, DirSnapshot};
///
/// let mut new = AtomicDir::create(&talk)?;
/// new.write("metadata.json", "1")?;
/// new.commit()?;
///
/// let reader = DirSnapshot::open(&talk)?;
/// let mut new = AtomicDir::update(&talk)?;
/// new.write("metadata.json", "2")?;
/// new.commit()?;
///
/// assert_eq!(reader.read("metadata.json")?, b"1");
/// assert_eq!(DirSnapshot::open(&talk)?.read("metadata.json")?, b"2");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "the version is kept only as long as this is"]
pub struct DirSnapshot {
    target: DirTarget,
    root: LockedVersion,
}

impl DirSnapshot {
    /// Opens the present version and keeps it. A link to a directory is followed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// use durafile::{AtomicDir, DirSnapshot, ErrorKind};
    ///
    /// assert_eq!(DirSnapshot::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
    /// AtomicDir::create(&path)?.commit()?;
    /// let site = DirSnapshot::open(&path)?;
    /// # drop(site);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is none,
    /// [`NotADirectory`](ErrorKind::NotADirectory) if something else is there,
    /// [`Unsupported`](ErrorKind::Unsupported) if the file system has no locks, or is a network file system: there
    /// the lock of a directory is seen by this machine alone.
    pub fn open(target: impl AsRef<Path>) -> Result<DirSnapshot> {
        let path = target.as_ref();
        let mut swapped = None;
        for _ in 0..TRIES {
            let target = DirTarget::resolve(path, &SetOptions::new())?;
            if !sys::shares_locks_of_dirs(&target.parent) {
                return Err(Error::new(ErrorKind::Unsupported, "lock for all machines", &target.path));
            }
            let Some(root) = target.hold()? else {
                return Err(Error::io("open", &target.path, std::io::ErrorKind::NotFound.into()));
            };
            // A directory around it may have been replaced since its parent was opened. Whoever deletes that
            // one has looked for readers before this one had its lock, or finds it.
            match refuse_if_detached(&target.parent, &target.place, path) {
                Err(e) if e.kind() == ErrorKind::NotFound => swapped = Some(e),
                checked => return checked.map(|()| DirSnapshot { target, root }),
            }
        }
        Err(swapped.unwrap_or_else(|| Error::new(ErrorKind::Locked, "open", path)))
    }

    /// The content of a file of this version.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// # let mut site = durafile::AtomicDir::create(&path)?;
    /// # site.write("index.html", "<p>Hello")?;
    /// # site.commit()?;
    /// let site = durafile::DirSnapshot::open(&path)?;
    /// assert_eq!(site.read("index.html")?, b"<p>Hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open_file`](DirSnapshot::open_file), and those of reading.
    pub fn read(&self, rel: impl AsRef<Path>) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        let read = self.open_file(&rel)?.read_to_end(&mut content);
        read.map_err(|e| Error::io("read", &self.target.path.join(rel), e))?;
        Ok(content)
    }

    /// Opens a file of this version for reading. The handle stays usable after the snapshot is dropped.
    ///
    /// Links are followed as long as they stay inside the directory (not at all before Linux 5.6).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// # let mut site = durafile::AtomicDir::create(&path)?;
    /// # site.write("index.html", "<p>Hello")?;
    /// # site.commit()?;
    /// use std::io::Read;
    ///
    /// let site = durafile::DirSnapshot::open(&path)?;
    /// let mut start = [0; 3];
    /// site.open_file("index.html")?.read_exact(&mut start)?;
    /// assert_eq!(&start, b"<p>");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidPath`](ErrorKind::InvalidPath) if the path is absolute, has a `..`, leads out by a
    /// link, or if a FIFO, socket or device is there;
    /// [`IsADirectory`](ErrorKind::IsADirectory) for a directory; and the errors of opening the file.
    pub fn open_file(&self, rel: impl AsRef<Path>) -> Result<File> {
        let rel = rel.as_ref();
        let path = self.target.path.join(rel);
        let refuse = |kind| Err(Error::new(kind, "open", &path));
        if !is_inside(rel) {
            return refuse(ErrorKind::InvalidPath);
        }
        match self.root.dir.open_within(rel) {
            // The kernel's word for a link that leads out.
            Err(e) if sys::crosses_devices(&e) => refuse(ErrorKind::InvalidPath),
            Err(e) => Err(Error::io("open", &path, e)),
            Ok((file, stat)) => match stat.kind {
                Kind::File => Ok(sys::std_file(file)),
                Kind::Dir => refuse(ErrorKind::IsADirectory),
                Kind::Symlink | Kind::Other => refuse(ErrorKind::InvalidPath),
            },
        }
    }

    /// Everything in this version: relative paths of files, directories and links, sorted.
    ///
    /// Remnants of a crash ([`is_remnant`](crate::is_remnant)) are not listed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// # let mut site = durafile::AtomicDir::create(&path)?;
    /// # site.write("css/style.css", "")?;
    /// # site.commit()?;
    /// use std::path::Path;
    ///
    /// let site = durafile::DirSnapshot::open(&path)?;
    /// assert_eq!(site.entries()?, [Path::new("css"), Path::new("css/style.css")]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a directory can't be read.
    pub fn entries(&self) -> Result<Vec<PathBuf>> {
        let (mut all, mut pending) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(rel) = pending.pop() {
            let fail = |e| Error::io("list", &self.target.path.join(&rel), e);
            let dir = self.root.dir.open_beneath(&rel).map_err(fail)?;
            for entry in dir.entries().map_err(fail)? {
                let (name, kind) = entry.map_err(fail)?;
                if role_of(&name).is_some() {
                    continue;
                }
                let kind = dir.kind_of(&name, kind).map_err(fail)?;
                let path = rel.join(name);
                if kind == Kind::Dir {
                    pending.push(path.clone());
                }
                all.push(path);
            }
        }
        all.sort_unstable();
        Ok(all)
    }
}

impl Drop for DirSnapshot {
    fn drop(&mut self) {
        // If this fails, the next commit or a recovery deletes the version.
        let _ = release(&self.target, &self.root);
    }
}
