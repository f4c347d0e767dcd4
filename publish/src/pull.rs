//! Pulling: find out what is here, fetch the rest, put it together beside the target, swap it in.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use durafile::{AtomicDir, DirOptions};

use crate::Published;
use crate::cache::Cache;
use crate::error::{Error, ErrorKind, Result};
use crate::fetch::{Fetched, Sink, Wanted, fetch};
use crate::hash::{Hash, Identity};
use crate::lanes::{Lanes, blocking, cancellable};
use crate::local::{Found, Listing, LocalTree, Stamp};
use crate::manifest::{Leaf, Manifest, Tree};
use crate::options::{Common, PullOptions, Pulled};
use crate::place::{Local, Placer};
use crate::upload::Meter;

/// What the target holds now.
#[derive(Default)]
struct Present {
    tree: Option<Arc<LocalTree>>,
    listing: Listing,
    /// The content of those files that may be in the version that is pulled.
    known: HashMap<String, (Stamp, Identity)>,
}

/// The right to write the target, and where to collect what comes.
struct Writing {
    dir: AtomicDir,
    cache: Arc<Cache>,
}

pub(crate) async fn pull(place: &Published, target: &Path, options: &PullOptions) -> Result<Pulled> {
    let common = &options.common;
    let meter = Meter::new(common);
    let mut writing = None;
    loop {
        let resolved = place.bucket.resolve(options.version);
        let (version, manifest) = cancellable(common.cancel.as_ref(), resolved).await??;
        if manifest.bytes() > options.size_limit {
            let text = format!("version {version} is larger than the limit of {} bytes", options.size_limit);
            return Err(Error::new(ErrorKind::Refused, text));
        }
        let mut present = Present::look(target, &manifest, common).await?;
        if present.is(&manifest) {
            if writing.is_none() {
                sweep(target, options).await;
            }
            return Ok(Pulled { version, unchanged: true, fetched: meter.bytes() });
        }
        let held = match writing.take() {
            Some(held) => held,
            None => {
                let held = begin(target, options).await?;
                // Another pull may have been here before the lock was.
                if present.id()? != Present::id_at(target)? {
                    present = Present::look(target, &manifest, common).await?;
                    if present.is(&manifest) {
                        return Ok(Pulled { version, unchanged: true, fetched: 0 });
                    }
                }
                held
            }
        };
        let local = present.by_content();
        let wanted = wanted(&manifest, &local, &held.cache, common).await?;
        let sink = Sink::Cache(held.cache.clone());
        match fetch(&place.bucket, wanted, &sink, &meter, common).await {
            Ok(Fetched::All) => {
                finish(held, present, local, manifest, options).await?;
                return Ok(Pulled { version, unchanged: false, fetched: meter.bytes() });
            }
            Ok(Fetched::Gone(_)) if place.bucket.is_collected(version).await? => {
                // With what is in the cache by now.
                writing = Some(held);
            }
            Ok(Fetched::Gone(path)) => return Err(place.bucket.missing(&path)),
            Err(e) => return Err(give_up(&held, e)),
        }
    }
}

/// What was fetched stays for the next pull, unless the disk is full of it.
fn give_up(held: &Writing, error: Error) -> Error {
    use durafile::ErrorKind::{QuotaExceeded, StorageFull};
    if matches!(error.local(), Some(StorageFull | QuotaExceeded)) {
        held.cache.discard();
    }
    error
}

/// Removes what a pull left that was killed after its commit, or whose version isn't wanted any more. It is another's as long
/// as the target is locked.
async fn sweep(target: &Path, options: &PullOptions) {
    let path = target.to_owned();
    let is_left = move || std::fs::canonicalize(path).is_ok_and(|real| Cache::is_left_beside(&real));
    if options.cache.is_none()
        && blocking(is_left).await
        && let Ok(held) = begin(target, options).await
    {
        held.cache.discard();
    }
}

async fn begin(target: &Path, options: &PullOptions) -> Result<Writing> {
    let (target, chosen) = (target.to_owned(), options.cache.clone());
    let how = DirOptions::new().lock_timeout(options.lock_timeout);
    let how = options.common.cancel.iter().fold(how, |how, token| how.cancel(token));
    blocking(move || {
        let dir = how.create(&target)?;
        let cache = match chosen {
            Some(chosen) => Cache::chosen(&chosen)?,
            None => {
                // A target that is a link leads to another place.
                let real = std::fs::canonicalize(&target).unwrap_or(target);
                let place = dir.staging().parent().map_or_else(PathBuf::new, Path::to_owned);
                Cache::beside(&place, real.file_name().unwrap_or_default())?
            }
        };
        Ok(Writing { dir, cache: Arc::new(cache) })
    })
    .await
}

