//! Reading one version of a directory while writers replace it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::atomic::dir_draft::open;
use crate::atomic::dir_old::let_go;
use crate::atomic::dir_target::{DirTarget, Root};
use crate::atomic::names::role_of;
use crate::atomic::plan::is_inside;
use crate::sys::{self, Kind};
use crate::{Error, ErrorKind, Result};

/// One version of a directory, readable and unchanged until it is dropped, whatever
/// [`AtomicDir`](crate::AtomicDir) writers commit meanwhile.
///
/// The last reader of a version that was replaced deletes it, if it may; otherwise the next commit
/// or [`recover`](crate::recover()) does. The lock that keeps it ends with the process.
///
/// Programs that write into the directory *in place* are not kept away, and see
/// [`Carry::HardLink`](crate::Carry::HardLink).
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
    root: Root,
}

impl DirSnapshot {
    /// Takes hold of the present version. A link to a directory is followed.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is none,
    /// [`NotADirectory`](ErrorKind::NotADirectory) if something else is there,
    /// [`Unsupported`](ErrorKind::Unsupported) if the file system has no locks.
    pub fn open(target: impl AsRef<Path>) -> Result<DirSnapshot> {
        let target = DirTarget::resolve(target.as_ref())?;
        match target.hold()? {
            Some(root) => Ok(DirSnapshot { target, root }),
            None => Err(Error::io("open", &target.path, std::io::ErrorKind::NotFound.into())),
        }
    }

    /// The content of a file of this version.
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

    /// Opens a file of this version for reading. The handle stays good when the snapshot is gone.
    ///
    /// Links are followed as long as they stay inside the directory (not at all before Linux 5.6).
    ///
    /// # Errors
    ///
    /// [`InvalidPath`](ErrorKind::InvalidPath) if the path is absolute, has a `..`, leads out by a
    /// link, or if a FIFO, socket or device is there;
    /// [`IsADirectory`](ErrorKind::IsADirectory); whatever opening gives.
    pub fn open_file(&self, rel: impl AsRef<Path>) -> Result<File> {
        let rel = rel.as_ref();
        let path = self.target.path.join(rel);
        let refuse = |kind| Err(Error::new(kind, "open", &path));
        if !is_inside(rel) {
            return refuse(ErrorKind::InvalidPath);
        }
        match self.root.dir.open_within(rel) {
            // The kernel's word for a link that leads out.
            Err(e) if e.kind() == std::io::ErrorKind::CrossesDevices => refuse(ErrorKind::InvalidPath),
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
    /// What a crash left inside ([`is_remnant`](crate::is_remnant)) is not listed.
    ///
    /// # Errors
    ///
    /// If a directory can't be read.
    pub fn entries(&self) -> Result<Vec<PathBuf>> {
        let (mut all, mut pending) = (Vec::new(), vec![PathBuf::new()]);
        while let Some(rel) = pending.pop() {
            let fail = |e| Error::io("list", &self.target.path.join(&rel), e);
            let dir = open(&self.root.dir, &rel).map_err(fail)?;
            for entry in dir.entries().map_err(fail)? {
                let (name, kind) = entry.map_err(fail)?;
                if role_of(&name).is_some() {
                    continue;
                }
                let kind = kind.map_or_else(|| dir.stat_at(&name).map(|stat| stat.kind), Ok).map_err(fail)?;
                let path = rel.join(name);
                if kind == Kind::Dir {
                    pending.push(path.clone());
                }
                all.push(path);
            }
        }
        all.sort();
        Ok(all)
    }
}

impl Drop for DirSnapshot {
    fn drop(&mut self) {
        // If this fails, the next commit or a recovery deletes the version.
        let _ = let_go(&self.target, &self.root);
    }
}
