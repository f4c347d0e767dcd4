//! Records: what makes a version one, and what says that something is collected.

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::keys::{DataKey, Session};

/// The format that this crate writes and reads.
pub(crate) const FORMAT: u32 = 1;

/// No record is longer, in bytes.
pub(crate) const MAX_RECORD: u64 = 256 << 10;

/// How many sessions one record collects at most, which keeps it short.
pub(crate) const MAX_COLLECTS: usize = 1000;

/// The content of one object below `versions/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) seq: u64,
    /// Who wrote it. Only the session tells two records with equal content apart.
    pub(crate) session: Session,
    /// The version that is the newest from here on: this record's own number, or, if it only collects, that of the
    /// version before. 0: nothing was published yet.
    pub(crate) version: u64,
    /// That version's content.
    pub(crate) manifest: Option<ManifestRef>,
    /// Versions with smaller numbers are not kept any more.
    pub(crate) floor: u64,
    /// Sessions that must not publish any more: what they uploaded may be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) collects: Vec<Session>,
}

/// Where a manifest is, and what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ManifestRef {
    pub(crate) key: DataKey,
    pub(crate) hash: Hash,
    pub(crate) size: u64,
    /// How many files, and their bytes: for people.
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// Seconds since 1970 by the publisher's clock: for people.
    pub(crate) published: u64,
}

impl Record {
    /// What holds before anything was published.
    pub(crate) fn origin() -> Record {
        Record {
            format: FORMAT,
            seq: 0,
            session: Session::of([0; 16]),
            version: 0,
            manifest: None,
            floor: 0,
            collects: Vec::new(),
        }
    }

    /// The record that makes a manifest the version after this one.
    pub(crate) fn publish(&self, session: &Session, manifest: ManifestRef) -> Record {
        let seq = self.seq + 1;
        let (session, manifest, collects) = (session.clone(), Some(manifest), Vec::new());
        Record { format: FORMAT, seq, session, version: seq, manifest, floor: self.floor, collects }
    }

    /// The record after this one that publishes nothing: it says what is collected.
    pub(crate) fn fence(&self, session: &Session, floor: u64, collects: Vec<Session>) -> Record {
        Record { seq: self.seq + 1, session: session.clone(), floor, collects, ..self.clone() }
    }

    /// Does it publish a version?
    pub(crate) fn publishes(&self) -> bool {
        self.version == self.seq && self.seq > 0
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists always can be written as JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What is wrong is said as the error.
    pub(crate) fn parse(seq: u64, bytes: &[u8]) -> std::result::Result<Record, String> {
        #[derive(Deserialize)]
        struct Only {
            format: u32,
        }
        let Only { format } = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if format != FORMAT {
            return Err(format!("its format is {format}, and this program reads format {FORMAT}"));
        }
        let record: Record = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        let sound = record.seq == seq
            && record.version <= seq
            && (record.version > 0) == record.manifest.is_some()
            && record.floor <= record.version;
        if sound { Ok(record) } else { Err("its numbers contradict each other".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_follow_each_other() {
        let (one, two) = (Session::of([1; 16]), Session::of([2; 16]));
        let key = DataKey::manifest(&one, 0);
        let manifest = ManifestRef { key, hash: Hash::of(b""), size: 0, files: 1, bytes: 2, published: 3 };
        let first = Record::origin().publish(&one, manifest.clone());
        let fence = first.fence(&two, 1, vec![one.clone()]);
        let second = fence.publish(&two, manifest);
        assert_eq!((first.seq, first.version, first.publishes()), (1, 1, true));
        assert_eq!((fence.seq, fence.version, fence.publishes()), (2, 1, false));
        assert_eq!((second.seq, second.version, second.floor), (3, 3, 1));
        assert!(second.collects.is_empty());
        for record in [first, fence, second] {
            assert_eq!(Record::parse(record.seq, &record.to_bytes()), Ok(record.clone()));
            assert!(Record::parse(record.seq + 1, &record.to_bytes()).is_err());
        }
    }

    #[test]
    fn another_format_is_named() {
        let text = br#"{"format":2,"whatever":[]}"#;
        assert!(Record::parse(1, text).unwrap_err().contains("format is 2"));
    }
}