async fn finish(
    held: Writing,
    present: Present,
    local: HashMap<Hash, Local>,
    manifest: Manifest,
    options: &PullOptions,
) -> Result<()> {
    let (writable, cancel) = (options.writable, options.common.cancel.clone());
    blocking(move || {
        let Writing { dir, cache } = &held;
        let stage = dir.staging().to_owned();
        let placer =
            Placer { stage, cache: cache.clone(), present: present.tree.clone(), local, writable, cancel };
        placer.place(&manifest).map_err(|e| give_up(&held, e))?;
        // So that the commit itself may delete the old version.
        drop((placer, present));
        let Writing { dir, cache } = held;
        dir.commit()?;
        cache.discard();
        Ok(())
    })
    .await
}

/// What must be fetched, once for each content.
async fn wanted(
    manifest: &Manifest,
    local: &HashMap<Hash, Local>,
    cache: &Arc<Cache>,
    common: &Common,
) -> Result<Vec<Wanted>> {
    let mut seen = HashSet::new();
    let mut lanes = Lanes::new(common.lanes, common.cancel.as_ref());
    for file in &manifest.files {
        if local.contains_key(&file.hash) || !seen.insert(file.hash) {
            continue;
        }
        // An empty file has no place, and needs none.
        let Some(at) = manifest.location(file) else { continue };
        let one = Wanted { hash: file.hash, size: file.size, parts: file.parts.clone(), at };
        let cache = cache.clone();
        lanes.room().await?;
        lanes.push(blocking(move || Ok(if cache.has(&one.hash, one.size)? { None } else { Some(one) })));
    }
    Ok(lanes.finish().await?.into_iter().flatten().collect())
}

impl Present {
    /// Hashes what may be of use: files with a size that one in the manifest has.
    async fn look(target: &Path, manifest: &Manifest, common: &Common) -> Result<Present> {
        let path = target.to_owned();
        let opened = blocking(move || {
            let Some(tree) = LocalTree::open_if_any(&path)? else { return Ok::<_, Error>(None) };
            let listing = tree.list()?;
            Ok(Some((Arc::new(tree), listing)))
        });
        let Some((tree, listing)) = opened.await? else { return Ok(Present::default()) };
        let sizes: HashSet<u64> = manifest.files.iter().map(|file| file.size).collect();
        let mut lanes = Lanes::new(common.lanes, common.cancel.as_ref());
        for file in listing.files.iter().filter(|file| sizes.contains(&file.size)) {
            let (tree, path) = (tree.clone(), file.path.clone());
            lanes.room().await?;
            lanes.push(blocking(move || {
                let found = tree.identify_stamped(&path)?;
                Ok((path, found))
            }));
        }
        let known = lanes.finish().await?.into_iter().collect();
        Ok(Present { tree: Some(tree), listing, known })
    }

    fn id(&self) -> Result<Option<(u64, u64)>> {
        self.tree.as_ref().map(|tree| tree.id()).transpose()
    }

    fn id_at(target: &Path) -> Result<Option<(u64, u64)>> {
        LocalTree::open_if_any(target)?.map(|tree| tree.id()).transpose()
    }

    /// Is it exactly that version?
    fn is(&self, manifest: &Manifest) -> bool {
        self.tree.is_some()
            && self.listing.odd.is_empty()
            && self.as_tree().is_some_and(|tree| manifest.holds(&tree))
    }

    fn as_tree(&self) -> Option<Tree> {
        let leaf = |file: &Found| {
            let identity = self.known.get(&file.path)?.1.clone();
            Some(Leaf { path: file.path.clone(), size: file.size, identity, executable: file.executable })
        };
        let files = self.listing.files.iter().map(leaf).collect::<Option<_>>()?;
        Some(Tree { dirs: self.listing.dirs.clone(), links: self.listing.links.clone(), files })
    }

    fn by_content(&self) -> HashMap<Hash, Local> {
        let local = |(path, (stamp, identity)): (&String, &(Stamp, Identity))| {
            (identity.hash, Local { path: path.clone(), stamp: *stamp })
        };
        self.known.iter().map(local).collect()
    }
}
