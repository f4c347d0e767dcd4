//! The record of a file that is being overwritten; the old content follows it in the same file.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::journal::checksum::Checksum;
use crate::journal::encoding::{Reader, Unusable, Writer};
use crate::sys::{File, LastingId};

const KIND: u8 = b'u';

/// Nothing smaller is torn: no disk writes a part of a sector, and no kernel less than that.
pub(super) const SECTOR: u64 = 512;

/// So much is read at a time; whole sectors.
pub(super) const CHUNK: u64 = 64 << 10;

/// The record of an undo copy: the file that is overwritten, its old content and its new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UndoRecord {
    /// A name in the record's own directory, or an absolute path without links in it.
    pub(super) target: PathBuf,
    pub(super) ino: u64,
    pub(super) mode: u32,
    /// Something was mounted at the name.
    pub(super) is_mount_point: bool,
    /// The old content: its length and checksum.
    pub(super) old_len: u64,
    pub(super) old_sum: u64,
    pub(super) new_len: u64,
    /// The checksum of each [piece](Pieces) of the new content, eight bytes for each.
    pub(super) new_sums: Vec<u8>,
}

impl UndoRecord {
    /// The length of a record, or a little more, for new content of this length.
    pub(super) fn length_for(target: &Path, new_len: u64) -> u64 {
        const FRAME_AND_NUMBERS: u64 = 256;
        let pieces = new_len.div_ceil(SECTOR).saturating_add(1);
        let name = target.as_os_str().len() as u64;
        pieces.saturating_mul(8).saturating_add(name).saturating_add(FRAME_AND_NUMBERS)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut record = Writer::new(KIND);
        record.name(self.target.as_os_str());
        let is_mount_point = u64::from(self.is_mount_point);
        for number in [self.ino, self.mode.into(), is_mount_point, self.old_len, self.old_sum, self.new_len] {
            record.number(number);
        }
        record.bytes(&self.new_sums);
        // Which file the record is in tells nothing here: the target's inode does.
        record.finish(LastingId::default())
    }

    pub(super) fn decode(record: &[u8]) -> Result<UndoRecord, Unusable> {
        let mut record = Reader::open(KIND, record)?;
        let target = record.path()?.to_owned();
        let (ino, mode, is_mount_point) = (record.number()?, record.number()?, record.number()? == 1);
        let (old_len, old_sum, new_len) = (record.number()?, record.number()?, record.number()?);
        let new_sums = record.bytes()?.to_vec();
        let mode = u32::try_from(mode).map_err(|_| Unusable::Corrupt)?;
        let found = UndoRecord { target, ino, mode, is_mount_point, old_len, old_sum, new_len, new_sums };
        if found.is_sound() && record.is_at_end() { Ok(found) } else { Err(Unusable::Corrupt) }
    }

    fn is_sound(&self) -> bool {
        let is_name = self.target.file_name() == Some(self.target.as_os_str());
        let has_nul = self.target.as_os_str().as_encoded_bytes().contains(&0);
        (is_name || self.target.is_absolute() && self.target.file_name().is_some()) && !has_nul
    }

    /// The name of the target, if the record lies beside it.
    pub(super) fn name_beside(&self) -> Option<&Path> {
        (!self.target.is_absolute()).then_some(&*self.target)
    }

    /// The pieces of a file of this length that is being overwritten.
    pub(super) fn pieces(&self, range: Range<u64>) -> Pieces {
        Pieces { at: range.start, cut: self.old_len.min(self.new_len), end: range.end }
    }

    /// Is this the new content of the piece that ends there?
    pub(super) fn is_new(&self, number: u64, end: u64, content: &[u8]) -> bool {
        let sum =
            usize::try_from(number).ok().and_then(|number| self.new_sums.get(number * 8..number * 8 + 8));
        end <= self.new_len && sum == Some(&Checksum::of(content).to_le_bytes()[..])
    }
}

