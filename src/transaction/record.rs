//! The changes of a transaction, as its journal record has them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::atomic::content::ContentId;
use crate::atomic::target::is_inside;
use crate::journal::encoding::{Reader, Unusable, Writer};
use crate::names::{Role, role_of};
use crate::sys::{Fingerprint, LastingId};

const KIND: u8 = b't';
const PUT: u64 = 1;
const REMOVE: u64 = 2;

/// Everything that a transaction changes, relative to its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransactionRecord {
    /// The directory that holds the new files, under their numbers; empty if there are none.
    pub(crate) stage: OsString,
    /// The name that a new file has for a moment in a directory where it replaces another.
    pub(crate) passing: OsString,
    /// Directories to create, parents first.
    pub(crate) dirs: Vec<PathBuf>,
    pub(crate) changes: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    /// The file that stood there when the transaction was decided. Any other one was saved later.
    pub(crate) before: Option<Fingerprint>,
    pub(crate) action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Put { number: u64, content: ContentId },
    Remove,
}

/// Each of these paths once, a directory before what is in it.
pub(crate) fn distinct<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<&'a Path> {
    let mut paths: Vec<&Path> = paths.collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

impl TransactionRecord {
    /// `own` is the file that it is written to.
    pub(crate) fn encode(&self, own: LastingId) -> Vec<u8> {
        let mut record = Writer::new(KIND);
        record.name(&self.stage);
        record.name(&self.passing);
        record.number(self.dirs.len() as u64);
        for dir in &self.dirs {
            record.name(dir.as_os_str());
        }
        record.number(self.changes.len() as u64);
        for change in &self.changes {
            record.name(change.path.as_os_str());
            record.number(u64::from(change.before.is_some()));
            let before = change.before.unwrap_or_default();
            for number in [before.ino, before.size, before.seconds, before.nanoseconds] {
                record.number(number);
            }
            match &change.action {
                Action::Put { number, content } => {
                    record.number(PUT);
                    record.number(*number);
                    record.number(content.ino);
                    record.number(content.size);
                    record.number(content.sum);
                }
                Action::Remove => record.number(REMOVE),
            }
        }
        record.finish(own)
    }

    /// The record in these bytes, and the file that it was written to. Every path is checked, so that a record never
    /// leads out of the root.
    pub(crate) fn decode(record: &[u8]) -> Result<(TransactionRecord, LastingId), Unusable> {
        let mut record = Reader::open(KIND, record)?;
        let mut found =
            TransactionRecord { stage: record.name()?.to_owned(), ..TransactionRecord::default() };
        found.passing = record.name()?.to_owned();
        if role_of(&found.passing) != Some(Role::Passing) {
            return Err(Unusable::Corrupt);
        }
        for _ in 0..record.number()? {
            found.dirs.push(inside(record.path()?)?);
        }
        for _ in 0..record.number()? {
            found.changes.push(decode_change(&mut record)?);
        }
        let is_sound = record.is_at_end() && found.has_a_sound_stage();
        if is_sound { Ok((found, record.own())) } else { Err(Unusable::Corrupt) }
    }

    /// The stage may be missing if nothing is put anywhere.
    fn has_a_sound_stage(&self) -> bool {
        let puts = self.changes.iter().any(|change| matches!(change.action, Action::Put { .. }));
        role_of(&self.stage) == Some(Role::Change) || (self.stage.is_empty() && !puts)
    }
}

fn decode_change(record: &mut Reader<'_>) -> Result<Change, Unusable> {
    let path = inside(record.path()?)?;
    let is_present = record.number()? == 1;
    let (ino, size) = (record.number()?, record.number()?);
    let (seconds, nanoseconds) = (record.number()?, record.number()?);
    let before = is_present.then_some(Fingerprint { ino, size, seconds, nanoseconds, is_dir: false });
    let action = match record.number()? {
        PUT => {
            let number = record.number()?;
            let (ino, size, sum) = (record.number()?, record.number()?, record.number()?);
            Action::Put { number, content: ContentId { ino, size, sum } }
        }
        REMOVE => Action::Remove,
        _ => return Err(Unusable::Corrupt),
    };
    Ok(Change { path, before, action })
}

fn inside(path: &Path) -> Result<PathBuf, Unusable> {
    if is_inside(path) { Ok(path.to_owned()) } else { Err(Unusable::Corrupt) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::fresh;

    const OWN: LastingId = LastingId { ino: 7, born: 8 };

    fn record(changes: Vec<Change>) -> TransactionRecord {
        let dirs = vec!["a".into(), "a/b".into()];
        TransactionRecord { stage: fresh(Role::Change), passing: fresh(Role::Passing), dirs, changes }
    }

    fn put(path: &str) -> Change {
        let action = Action::Put { number: 7, content: ContentId { ino: 1, size: 2, sum: 3 } };
        Change { path: path.into(), before: None, action }
    }

    #[test]
    fn a_record_reads_back() {
        let before = Some(Fingerprint { ino: 4, size: 9, seconds: 5, nanoseconds: 6, is_dir: false });
        let record = record(vec![put("a/b/c"), Change { path: "d".into(), before, action: Action::Remove }]);
        assert_eq!(TransactionRecord::decode(&record.encode(OWN)), Ok((record, OWN)));
    }

    #[test]
    fn a_record_that_leaves_its_root_is_corrupt() {
        for path in ["/etc/passwd", "../x", "a/../../x", "", "a/"] {
            let change = Change { path: path.into(), before: None, action: Action::Remove };
            let record = record(vec![change]);
            assert_eq!(TransactionRecord::decode(&record.encode(OWN)), Err(Unusable::Corrupt), "{path}");
        }
    }

    #[test]
    fn a_record_that_stages_elsewhere_is_corrupt() {
        for name in ["data", "..", "a/b", "."] {
            let bad = [
                TransactionRecord { stage: name.into(), ..record(Vec::new()) },
                TransactionRecord { passing: name.into(), ..record(Vec::new()) },
                TransactionRecord { stage: fresh(Role::Quarantined), ..record(Vec::new()) },
                // What is passing would be removed, without there being anything staged.
                TransactionRecord { stage: OsString::new(), passing: name.into(), ..record(Vec::new()) },
                TransactionRecord { stage: OsString::new(), ..record(vec![put("a")]) },
            ];
            for record in bad {
                assert_eq!(
                    TransactionRecord::decode(&record.encode(OWN)),
                    Err(Unusable::Corrupt),
                    "{record:?}"
                );
            }
        }
    }
}
