//! Uploading what the base version doesn't hold.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload};

use crate::bucket::Bucket;
use crate::error::{Error, Result};
use crate::hash::{Hash, Identity, PART};
use crate::keys::{DataKey, Session};
use crate::lanes::{Lanes, check};
use crate::local::{Found, Listing};
use crate::manifest::{Leaf, Location, Manifest, Tree};
use crate::options::{Common, Progress};
use crate::source::Source;

/// Files up to this size travel together.
const SMALL: u64 = 1 << 20;

/// As many as fit into one request.
const PACK: usize = PART as usize;

/// S3 takes no more parts of one object.
const MAX_PARTS: u64 = 10_000;

/// Counts what is transferred, and tells.
#[derive(Debug)]
pub(crate) struct Meter<'a> {
    common: &'a Common,
    bytes: AtomicU64,
    total: AtomicU64,
}

impl<'a> Meter<'a> {
    pub(crate) fn new(common: &'a Common) -> Meter<'a> {
        Meter { common, bytes: AtomicU64::new(0), total: AtomicU64::new(0) }
    }

    pub(crate) fn expect(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }

    pub(crate) fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }

    /// So much less than was expected.
    pub(crate) fn skip(&self, bytes: u64) {
        self.total.fetch_sub(bytes, Ordering::Relaxed);
        self.tell();
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn tell(&self) {
        if let Some(call) = &self.common.progress {
            call(Progress { bytes: self.bytes(), total: self.total.load(Ordering::Relaxed) });
        }
    }
}

/// What is known of a file's content: it stays true whatever others publish.
pub(crate) type Identities = Vec<Option<Identity>>;

/// Hashes the files that may be in the base version: those whose size one of its files has.
pub(crate) async fn identify(
    source: &Source,
    listing: &Listing,
    base: &Manifest,
    common: &Common,
    known: &mut Identities,
) -> Result<()> {
    let sizes: HashSet<u64> = base.files.iter().map(|file| file.size).collect();
    let mut lanes = Lanes::new(common.lanes, common.cancel.as_ref());
    for (number, file) in listing.files.iter().enumerate() {
        if known[number].is_none() && sizes.contains(&file.size) {
            lanes.room().await?;
            lanes.push(async move { Ok((number, source.identify(&file.path, file.size).await?)) });
        }
    }
    for (number, identity) in lanes.finish().await? {
        known[number] = Some(identity);
    }
    Ok(())
}

/// The uploads of one session.
pub(crate) struct Uploader<'a> {
    bucket: &'a Bucket,
    source: &'a Source,
    meter: &'a Meter<'a>,
    common: &'a Common,
    session: Session,
    /// The number of the next object.
    next: u64,
    /// What this session has uploaded.
    own: HashMap<Hash, Location>,
}

/// Small files on their way into one object.
struct Pack {
    key: DataKey,
    content: Vec<u8>,
}

