//! The frame of a record: how it begins, how it ends, and how numbers and names stand in it.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `durafile` in ASCII |
//! | 4 | the version of the format |
//! | 1 | a letter for the kind of record |
//! | 8 | the inode of the record's own file |
//! | 8 | when that was created, in nanoseconds; 0 if unknown |
//! | 8 | the length of the body |
//! | | the body |
//! | 8 | the [checksum](crate::journal::checksum) of everything before it |
//!
//! Numbers are little endian; byte strings are their length (8 bytes) and their bytes. Magic and version
//! keep their places in every version, and are looked at before anything else: a reader can always tell a
//! record that a newer version of this crate wrote, whose checksum it can't know, from a damaged one.
//!
//! A record that names another file than its own was copied, with its tree, or restored from a backup. There
//! the inodes of other files that it speaks of mean nothing either.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use crate::journal::checksum::Checksum;
use crate::sys::{self, File, LastingId};

const MAGIC: &[u8; 8] = b"durafile";

/// Changes with every change of a record's meaning. Readers leave records of other versions alone.
const VERSION: u32 = 1;

const KIND_AT: usize = MAGIC.len() + 4;
const OWN_AT: usize = KIND_AT + 1;
const BORN_AT: usize = OWN_AT + 8;
const LENGTH_AT: usize = BORN_AT + 8;
const HEADER: usize = LENGTH_AT + 8;
const SUM: usize = 8;

/// No record of ours is longer: some four million changes.
const LONGEST: usize = 1 << 30;

/// Refuses what could not be read back, before anything relies on it.
pub(crate) fn check_length(record: u64) -> io::Result<()> {
    if record > LONGEST as u64 { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(()) }
}

/// Why a record can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Another version of this crate wrote the record.
    Unknown,
    /// The file is no record, or doesn't match its checksum, or says what no record of ours says.
    Corrupt,
}

/// Reads what may be a record. What is too long for one comes back cut off, and so as a corrupt one.
pub(crate) fn read(file: &File) -> io::Result<Vec<u8>> {
    read_at_most(file, LONGEST + 1)
}

/// Reads a file to its end, or so many bytes of it.
pub(crate) fn read_at_most(file: &File, longest: usize) -> io::Result<Vec<u8>> {
    let (mut content, mut chunk) = (Vec::new(), vec![0; longest.min(64 << 10)]);
    while content.len() < longest {
        match file.read_at(&mut chunk, content.len() as u64)? {
            0 => break,
            read => content.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
    }
    content.truncate(longest);
    Ok(content)
}

/// Reads a record that something else follows in its file, and says where that begins. What is no record comes
/// back as it is.
pub(crate) fn read_leading(file: &File) -> io::Result<(Vec<u8>, u64)> {
    let mut record = vec![0; HEADER];
    let read = file.read_full(&mut record, 0)?;
    record.truncate(read);
    let length =
        record.get(LENGTH_AT..HEADER).and_then(|length| length.try_into().ok().map(u64::from_le_bytes));
    // A damaged length is no reason to ask for memory.
    let longest = file.stat()?.size.min(LONGEST as u64);
    let end =
        length.and_then(|length| length.checked_add((HEADER + SUM) as u64)).filter(|end| *end <= longest);
    if let Some(end) = end.and_then(|end| usize::try_from(end).ok()) {
        record.resize(end, 0);
        let read = file.read_full(&mut record, 0)?;
        record.truncate(read);
    }
    let end = record.len() as u64;
    Ok((record, end))
}

/// A record in the making.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: u8) -> Writer {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.push(kind);
        bytes.resize(HEADER, 0);
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

    /// `own` is the file that the record is going to be in.
    pub(crate) fn finish(mut self, own: LastingId) -> Vec<u8> {
        let length = (self.0.len() - HEADER) as u64;
        self.0[OWN_AT..BORN_AT].copy_from_slice(&own.ino.to_le_bytes());
        self.0[BORN_AT..LENGTH_AT].copy_from_slice(&own.born.to_le_bytes());
        self.0[LENGTH_AT..HEADER].copy_from_slice(&length.to_le_bytes());
        let sum = Checksum::of(&self.0);
        self.number(sum);
        self.0
    }
}

/// A record that matches its checksum, being read.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The file that it was written to.
    own: LastingId,
}

