//! The contents that the inode of one file may have after a crash.

use std::sync::Arc;

use crate::crash_testing::disk::{Body, Inode};
use crate::crash_testing::units::{BLOCK, Change, Kind, Unit};
use crate::sys::ACL;
use crate::sys::recorder::Access;

/// How much of one unit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Choice {
    Absent,
    Whole,
    /// Of a write: the length is there, the data is not.
    Zeros,
    /// Of a write: what stands before this block boundary, which is the file's end if it was
    /// beyond the end before.
    Before(Cut),
    /// Of a write: the length, and what stands after the first block boundary.
    After,
    /// Of a write: the length, and every second block, from the first on.
    Alternate,
}

/// The block boundaries at which a write is torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cut {
    First,
    Middle,
    Last,
}

impl Choice {
    /// All, each with its sign in the name of a state.
    pub(crate) const SIGNS: [(Choice, char); 8] = [
        (Choice::Absent, '0'),
        (Choice::Whole, '1'),
        (Choice::Zeros, 'z'),
        (Choice::Before(Cut::First), 'a'),
        (Choice::Before(Cut::Middle), 'b'),
        (Choice::Before(Cut::Last), 'c'),
        (Choice::After, 'd'),
        (Choice::Alternate, 'e'),
    ];

    pub(crate) fn sign(self) -> char {
        Self::SIGNS.iter().find(|(choice, _)| *choice == self).map_or('?', |(_, sign)| *sign)
    }

    pub(crate) fn of_sign(sign: char) -> Option<Choice> {
        Self::SIGNS.iter().find(|(_, known)| *known == sign).map(|(choice, _)| *choice)
    }
}

/// The outcomes that a unit may have, the likely ones first.
pub(crate) fn choices(unit: &Unit) -> Vec<Choice> {
    let mut all = vec![Choice::Absent, Choice::Whole];
    if let Kind::Write { offset, data, .. } = &unit.kind {
        all.push(Choice::Zeros);
        let cuts = [Cut::First, Cut::Middle, Cut::Last];
        let mut places = Vec::new();
        for cut in cuts {
            let place = boundary(*offset, data.len() as u64, cut);
            if let Some(place) = place.filter(|place| !places.contains(place)) {
                places.push(place);
                all.push(Choice::Before(cut));
            }
        }
        if !places.is_empty() {
            all.push(Choice::After);
        }
        if places.len() > 1 {
            all.push(Choice::Alternate);
        }
    }
    all
}

/// A block boundary strictly inside a write, if there is one.
fn boundary(offset: u64, len: u64, cut: Cut) -> Option<u64> {
    let first = offset / BLOCK + 1;
    let last = (offset + len).checked_sub(1)? / BLOCK;
    let block = match cut {
        Cut::First => first,
        Cut::Middle => first.midpoint(last),
        Cut::Last => last,
    };
    (first <= last).then_some(block * BLOCK)
}

/// Applies a unit to its inode, as far as it survives.
pub(crate) fn apply(unit: &Unit, choice: Choice, inode: &mut Inode) {
    if choice == Choice::Absent {
        return;
    }
    match &unit.kind {
        Kind::Write { offset, data, .. } => {
            if let Body::File(content) = &mut inode.body {
                write(Arc::make_mut(content), *offset, data, choice);
            }
        }
        Kind::Truncate { len, .. } => {
            if let Body::File(content) = &mut inode.body {
                Arc::make_mut(content).resize(usize_of(*len), 0);
            }
        }
        Kind::Meta { change, .. } => apply_change(change, inode),
        Kind::Entry { .. } => {}
    }
}

fn apply_change(change: &Change, inode: &mut Inode) {
    match change {
        Change::Mode(mode) => inode.access.mode = *mode,
        Change::Owner { uid, gid, clears } => {
            let mode = inode.access.mode & !clears;
            inode.access = Access { uid: *uid, gid: *gid, mode };
        }
        Change::Xattr { name, value, mode } => {
            match value {
                Some(value) => inode.xattrs.insert(name.clone(), value.clone()),
                None => inode.xattrs.remove(name),
            };
            if name.as_c_str() == ACL {
                inode.access.mode = *mode;
            }
        }
    }
}

fn write(content: &mut Vec<u8>, offset: u64, data: &[u8], choice: Choice) {
    let len = data.len() as u64;
    if choice == Choice::Alternate {
        return write_alternate(content, offset, data);
    }
    let (from, to, end) = match choice {
        Choice::Before(cut) => {
            let place = boundary(offset, len, cut).unwrap_or(offset);
            (offset, place, place)
        }
        Choice::After => (boundary(offset, len, Cut::First).unwrap_or(offset), offset + len, offset + len),
        Choice::Zeros => (offset, offset, offset + len),
        _ => (offset, offset + len, offset + len),
    };
    if content.len() < usize_of(end) {
        content.resize(usize_of(end), 0);
    }
    let source = data.get(usize_of(from - offset)..usize_of(to - offset));
    let place = content.get_mut(usize_of(from)..usize_of(to));
    if let (Some(source), Some(place)) = (source, place) {
        place.copy_from_slice(source);
    }
}

/// The first block, the third and so on.
fn write_alternate(content: &mut Vec<u8>, offset: u64, data: &[u8]) {
    let (first, end) = (offset / BLOCK, usize_of(offset) + data.len());
    if content.len() < end {
        content.resize(end, 0);
    }
    for (at, byte) in (offset..).zip(data) {
        if (at / BLOCK - first) % 2 == 0 {
            if let Some(place) = content.get_mut(usize_of(at)) {
                *place = *byte;
            }
        }
    }
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(offset: u64, len: usize) -> Unit {
        Unit { op: 0, kind: Kind::Write { node: 1, offset, data: vec![b'n'; len].into() } }
    }

    #[test]
    fn a_write_within_one_block_is_there_or_not_or_is_zeros() {
        use Choice::*;
        assert_eq!(choices(&unit(0, 4096)), [Absent, Whole, Zeros]);
        assert_eq!(choices(&unit(4090, 6)), [Absent, Whole, Zeros]);
        assert_eq!(choices(&unit(0, 0)), [Absent, Whole, Zeros]);
    }

    #[test]
    fn a_longer_write_is_torn_at_its_block_boundaries() {
        use Choice::*;
        assert_eq!(choices(&unit(4090, 7)), [Absent, Whole, Zeros, Before(Cut::First), After]);
        assert_eq!(choices(&unit(0, 5 * 4096)).len(), 8);
        let mut content = b"old".to_vec();
        write(&mut content, 0, &[b'n'; 5000], Before(Cut::First));
        assert_eq!(content, [b'n'; 4096]);
        let mut content = vec![b'o'; 5000];
        write(&mut content, 0, &[b'n'; 5000], Before(Cut::First));
        assert_eq!((content[4095], content[4096], content.len()), (b'n', b'o', 5000));
        let mut content = Vec::new();
        write(&mut content, 0, &[b'n'; 5000], After);
        assert_eq!((content[4095], content[4096], content.len()), (0, b'n', 5000));
        let mut content = vec![b'o'; 3 * 4096];
        write(&mut content, 4000, &[b'n'; 9000], Alternate);
        assert_eq!((content[4000], content[4096], content[8191], content[8192]), (b'n', b'o', b'o', b'n'));
        assert_eq!((content[12287], content[12288], content.len()), (b'n', 0, 13000));
    }
}
