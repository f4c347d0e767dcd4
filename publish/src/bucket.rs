//! The store as the protocol needs it: a handful of requests, with what their errors mean.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode};

use crate::error::{Error, ErrorKind, Result};
use crate::hash::Hash;
use crate::keys::Layout;
use crate::manifest::{MAX_MANIFEST, Manifest};
use crate::record::{MAX_RECORD, ManifestRef, Record};

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) layout: Layout,
}

/// A small object, and when the store took it.
#[derive(Debug)]
pub(crate) struct Small {
    pub(crate) bytes: Bytes,
    pub(crate) meta: ObjectMeta,
}

impl Bucket {
    /// A whole object, if it is there. One that is longer than the limit is not valid, and is not read.
    pub(crate) async fn read(&self, path: &Path, limit: u64) -> Result<Option<Small>> {
        match self.try_read(path, limit).await {
            Ok(None) => {
                Err(Error::corrupt(path.to_string(), format_args!("it is longer than {limit} bytes")))
            }
            Ok(Some(small)) => Ok(Some(small)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::store("read", path, e)),
        }
    }

    /// The same with the store's own errors; too long is `None`.
    pub(crate) async fn try_read(&self, path: &Path, limit: u64) -> object_store::Result<Option<Small>> {
        let result = self.store.get_opts(path, GetOptions::default()).await?;
        if result.meta.size > limit {
            return Ok(None);
        }
        let meta = result.meta.clone();
        Ok(Some(Small { bytes: result.bytes().await?, meta }))
    }

    /// A part of an object, if the object is there.
    pub(crate) async fn read_range(&self, path: &Path, range: Range<u64>) -> Result<Option<Bytes>> {
        match self.store.get_range(path, range.clone()).await {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(Some(bytes)),
            Ok(_) => Err(Error::corrupt(path.to_string(), "it is shorter than its manifest says")),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(Error::store("read", path, e)),
        }
    }

    /// Writes an object that nobody else writes.
    pub(crate) async fn write(&self, path: &Path, bytes: Bytes) -> Result<()> {
        self.store.put(path, bytes.into()).await.map(drop).map_err(|e| Error::store("write", path, e))
    }

    /// Writes an object unless there is one: what every guarantee rests on. The error alone doesn't say whether it was written.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> object_store::Result<()> {
        self.store.put_opts(path, bytes.into(), PutMode::Create.into()).await.map(drop)
    }

    /// Everything below, by name where the store sorts.
    pub(crate) async fn list(&self, below: &Path, after: Option<&Path>) -> Result<Vec<ObjectMeta>> {
        let stream = match after {
            Some(after) => self.store.list_with_offset(Some(below), after),
            None => self.store.list(Some(below)),
        };
        stream.try_collect().await.map_err(|e| Error::store("list", below, e))
    }

    /// Deletes what is there of these; how many. One that isn't there any more is no error.
    pub(crate) async fn delete(&self, paths: Vec<Path>) -> Result<u64> {
        let first = paths.first().cloned().unwrap_or_default();
        let locations = futures_util::stream::iter(paths.into_iter().map(Ok)).boxed();
        let mut deleted = 0;
        let mut results = self.store.delete_stream(locations);
        while let Some(result) = results.next().await {
            match result {
                Ok(_) => deleted += 1,
                Err(object_store::Error::NotFound { .. }) => {}
                Err(e) => return Err(Error::store("delete", &first, e)),
            }
        }
        Ok(deleted)
    }

    /// A record, if it is there.
    pub(crate) async fn record(&self, seq: u64) -> Result<Option<(Record, ObjectMeta)>> {
        let path = self.layout.record(seq);
        let Some(small) = self.read(&path, MAX_RECORD).await? else { return Ok(None) };
        let record = Record::parse(seq, &small.bytes).map_err(|why| Error::corrupt(path.to_string(), why))?;
        Ok(Some((record, small.meta)))
    }

    /// A manifest, if it is there. It is what its record says, and valid.
    pub(crate) async fn manifest(&self, from: &ManifestRef) -> Result<Option<Manifest>> {
        let path = self.layout.data(&from.key);
        if from.size > MAX_MANIFEST {
            return Err(Error::corrupt(
                path.to_string(),
                format_args!("it is longer than {MAX_MANIFEST} bytes"),
            ));
        }
        let Some(small) = self.read(&path, from.size).await? else { return Ok(None) };
        if Hash::of(&small.bytes) != from.hash {
            return Err(Error::corrupt(path.to_string(), "it doesn't match the hash in its record"));
        }
        Manifest::parse(&small.bytes).map(Some).map_err(|why| Error::corrupt(path.to_string(), why))
    }

    /// What a version that nobody collected must have, and does not.
    pub(crate) fn missing(&self, path: &Path) -> Error {
        Error::corrupt(path.to_string(), "it is missing, though nobody collected it")
    }
}

/// The error of a version that is not there.
pub(crate) fn no_such_version(number: u64, newest: &Record) -> Error {
    let why = if number < newest.floor { "was collected" } else { "was never published" };
    Error::new(ErrorKind::NotFound, format!("version {number} {why}"))
}
