//! A store whose every request waits until the test says what becomes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

/// What the store holds.
pub(super) type Objects = BTreeMap<String, Bytes>;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Get(String, Option<Range<u64>>),
    Put(String, Bytes),
    Create(String, Bytes),
    Delete(String),
    List(String, Option<String>),
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    Done,
    Content(Bytes, u64),
    Names(Vec<(String, u64)>),
    NotFound,
    Exists,
    /// The answer was lost on its way.
    Lost,
}

impl Op {
    /// Carries it out.
    pub(super) fn apply(&self, objects: &mut Objects) -> Reply {
        match self {
            Op::Get(name, range) => match objects.get(name) {
                None => Reply::NotFound,
                Some(all) => {
                    let range = range.clone().unwrap_or(0..all.len() as u64);
                    let end = range.end.min(all.len() as u64);
                    Reply::Content(all.slice(range.start.min(end) as usize..end as usize), all.len() as u64)
                }
            },
            Op::Create(name, _) if objects.contains_key(name) => Reply::Exists,
            Op::Put(name, content) | Op::Create(name, content) => {
                objects.insert(name.clone(), content.clone());
                Reply::Done
            }
            Op::Delete(name) => {
                objects.remove(name);
                Reply::Done
            }
            Op::List(below, after) => {
                let below = format!("{below}/");
                let listed = objects
                    .iter()
                    .filter(|(name, _)| name.starts_with(&below) && after.as_ref().is_none_or(|a| *name > a));
                Reply::Names(listed.map(|(name, content)| (name.clone(), content.len() as u64)).collect())
            }
        }
    }
}

/// Where one actor's request waits for its answer.
#[derive(Debug, Default)]
pub(super) struct Desk {
    pub(super) pending: Option<Op>,
    answer: Option<Reply>,
    waker: Option<Waker>,
}

impl Desk {
    pub(super) fn answer(&mut self, reply: Reply) {
        self.pending = None;
        self.answer = Some(reply);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One actor's way to the store.
#[derive(Clone, Debug, Default)]
pub(super) struct Scripted(Arc<Mutex<Desk>>);

impl Scripted {
    pub(super) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap()
    }

    async fn ask(&self, op: Op) -> Reply {
        let mut op = Some(op);
        poll_fn(|context| {
            let mut desk = self.desk();
            if let Some(op) = op.take() {
                assert!(desk.pending.is_none(), "an actor has one request at a time");
                desk.pending = Some(op);
            } else if let Some(reply) = desk.answer.take() {
                return Poll::Ready(reply);
            }
            desk.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn lost() -> Error {
    Error::Generic { store: "model", source: "the answer was lost".into() }
}

fn not_found(path: String) -> Error {
    Error::NotFound { path, source: "not there".into() }
}

fn meta(name: &str, size: u64) -> ObjectMeta {
    let last_modified = std::time::SystemTime::UNIX_EPOCH.into();
    ObjectMeta { location: name.into(), last_modified, size, e_tag: None, version: None }
}

impl fmt::Display for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("model")
    }
}

#[async_trait]
impl ObjectStore for Scripted {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (name, content) = (location.to_string(), Bytes::from(payload));
        let op = match options.mode {
            PutMode::Create => Op::Create(name.clone(), content),
            _ => Op::Put(name.clone(), content),
        };
        match self.ask(op).await {
            Reply::Done => Ok(PutResult { e_tag: None, version: None, extensions: Default::default() }),
            Reply::Exists => Err(Error::AlreadyExists { path: name, source: "exists".into() }),
            _ => Err(lost()),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let range = options.range.map(|range| match range {
            GetRange::Bounded(range) => range,
            other => unreachable!("{other}"),
        });
        match self.ask(Op::Get(location.to_string(), range.clone())).await {
            Reply::Content(content, size) => Ok(GetResult {
                meta: meta(location.as_ref(), size),
                range: range.unwrap_or(0..size),
                attributes: Attributes::default(),
                payload: GetResultPayload::Stream(futures_util::stream::iter([Ok(content)]).boxed()),
                extensions: Default::default(),
            }),
            Reply::NotFound => Err(not_found(location.to_string())),
            _ => Err(lost()),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                match store.ask(Op::Delete(location.to_string())).await {
                    Reply::Done => Ok(location),
                    _ => Err(lost()),
                }
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, Some(offset.to_string()))
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("the model has no long files")
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("nothing lists so")
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("nothing is copied")
    }
}

impl Scripted {
    fn listing(
        &self,
        prefix: Option<&Path>,
        after: Option<String>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, below) = (self.clone(), prefix.map(Path::to_string).unwrap_or_default());
        let ask = async move {
            match store.ask(Op::List(below, after)).await {
                Reply::Names(names) => names.into_iter().map(|(name, size)| Ok(meta(&name, size))).collect(),
                _ => vec![Err(lost())],
            }
        };
        futures_util::stream::once(ask).flat_map(futures_util::stream::iter).boxed()
    }
}
