//! Trying out whether a store keeps the promises that the protocol rests on.

use bytes::Bytes;
use futures_util::future::join_all;
use object_store::path::Path;

use crate::Published;
use crate::bucket::Bucket;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::Session;

/// So many writers race for one name, so many times.
const WRITERS: usize = 8;
const ROUNDS: usize = 12;

/// No content of a check is longer.
const LIMIT: u64 = 1 << 10;

/// What a store was seen to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreCheck {
    /// Races of several writers to create one object, each with exactly one winner.
    pub races: u32,
    /// Requests that were made.
    pub requests: u32,
}

pub(crate) async fn check_store(place: &Published) -> Result<StoreCheck> {
    let attempt = place.ambient.session()?;
    let mut check = Check { bucket: &place.bucket, attempt, requests: 0, made: Vec::new() };
    let result = check.run().await;
    let swept = check.bucket.delete(check.made.clone()).await;
    let races = result?;
    let deleted = swept?;
    check.requests += check.made.len() as u32;
    match check.remaining().await? {
        0 if deleted > 0 => Ok(StoreCheck { races, requests: check.requests }),
        _ => Err(failed("what was deleted is still there")),
    }
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("the store can't be used: {what}"))
}

struct Check<'a> {
    bucket: &'a Bucket,
    attempt: Session,
    requests: u32,
    made: Vec<Path>,
}

impl Check<'_> {
    async fn run(&mut self) -> Result<u32> {
        self.one_after_another().await?;
        for round in 0..ROUNDS {
            self.race(round).await?;
        }
        self.listing().await?;
        Ok(ROUNDS as u32)
    }

    fn name(&mut self, name: String) -> Path {
        let path = self.bucket.layout.check(&self.attempt, &name);
        self.made.push(path.clone());
        path
    }

    async fn content(&mut self, path: &Path) -> Result<Option<Bytes>> {
        self.requests += 1;
        Ok(self.bucket.read(path, LIMIT).await?.map(|small| small.bytes))
    }

    async fn one_after_another(&mut self) -> Result<()> {
        let path = self.name("alone".to_owned());
        if self.content(&path).await?.is_some() {
            return Err(failed("it has an object that nobody wrote"));
        }
        self.requests += 3;
        let create =
            |content: &'static str| self.bucket.create(&path, Bytes::from_static(content.as_bytes()));
        create("the first").await.map_err(|e| Error::store("create", &path, e))?;
        match create("the second").await {
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(e) => return Err(Error::store("create", &path, e)),
            Ok(()) => return Err(failed("creating an object that exists succeeds")),
        }
        if self.bucket.read_range(&path, 4..9).await? != Some(Bytes::from_static(b"first")) {
            return Err(failed("it does not return the range that was asked for"));
        }
        match self.content(&path).await? {
            Some(content) if content == "the first" => Ok(()),
            _ => Err(failed("it does not return what was written")),
        }
    }

    async fn race(&mut self, round: usize) -> Result<()> {
        let path = self.name(format!("race-{round}"));
        let bucket = self.bucket;
        let writers = (0..WRITERS).map(|writer| {
            let path = &path;
            async move { (writer, bucket.create(path, format!("writer {writer}").into()).await) }
        });
        self.requests += WRITERS as u32;
        let results = join_all(writers).await;
        let content = self.content(&path).await?;
        let winners: Vec<usize> =
            results.iter().filter(|(_, result)| result.is_ok()).map(|&(writer, _)| writer).collect();
        let unexpected = results.into_iter().filter_map(|(_, result)| result.err());
        // Its answer may have been lost, or it may have met another request; neither is success.
        for error in unexpected {
            if crate::error::is_refusal(&error) {
                return Err(Error::store("create", &path, error));
            }
        }
        let Some(content) = content else { return Err(failed("several writers raced, and none has won")) };
        match winners[..] {
            [] => Ok(()),
            [winner] if content == format!("writer {winner}") => Ok(()),
            [_] => Err(failed("the writer that was told that it created an object did not")),
            _ => Err(failed(&format!(
                "{} of {WRITERS} writers were told that they created the same object",
                winners.len()
            ))),
        }
    }

    async fn listing(&mut self) -> Result<()> {
        if self.remaining().await? != self.made.len() {
            return Err(failed("a listing does not show what was written"));
        }
        let first = self.bucket.layout.check(&self.attempt, "race-0");
        let after = self.bucket.list(&self.below(), Some(&first)).await?;
        self.requests += 1;
        if after.len() == self.made.len() - 2 {
            Ok(())
        } else {
            Err(failed("a listing does not begin where it should"))
        }
    }

    fn below(&self) -> Path {
        let mut parts: Vec<_> = self
            .bucket
            .layout
            .check(&self.attempt, "x")
            .parts()
            .map(|part| part.as_ref().to_owned())
            .collect();
        parts.pop();
        parts.into_iter().collect()
    }

    async fn remaining(&mut self) -> Result<usize> {
        self.requests += 1;
        Ok(self.bucket.list(&self.below(), None).await?.len())
    }
}
