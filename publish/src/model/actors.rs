//! Who takes part: the shipped code, with nothing between it and the scheduled store.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use object_store::ObjectStoreExt;

use super::store::Scripted;
use crate::ambient::Ambient;
use crate::error::{Error, Result};
use crate::fetch::{Fetched, Sink, Wanted, fetch};
use crate::flaw::Flaw;
use crate::hash::Hash;
use crate::keys::{Layout, Session};
use crate::options::{CollectOptions, Collected, Common, Publication, PublishOptions};
use crate::publish::Job;
use crate::source::Source;
use crate::upload::Meter;
use crate::{Published, bucket::Bucket, collect};

/// A version's files.
pub(super) type Files = BTreeMap<String, Bytes>;

pub(super) fn files(all: &[(&str, &str)]) -> Files {
    all.iter().map(|&(path, content)| (path.to_owned(), Bytes::copy_from_slice(content.as_bytes()))).collect()
}

/// What an actor does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Role {
    Publish {
        files: Files,
        expect: Option<u64>,
    },
    Collect {
        keep: u64,
    },
    /// Known to be wrong: deletes old records too.
    CollectRecords,
    Read,
}

/// How it ends.
#[derive(Debug)]
pub(super) enum Verdict {
    Published(Result<Publication>),
    Collected(Result<Collected>),
    Read(Result<(u64, Files)>),
}

/// How sessions get their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Naming {
    /// Never twice, as random numbers do.
    Unique,
    /// Known to be wrong: by the content. So keys are used again, and records with equal content are equal.
    ByContent,
}

thread_local! {
    /// The names of the sessions of the actor that runs, the next one last.
    static SESSIONS: RefCell<Vec<Session>> = const { RefCell::new(Vec::new()) };
}

/// Names sessions for whoever runs next.
pub(super) fn set_sessions(sessions: &mut Vec<Session>) {
    SESSIONS.with(|held| std::mem::swap(&mut *held.borrow_mut(), sessions));
}

fn next_session() -> Result<Session> {
    Ok(SESSIONS.with(|held| held.borrow_mut().pop()).expect("more sessions than the model foresees"))
}

/// The names that an actor's sessions will have, the first one last.
pub(super) fn sessions(naming: Naming, actor: usize, role: &Role) -> Vec<Session> {
    let name = |number: u8| match (naming, role) {
        (Naming::ByContent, Role::Publish { files, .. }) => {
            let text = format!("{files:?}");
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&blake3::hash(text.as_bytes()).as_bytes()[..16]);
            Session::of(bytes)
        }
        _ => {
            let mut bytes = [0; 16];
            (bytes[0], bytes[1]) = (actor as u8 + 1, number);
            Session::of(bytes)
        }
    };
    (0..20).rev().map(name).collect()
}

pub(super) fn place(store: Scripted, flaw: Option<Flaw>) -> Published {
    let bucket = Bucket { store: Arc::new(store), layout: Layout::new("p".into()) };
    Published { bucket, ambient: Ambient::scripted(next_session, 2), flaw }
}

/// One request at a time: what is uploaded or fetched at once is not the protocol's matter.
fn one_lane() -> Common {
    Common { lanes: 1, cancel: None, progress: None }
}

pub(super) fn run(role: Role, place: Published) -> BoxFuture<'static, Verdict> {
    Box::pin(async move {
        match role {
            Role::Publish { files, expect } => Verdict::Published(publish(&place, files, expect).await),
            Role::Collect { keep } => Verdict::Collected(collect(&place, keep).await),
            Role::CollectRecords => Verdict::Collected(collect_records(&place).await),
            Role::Read => Verdict::Read(read(&place).await),
        }
    })
}

async fn publish(place: &Published, files: Files, expect: Option<u64>) -> Result<Publication> {
    let options = PublishOptions { common: one_lane(), expect };
    let source = Source::Memory(Arc::new(files));
    Job::new(place, &source, &options).await?.run().await
}

async fn collect(place: &Published, keep: u64) -> Result<Collected> {
    let options =
        CollectOptions { common: one_lane(), ..CollectOptions::new().keep(keep).grace(Duration::ZERO) };
    collect::collect(place, &options).await
}

async fn collect_records(place: &Published) -> Result<Collected> {
    let done = collect(place, 1).await?;
    let newest = place.bucket.newest().await?;
    for seq in 1..newest.seq {
        let path = place.bucket.layout.record(seq);
        place.bucket.store.delete(&path).await.map_err(|e| Error::store("delete", &path, e))?;
    }
    Ok(done)
}

/// What a pull does with the store.
async fn read(place: &Published) -> Result<(u64, Files)> {
    let common = one_lane();
    loop {
        let (version, manifest) = place.bucket.resolve(None).await?;
        let mut seen = HashSet::new();
        let missing = manifest.files.iter().filter(|file| seen.insert(file.hash));
        let wanted = missing.filter_map(|file| {
            let at = manifest.location(file)?;
            Some(Wanted { hash: file.hash, size: file.size, parts: Vec::new(), at })
        });
        let kept = Arc::new(Mutex::new(HashMap::<Hash, Bytes>::new()));
        let sink = Sink::Memory(kept.clone());
        let meter = Meter::new(&common);
        match fetch(&place.bucket, wanted.collect(), &sink, &meter, &common).await? {
            Fetched::All => {
                let kept = kept.lock().unwrap();
                return Ok((
                    version,
                    manifest.files.iter().map(|file| (file.path.clone(), kept[&file.hash].clone())).collect(),
                ));
            }
            Fetched::Gone(_) if place.bucket.is_collected(version).await? => {}
            Fetched::Gone(path) => return Err(place.bucket.missing(&path)),
        }
    }
}
