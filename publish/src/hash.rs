//! The identity of content.
//!
//! Content of up to one part (8 MiB) is identified by its BLAKE3 hash. Longer content is cut into parts of that
//! size; its identity is a hash over the parts' hashes, in a context of its own. So each part can be verified by itself,
//! in any order, by many downloads at once, and again after a crash.

use std::fmt;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// Content is hashed, and long content is fetched, in parts of this size. Fixed by the format.
pub(crate) const PART: u64 = 8 << 20;

const LIST_CONTEXT: &str = "durafile-publish 2026-11 hashes of the parts of one file";

/// A BLAKE3 hash; 64 hexadecimal digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Hash([u8; 32]);

impl Hash {
    pub(crate) fn of(bytes: &[u8]) -> Hash {
        Hash(*blake3::hash(bytes).as_bytes())
    }

    fn of_list(parts: &[Hash]) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key(LIST_CONTEXT);
        for part in parts {
            hasher.update(&part.0);
        }
        Hash(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        let hash = blake3::Hash::from_hex(&text).map_err(serde::de::Error::custom)?;
        Ok(Hash(*hash.as_bytes()))
    }
}

/// What identifies content, with the hashes of its parts if it is longer than one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) hash: Hash,
    pub(crate) parts: Vec<Hash>,
}

impl Identity {
    /// Content of one part.
    pub(crate) fn of(bytes: &[u8]) -> Identity {
        Identity { hash: Hash::of(bytes), parts: Vec::new() }
    }

    /// Longer content.
    pub(crate) fn of_parts(parts: Vec<Hash>) -> Identity {
        Identity { hash: Hash::of_list(&parts), parts }
    }

    /// All that the reader gives: its length and its identity.
    pub(crate) fn read(mut reader: impl Read) -> io::Result<(u64, Identity)> {
        let (mut length, mut parts, mut hasher) = (0, Vec::new(), blake3::Hasher::new());
        let mut buffer = vec![0; 256 << 10];
        loop {
            let room = (PART - (length % PART)).min(buffer.len() as u64) as usize;
            let count = match reader.read(&mut buffer[..room]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                count => count?,
            };
            // The end, or the beginning of one more part.
            if length % PART == 0 && length > 0 && (count > 0 || !parts.is_empty()) {
                parts.push(Hash(*hasher.finalize().as_bytes()));
                hasher.reset();
            }
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            length += count as u64;
        }
        let last = Hash(*hasher.finalize().as_bytes());
        if parts.is_empty() {
            return Ok((length, Identity { hash: last, parts }));
        }
        if length % PART != 0 {
            parts.push(last);
        }
        Ok((length, Identity::of_parts(parts)))
    }

    /// Can these be the hashes of content of this length?
    pub(crate) fn fits(&self, length: u64) -> bool {
        if length <= PART {
            return self.parts.is_empty();
        }
        self.parts.len() as u64 == length.div_ceil(PART) && Hash::of_list(&self.parts) == self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_by_reading_is_the_identity_by_parts_at_every_edge() {
        let content: Vec<u8> = (0..2 * PART as usize + 3).map(|i| (i / 7) as u8).collect();
        for length in [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, 2 * PART + 3] {
            let bytes = &content[..length as usize];
            let expected = match length {
                0..=PART => Identity::of(bytes),
                _ => Identity::of_parts(bytes.chunks(PART as usize).map(Hash::of).collect()),
            };
            assert_eq!(Identity::read(bytes).unwrap(), (length, expected.clone()), "{length}");
            assert!(expected.fits(length));
            assert!(!expected.fits(length + PART + 1));
        }
    }

    #[test]
    fn parts_of_other_content_don_t_fit() {
        let mut identity = Identity::of_parts(vec![Hash::of(b"a"), Hash::of(b"b")]);
        assert!(identity.fits(PART + 1));
        identity.parts[1] = Hash::of(b"c");
        assert!(!identity.fits(PART + 1));
    }
}
