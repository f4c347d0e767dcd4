//! The record of a swap that takes more than one step.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::names::{self, Role};
use super::record::{Reader, Unusable, Writer};
use super::stage::Staged;
use super::target::Target;
use crate::Result;
use crate::options::{Committed, Durability, WriteOptions};
use crate::sys::{self, Dir, File};

const KIND: u8 = b'd';

/// Names in one directory. The new version is complete and durable before there is a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SwapRecord {
    pub(crate) target: OsString,
    /// The new version.
    pub(crate) stage: OsString,
    /// Where the old version waits while it may be needed.
    pub(crate) kept: OsString,
    /// Where it goes once it isn't.
    pub(crate) spent: OsString,
}

impl SwapRecord {
    pub(super) fn new(target: &OsStr, stage: &OsStr) -> SwapRecord {
        let (kept, spent) = (names::fresh(Role::Kept), names::fresh(Role::Tree));
        SwapRecord { target: target.to_owned(), stage: stage.to_owned(), kept, spent }
    }

    /// One for each target: its writers exclude each other.
    pub(super) fn name_for(target: &OsStr) -> OsString {
        names::for_target(Role::Swap, target)
    }

    fn encode(&self) -> Vec<u8> {
        let mut record = Writer::new(KIND);
        for name in [&self.target, &self.stage, &self.kept, &self.spent] {
            record.name(name);
        }
        record.finish()
    }

    /// Every name is checked, so that nothing else is ever touched.
    fn decode(record: &[u8]) -> std::result::Result<SwapRecord, Unusable> {
        let mut record = Reader::open(KIND, record)?;
        let mut name = || record.name().map(OsStr::to_owned);
        let found = SwapRecord { target: name()?, stage: name()?, kept: name()?, spent: name()? };
        let roles = [&found.stage, &found.kept, &found.spent].map(|name| names::role_of(name));
        let sound = Path::new(&found.target).file_name() == Some(&found.target)
            && !found.target.as_encoded_bytes().contains(&0)
            && names::role_of(&found.target).is_none()
            && roles == [Some(Role::Tree), Some(Role::Kept), Some(Role::Tree)]
            && found.stage != found.spent
            && record.is_at_end();
        if sound { Ok(found) } else { Err(Unusable::Corrupt) }
    }

    /// Puts the record beside the target. All that it names is durable with it.
    pub(super) fn publish(
        &self,
        parent: &Arc<Dir>,
        path: &Path,
        durability: Durability,
    ) -> Result<Committed> {
        // Writers exclude each other, so that its name is free. Creating it as a new one could take two names
        // for a moment, and a record with two is not believed.
        let options = WriteOptions::new().durability(durability);
        let options = WriteOptions { permissions: sys::private_permissions(), ..options };
        let (dir, name) = (Arc::clone(parent), SwapRecord::name_for(&self.target));
        let target = Target::new(dir, name, path);
        let mut staged = Staged::create(target, &options)?;
        staged.stream.write_whole(&self.encode())?;
        staged.publish(&options)
    }

    /// Reads a record that was found under this name.
    pub(super) fn read(name: &OsStr, file: &File) -> io::Result<std::result::Result<SwapRecord, Unusable>> {
        // Four names of at most 255 bytes, and the frame around them.
        const LONGEST: usize = 4096;
        let (mut content, mut len) = (vec![0; LONGEST], 0);
        while let Some(rest) = content.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, len as u64)? {
                0 => break,
                read => len += read,
            }
        }
        content.truncate(len);
        let record = SwapRecord::decode(&content);
        Ok(record.and_then(|record| match SwapRecord::name_for(&record.target) == name {
            true => Ok(record),
            false => Err(Unusable::Corrupt),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> SwapRecord {
        SwapRecord::new(OsStr::new("talk"), &names::fresh(Role::Tree))
    }

    #[test]
    fn a_record_reads_back() {
        let record = sample();
        assert_eq!(SwapRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn a_record_that_names_anything_else_is_corrupt() {
        let target = |name: &str| SwapRecord { target: name.into(), ..sample() };
        let mut bad: Vec<_> = ["", ".", "..", "a/b", "/", "a/", "a\0"].map(target).into();
        bad.push(SwapRecord { target: names::fresh(Role::Lock), ..sample() });
        bad.push(SwapRecord { stage: "talk".into(), ..sample() });
        bad.push(SwapRecord { kept: names::fresh(Role::Tree), ..sample() });
        bad.push(SwapRecord { spent: names::fresh(Role::Kept), ..sample() });
        let stage = names::fresh(Role::Tree);
        bad.push(SwapRecord { spent: stage.clone(), stage, ..sample() });
        for record in bad {
            assert_eq!(SwapRecord::decode(&record.encode()), Err(Unusable::Corrupt), "{record:?}");
        }
    }
}