impl<'a> Reader<'a> {
    /// Checks the frame in this order: magic, version, checksum, kind, length.
    pub(crate) fn open(kind: u8, record: &'a [u8]) -> Result<Reader<'a>, Unusable> {
        let rest = record.strip_prefix(MAGIC).ok_or(Unusable::Corrupt)?;
        let (version, _) = rest.split_first_chunk::<4>().ok_or(Unusable::Corrupt)?;
        if *version != VERSION.to_le_bytes() {
            return Err(Unusable::Unknown);
        }
        let (framed, sum) = record.split_last_chunk::<SUM>().ok_or(Unusable::Corrupt)?;
        let (head, body) = framed.split_at_checked(HEADER).ok_or(Unusable::Corrupt)?;
        let mut numbers = Reader { rest: &head[OWN_AT..], own: LastingId::default() };
        let own = LastingId { ino: numbers.number()?, born: numbers.number()? };
        let length = numbers.number()?;
        let is_whole = Checksum::of(framed) == u64::from_le_bytes(*sum) && length == body.len() as u64;
        if is_whole && head[KIND_AT] == kind {
            Ok(Reader { rest: body, own })
        } else {
            Err(Unusable::Corrupt)
        }
    }

    pub(crate) fn number(&mut self) -> Result<u64, Unusable> {
        let (number, rest) = self.rest.split_first_chunk::<8>().ok_or(Unusable::Corrupt)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*number))
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Unusable> {
        let len = usize::try_from(self.number()?).map_err(|_| Unusable::Corrupt)?;
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Unusable::Corrupt)?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn name(&mut self) -> Result<&'a OsStr, Unusable> {
        sys::name_of_bytes(self.bytes()?).ok_or(Unusable::Corrupt)
    }

    pub(crate) fn path(&mut self) -> Result<&'a Path, Unusable> {
        Ok(Path::new(self.name()?))
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn own(&self) -> LastingId {
        self.own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: LastingId = LastingId { ino: 9, born: 8 };

    fn sample() -> Vec<u8> {
        let mut record = Writer::new(b'x');
        record.number(7);
        record.name(OsStr::new("a/b"));
        record.finish(OWN)
    }

    #[test]
    fn a_record_reads_back_and_ends() {
        let bytes = sample();
        let mut record = Reader::open(b'x', &bytes).unwrap();
        assert_eq!(record.own(), OWN);
        assert_eq!(record.number(), Ok(7));
        assert_eq!(record.path(), Ok(Path::new("a/b")));
        assert!(record.is_at_end());
        assert_eq!(record.number(), Err(Unusable::Corrupt));
        assert_eq!(Reader::open(b'y', &bytes).err(), Some(Unusable::Corrupt));
    }

    #[test]
    fn a_record_that_could_not_be_read_back_is_too_large() {
        assert!(check_length(0).is_ok());
        assert!(check_length(LONGEST as u64).is_ok());
        let error = check_length(LONGEST as u64 + 1).unwrap_err();
        assert_eq!(crate::error_kind::ErrorKind::of(&error), crate::error_kind::ErrorKind::TooLarge);
    }

    #[test]
    fn any_bit_flipped_and_any_other_length_is_told() {
        let bytes = sample();
        for at in 0..bytes.len() {
            // A version that is none of ours is not looked into.
            let is_version = (MAGIC.len()..KIND_AT).contains(&at);
            let told = if is_version { Unusable::Unknown } else { Unusable::Corrupt };
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                assert_eq!(Reader::open(b'x', &flipped).err(), Some(told), "{at}.{bit}");
            }
            assert_eq!(Reader::open(b'x', &bytes[..at]).err(), Some(Unusable::Corrupt));
        }
        assert!(Reader::open(b'x', &[&bytes[..], b"\0"].concat()).is_err());
    }

    #[test]
    fn another_version_is_told_by_magic_and_version_alone() {
        let later = [&MAGIC[..], &2u32.to_le_bytes(), b"whatever it may be"].concat();
        assert_eq!(Reader::open(b'x', &later).err(), Some(Unusable::Unknown));
        assert_eq!(Reader::open(b'x', &later[..KIND_AT]).err(), Some(Unusable::Unknown));
    }
}
