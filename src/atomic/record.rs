//! The format of journal records: what is going to be changed, written down before it is.
//!
//! `durafile` in ASCII, a letter for the kind of record, the version of the format (32 bits), the
//! length of the rest (64 bits), the rest, and a checksum over everything before it (64 bits).
//! Numbers are little endian; byte strings are their length (64 bits) and their bytes.

use std::ffi::OsStr;
use std::path::Path;

use crate::sys;

const MAGIC: &[u8; 8] = b"durafile";

/// Changes with every change of a record's meaning. Readers leave records of other versions alone.
const VERSION: u32 = 1;

const HEADER: usize = MAGIC.len() + 1 + 4 + 8;

/// Why a record can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// It was written by another version of this crate.
    Unknown,
    /// It doesn't match its checksum.
    Corrupt,
}

/// A record in the making.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: u8) -> Writer {
        let mut bytes = MAGIC.to_vec();
        bytes.push(kind);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        Writer(bytes)
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    pub(crate) fn name(&mut self, name: &OsStr) {
        self.bytes(name.as_encoded_bytes());
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let rest = (self.0.len() - HEADER) as u64;
        self.0[HEADER - 8..HEADER].copy_from_slice(&rest.to_le_bytes());
        let mut sum = Checksum::new();
        sum.add(&self.0);
        self.number(sum.value());
        self.0
    }
}

/// A record that matches its checksum, being read.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn open(kind: u8, record: &'a [u8]) -> Result<Reader<'a>, Unusable> {
        let (head, rest) = record.split_at_checked(HEADER).ok_or(Unusable::Corrupt)?;
        if head[..MAGIC.len()] != *MAGIC || head[MAGIC.len()] != kind {
            return Err(Unusable::Corrupt);
        }
        let (body, sum) = record.split_at_checked(record.len() - 8).ok_or(Unusable::Corrupt)?;
        let mut found = Checksum::new();
        found.add(body);
        let mut tail = Reader(sum);
        let mut numbers = Reader(&head[MAGIC.len() + 5..]);
        let whole = numbers.number()? == (rest.len() as u64).wrapping_sub(8);
        if !whole || tail.number()? != found.value() {
            return Err(Unusable::Corrupt);
        }
        if head[MAGIC.len() + 1..MAGIC.len() + 5] != VERSION.to_le_bytes() {
            return Err(Unusable::Unknown);
        }
        Ok(Reader(&rest[..rest.len() - 8]))
    }

    pub(crate) fn number(&mut self) -> Result<u64, Unusable> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(Unusable::Corrupt)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Unusable> {
        let len = usize::try_from(self.number()?).map_err(|_| Unusable::Corrupt)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Unusable::Corrupt)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn name(&mut self) -> Result<&'a OsStr, Unusable> {
        sys::name_of_bytes(self.bytes()?).ok_or(Unusable::Corrupt)
    }

    pub(crate) fn path(&mut self) -> Result<&'a Path, Unusable> {
        Ok(Path::new(self.name()?))
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// A checksum against accidents, eight bytes at a time; the same however the data is cut.
#[derive(Clone, Debug)]
pub(crate) struct Checksum {
    hash: u64,
    /// Fewer than eight bytes that wait for more.
    rest: [u8; 8],
    waiting: usize,
    len: u64,
}

impl Checksum {
    pub(crate) fn new() -> Checksum {
        Checksum { hash: 0x243f_6a88_85a3_08d3, rest: [0; 8], waiting: 0, len: 0 }
    }

    pub(crate) fn add(&mut self, mut data: &[u8]) {
        self.len += data.len() as u64;
        if self.waiting > 0 {
            let take = data.len().min(8 - self.waiting);
            self.rest[self.waiting..self.waiting + take].copy_from_slice(&data[..take]);
            self.waiting += take;
            data = &data[take..];
            if self.waiting < 8 {
                return;
            }
            self.hash = mix(self.hash, u64::from_le_bytes(self.rest));
        }
        let words = data.chunks_exact(8);
        let rest = words.remainder();
        self.hash =
            words.fold(self.hash, |hash, word| mix(hash, word.try_into().map_or(0, u64::from_le_bytes)));
        self.rest[..rest.len()].copy_from_slice(rest);
        self.waiting = rest.len();
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn value(&self) -> u64 {
        let mut last = [0; 8];
        last[..self.waiting].copy_from_slice(&self.rest[..self.waiting]);
        let hash = mix(mix(self.hash, u64::from_le_bytes(last)), self.len);
        hash ^ (hash >> 29)
    }
}

/// Both steps can be undone, so that any one changed word changes the result.
fn mix(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut record = Writer::new(b'x');
        record.number(7);
        record.name(OsStr::new("a/b"));
        record.finish()
    }

    #[test]
    fn a_record_reads_back_and_ends() {
        let bytes = sample();
        let mut record = Reader::open(b'x', &bytes).unwrap();
        assert_eq!(record.number(), Ok(7));
        assert_eq!(record.path(), Ok(Path::new("a/b")));
        assert!(record.is_at_end());
        assert_eq!(record.number(), Err(Unusable::Corrupt));
        assert_eq!(Reader::open(b'y', &bytes).err(), Some(Unusable::Corrupt));
    }

    #[test]
    fn any_bit_flipped_and_any_other_length_is_corrupt() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(Reader::open(b'x', &flipped).err(), Some(Unusable::Corrupt), "{at}.{bit}");
            }
            assert_eq!(Reader::open(b'x', &bytes[..at]).err(), Some(Unusable::Corrupt));
        }
        assert!(Reader::open(b'x', &[&bytes[..], b"\0"].concat()).is_err());
    }

    #[test]
    fn another_version_is_told_from_damage() {
        let mut bytes = sample();
        bytes[MAGIC.len() + 1] = 2;
        let body = bytes.len() - 8;
        let mut sum = Checksum::new();
        sum.add(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum.value().to_le_bytes());
        assert_eq!(Reader::open(b'x', &bytes).err(), Some(Unusable::Unknown));
    }

    #[test]
    fn the_checksum_does_not_depend_on_how_the_data_is_cut() {
        let data: Vec<u8> = (0..100).collect();
        let whole = sum_of([&data[..]]);
        for cut in 0..data.len() {
            let (a, b) = data.split_at(cut);
            assert_eq!(sum_of([a, b]), whole);
        }
        assert_ne!(sum_of([&[][..]]), sum_of([&[0][..]]), "length counts");
    }

    fn sum_of<const N: usize>(parts: [&[u8]; N]) -> u64 {
        let mut sum = Checksum::new();
        parts.into_iter().for_each(|part| sum.add(part));
        sum.value()
    }
}
