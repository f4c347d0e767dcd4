//! Fetching content, verified, in as few requests as its places allow.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;

use crate::bucket::Bucket;
use crate::cache::{Cache, PartFile};
use crate::error::{Error, Result};
use crate::hash::{Hash, PART};
use crate::lanes::{Lanes, blocking, check};
use crate::manifest::Location;
use crate::options::Common;
use crate::upload::Meter;

/// So many bytes between two files are fetched for nothing rather than asked for around.
const GAP: u64 = 64 << 10;

/// Content to be fetched, once however many files have it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) hash: Hash,
    pub(crate) size: u64,
    pub(crate) parts: Vec<Hash>,
    pub(crate) at: Location,
}

/// Where it goes.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    Cache(Arc<Cache>),
    /// For the model test.
    #[cfg(test)]
    Memory(Arc<std::sync::Mutex<std::collections::HashMap<Hash, Bytes>>>),
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    All,
    /// This object isn't there.
    Gone(Path),
}

pub(crate) async fn fetch(
    bucket: &Bucket,
    mut wanted: Vec<Wanted>,
    sink: &Sink,
    meter: &Meter<'_>,
    common: &Common,
) -> Result<Fetched> {
    meter.expect(wanted.iter().map(|one| one.size).sum());
    wanted.sort_by(|a, b| (&a.at.key, a.at.offset).cmp(&(&b.at.key, b.at.offset)));
    let (long, short): (Vec<_>, Vec<_>) = wanted.into_iter().partition(|one| one.size > PART);
    let mut lanes = Lanes::new(common.lanes, common.cancel.as_ref());
    for group in groups(short) {
        check(common.cancel.as_ref())?;
        lanes.room().await?;
        if let Some(gone) = lanes.take().into_iter().flatten().next() {
            return Ok(Fetched::Gone(gone));
        }
        lanes.push(async move { fetch_group(bucket, group, sink, meter).await });
    }
    for one in long {
        check(common.cancel.as_ref())?;
        if let Some(gone) = fetch_long(bucket, one, sink, meter, &mut lanes).await? {
            return Ok(Fetched::Gone(gone));
        }
    }
    let gone = lanes.finish().await?.into_iter().flatten().next();
    Ok(gone.map_or(Fetched::All, Fetched::Gone))
}

/// Neighbours in one object, up to one part together.
fn groups(sorted: Vec<Wanted>) -> Vec<Vec<Wanted>> {
    let mut groups: Vec<Vec<Wanted>> = Vec::new();
    for one in sorted {
        match groups.last_mut() {
            Some(group) if are_near(group, &one) => group.push(one),
            _ => groups.push(vec![one]),
        }
    }
    groups
}

fn are_near(group: &[Wanted], one: &Wanted) -> bool {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return false };
    // A valid manifest's offsets and sizes can be added.
    let end = last.at.offset + last.size;
    let near = one.at.offset >= end && one.at.offset - end <= GAP;
    last.at.key == one.at.key && near && one.at.offset + one.size - first.at.offset <= PART
}

async fn fetch_group(
    bucket: &Bucket,
    group: Vec<Wanted>,
    sink: &Sink,
    meter: &Meter<'_>,
) -> Result<Option<Path>> {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(None) };
    let path = bucket.layout.data(&first.at.key);
    let (begin, end) = (first.at.offset, last.at.offset + last.size);
    let mut again = true;
    loop {
        let Some(bytes) = bucket.read_range(&path, begin..end).await? else { return Ok(Some(path)) };
        let cut = |one: &Wanted| {
            let at = (one.at.offset - begin) as usize;
            bytes.slice(at..at + one.size as usize)
        };
        let pieces: Vec<(Hash, Bytes)> = group.iter().map(|one| (one.hash, cut(one))).collect();
        if pieces.iter().all(|(hash, bytes)| Hash::of(bytes) == *hash) {
            sink.keep(pieces).await?;
            meter.add(group.iter().map(|one| one.size).sum());
            return Ok(None);
        }
        mismatch(&mut again, &path)?;
    }
}

/// What doesn't match may have been damaged on its way: it is asked for once more.
fn mismatch(again: &mut bool, path: &Path) -> Result<()> {
    if std::mem::take(again) {
        return Ok(());
    }
    Err(Error::corrupt(path.to_string(), "its content doesn't match the hash in the manifest"))
}

async fn fetch_long<'a>(
    bucket: &'a Bucket,
    one: Wanted,
    sink: &Sink,
    meter: &'a Meter<'a>,
    lanes: &mut Lanes<'a, Option<Path>>,
) -> Result<Option<Path>> {
    let path = bucket.layout.data(&one.at.key);
    let (file, there) = lanes.during(sink.begin(&one)).await?;
    for (number, (&hash, there)) in one.parts.iter().zip(there).enumerate() {
        let begin = number as u64 * PART;
        let length = PART.min(one.size - begin);
        if there {
            // It was fetched by a pull that was interrupted.
            meter.skip(length);
            continue;
        }
        lanes.room().await?;
        let (file, path, from) = (file.clone(), path.clone(), one.at.offset + begin);
        lanes.push(async move {
            let mut again = true;
            loop {
                let Some(bytes) = bucket.read_range(&path, from..from + length).await? else {
                    return Ok(Some(path));
                };
                if Hash::of(&bytes) == hash {
                    blocking(move || file.write(begin, &bytes)).await?;
                    meter.add(length);
                    return Ok(None);
                }
                mismatch(&mut again, &path)?;
            }
        });
    }
    if let Some(gone) = lanes.finish().await?.into_iter().flatten().next() {
        return Ok(Some(gone));
    }
    blocking(move || file.finish()).await?;
    Ok(None)
}

impl Sink {
    /// Takes verified content.
    async fn keep(&self, pieces: Vec<(Hash, Bytes)>) -> Result<()> {
        match self {
            Sink::Cache(cache) => {
                let cache = cache.clone();
                blocking(move || pieces.iter().try_for_each(|(hash, bytes)| cache.put(hash, bytes))).await
            }
            #[cfg(test)]
            Sink::Memory(kept) => {
                kept.lock().unwrap().extend(pieces);
                Ok(())
            }
        }
    }

    /// A long file, and which of its parts are there already.
    async fn begin(&self, one: &Wanted) -> Result<(Arc<PartFile>, Vec<bool>)> {
        match self {
            Sink::Cache(cache) => {
                let (cache, one) = (cache.clone(), one.clone());
                blocking(move || {
                    let file = cache.begin(&one.hash)?;
                    let there = file.verified(one.size, &one.parts)?;
                    Ok((Arc::new(file), there))
                })
                .await
            }
            #[cfg(test)]
            Sink::Memory(_) => unreachable!("the model has no long files"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{DataKey, Session};

    #[test]
    fn neighbours_travel_together_and_never_too_many() {
        let session = Session::of([1; 16]);
        let wanted = |object, offset, size| {
            let at = Location { key: DataKey::content(&session, object), offset };
            Wanted { hash: Hash::of(b""), size, parts: Vec::new(), at }
        };
        let sorted = vec![
            wanted(0, 0, 10),
            wanted(0, 10, 10),
            wanted(0, 20 + GAP, 10),
            wanted(0, 31 + 2 * GAP, 10),
            wanted(0, PART - 5, 10),
            wanted(1, 0, PART - 10),
            wanted(1, PART - 10, 10),
            wanted(1, PART, 1),
        ];
        let lengths: Vec<usize> = groups(sorted).iter().map(Vec::len).collect();
        assert_eq!(lengths, [3, 1, 1, 2, 1]);
    }
}
