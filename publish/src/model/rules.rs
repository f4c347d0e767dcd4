//! What must hold in every state, judged from outside: by what the store holds and by what the actors were told.

use std::collections::BTreeMap;

use super::actors::{Files, Role, Verdict};
use super::explore;
use super::store::Objects;
use crate::error::ErrorKind;
use crate::hash::Hash;
use crate::manifest::Manifest;
use crate::record::Record;

/// What was promised so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Ledger {
    actors: Vec<Watched>,
    /// Every record that was ever created: by whom, and with which files.
    records: BTreeMap<u64, Entry>,
    any_fault: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    content: bytes::Bytes,
    by: usize,
    /// Of the version that is the newest from there on.
    files: Option<Files>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Watched {
    number: usize,
    role: Role,
    /// A reader's: the newest version when it made its first request.
    began_at: Option<u64>,
    /// It was told for certain that it did not publish.
    failed: bool,
}

impl Ledger {
    pub(super) fn begun_again(&self) -> Ledger {
        Ledger { actors: Vec::new(), any_fault: false, records: self.records.clone() }
    }

    pub(super) fn for_actors(&self, roles: &[Role], first: usize) -> Ledger {
        let watched = |(number, role): (usize, &Role)| Watched {
            number: first + number,
            role: role.clone(),
            began_at: None,
            failed: false,
        };
        Ledger { actors: roles.iter().enumerate().map(watched).collect(), ..self.clone() }
    }

    pub(super) fn fault(&mut self, happened: bool) {
        self.any_fault |= happened;
    }

    pub(super) fn moves(&mut self, actor: usize, before: &Objects) {
        let actor = &mut self.actors[actor];
        if matches!(actor.role, Role::Read) && actor.began_at.is_none() {
            actor.began_at = Some(newest(before).map_or(0, |record| record.version));
        }
    }

    /// After something changed in the store.
    pub(super) fn changed(&mut self, by: usize, now: &Objects) -> Result<(), String> {
        for (seq, content) in records(now) {
            match self.records.get(&seq) {
                Some(known) if known.content == content => {}
                _ => self.created(seq, content, by, now)?,
            }
        }
        Ok(())
    }

    fn created(&mut self, seq: u64, content: bytes::Bytes, by: usize, now: &Objects) -> Result<(), String> {
        if self.records.contains_key(&seq) {
            return Err(format!("record {seq} was created twice"));
        }
        if self.records.keys().next_back().is_some_and(|&last| last != seq - 1) {
            return Err(format!("record {seq} was created when there was a later one"));
        }
        let record = Record::parse(seq, &content)?;
        let actor = &self.actors[by];
        let files = match &actor.role {
            Role::Publish { files, .. } => Some(files.clone()),
            // The version before stays the newest.
            _ => self.records.get(&record.version).and_then(|entry| entry.files.clone()),
        };
        if record.publishes() {
            if actor.failed {
                return Err(format!("version {seq} appeared after its publisher was told that it failed"));
            }
            if self.records.values().any(|entry| entry.by == actor.number) {
                return Err(format!("actor {by} published twice"));
            }
        }
        if record.version > 0
            && contents(&record, now).as_ref() != Ok(files.as_ref().unwrap_or(&Files::new()))
        {
            return Err(format!("version {} does not hold what was published", record.version));
        }
        self.records.insert(seq, Entry { content, by: actor.number, files });
        Ok(())
    }

    pub(super) fn ended(&mut self, number: usize, verdict: &Verdict) -> Result<(), String> {
        match verdict {
            Verdict::Published(Ok(done)) => self.acknowledged(number, done.version, done.unchanged),
            Verdict::Published(Err(e)) => self.refused(number, e.kind()),
            Verdict::Read(Ok((version, files))) => self.was_read(number, *version, files),
            Verdict::Read(Err(e)) | Verdict::Collected(Err(e)) => match e.kind() {
                ErrorKind::Store | ErrorKind::Unknown if self.any_fault => Ok(()),
                _ => Err(format!("actor {number} failed: {e}")),
            },
            Verdict::Collected(Ok(_)) => Ok(()),
        }
    }

