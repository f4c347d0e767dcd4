//! Names and records as anybody can make them who has read the library: neither has a secret.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The roles that a name can have.
pub(crate) const LETTERS: [char; 10] = ['s', 'b', 'l', 'x', 'j', 'q', 'd', 'o', 'r', 'u'];

pub(crate) fn name(letter: char, bits: u128) -> String {
    let body = format!(".durafile-{letter}-{}", encode(bits, 20));
    let fnv = body
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    let check = (fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 30;
    body + &encode(u128::from(check), 6)
}

/// The name that belongs to a target: of its lock, and of the record of its swap.
pub(crate) fn for_target(letter: char, target: &str) -> String {
    let hash = target.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, b| {
        (hash ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    name(letter, hash ^ (hash >> 64))
}

fn encode(mut bits: u128, len: usize) -> String {
    let mut text = String::new();
    for _ in 0..len {
        text.push(char::from(ALPHABET[(bits & 31) as usize]));
        bits >>= 5;
    }
    text
}

/// The name of a staged file in the directory of its set.
pub(crate) fn name_of(number: u64) -> String {
    format!("{number:0>48}")
}

/// A record in the making; [`seal`] ends it.
pub(crate) struct Record(pub(crate) Vec<u8>);

impl Record {
    pub(crate) fn new(kind: u8) -> Record {
        let mut bytes = b"durafile".to_vec();
        bytes.extend(1u32.to_le_bytes());
        bytes.push(kind);
        bytes.extend([0; 24]);
        Record(bytes)
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    pub(crate) fn name(&mut self, name: &str) {
        self.number(name.len() as u64);
        self.0.extend(name.as_bytes());
    }
}

/// Ends a record: its length, its own inode and its checksum are made right. When it was created is not told.
pub(crate) fn seal(record: &mut Vec<u8>, own: u64) {
    const HEADER: usize = 37;
    record.resize(record.len().max(HEADER), 0);
    let rest = (record.len() - HEADER) as u64;
    record[HEADER - 24..HEADER - 16].copy_from_slice(&own.to_le_bytes());
    record[HEADER - 8..HEADER].copy_from_slice(&rest.to_le_bytes());
    let sum = checksum(record);
    record.extend(sum.to_le_bytes());
}

/// CRC-64/NVME, written down a second time: bit by bit.
pub(crate) fn checksum(data: &[u8]) -> u64 {
    const REVERSED: u64 = 0xad93_d235_94c9_3659_u64.reverse_bits();
    let step = |crc: u64| (crc >> 1) ^ if crc & 1 == 1 { REVERSED } else { 0 };
    let byte = |crc: u64, &byte: &u8| (0..8).fold(crc ^ u64::from(byte), |crc, _| step(crc));
    !data.iter().fold(u64::MAX, byte)
}

/// The record of a swap in steps that puts a directory in the place of `old`; or of one that can't be renamed, whichever
/// that may be.
#[cfg(unix)]
pub(crate) fn record_swapping(target: &str, stage: &str, old: Option<&std::path::Path>) -> Record {
    use std::os::unix::fs::MetadataExt;
    let mut record = Record::new(b'd');
    [target, stage, &name('o', 1), &name('d', 2)].into_iter().for_each(|n| record.name(n));
    let was = old.map_or([0; 4], |old| {
        let found = std::fs::metadata(old).unwrap();
        [1, found.ino(), found.mtime() as u64, found.mtime_nsec() as u64]
    });
    was.into_iter().for_each(|number| record.number(number));
    record
}
