//! A local directory, one version of it, read through one open handle.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt, OpenOptions, OpenOptionsExt};
use durafile::DirSnapshot;
use rustix::fs::OFlags;

use crate::error::{Error, Result};
use crate::hash::Identity;
use crate::manifest::Link;

/// One version of a directory. It stays as it is while this lives, as far as writers replace directories and files.
#[derive(Debug)]
pub(crate) struct LocalTree {
    path: PathBuf,
    dir: Dir,
    /// Keeps the version from being deleted.
    _snapshot: DirSnapshot,
}

/// What is in it, each sorted by path.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) dirs: Vec<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) files: Vec<Found>,
    /// What can't be published, and why.
    pub(crate) odd: Vec<(PathBuf, &'static str)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) executable: bool,
}

/// What changes when somebody writes into a file in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub(crate) fn of(file: &fs::File) -> io::Result<Stamp> {
        use std::os::unix::fs::MetadataExt;
        let meta = file.metadata()?;
        Ok(Stamp { inode: meta.ino(), size: meta.len(), modified: (meta.mtime(), meta.mtime_nsec()) })
    }
}

impl LocalTree {
    pub(crate) fn open(path: &Path) -> Result<LocalTree> {
        let open =
            || Dir::open_ambient_dir(path, ambient_authority()).map_err(|e| Error::io("open", path, e));
        // The snapshot doesn't lend its handle. It holds the very directory that was opened before it if the path leads to that
        // one afterwards too: a version that was replaced never comes back.
        loop {
            let dir = open()?;
            let snapshot = DirSnapshot::open(path)?;
            if id_of(&dir, path)? == id_of(&open()?, path)? {
                return Ok(LocalTree { path: path.to_owned(), dir, _snapshot: snapshot });
            }
        }
    }

    /// The same, if there is a directory.
    pub(crate) fn open_if_any(path: &Path) -> Result<Option<LocalTree>> {
        match LocalTree::open(path) {
            Err(e) if e.local() == Some(durafile::ErrorKind::NotFound) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Which version it is: that of no other one that exists meanwhile.
    pub(crate) fn id(&self) -> Result<(u64, u64)> {
        id_of(&self.dir, &self.path)
    }

    pub(crate) fn list(&self) -> Result<Listing> {
        let (mut listing, mut pending) = (Listing::default(), vec![String::new()]);
        while let Some(below) = pending.pop() {
            let fail = |e| Error::io("list", &self.path.join(&below), e);
            let entries = match below.as_str() {
                "" => self.dir.entries(),
                below => self.dir.read_dir(below),
            };
            for entry in entries.map_err(fail)? {
                self.take(&entry.map_err(fail)?, &below, &mut listing, &mut pending).map_err(fail)?;
            }
        }
        listing.dirs.sort();
        listing.links.sort_by(|a, b| a.path.cmp(&b.path));
        listing.files.sort_by(|a, b| a.path.cmp(&b.path));
        listing.odd.sort();
        Ok(listing)
    }

    fn take(
        &self,
        entry: &cap_std::fs::DirEntry,
        below: &str,
        listing: &mut Listing,
        pending: &mut Vec<String>,
    ) -> io::Result<()> {
        let name = entry.file_name();
        // What a crash left is not content.
        if durafile::is_remnant(&name) {
            return Ok(());
        }
        let Some(name) = name.to_str() else {
            listing.odd.push((Path::new(below).join(name), "its name is not UTF-8"));
            return Ok(());
        };
        let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        let meta = entry.metadata()?;
        let kind = meta.file_type();
        if kind.is_dir() {
            listing.dirs.push(path.clone());
            pending.push(path);
        } else if kind.is_file() {
            listing.files.push(Found { path, size: meta.len(), executable: meta.mode() & 0o111 != 0 });
        } else if kind.is_symlink() {
            match self.dir.read_link_contents(&path)?.into_os_string().into_string() {
                Ok(target) => listing.links.push(Link { path, target }),
                Err(_) => listing.odd.push((path.into(), "it is a link to a name that is not UTF-8")),
            }
        } else {
            listing.odd.push((path.into(), "it is a FIFO, socket or device"));
        }
        Ok(())
    }

    /// Opens a file of it; no link, and nothing that blocks.
    pub(crate) fn open_file(&self, path: &str) -> Result<fs::File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let opened =
            self.dir.open_with(path, &options).map_err(|e| Error::io("open", &self.path.join(path), e))?;
        Ok(opened.into_std())
    }

    pub(crate) fn identify(&self, path: &str) -> Result<(u64, Identity)> {
        Identity::read(self.open_file(path)?).map_err(|e| Error::io("read", &self.path.join(path), e))
    }

    /// What identifies a file now, and the stamp by which to see that it was changed later.
    pub(crate) fn identify_stamped(&self, path: &str) -> Result<(Stamp, Identity)> {
        let file = self.open_file(path)?;
        let fail = |e| Error::io("read", &self.path.join(path), e);
        let stamp = Stamp::of(&file).map_err(fail)?;
        Ok((stamp, Identity::read(file).map_err(fail)?.1))
    }

    /// So many bytes, or the path if the file is too short.
    pub(crate) fn read(
        &self,
        path: &str,
        offset: u64,
        length: u64,
    ) -> Result<std::result::Result<Bytes, String>> {
        let mut file = self.open_file(path)?;
        let mut content = Vec::with_capacity(length as usize);
        let read =
            file.seek(SeekFrom::Start(offset)).and_then(|_| file.take(length).read_to_end(&mut content));
        read.map_err(|e| Error::io("read", &self.path.join(path), e))?;
        let whole = content.len() as u64 == length;
        Ok(if whole { Ok(content.into()) } else { Err(path.to_owned()) })
    }

    /// Gives a file of it another name, elsewhere.
    pub(crate) fn link_to(&self, path: &str, to: &Path) -> io::Result<()> {
        use rustix::fs::{AtFlags, CWD};
        Ok(rustix::fs::linkat(&self.dir, path, CWD, to, AtFlags::empty())?)
    }
}

fn id_of(dir: &Dir, path: &Path) -> Result<(u64, u64)> {
    let meta = dir.dir_metadata().map_err(|e| Error::io("inspect", path, e))?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(test)]
impl Listing {
    pub(crate) fn of_memory(files: &std::collections::BTreeMap<String, Bytes>) -> Listing {
        let found = |(path, content): (&String, &Bytes)| Found {
            path: path.clone(),
            size: content.len() as u64,
            executable: false,
        };
        Listing { files: files.iter().map(found).collect(), ..Listing::default() }
    }
}
