//! Publishing: share what the newest version holds, upload the rest, commit; begin again from what others committed meanwhile.
//!
//! Why a committed version is whole, whatever a collector does at the same time:
//!
//! - Its own objects: a collector deletes those of a session that has no version yet only after a record that names the session, and
//!   no session commits after such a record, because every record since its base was read.
//! - Its shared objects are in the version right before it. A collector keeps what the newest version holds by the records that it
//!   has seen. Each later version consists of what the one before it holds and of its own session's objects, and that session
//!   had no version when the collector looked.

use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::DataKey;
use crate::lanes::{cancellable, check};
use crate::manifest::{MAX_MANIFEST, Manifest};
use crate::options::{Publication, PublishOptions};
use crate::record::{ManifestRef, Record};
use crate::source::Source;
use crate::upload::{Identities, Meter, Uploader, identify};
use crate::{Published, commit::Outcome, flawed, keys::Session, local::Listing};

/// One publish.
pub(crate) struct Job<'a> {
    place: &'a Published,
    source: &'a Source,
    options: &'a PublishOptions,
    listing: Listing,
    known: Identities,
    rebased: u32,
}

/// How a session ends.
enum End {
    Published(Publication),
    /// Collected: everything must be uploaded again, by another session, on top of this.
    Fenced(Record),
}

impl<'a> Job<'a> {
    pub(crate) async fn new(
        place: &'a Published,
        source: &'a Source,
        options: &'a PublishOptions,
    ) -> Result<Job<'a>> {
        let listing = source.list().await?;
        let known = vec![None; listing.files.len()];
        Ok(Job { place, source, options, listing, known, rebased: 0 })
    }

    fn bucket(&self) -> &'a Bucket {
        &self.place.bucket
    }

    pub(crate) async fn run(&mut self) -> Result<Publication> {
        let common = &self.options.common;
        let meter = Meter::new(common);
        let mut base = cancellable(common.cancel.as_ref(), self.bucket().newest()).await??;
        loop {
            self.check_expectation(&base)?;
            let session = self.place.ambient.session()?;
            let mut uploader = Uploader::new(self.bucket(), self.source, &meter, common, session);
            match self.session(&mut uploader, base).await? {
                End::Published(done) => return Ok(Publication { uploaded: meter.bytes(), ..done }),
                End::Fenced(newest) => base = newest,
            }
        }
    }

    async fn session(&mut self, uploader: &mut Uploader<'_>, mut base: Record) -> Result<End> {
        loop {
            let token = self.options.common.cancel.as_ref();
            check(token)?;
            let held = cancellable(token, self.held_by(&base)).await??;
            // Without: the version was collected, for there is a newer one.
            if let Some(held) = held {
                identify(self.source, &self.listing, &held, &self.options.common, &mut self.known).await?;
                let (tree, manifest) = uploader.complete(&self.listing, &held, &mut self.known).await?;
                if base.version > 0 && held.holds(&tree) {
                    return Ok(End::Published(self.publication(base.version, true)));
                }
                let written = self.write_manifest(&manifest, uploader.session(), &base);
                let manifest = cancellable(token, written).await??;
                check(token)?;
                let record = base.publish(uploader.session(), manifest);
                if let Outcome::Mine = self.bucket().commit(&record, &self.place.ambient).await? {
                    self.bucket().leave_hint(record.seq).await;
                    return Ok(End::Published(self.publication(record.seq, false)));
                }
            }
            let since = cancellable(token, self.bucket().after(base.seq)).await??;
            let Some(newest) = since.last().cloned() else {
                let path = self.bucket().layout.record(base.seq + 1);
                return Err(Error::corrupt(path.to_string(), "it was there, and is gone"));
            };
            self.rebased += 1;
            self.check_expectation(&newest)?;
            if is_fenced(self.place, uploader.session(), &since) {
                return Ok(End::Fenced(newest));
            }
            base = newest;
        }
    }

    fn publication(&self, version: u64, unchanged: bool) -> Publication {
        Publication { version, unchanged, uploaded: 0, rebased: self.rebased }
    }

    fn check_expectation(&self, newest: &Record) -> Result<()> {
        match self.options.expect {
            Some(expected) if expected != newest.version => {
                let text = format!("version {expected} was expected, and {} is the newest", newest.version);
                Err(Error::new(ErrorKind::Conflict, text))
            }
            _ => Ok(()),
        }
    }

    /// What the version holds; nothing if it was collected, since it is not the newest any more.
    async fn held_by(&self, base: &Record) -> Result<Option<Manifest>> {
        let Some(from) = &base.manifest else { return Ok(Some(Manifest::empty())) };
        match self.bucket().manifest(from).await? {
            None if self.bucket().record(base.seq + 1).await?.is_none() => {
                Err(self.bucket().missing(&self.bucket().layout.data(&from.key)))
            }
            found => Ok(found),
        }
    }

    async fn write_manifest(
        &self,
        manifest: &Manifest,
        session: &Session,
        base: &Record,
    ) -> Result<ManifestRef> {
        let content = manifest.to_bytes();
        if content.len() as u64 > MAX_MANIFEST {
            return Err(Error::new(ErrorKind::Refused, "the directory has too many files to be published"));
        }
        let key = DataKey::manifest(session, base.seq);
        let (hash, size) = (crate::hash::Hash::of(&content), content.len() as u64);
        let (files, bytes, published) =
            (manifest.files.len() as u64, manifest.bytes(), self.place.ambient.seconds());
        self.bucket().write(&self.bucket().layout.data(&key), content.into()).await?;
        Ok(ManifestRef { key, hash, size, files, bytes, published })
    }
}

/// Does any record since the base collect the session? Not only the newest one: others may have published since.
fn is_fenced(place: &Published, session: &Session, since: &[Record]) -> bool {
    let asked = if flawed!(place, FenceInNewestOnly) { &since[since.len() - 1..] } else { since };
    asked.iter().any(|record| record.collects.contains(session))
}
