//! A store with something in between: it counts requests, and does to them what a test wants.
#![allow(dead_code, reason = "each of the programs that include it needs a part")]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use durafile_publish::object_store::path::Path;
use durafile_publish::object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use futures_util::stream::{BoxStream, StreamExt};

/// What happens to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Fine,
    /// Three of ten creations are carried out, and their answers lost; every other of those as "exists", as clients say after
    /// repeating a request.
    LosesAnswers,
    /// Creating overwrites.
    BrokenCreate,
    /// Nobody may do anything.
    Refuses,
    /// No request succeeds after so many.
    GoesAway(u64),
}

#[derive(Debug)]
pub(crate) struct Wrapped {
    inner: Arc<dyn ObjectStore>,
    mood: Mood,
    requests: AtomicU64,
    /// Bytes of content that were returned.
    returned: AtomicU64,
}

impl Wrapped {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>, mood: Mood) -> Arc<Wrapped> {
        Arc::new(Wrapped { inner, mood, requests: AtomicU64::new(0), returned: AtomicU64::new(0) })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn returned(&self) -> u64 {
        self.returned.load(Ordering::SeqCst)
    }

    fn count(&self) -> Result<u64> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        match self.mood {
            Mood::Refuses => Err(Error::PermissionDenied { path: String::new(), source: "no".into() }),
            Mood::GoesAway(after) if number >= after => Err(gone()),
            _ => Ok(number),
        }
    }
}

fn gone() -> Error {
    Error::Generic { store: "wrapped", source: "connection refused".into() }
}

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.inner, self.mood)
    }
}

#[async_trait]
impl ObjectStore for Wrapped {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut options: PutOptions,
    ) -> Result<PutResult> {
        let number = self.count()?;
        let creates = options.mode == PutMode::Create;
        if creates && self.mood == Mood::BrokenCreate {
            // As a server that looks first and writes then.
            let exists = self.inner.get_opts(location, GetOptions::new().with_head(true)).await.is_ok();
            tokio::task::yield_now().await;
            if !exists {
                options.mode = PutMode::Overwrite;
            }
        }
        let done = self.inner.put_opts(location, payload, options).await?;
        match self.mood {
            Mood::LosesAnswers if creates && number % 10 < 3 && number % 2 == 0 => Err(gone()),
            Mood::LosesAnswers if creates && number % 10 < 3 => {
                Err(Error::AlreadyExists { path: location.to_string(), source: "by a repetition".into() })
            }
            _ => Ok(done),
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.count()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.count()?;
        let result = self.inner.get_opts(location, options).await?;
        self.returned.fetch_add(result.range.end - result.range.start, Ordering::SeqCst);
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.count() {
            Ok(_) => self.inner.delete_stream(locations),
            Err(e) => futures_util::stream::iter([Err(e)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.count() {
            Ok(_) => self.inner.list(prefix),
            Err(e) => futures_util::stream::iter([Err(e)]).boxed(),
        }
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.count() {
            Ok(_) => self.inner.list_with_offset(prefix, offset),
            Err(e) => futures_util::stream::iter([Err(e)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.count()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.count()?;
        self.inner.copy_opts(from, to, options).await
    }
}
