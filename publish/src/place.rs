//! Putting a version together from what is here: links where that is safe, else copies.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durafile::CancelToken;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::hash::{Hash, Identity};
use crate::lanes::check;
use crate::local::{LocalTree, Stamp};
use crate::manifest::{self, Manifest};

/// A file of the version that the target has now, with some content when it was hashed.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) path: String,
    pub(crate) stamp: Stamp,
}

pub(crate) struct Placer {
    pub(crate) stage: PathBuf,
    pub(crate) cache: Arc<Cache>,
    pub(crate) present: Option<Arc<LocalTree>>,
    /// What of the present version has which content.
    pub(crate) local: HashMap<Hash, Local>,
    pub(crate) writable: bool,
    pub(crate) cancel: Option<CancelToken>,
}

impl Placer {
    pub(crate) fn place(&self, manifest: &Manifest) -> Result<()> {
        for dir in &manifest.dirs {
            let path = self.stage.join(dir);
            fs::create_dir(&path).map_err(|e| Error::io("create", &path, e))?;
        }
        let mut moved = HashSet::new();
        for file in &manifest.files {
            check(self.cancel.as_ref())?;
            let to = self.stage.join(&file.path);
            let placed = match self.local.get(&file.hash) {
                Some(local) if file.size > 0 => self.place_local(local, file, &to),
                _ if file.size == 0 => self.create(&to).and_then(|empty| self.set_mode(&empty, file)),
                _ => self.place_cached(file, &to, moved.insert(file.hash)),
            };
            placed.map_err(|e| Error::io("put in place", &to, e))?;
        }
        for link in &manifest.links {
            let path = self.stage.join(&link.path);
            std::os::unix::fs::symlink(&link.target, &path).map_err(|e| Error::io("create", &path, e))?;
        }
        Ok(())
    }

    fn mode(&self, file: &manifest::File) -> u32 {
        let all = if self.writable { 0o666 } else { 0o444 };
        self.cache.masked(if file.executable { all | 0o111 } else { all })
    }

    fn place_local(&self, local: &Local, file: &manifest::File, to: &Path) -> io::Result<()> {
        let Some(present) = &self.present else { return Err(io::ErrorKind::NotFound.into()) };
        let from = present.open_file(&local.path).map_err(io::Error::other)?;
        if Stamp::of(&from)? != local.stamp {
            return Err(changed());
        }
        // Nobody writes to it in place: not without giving himself the right first.
        let meta = from.metadata()?;
        let mine = meta.uid() == rustix::process::geteuid().as_raw();
        let safe = mine && meta.mode() & 0o7777 == self.mode(file) && !self.writable;
        if safe && present.link_to(&local.path, to).is_ok() {
            // Another file may have got the name meanwhile.
            let linked = OpenOptions::new().read(true).open(to)?;
            return if Stamp::of(&linked)? == local.stamp { Ok(()) } else { Err(changed()) };
        }
        self.copy(from, file, to)
    }

    fn place_cached(&self, file: &manifest::File, to: &Path, first: bool) -> io::Result<()> {
        let from = self.cache.open_content(&file.hash).map_err(io::Error::other)?;
        let moves = self.cache.is_temporary() && first;
        let mode = from.metadata()?.mode() & 0o7777;
        // The mode of a new one is set here; that of one which has other names stays as it is.
        let fits = mode == self.mode(file) || from.metadata()?.nlink() == 1;
        if self.cache.is_private()
            && fits
            && (moves || !self.writable)
            && fs::hard_link(self.cache.path(&file.hash), to).is_ok()
        {
            return self.set_mode(&from, file);
        }
        self.copy(from, file, to)
    }

    fn create(&self, to: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)
    }

    fn set_mode(&self, placed: &File, file: &manifest::File) -> io::Result<()> {
        placed.set_permissions(fs::Permissions::from_mode(self.mode(file)))
    }

    /// Shares the blocks where the file system can. What is copied is hashed once more on its way.
    fn copy(&self, from: File, file: &manifest::File, to: &Path) -> io::Result<()> {
        let copy = self.create(to)?;
        let before = Stamp::of(&from)?;
        let whole = if share_blocks(&copy, &from) {
            Stamp::of(&from)? == before
        } else {
            let (length, identity) = Identity::read(Tee { from: &from, to: &copy })?;
            (length, identity.hash) == (file.size, file.hash)
        };
        if whole { self.set_mode(&copy, file) } else { Err(changed()) }
    }
}

fn changed() -> io::Error {
    io::Error::other("what it is made from was written to meanwhile; pull again")
}

#[cfg(target_os = "linux")]
fn share_blocks(copy: &File, from: &File) -> bool {
    rustix::fs::ioctl_ficlone(copy, from).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn share_blocks(_copy: &File, _from: &File) -> bool {
    false
}

/// Passes on what is read.
struct Tee<'a> {
    from: &'a File,
    to: &'a File,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.to.write_all(&buffer[..count])?;
        Ok(count)
    }
}
