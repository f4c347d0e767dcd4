//! What a device was asked to do, in order, and the disks that a power cut may make of it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use crate::device::disk::{Disk, PAGE};
use crate::random::Random;

#[derive(Clone)]
pub enum Entry {
    Write {
        offset: u64,
        data: Arc<[u8]>,
    },
    /// A discard or a write of zeros.
    Zero {
        offset: u64,
        length: u64,
    },
    /// All entries before `covers` are on the medium. Those between `covers` and this were still
    /// under way when the flush was asked for, so that it says nothing about them.
    Flush {
        covers: usize,
    },
    /// Something that the workload did.
    Mark(String),
}

/// Which of the writes that no flush covers are on the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    All,
    None,
    /// Each one or not, in any combination.
    Some,
    /// The same, and some of them in part.
    Torn,
}

/// One state: the power goes after so many entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    pub after: usize,
    pub fate: Fate,
    pub seed: u64,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fate = match self.fate {
            Fate::All => "all",
            Fate::None => "none",
            Fate::Some => "some",
            Fate::Torn => "torn",
        };
        write!(f, "{}.{fate}.{}", self.after, self.seed)
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Cut, String> {
        let bad = || format!("{text:?} is no state: <entries>.<all|none|some|torn>.<seed>");
        let mut parts = text.split('.');
        let (Some(after), Some(fate), Some(seed), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        let fate = match fate {
            "all" => Fate::All,
            "none" => Fate::None,
            "some" => Fate::Some,
            "torn" => Fate::Torn,
            _ => return Err(bad()),
        };
        Ok(Cut { after: after.parse().map_err(|_| bad())?, fate, seed: seed.parse().map_err(|_| bad())? })
    }
}

pub struct Recording {
    pub base: Disk,
    pub log: Vec<Entry>,
    /// Writes are torn at multiples of this.
    pub unit: usize,
    /// The disk after so many entries, all of them kept: where the last state was built from.
    cursor: (usize, Disk),
}

impl Recording {
    pub fn new(base: Disk, unit: usize) -> Recording {
        Recording { cursor: (0, base.clone()), base, log: Vec::new(), unit }
    }

    /// The disk of this state, and a number that equal disks of this recording share.
    pub fn disk_of(&mut self, cut: Cut) -> (Disk, u64) {
        let after = cut.after.min(self.log.len());
        let last_flush = self.log[..after].iter().rev().find_map(|entry| match entry {
            Entry::Flush { covers } => Some(*covers),
            _ => None,
        });
        let durable = last_flush.unwrap_or(0);
        if self.cursor.0 > durable {
            self.cursor = (0, self.base.clone());
        }
        for entry in &self.log[self.cursor.0..durable] {
            put(&mut self.cursor.1, entry, self.unit, |_| true);
        }
        self.cursor.0 = durable;
        let mut disk = self.cursor.1.clone();
        let mut kept = DefaultHasher::new();
        durable.hash(&mut kept);
        let mut random = Random::new(cut.seed);
        // Few lost, half lost, few kept: bugs hide at both ends.
        let percent = [8, 50, 92][random.below(3) as usize];
        for (at, entry) in self.log.iter().enumerate().take(after).skip(durable) {
            if matches!(entry, Entry::Flush { .. } | Entry::Mark(_)) {
                continue;
            }
            let keep = match cut.fate {
                Fate::All => true,
                Fate::None => false,
                Fate::Some | Fate::Torn => random.chance(percent),
            };
            if !keep {
                continue;
            }
            let (mut unit, mut units) = (self.unit, Units::All);
            if cut.fate == Fate::Torn && random.chance(40) {
                // Devices with sectors of 512 bytes mostly tear at 4096, too.
                if random.chance(50) {
                    unit = unit.max(PAGE);
                }
                let seed = random.next();
                let count = entry.length().div_ceil(unit as u64);
                units =
                    if random.chance(50) { Units::Before(seed % (count + 1)) } else { Units::Random(seed) };
            }
            put(&mut disk, entry, unit, |number| {
                let is_kept = units.holds(number);
                if is_kept {
                    (at, unit, number).hash(&mut kept);
                }
                is_kept
            });
        }
        (disk, kept.finish())
    }
}

