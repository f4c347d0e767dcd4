//! Names and records as anybody can make them who has read the library: neither has a secret.

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The roles that a name can have.
pub(crate) const LETTERS: [char; 9] = ['s', 'b', 'l', 'x', 'j', 'q', 'd', 'o', 'r'];

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
        bytes.push(kind);
        bytes.extend(1u32.to_le_bytes());
        bytes.extend([0; 8]);
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

/// Ends a record: its length and its checksum are made right.
pub(crate) fn seal(record: &mut Vec<u8>) {
    const HEADER: usize = 21;
    record.resize(record.len().max(HEADER), 0);
    let rest = (record.len() - HEADER) as u64;
    record[HEADER - 8..HEADER].copy_from_slice(&rest.to_le_bytes());
    let sum = checksum(record);
    record.extend(sum.to_le_bytes());
}

pub(crate) fn checksum(data: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
    let mut words = data.chunks_exact(8);
    let hash = words
        .by_ref()
        .fold(0x243f_6a88_85a3_08d3, |hash, word| mix(hash, u64::from_le_bytes(word.try_into().unwrap())));
    let mut last = [0; 8];
    last[..words.remainder().len()].copy_from_slice(words.remainder());
    let hash = mix(mix(hash, u64::from_le_bytes(last)), data.len() as u64);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_made_here_are_what_the_library_makes() {
        for letter in super::LETTERS {
            assert!(durafile::is_remnant(super::name(letter, 7)));
        }
        let home = crate::support::dir();
        let held = durafile::AtomicDir::create(home.path().join("folder")).unwrap();
        let lock = std::ffi::OsString::from(super::for_target('l', "folder"));
        assert!(crate::support::names(&home).contains(&lock));
        drop(held);
    }
}
