//! What is published: one version of a local directory.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::hash::{Hash, Identity};
use crate::lanes::blocking;
use crate::local::{Listing, LocalTree};
use crate::paths::Names;

/// Where content comes from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    Dir(Arc<LocalTree>),
    /// For the model test, in which nothing but the store may take time.
    #[cfg(test)]
    Memory(Arc<std::collections::BTreeMap<String, Bytes>>),
}

impl Source {
    pub(crate) async fn open(dir: &Path) -> Result<Source> {
        let dir = dir.to_owned();
        Ok(Source::Dir(Arc::new(blocking(move || LocalTree::open(&dir)).await?)))
    }

    /// All entries, none of which is refused.
    pub(crate) async fn list(&self) -> Result<Listing> {
        let listing = match self {
            Source::Dir(tree) => {
                let tree = tree.clone();
                blocking(move || tree.list()).await?
            }
            #[cfg(test)]
            Source::Memory(files) => Listing::of_memory(files),
        };
        if let Some((path, why)) = listing.odd.first() {
            return Err(Error::refused(path, why));
        }
        check_names(&listing).map_err(|(path, why)| Error::refused(path, why))?;
        Ok(listing)
    }

    /// Reads a file for what identifies it. It must still have the length that it was listed with.
    pub(crate) async fn identify(&self, path: &str, size: u64) -> Result<Identity> {
        let (length, identity) = match self {
            Source::Dir(tree) => {
                let (tree, path) = (tree.clone(), path.to_owned());
                blocking(move || tree.identify(&path)).await?
            }
            #[cfg(test)]
            Source::Memory(files) => (files[path].len() as u64, Identity::of(&files[path])),
        };
        if length == size { Ok(identity) } else { Err(changed(path)) }
    }

    /// So many bytes of a file, and their hash.
    pub(crate) async fn read(&self, path: &str, offset: u64, length: u64) -> Result<(Bytes, Hash)> {
        match self {
            Source::Dir(tree) => {
                let (tree, path) = (tree.clone(), path.to_owned());
                let read =
                    blocking(move || tree.read(&path, offset, length).map(|bytes| bytes.map(hashed))).await?;
                read.map_err(|path| changed(&path))
            }
            #[cfg(test)]
            Source::Memory(files) => {
                Ok(hashed(files[path].slice(offset as usize..(offset + length) as usize)))
            }
        }
    }
}

fn hashed(bytes: Bytes) -> (Bytes, Hash) {
    let hash = Hash::of(&bytes);
    (bytes, hash)
}

fn changed(path: &str) -> Error {
    let cause = std::io::Error::other("its length changed while it was read");
    Error::io("read", Path::new(path), cause)
}

fn check_names(listing: &Listing) -> std::result::Result<(), (&str, &'static str)> {
    let mut names = Names::default();
    listing.dirs.iter().try_for_each(|path| names.add_dir(path))?;
    listing.links.iter().try_for_each(|link| names.add_link(&link.path, &link.target))?;
    listing.files.iter().try_for_each(|file| names.add_file(&file.path))?;
    names.finish()
}
