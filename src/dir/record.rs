//! The record of a swap that takes more than one step.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::staged::Staged;
use crate::atomic::target::Target;
use crate::error::{Error, Result};
use crate::journal::encoding::{self, Reader, Unusable, Writer};
use crate::names::{self, Role};
use crate::options::WriteOptions;
use crate::options::durability::{Committed, Durability};
use crate::sys::{self, Dir, File, Fingerprint, LastingId};

const KIND: u8 = b'd';

/// Names in one directory, and what is expected at the target. The new version is complete and durable before
/// there is a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SwapRecord {
    pub(crate) target: OsString,
    /// The new version.
    pub(crate) stage: OsString,
    /// Where the old version waits while it may be needed.
    pub(crate) kept: OsString,
    /// Where it goes once it isn't.
    pub(crate) spent: OsString,
    pub(crate) old: OldVersion,
}

/// The mark that tells the old version from anything that others may put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OldVersion {
    /// The old version is renamed away, as it is.
    Renamed(Fingerprint),
    /// The old version can't be renamed, and is deleted where it is, bit by bit. An overlay may give it another identity
    /// on the way.
    Deleted(LastingId),
}

impl OldVersion {
    const RENAMED: u64 = 1;
    const DELETED: u64 = 2;

    fn numbers(self) -> [u64; 4] {
        match self {
            // The size of a directory is the file system's affair.
            OldVersion::Renamed(old) => [OldVersion::RENAMED, old.ino, old.seconds, old.nanoseconds],
            OldVersion::Deleted(old) => [OldVersion::DELETED, old.ino, old.born, 0],
        }
    }

    fn from_numbers([kind, ino, first, second]: [u64; 4]) -> OldVersion {
        if kind == OldVersion::RENAMED {
            let (seconds, nanoseconds) = (first, second);
            return OldVersion::Renamed(Fingerprint { ino, size: 0, seconds, nanoseconds, is_dir: true });
        }
        OldVersion::Deleted(LastingId { ino, born: first })
    }
}

impl SwapRecord {
    pub(crate) fn new(target: &OsStr, stage: &OsStr, old: OldVersion) -> SwapRecord {
        let (kept, spent) = (names::fresh(Role::Kept), names::fresh(Role::Tree));
        SwapRecord { target: target.to_owned(), stage: stage.to_owned(), kept, spent, old }
    }

    /// One for each target: its writers exclude each other.
    pub(crate) fn name_for(target: &OsStr) -> OsString {
        names::for_target(Role::Swap, target)
    }

    /// `own` is the file that it is written to.
    fn encode(&self, own: LastingId) -> Vec<u8> {
        let mut record = Writer::new(KIND);
        for name in [&self.target, &self.stage, &self.kept, &self.spent] {
            record.name(name);
        }
        for number in self.old.numbers() {
            record.number(number);
        }
        record.finish(own)
    }

    /// The record in these bytes, and the file that it was written to. Every name is checked, so that a record never
    /// leads to anything but its target and names of ours beside it.
    fn decode(record: &[u8]) -> std::result::Result<(SwapRecord, LastingId), Unusable> {
        let mut record = Reader::open(KIND, record)?;
        let mut name = || record.name().map(OsStr::to_owned);
        let (target, stage, kept, spent) = (name()?, name()?, name()?, name()?);
        let mut number = || record.number();
        let old = OldVersion::from_numbers([number()?, number()?, number()?, number()?]);
        let found = SwapRecord { target, stage, kept, spent, old };
        let roles = [&found.stage, &found.kept, &found.spent].map(|name| names::role_of(name));
        let sound = Path::new(&found.target).file_name() == Some(&found.target)
            && !found.target.as_encoded_bytes().contains(&0)
            && names::role_of(&found.target).is_none()
            && roles == [Some(Role::Tree), Some(Role::Kept), Some(Role::Tree)]
            && found.stage != found.spent
            && record.is_at_end();
        if sound { Ok((found, record.own())) } else { Err(Unusable::Corrupt) }
    }

    /// Puts the record beside the target. All that it names is durable with it.
    pub(crate) fn publish(
        &self,
        parent: &Arc<Dir>,
        path: &Path,
        durability: Durability,
    ) -> Result<Committed> {
        // Writers exclude each other, so that its name is free. Creating it as a new one could take two names
        // for a moment, and a record with two is not believed.
        let options = WriteOptions::new().durability(durability);
        let options =
            WriteOptions { permissions: sys::private_permissions(), permissions_may_differ: true, ..options };
        let (dir, name) = (Arc::clone(parent), SwapRecord::name_for(&self.target));
        let target = Target::new(dir, name, path);
        let mut staged = Staged::create(target, &options)?;
        let fail = |e| Error::io("inspect the record of the swap at", path, e);
        let own = sys::lasting_id(staged.stream.file()).map_err(fail)?;
        staged.stream.write_whole(&self.encode(own))?;
        staged.publish(&options)
    }

    /// Reads a record that was found under this name. Also whether it is a copy: then the inode of the old
    /// version means nothing.
    pub(crate) fn read(
        name: &OsStr,
        file: &File,
    ) -> io::Result<std::result::Result<(SwapRecord, bool), Unusable>> {
        let own = sys::lasting_id(file)?;
        let found = SwapRecord::decode(&encoding::read(file)?);
        Ok(found.and_then(|(record, recorded)| match SwapRecord::name_for(&record.target) == name {
            true => Ok((record, !own.is_same(recorded))),
            false => Err(Unusable::Corrupt),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: LastingId = LastingId { ino: 7, born: 8 };

    fn sample() -> SwapRecord {
        let old = Fingerprint { ino: 1, size: 0, seconds: 2, nanoseconds: 3, is_dir: true };
        SwapRecord::new(OsStr::new("talk"), &names::fresh(Role::Tree), OldVersion::Renamed(old))
    }

    #[test]
    fn a_record_reads_back() {
        let record = sample();
        let in_place =
            SwapRecord { old: OldVersion::Deleted(LastingId { ino: 5, born: 6 }), ..record.clone() };
        for record in [record, in_place] {
            assert_eq!(SwapRecord::decode(&record.encode(OWN)), Ok((record, OWN)));
        }
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
            assert_eq!(SwapRecord::decode(&record.encode(OWN)), Err(Unusable::Corrupt), "{record:?}");
        }
    }
}
