//! What a transaction will change, as its journal record has it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::names::{Role, role_of};
use super::record::{Reader, Unusable, Writer};
use crate::sys::Fingerprint;

const KIND: u8 = b't';
const PUT: u64 = 1;
const REMOVE: u64 = 2;

/// Everything that a transaction changes, relative to its root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
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
    /// What stood there when the transaction was decided. Anything else was saved later.
    pub(crate) before: Option<Fingerprint>,
    pub(crate) action: Action,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Put { number: u64, content: Facts },
    Remove,
}

/// What a staged file is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) sum: u64,
}

impl Plan {
    pub(crate) fn encode(&self) -> Vec<u8> {
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
            record.number(before.ino);
            record.number(before.seconds);
            record.number(before.nanoseconds);
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
        record.finish()
    }

    /// Every path is checked, so that nothing outside the root is ever meant.
    pub(crate) fn decode(record: &[u8]) -> Result<Plan, Unusable> {
        let mut record = Reader::open(KIND, record)?;
        let mut plan = Plan { stage: record.name()?.to_owned(), ..Plan::default() };
        plan.passing = record.name()?.to_owned();
        if role_of(&plan.passing) != Some(Role::Stage) {
            return Err(Unusable::Corrupt);
        }
        for _ in 0..record.number()? {
            plan.dirs.push(inside(record.path()?)?);
        }
        for _ in 0..record.number()? {
            plan.changes.push(decode_change(&mut record)?);
        }
        if record.is_at_end() && plan.has_a_sound_stage() { Ok(plan) } else { Err(Unusable::Corrupt) }
    }

    /// It may be missing if nothing is put anywhere.
    fn has_a_sound_stage(&self) -> bool {
        let puts = self.changes.iter().any(|change| matches!(change.action, Action::Put { .. }));
        role_of(&self.stage) == Some(Role::Change) || (self.stage.is_empty() && !puts)
    }
}

fn decode_change(record: &mut Reader<'_>) -> Result<Change, Unusable> {
    let path = inside(record.path()?)?;
    let is_present = record.number()? == 1;
    let (ino, seconds, nanoseconds) = (record.number()?, record.number()?, record.number()?);
    let before = is_present.then_some(Fingerprint { ino, seconds, nanoseconds, is_dir: false });
    let action = match record.number()? {
        PUT => {
            let number = record.number()?;
            let (ino, size, sum) = (record.number()?, record.number()?, record.number()?);
            Action::Put { number, content: Facts { ino, size, sum } }
        }
        REMOVE => Action::Remove,
        _ => return Err(Unusable::Corrupt),
    };
    Ok(Change { path, before, action })
}

fn inside(path: &Path) -> Result<PathBuf, Unusable> {
    if is_inside(path) { Ok(path.to_owned()) } else { Err(Unusable::Corrupt) }
}

/// A relative path of ordinary names only.
pub(crate) fn is_inside(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    let parts = path.components();
    // Rebuilding finds what `components` passes over: `a//b`, `a/.`, a trailing slash.
    !bytes.is_empty()
        && !bytes.contains(&0)
        && parts.clone().all(|part| matches!(part, std::path::Component::Normal(_)))
        && parts.collect::<PathBuf>().as_os_str() == path.as_os_str()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic::names::fresh;

    fn plan(changes: Vec<Change>) -> Plan {
        let dirs = vec!["a".into(), "a/b".into()];
        Plan { stage: fresh(Role::Change), passing: fresh(Role::Stage), dirs, changes }
    }

    fn put(path: &str) -> Change {
        let action = Action::Put { number: 7, content: Facts { ino: 1, size: 2, sum: 3 } };
        Change { path: path.into(), before: None, action }
    }

    #[test]
    fn a_plan_reads_back() {
        let before = Some(Fingerprint { ino: 4, seconds: 5, nanoseconds: 6, is_dir: false });
        let plan = plan(vec![put("a/b/c"), Change { path: "d".into(), before, action: Action::Remove }]);
        assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
    }

    #[test]
    fn a_plan_that_leaves_its_root_is_corrupt() {
        for path in ["/etc/passwd", "../x", "a/../../x", "", "a/"] {
            let change = Change { path: path.into(), before: None, action: Action::Remove };
            let plan = plan(vec![change]);
            assert_eq!(Plan::decode(&plan.encode()), Err(Unusable::Corrupt), "{path}");
        }
    }

    #[test]
    fn a_plan_that_stages_elsewhere_is_corrupt() {
        for name in ["data", "..", "a/b", "."] {
            let bad = [
                Plan { stage: name.into(), ..plan(Vec::new()) },
                Plan { passing: name.into(), ..plan(Vec::new()) },
                Plan { stage: fresh(Role::Quarantined), ..plan(Vec::new()) },
                // What is passing would be removed, without there being anything staged.
                Plan { stage: OsString::new(), passing: name.into(), ..plan(Vec::new()) },
                Plan { stage: OsString::new(), ..plan(vec![put("a")]) },
            ];
            for plan in bad {
                assert_eq!(Plan::decode(&plan.encode()), Err(Unusable::Corrupt), "{plan:?}");
            }
        }
    }
}