impl<'a> Uploader<'a> {
    pub(crate) fn new(
        bucket: &'a Bucket,
        source: &'a Source,
        meter: &'a Meter<'a>,
        common: &'a Common,
        session: Session,
    ) -> Uploader<'a> {
        Uploader { bucket, source, meter, common, session, next: 0, own: HashMap::new() }
    }

    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// Uploads what neither the base nor this session holds, and says where everything is.
    pub(crate) async fn complete(
        &mut self,
        listing: &Listing,
        base: &Manifest,
        known: &mut Identities,
    ) -> Result<(Tree, Manifest)> {
        let shared = base.locations();
        let mut lanes = Lanes::new(self.common.lanes, self.common.cancel.as_ref());
        let mut pack = None;
        for (file, identity) in listing.files.iter().zip(known.iter_mut()) {
            check(self.common.cancel.as_ref())?;
            if identity.as_ref().is_some_and(|id| self.holds(&shared, file, id)) {
                continue;
            }
            *identity = Some(match file.size {
                0 => Identity::of(b""),
                size if size <= SMALL => self.small(file, &shared, &mut lanes, &mut pack).await?,
                size if size <= PART => self.single(file, &shared, &mut lanes).await?,
                _ => self.long(file, &mut lanes).await?,
            });
        }
        self.send(pack.take(), &mut lanes).await?;
        lanes.finish().await?;
        let tree = tree(listing, known);
        let manifest = Manifest::new(tree.clone(), |hash| shared.get(hash).or_else(|| self.own.get(hash)));
        Ok((tree, manifest))
    }

    fn holds(&self, shared: &HashMap<Hash, Location>, file: &Found, identity: &Identity) -> bool {
        file.size == 0 || shared.contains_key(&identity.hash) || self.own.contains_key(&identity.hash)
    }

    fn key(&mut self) -> DataKey {
        self.next += 1;
        DataKey::content(&self.session, self.next - 1)
    }

    async fn small(
        &mut self,
        file: &Found,
        shared: &HashMap<Hash, Location>,
        lanes: &mut Lanes<'a, ()>,
        pack: &mut Option<Pack>,
    ) -> Result<Identity> {
        let (bytes, hash) = lanes.during(self.source.read(&file.path, 0, file.size)).await?;
        let identity = Identity { hash, parts: Vec::new() };
        if self.holds(shared, file, &identity) {
            return Ok(identity);
        }
        if pack.as_ref().is_some_and(|pack| pack.content.len() + bytes.len() > PACK) {
            self.send(pack.take(), lanes).await?;
        }
        let pack = pack.get_or_insert_with(|| Pack { key: self.key(), content: Vec::new() });
        self.own.insert(hash, Location { key: pack.key.clone(), offset: pack.content.len() as u64 });
        pack.content.extend_from_slice(&bytes);
        Ok(identity)
    }

    async fn single(
        &mut self,
        file: &Found,
        shared: &HashMap<Hash, Location>,
        lanes: &mut Lanes<'a, ()>,
    ) -> Result<Identity> {
        lanes.room().await?;
        let (content, hash) = lanes.during(self.source.read(&file.path, 0, file.size)).await?;
        let identity = Identity { hash, parts: Vec::new() };
        if !self.holds(shared, file, &identity) {
            let key = self.key();
            self.own.insert(hash, Location { key: key.clone(), offset: 0 });
            self.put(key, content, lanes);
        }
        Ok(identity)
    }

    async fn send(&self, pack: Option<Pack>, lanes: &mut Lanes<'a, ()>) -> Result<()> {
        if let Some(Pack { key, content }) = pack {
            lanes.room().await?;
            self.put(key, content.into(), lanes);
        }
        Ok(())
    }

    fn put(&self, key: DataKey, content: Bytes, lanes: &mut Lanes<'a, ()>) {
        let (bucket, meter, size) = (self.bucket, self.meter, content.len() as u64);
        meter.expect(size);
        lanes.push(async move {
            bucket.write(&bucket.layout.data(&key), content).await?;
            meter.add(size);
            Ok(())
        });
    }

    /// A file that is uploaded, and hashed, part by part.
    async fn long(&mut self, file: &Found, lanes: &mut Lanes<'a, ()>) -> Result<Identity> {
        let key = self.key();
        let path = self.bucket.layout.data(&key);
        let fail = |e| Error::store("write", &path, e);
        let mut upload = self.bucket.store.put_multipart(&path).await.map_err(fail)?;
        self.meter.expect(file.size);
        let sent = match self.parts(file, &mut *upload, &path, lanes).await {
            Ok(hashes) => upload.complete().await.map(|_| hashes).map_err(fail),
            Err(e) => Err(e),
        };
        match sent {
            Ok(hashes) => {
                let identity = Identity::of_parts(hashes);
                self.own.insert(identity.hash, Location { key, offset: 0 });
                Ok(identity)
            }
            Err(e) => {
                // What stays of it is for the store's rules about unfinished uploads.
                let _ = upload.abort().await;
                Err(e)
            }
        }
    }

    async fn parts(
        &self,
        file: &Found,
        upload: &mut dyn object_store::MultipartUpload,
        path: &object_store::path::Path,
        lanes: &mut Lanes<'a, ()>,
    ) -> Result<Vec<Hash>> {
        let (meter, step) = (self.meter, upload_part(file.size));
        let mut hashes = Vec::new();
        for begin in (0..file.size).step_by(step as usize) {
            let end = (begin + step).min(file.size);
            lanes.room().await?;
            let mut pieces = Vec::new();
            for offset in (begin..end).step_by(PART as usize) {
                let length = PART.min(end - offset);
                let (bytes, hash) = lanes.during(self.source.read(&file.path, offset, length)).await?;
                pieces.push(bytes);
                hashes.push(hash);
            }
            let (path, part) = (path.clone(), upload.put_part(PutPayload::from_iter(pieces)));
            lanes.push(async move {
                part.await.map_err(|e| Error::store("write", &path, e))?;
                meter.add(end - begin);
                Ok(())
            });
        }
        lanes.finish().await?;
        Ok(hashes)
    }
}

/// One part, unless that made too many.
fn upload_part(size: u64) -> u64 {
    PART * size.div_ceil(PART * MAX_PARTS).max(1)
}

fn tree(listing: &Listing, known: &Identities) -> Tree {
    let leaf = |(file, identity): (&Found, &Option<Identity>)| {
        let identity = identity.clone()?;
        Some(Leaf { path: file.path.clone(), size: file.size, identity, executable: file.executable })
    };
    let files = listing.files.iter().zip(known).filter_map(leaf).collect();
    Tree { dirs: listing.dirs.clone(), links: listing.links.clone(), files }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_upload_has_too_many_parts() {
        assert_eq!(upload_part(16 << 30), PART);
        for size in [1u64, 80 << 30, 100 << 30, 5 << 40] {
            assert!(size.div_ceil(upload_part(size)) <= MAX_PARTS);
            assert_eq!(upload_part(size) % PART, 0);
        }
    }
}
