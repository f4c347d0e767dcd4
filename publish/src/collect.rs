//! Deleting what no version that is kept needs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use object_store::ObjectMeta;

use crate::bucket::Bucket;
use crate::commit::Outcome;
use crate::error::{Error, ErrorKind, Result};
use crate::keys::{DataKey, Session};
use crate::lanes::{cancellable, check};
use crate::options::{CollectOptions, Collected};
use crate::record::{MAX_COLLECTS, Record};
use crate::{Published, flawed};

/// Publishers that commit all the time make a collector begin again; it gives up some time.
const ROUNDS: u32 = 50;

/// What a look at the store says about it.
struct Survey {
    newest: Record,
    /// The oldest version that is kept.
    floor: u64,
    /// Everything that kept versions need.
    needed: HashSet<DataKey>,
    /// Sessions that have a version: they will publish no other.
    finished: HashSet<Session>,
}

/// What is to go.
#[derive(Default)]
struct Doomed {
    objects: Vec<ObjectMeta>,
    /// Sessions without a version, which must be kept from having one first.
    unfinished: Vec<Session>,
}

pub(crate) async fn collect(place: &Published, options: &CollectOptions) -> Result<Collected> {
    let (bucket, token) = (&place.bucket, options.common.cancel.as_ref());
    for _ in 0..ROUNDS {
        check(token)?;
        let Some(survey) = cancellable(token, survey(place, options)).await?? else { continue };
        let all = cancellable(token, bucket.list(&bucket.layout.all_data(), None)).await??;
        let doomed = judge(place, &survey, all, options);
        let done = Collected {
            oldest: survey.floor,
            objects: doomed.objects.len() as u64,
            bytes: doomed.objects.iter().map(|meta| meta.size).sum(),
            sessions: doomed.unfinished.len() as u64,
        };
        if options.dry_run || (doomed.objects.is_empty() && survey.floor == survey.newest.floor) {
            return Ok(done);
        }
        // From here on no session that is named publishes, and readers know what is gone.
        let fence = survey.newest.fence(&place.ambient.session()?, survey.floor, doomed.unfinished);
        if !flawed!(place, NoFence) {
            match bucket.commit(&fence, &place.ambient).await? {
                Outcome::Mine => bucket.leave_hint(fence.seq).await,
                // A version or another collection came between: everything may be different now.
                Outcome::Taken => continue,
            }
        }
        let paths = doomed.objects.into_iter().map(|meta| meta.location).collect();
        cancellable(token, bucket.delete(paths)).await??;
        return Ok(done);
    }
    Err(Error::new(
        ErrorKind::Conflict,
        "versions are published too fast to collect anything; try again later",
    ))
}

/// Walks back from the newest record to the oldest version that was not collected before. Nothing if another collector came between.
async fn survey(place: &Published, options: &CollectOptions) -> Result<Option<Survey>> {
    let bucket = &place.bucket;
    let (newest, meta) = bucket.newest_and_meta().await?;
    let mut survey = Survey {
        floor: newest.floor,
        needed: HashSet::new(),
        finished: HashSet::new(),
        newest: newest.clone(),
    };
    let (mut kept, mut keeping, mut replaced) = (0, true, None);
    let mut at = meta.map(|meta| (newest, meta));
    while let Some((record, meta)) = at {
        if record.publishes() {
            survey.finished.insert(record.session.clone());
            keeping &= kept < options.keep || is_within(place, replaced, options.grace);
            if keeping {
                kept += 1;
                survey.floor = record.version;
                if !survey.need(bucket, &record).await? {
                    return Ok(None);
                }
            }
            replaced = Some(meta.last_modified.into());
        }
        let before = record.seq - 1;
        at = if before >= survey.newest.floor.max(1) { bucket.record(before).await? } else { None };
    }
    Ok(Some(survey))
}

impl Survey {
    /// Adds what a version needs; false if another collector has removed the version meanwhile.
    async fn need(&mut self, bucket: &Bucket, record: &Record) -> Result<bool> {
        let Some(from) = &record.manifest else { return Ok(true) };
        self.needed.insert(from.key.clone());
        match bucket.manifest(from).await? {
            Some(manifest) => self.needed.extend(manifest.objects),
            None if bucket.is_collected(record.version).await? => return Ok(false),
            None => return Err(bucket.missing(&bucket.layout.data(&from.key))),
        }
        Ok(true)
    }
}

fn is_within(place: &Published, time: Option<SystemTime>, grace: Duration) -> bool {
    let Some(time) = time else { return true };
    place.ambient.now().duration_since(time).map_or(!grace.is_zero(), |age| age < grace)
}

fn judge(place: &Published, survey: &Survey, all: Vec<ObjectMeta>, options: &CollectOptions) -> Doomed {
    let layout = &place.bucket.layout;
    let mut sessions: BTreeMap<Session, Vec<ObjectMeta>> = BTreeMap::new();
    // What isn't named like one of ours isn't ours to delete.
    let ours = all.into_iter().filter_map(|meta| Some((layout.data_key(&meta.location)?, meta)));
    let mut youngest: HashMap<Session, SystemTime> = HashMap::new();
    for (key, meta) in ours {
        let time = SystemTime::from(meta.last_modified);
        let latest = youngest.entry(key.session().clone()).or_insert(time);
        *latest = time.max(*latest);
        if !survey.needed.contains(&key) {
            sessions.entry(key.session().clone()).or_default().push(meta);
        }
    }
    let mut doomed = Doomed::default();
    for (session, objects) in sessions {
        if !survey.finished.contains(&session) {
            let busy = is_within(place, youngest.get(&session).copied(), options.grace);
            // The rest is for the next time.
            if busy || doomed.unfinished.len() == MAX_COLLECTS {
                continue;
            }
            doomed.unfinished.push(session);
        }
        doomed.objects.extend(objects);
    }
    doomed
}
