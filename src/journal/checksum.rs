//! The checksum of records and of the file contents that they speak of: CRC-64/NVME.
//!
//! A published algorithm: the generator polynomial `0xad93d23594c93659` of the NVM Express
//! specification and of Linux (`lib/crc/crc64`), with the parameters of the catalogue of
//! parametrised CRC algorithms. What it guarantees, and over which length:
//!
//! - Each error of a single bit, of two bits, and each burst within 64 bits, in data of up to 2^64 - 1
//!   bits (two exbibytes): the polynomial is primitive, so that x^n is 1 for no n below 2^64 - 1, and
//!   two bits that differ can't cancel out. CRC-32 promises that for 512 MiB only, and hashes like
//!   xxHash promise it for no length.
//! - Anything else goes unseen by chance once in 2^64.
//!
//! It is a guard against accidents. Anyone can compute it: whom to believe is judged by the owner and
//! mode of a record, never by its checksum.

use std::fmt;
use std::io;

use crc::{CRC_64_NVME, Crc, Digest, Table};

use crate::sys::File;

/// Sixteen bytes a step; with one byte a step the checksum would be slower than a disk.
type Implementation = Table<16>;

static CRC: Crc<u64, Implementation> = Crc::<u64, Implementation>::new(&CRC_64_NVME);

/// The checksum of a file's content.
pub(crate) fn checksum(file: &File) -> io::Result<u64> {
    let (mut sum, mut chunk) = (Checksum::new(), vec![0; 64 << 10]);
    loop {
        match file.read_at(&mut chunk, sum.len())? {
            0 => return Ok(sum.value()),
            read => sum.add(chunk.get(..read).unwrap_or_default()),
        }
    }
}

/// A checksum in the making; the same however the data is cut.
#[derive(Clone)]
pub(crate) struct Checksum {
    digest: Digest<'static, u64, Implementation>,
    len: u64,
}

impl Checksum {
    pub(crate) fn new() -> Checksum {
        Checksum { digest: CRC.digest(), len: 0 }
    }

    pub(crate) fn of(data: &[u8]) -> u64 {
        CRC.checksum(data)
    }

    pub(crate) fn add(&mut self, data: &[u8]) {
        self.len += data.len() as u64;
        self.digest.update(data);
    }

    /// How many bytes were added.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn value(&self) -> u64 {
        self.digest.clone().finalize()
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checksum").field("len", &self.len).field("value", &self.value()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplies polynomials over GF(2), modulo the generator.
    fn times(mut a: u64, mut b: u64) -> u64 {
        let mut product = 0;
        while b != 0 {
            product ^= if b & 1 == 1 { a } else { 0 };
            b >>= 1;
            a = (a << 1) ^ if a >> 63 == 1 { CRC_64_NVME.poly } else { 0 };
        }
        product
    }

    fn x_to_the(mut exponent: u64) -> u64 {
        let (mut power, mut base) = (1, 2);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = times(power, base);
            }
            base = times(base, base);
            exponent >>= 1;
        }
        power
    }

    /// Two flipped bits go unseen where the generator divides x^n + 1, n being their distance. The least
    /// such n divides 2^64 - 1, and no proper divisor of that is one: all of them divide one of these.
    #[test]
    fn two_bits_are_told_at_any_distance_below_2_to_the_64() {
        const PRIMES: [u64; 7] = [3, 5, 17, 257, 641, 65_537, 6_700_417];
        assert_eq!(PRIMES.iter().map(|&prime| u128::from(prime)).product::<u128>(), u128::from(u64::MAX));
        assert_eq!(x_to_the(u64::MAX), 1);
        for prime in PRIMES {
            assert_ne!(x_to_the(u64::MAX / prime), 1, "all bits that are {} apart", u64::MAX / prime);
        }
    }

    #[test]
    fn any_one_or_two_bits_change_it() {
        let whole: Vec<u8> = (0..40).collect();
        let flip = |data: &mut [u8], bit: usize| data[bit / 8] ^= 1 << (bit % 8);
        let good = Checksum::of(&whole);
        for one in 0..whole.len() * 8 {
            let mut bad = whole.clone();
            flip(&mut bad, one);
            assert_ne!(Checksum::of(&bad), good, "bit {one}");
            for other in one + 1..whole.len() * 8 {
                flip(&mut bad, other);
                assert_ne!(Checksum::of(&bad), good, "bits {one} and {other}");
                flip(&mut bad, other);
            }
        }
    }

    /// A multiplying hash of eight bytes a step once stood here, which was blind to this pair everywhere.
    #[test]
    fn the_last_bit_of_a_word_and_bit_30_of_the_next_are_told() {
        let whole = vec![0x5a; 4096];
        for word in 0..whole.len() / 8 - 1 {
            let mut bad = whole.clone();
            bad[word * 8 + 7] ^= 0x80;
            bad[word * 8 + 8 + 3] ^= 0x40;
            assert_ne!(Checksum::of(&bad), Checksum::of(&whole), "word {word}");
        }
    }

    #[test]
    fn it_is_the_published_one_however_the_data_is_cut() {
        let data = b"123456789";
        assert_eq!(Checksum::of(data), 0xae8b_1486_0a79_9888, "the check value of the catalogue");
        for cut in 0..=data.len() {
            let mut sum = Checksum::new();
            sum.add(&data[..cut]);
            sum.add(&data[cut..]);
            assert_eq!((sum.value(), sum.len()), (Checksum::of(data), 9));
        }
    }
}