    fn acknowledged(&self, number: usize, version: u64, unchanged: bool) -> Result<(), String> {
        let actor = &self.actors[number];
        let Role::Publish { files, .. } = &actor.role else { return Ok(()) };
        match self.records.get(&version) {
            None => Err(format!("actor {number} was told of version {version}, which never was")),
            Some(entry) if entry.files.as_ref() != Some(files) => {
                Err(format!("actor {number} was told of version {version}, which holds something else"))
            }
            Some(entry) if !unchanged && entry.by != actor.number => {
                Err(format!("actor {number} was told that it published version {version}, which another did"))
            }
            Some(_) => Ok(()),
        }
    }

    fn refused(&mut self, number: usize, kind: ErrorKind) -> Result<(), String> {
        let actor = &mut self.actors[number];
        let expects = matches!(&actor.role, Role::Publish { expect: Some(_), .. });
        match kind {
            ErrorKind::Unknown if self.any_fault => return Ok(()),
            ErrorKind::Store if self.any_fault => {}
            ErrorKind::Conflict if expects => {}
            kind => return Err(format!("actor {number} failed: {kind:?}")),
        }
        actor.failed = true;
        let published = |(&seq, entry): (&u64, &Entry)| {
            entry.by == actor.number
                && Record::parse(seq, &entry.content).is_ok_and(|record| record.publishes())
        };
        if self.records.iter().any(published) {
            return Err(format!("actor {number} published, and was told that it failed: {kind:?}"));
        }
        Ok(())
    }

    fn was_read(&mut self, number: usize, version: u64, files: &Files) -> Result<(), String> {
        if self.actors[number].began_at.take().is_some_and(|newest| version < newest) {
            return Err(format!("a reader got version {version}, which was old when it began"));
        }
        match self.records.get(&version).and_then(|entry| entry.files.as_ref()) {
            Some(published) if published == files => Ok(()),
            _ => Err(format!("a reader got something that is not version {version}")),
        }
    }
}

fn records(objects: &Objects) -> impl DoubleEndedIterator<Item = (u64, bytes::Bytes)> {
    let record = |(name, content): (&String, &bytes::Bytes)| {
        let seq = name.strip_prefix("p/versions/")?.parse().ok()?;
        Some((seq, content.clone()))
    };
    objects.iter().filter_map(record)
}

fn newest(objects: &Objects) -> Option<Record> {
    let (seq, content) = records(objects).next_back()?;
    Record::parse(seq, &content).ok()
}

/// Every version that nobody collected, the newest of all, can be read.
pub(super) fn all_kept_are_whole(now: &Objects) -> Result<(), String> {
    let Some(newest) = newest(now) else { return Ok(()) };
    for (seq, content) in records(now).filter(|&(seq, _)| seq >= newest.floor) {
        let record = Record::parse(seq, &content)?;
        if record.publishes() {
            contents(&record, now).map_err(|why| format!("version {seq} is damaged: {why}"))?;
        }
    }
    Ok(())
}

/// The files of a record's version, each verified.
fn contents(record: &Record, objects: &Objects) -> Result<Files, String> {
    let from = record.manifest.as_ref().ok_or("it has no manifest")?;
    let bytes = objects.get(&format!("p/{}", from.key)).ok_or("its manifest is gone")?;
    if Hash::of(bytes) != from.hash {
        return Err("its manifest is another one".to_owned());
    }
    let manifest = Manifest::parse(bytes)?;
    let content = |file: &crate::manifest::File| {
        let at = manifest.location(file).ok_or("a file has no place")?;
        let object = objects.get(&format!("p/{}", at.key)).ok_or_else(|| format!("{} is gone", at.key))?;
        let (begin, end) = (at.offset as usize, (at.offset + file.size) as usize);
        match object.get(begin..end) {
            Some(content) if Hash::of(content) == file.hash => {
                Ok((file.path.clone(), object.slice(begin..end)))
            }
            _ => Err(format!("{} holds something else", at.key)),
        }
    };
    manifest.files.iter().map(content).collect()
}

/// A breach with what led to it, for people.
pub(super) fn story(breach: &(String, Vec<explore::Step>)) -> String {
    let steps: Vec<String> = breach.1.iter().map(|step| format!("  {step:?}")).collect();
    format!("{}, after\n{}", breach.0, steps.join("\n"))
}
