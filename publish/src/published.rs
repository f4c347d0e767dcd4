//! The public handle.

use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;

use crate::ambient::Ambient;
use crate::bucket::Bucket;
use crate::check_store::{self, StoreCheck};
use crate::error::Result;
use crate::keys::Layout;
use crate::lanes::Lanes;
use crate::options::{
    CollectOptions, Collected, LANES, Publication, PublishOptions, PullOptions, Pulled, Version,
};
use crate::publish::Job;
use crate::source::Source;
use crate::{collect, pull};

/// One directory's published versions, below a prefix of a store.
///
/// Cheap to clone; all methods may be called at the same time, from any number of processes.
#[derive(Clone, Debug)]
pub struct Published {
    pub(crate) bucket: Bucket,
    pub(crate) ambient: Ambient,
    #[cfg(test)]
    pub(crate) flaw: Option<crate::flaw::Flaw>,
}

impl Published {
    /// Versions of one directory live below one prefix; nothing else may be there. Makes no request.
    ///
    /// How often requests are repeated, and how long each may take, is the store's own configuration.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: impl Into<object_store::path::Path>) -> Published {
        let bucket = Bucket { store, layout: Layout::new(prefix.into()) };
        Published {
            bucket,
            ambient: Ambient::real(),
            #[cfg(test)]
            flaw: None,
        }
    }

    /// The newest version, if anything was published. Three requests, usually.
    ///
    /// # Errors
    ///
    /// [`Store`](crate::ErrorKind::Store); [`Corrupt`](crate::ErrorKind::Corrupt) if a record can't be understood.
    pub async fn latest(&self) -> Result<Option<Version>> {
        Ok(Version::of(&self.bucket.newest().await?))
    }

    /// All versions that are kept, the oldest first. One request for each, and for each record that collected since.
    ///
    /// # Errors
    ///
    /// As [`latest`](Published::latest).
    pub async fn versions(&self) -> Result<Vec<Version>> {
        let newest = self.bucket.newest().await?;
        let mut lanes = Lanes::new(LANES, None);
        for seq in newest.floor.max(1)..=newest.version {
            lanes.room().await?;
            lanes.push(async move { self.bucket.record(seq).await });
        }
        let records = lanes.finish().await?.into_iter().flatten().map(|(record, _)| record);
        let mut versions: Vec<Version> =
            records.filter(|r| r.publishes()).filter_map(|r| Version::of(&r)).collect();
        versions.sort_by_key(|version| version.number);
        Ok(versions)
    }

    /// Publishes what a directory holds now as the newest version: one version of it, if it is written by
    /// [`AtomicDir`](durafile::AtomicDir).
    ///
    /// Content that the newest version holds is shared with it, not uploaded. If the newest version is exactly this already, nothing
    /// is published. If others publish meanwhile, it begins again from what they published, unless a
    /// [version is expected](PublishOptions::expect).
    ///
    /// Files, empty directories, executable bits and symbolic links that stay inside are kept; other modes, owners, times and
    /// extended attributes are not.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict); [`Refused`](crate::ErrorKind::Refused) for a link that leads out, a FIFO, socket or
    /// device, a name that is not UTF-8; [`Unknown`](crate::ErrorKind::Unknown) if the commit was sent and nobody can
    /// say what became of it; `Store`, `Local`, `Corrupt` (the newest version's manifest), `Cancelled`. After all but `Unknown` nothing was published.
    pub async fn publish(&self, dir: impl AsRef<Path>, options: &PublishOptions) -> Result<Publication> {
        let source = Source::open(dir.as_ref()).await?;
        Job::new(self, &source, options).await?.run().await
    }

    /// Makes a directory what a version is, at once, as a commit of [`AtomicDir`](durafile::AtomicDir): readers that use
    /// [`DirSnapshot`](durafile::DirSnapshot) see the whole old or the whole new version at every instant. Anything else that is
    /// in the directory goes.
    ///
    /// What the directory, or the cache, holds already is not fetched; everything is verified by its hash, whatever it comes
    /// from. If the directory is exactly that version already, it is not touched. A pull that was interrupted is resumed by the next, which
    /// also removes what it left beside the directory.
    /// If the version is collected meanwhile, the pull goes on with the newest one, unless [a version was asked
    /// for](PullOptions::version).
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound); [`Corrupt`](crate::ErrorKind::Corrupt), naming the object;
    /// [`Local`](crate::ErrorKind::Local) for this machine's, such as a full disk or another pull of the same target at the same time;
    /// `Store`, `Refused` (over the size limit), `Cancelled`. The directory is as it was, unless
    /// [`Error::local`](crate::Error::local) is what [`AtomicDir::commit`](durafile::AtomicDir::commit) says after the swap.
    pub async fn pull(&self, target: impl AsRef<Path>, options: &PullOptions) -> Result<Pulled> {
        pull::pull(self, target.as_ref(), options).await
    }

    /// Deletes what no kept version needs. Publishers, readers and other collectors may be at work.
    ///
    /// Before anything is deleted, a record says what: publishers whose uploads are among it begin again, readers go on with
    /// a newer version. Records themselves, a few hundred bytes each, are kept for ever: one that was deleted could be
    /// created again. Uploads of long files that were killed halfway are invisible here; give the bucket a rule that
    /// aborts unfinished multipart uploads.
    ///
    /// # Errors
    ///
    /// `Store`, `Unknown`, `Corrupt`, `Cancelled`; [`Conflict`](crate::ErrorKind::Conflict) if others commit so fast that it never
    /// comes to it. What was not deleted is deleted by the next one.
    pub async fn collect(&self, options: &CollectOptions) -> Result<Collected> {
        collect::collect(self, options).await
    }

    /// Tries out, with objects of its own that it deletes again, whether the store keeps the promises that everything else
    /// rests on: that of many who create one object at the same time exactly one is told that he did, and that what was
    /// written is read and listed. For once, before a store is used; some 150 requests.
    ///
    /// Races are chances: that none went wrong proves nothing, but a store without atomic creation loses most of them.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) says what it does not keep; `Store`.
    pub async fn check_store(&self) -> Result<StoreCheck> {
        check_store::check_store(self).await
    }
}
