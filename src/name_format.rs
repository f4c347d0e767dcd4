//! The names of the files that we put beside a target: short, unguessable, recognisable beyond chance.
//!
//! `.durafile-` + a letter for what it is + `-` + 20 random characters (100 bits) + 6 check
//! characters (30 bits) over what stands before. The length doesn't depend on the target's name.

use std::ffi::{OsStr, OsString};

const PREFIX: &str = ".durafile-";
/// Lower case only, so that file systems that fold case keep names apart.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const RANDOM: usize = 20;
const CHECK: usize = 6;

/// The role of a remnant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The staged content of one file.
    Stage,
    /// A directory in which files of a set are staged.
    StagingDir,
    /// The file that a writer locks, to be the only one.
    Lock,
    /// A directory in which files of a transaction are staged.
    Change,
    /// The record of a transaction that is decided.
    Journal,
    /// Something that recovery could not decide.
    Quarantined,
    /// A version of a directory that is not the target yet, or not any more.
    Tree,
    /// The old version of a directory while a swap in several steps is under way.
    Kept,
    /// The record of such a swap.
    Swap,
    /// A file of a transaction that is decided, beside the one that it is about to replace. It has its staged
    /// name, too, until the transaction is done.
    Passing,
    /// The old content of a file that is being overwritten where it stands, and the record of that.
    Undo,
}

impl Role {
    const ALL: [Role; 11] = [
        Role::Stage,
        Role::StagingDir,
        Role::Lock,
        Role::Change,
        Role::Journal,
        Role::Quarantined,
        Role::Tree,
        Role::Kept,
        Role::Swap,
        Role::Passing,
        Role::Undo,
    ];

    const fn letter(self) -> char {
        match self {
            Role::Stage => 's',
            Role::StagingDir => 'b',
            Role::Lock => 'l',
            Role::Change => 'x',
            Role::Journal => 'j',
            Role::Quarantined => 'q',
            Role::Tree => 'd',
            Role::Kept => 'o',
            Role::Swap => 'r',
            Role::Passing => 'p',
            Role::Undo => 'u',
        }
    }
}

/// Whether this is the name of something that durafile puts beside a target, and that a crash may leave there.
///
/// Programs that list directories can skip such entries. Only the name is looked at: it has a prefix and a checksum,
/// so no ordinary name matches by chance.
///
/// ```
/// assert!(!durafile::is_remnant(".durafile-notes.txt"));
/// ```
pub fn is_remnant(file_name: impl AsRef<OsStr>) -> bool {
    role_of(file_name.as_ref()).is_some()
}

pub(crate) fn role_of(name: &OsStr) -> Option<Role> {
    let text = name.to_str()?;
    let rest = text.strip_prefix(PREFIX)?;
    let letter = rest.chars().next()?;
    let role = Role::ALL.into_iter().find(|role| role.letter() == letter)?;
    let random = rest.strip_prefix(letter)?.strip_prefix('-')?;
    let well_formed = random.len() == RANDOM + CHECK && random.bytes().all(|b| ALPHABET.contains(&b));
    if !well_formed {
        return None;
    }
    // All of it is ASCII now, so that it can be cut anywhere.
    let (body, check) = text.split_at(text.len().checked_sub(CHECK)?);
    (check == encode(checksum(body), CHECK)).then_some(role)
}

/// The one name that belongs to a target, however long the target's own name is.
pub(crate) fn for_target(role: Role, target: &OsStr) -> OsString {
    let hash =
        target.as_encoded_bytes().iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, &b| {
            (hash ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        });
    name(role, hash ^ (hash >> 64))
}

/// The name of something in this role; 100 of the bits count.
pub(crate) fn name(role: Role, bits: u128) -> OsString {
    let body = format!("{PREFIX}{}-{}", role.letter(), encode(bits, RANDOM));
    let check = encode(checksum(&body), CHECK);
    OsString::from(body + &check)
}

/// FNV-1a, spread by a final mix. A mark, not a protection: anyone may compute it.
fn checksum(text: &str) -> u128 {
    let fnv = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    u128::from((fnv ^ (fnv >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 30)
}

fn encode(mut bits: u128, len: usize) -> String {
    let mut text = String::with_capacity(len);
    for _ in 0..len {
        text.push(char::from(ALPHABET[(bits & 31) as usize]));
        bits >>= 5;
    }
    text
}

/// The name of a staged file. Padded, because ext4 compares a name with every other one in the same
/// block of a directory: the fewer fit in there, the cheaper is each step.
pub(crate) fn name_of(number: u64) -> OsString {
    OsString::from(format!("{number:0>48}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_any_one_character_changed_is_not_ours() {
        let name = name(Role::Stage, 0x1234_5678_9abc_def0 << 60).into_string().unwrap();
        for at in 0..name.len() {
            for other in ALPHABET.iter().map(|&b| char::from(b)).chain(['.', '-', 'A', '1']) {
                let mut near: Vec<char> = name.chars().collect();
                if near[at] != other {
                    near[at] = other;
                    let near: String = near.into_iter().collect();
                    assert!(!is_remnant(&near), "{near}");
                }
            }
        }
    }

    #[test]
    fn ordinary_names_are_not_ours() {
        for name in ["", ".", ".durafile-", "a.tmp", ".staging-x", ".durafile-s-", ".durafile-s-abc", "é"] {
            assert!(!is_remnant(name), "{name}");
        }
        // Of any length, with letters of several bytes where the checksum would begin.
        for len in 0..60 {
            for shift in ["", "a", "ab", "abc"] {
                let name = format!(".durafile-s-{shift}{}", "é€😀".repeat(len));
                assert!(!is_remnant(&name), "{name}");
            }
        }
    }
}