/// Which units of a write are on the medium.
enum Units {
    All,
    Before(u64),
    Random(u64),
}

impl Units {
    fn holds(&self, unit: u64) -> bool {
        match self {
            Units::All => true,
            Units::Before(end) => unit < *end,
            Units::Random(seed) => Random::new(seed ^ unit.wrapping_mul(0x9e37)).chance(50),
        }
    }
}

impl Entry {
    fn length(&self) -> u64 {
        match self {
            Entry::Write { data, .. } => data.len() as u64,
            Entry::Zero { length, .. } => *length,
            Entry::Flush { .. } | Entry::Mark(_) => 0,
        }
    }
}

fn put(disk: &mut Disk, entry: &Entry, unit: usize, mut keep: impl FnMut(u64) -> bool) {
    match entry {
        Entry::Write { offset, data } => {
            for (number, part) in data.chunks(unit).enumerate() {
                if keep(number as u64) {
                    disk.write(offset + (number * unit) as u64, part);
                }
            }
        }
        Entry::Zero { offset, length } => {
            let unit = unit as u64;
            for number in 0..length.div_ceil(unit) {
                if keep(number) {
                    disk.zero(offset + number * unit, unit.min(length - number * unit));
                }
            }
        }
        Entry::Flush { .. } | Entry::Mark(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(offset: u64, byte: u8) -> Entry {
        Entry::Write { offset, data: vec![byte; 1024].into() }
    }

    #[test]
    fn what_a_flush_covers_is_always_there_and_nothing_after_the_cut_ever_is() {
        let mut recording = Recording::new(Disk::new(1 << 16), 512);
        let mark = Entry::Mark("b 1".to_owned());
        recording.log = vec![
            write(0, 1),
            write(4096, 2),
            Entry::Flush { covers: 1 },
            mark,
            write(8192, 3),
            write(12288, 4),
        ];
        let mut seen = [false; 2];
        for seed in 0..200 {
            for fate in [Fate::All, Fate::None, Fate::Some, Fate::Torn] {
                let (disk, _) = recording.disk_of(Cut { after: 5, fate, seed });
                assert_eq!(disk.read(0, 1024), [1; 1024], "it was flushed");
                assert_eq!(disk.read(12288, 1024), [0; 1024], "it came later");
                let uncovered = disk.read(4096, 1024);
                seen[0] |= uncovered == [0; 1024];
                seen[1] |= uncovered[..512] != uncovered[512..];
                assert!(fate == Fate::Torn || uncovered[..512] == uncovered[512..]);
            }
        }
        assert_eq!(seen, [true; 2], "lost, and torn");
    }

    #[test]
    fn a_state_is_the_same_whatever_was_built_before() {
        let mut recording = Recording::new(Disk::new(1 << 16), 512);
        for n in 0..60u64 {
            recording.log.push(write(n % 16 * 4096, n as u8));
            if n % 7 == 0 {
                recording.log.push(Entry::Flush { covers: recording.log.len() });
            }
        }
        let build = |recording: &mut Recording, after| {
            let (disk, kept) = recording.disk_of(Cut { after, fate: Fate::Torn, seed: 5 });
            (disk.read(0, 1 << 16), kept)
        };
        let first = build(&mut recording, 20);
        assert!(first != build(&mut recording, 60));
        assert!(first == build(&mut recording, 20));
    }

    #[test]
    fn a_state_is_read_as_it_was_printed() {
        for fate in [Fate::All, Fate::None, Fate::Some, Fate::Torn] {
            let cut = Cut { after: 17, fate, seed: u64::MAX };
            assert_eq!(cut.to_string().parse(), Ok(cut));
        }
        assert!("3.some".parse::<Cut>().is_err());
    }
}