/// The stretches of a file that change as wholes: its sectors, cut once more where the shorter of the two contents
/// ends.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    at: u64,
    cut: u64,
    end: u64,
}

impl Iterator for Pieces {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        let start = self.at;
        let sector = (start / SECTOR + 1) * SECTOR;
        let cut = if start < self.cut { self.cut } else { u64::MAX };
        self.at = sector.min(cut).min(self.end);
        (start < self.end).then_some(start..self.at)
    }
}

/// The checksum of each piece of the new content.
pub(super) fn sums_of(new: &File, new_len: u64, old_len: u64) -> io::Result<Vec<u8>> {
    let (mut sums, mut chunk) = (Vec::new(), vec![0; CHUNK as usize]);
    let mut at = 0;
    while at < new_len {
        let end = new_len.min(at + CHUNK);
        let read = chunk.get_mut(..(end - at) as usize).unwrap_or_default();
        if new.read_full(read, at)? < read.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for piece in (Pieces { at, cut: old_len.min(new_len), end }) {
            let content = within(read, at, &piece);
            sums.extend(Checksum::of(content).to_le_bytes());
        }
        at = end;
    }
    Ok(sums)
}

/// The part of a chunk, which begins at `at`, that is this piece.
pub(super) fn within<'c>(chunk: &'c [u8], at: u64, piece: &Range<u64>) -> &'c [u8] {
    chunk.get((piece.start - at) as usize..(piece.end - at) as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::encoding::check_length;

    fn sample() -> UndoRecord {
        UndoRecord {
            target: "settings.toml".into(),
            ino: 7,
            mode: 0o640,
            is_mount_point: true,
            old_len: 3,
            old_sum: 4,
            new_len: 5,
            new_sums: vec![1; 16],
        }
    }

    #[test]
    fn a_record_reads_back() {
        let record = sample();
        assert_eq!(UndoRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn no_record_is_longer_than_its_length_was_said_to_be() {
        for new_len in [0, 1, 511, 512, 513, 100_000] {
            for old_len in [0, 3, 512, 700, 200_000] {
                let record = UndoRecord { old_len, new_len, ..sample() };
                let new_sums = vec![0; record.pieces(0..new_len).count() * 8];
                let length = UndoRecord { new_sums, ..record.clone() }.encode().len() as u64;
                let said = UndoRecord::length_for(&record.target, new_len);
                assert!(length <= said && said < length + 256, "{old_len}, {new_len}: {length}, {said}");
            }
        }
        // Where the undo copy could not be read back, nothing is overwritten.
        let is_readable = |new_len| check_length(UndoRecord::length_for("name".as_ref(), new_len)).is_ok();
        assert!(is_readable(60 << 30) && !is_readable(64 << 30) && !is_readable(u64::MAX));
    }

    #[cfg(unix)]
    #[test]
    fn a_record_that_names_anything_but_a_name_or_an_absolute_path_is_corrupt() {
        for target in ["", ".", "..", "a/b", "/", "a\0", "/a/.."] {
            let record = UndoRecord { target: target.into(), ..sample() };
            assert_eq!(UndoRecord::decode(&record.encode()), Err(Unusable::Corrupt), "{target:?}");
        }
    }

    #[test]
    fn pieces_end_at_sectors_and_where_the_shorter_content_ends() {
        let all = |old_len, new_len, range| {
            let record = UndoRecord { old_len, new_len, ..sample() };
            record.pieces(range).map(|piece| (piece.start, piece.end)).collect::<Vec<_>>()
        };
        assert_eq!(all(3, 5, 0..5), [(0, 3), (3, 5)]);
        assert_eq!(all(600, 1100, 0..1100), [(0, 512), (512, 600), (600, 1024), (1024, 1100)]);
        assert_eq!(all(1100, 512, 512..1100), [(512, 1024), (1024, 1100)]);
        assert_eq!(all(0, 512, 0..512), [(0, 512)]);
        assert_eq!(all(0, 0, 0..0), []);
    }
}
