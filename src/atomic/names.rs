//! The names of what we put beside a target: short, unguessable, recognisable beyond chance.
//!
//! `.durafile-` + a letter for what it is + `-` + 20 random characters (100 bits) + 6 check
//! characters (30 bits) over what stands before. The length doesn't depend on the target's name.

use std::ffi::{OsStr, OsString};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

const PREFIX: &str = ".durafile-";
/// Lower case only, so that file systems that fold case keep names apart.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const RANDOM: usize = 20;
const CHECK: usize = 6;

/// What a remnant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The staged content of one file.
    Stage,
    /// A directory in which files of a set are staged.
    StageDir,
    /// What a writer locks, to be the only one.
    Lock,
    /// A directory in which files of a transaction are staged.
    Change,
    /// The record of a transaction that is decided.
    Journal,
    /// What recovery could not decide.
    Quarantined,
    /// A version of a directory that is not the target yet, or not any more.
    Tree,
    /// The old version of a directory while a swap in several steps is under way.
    Kept,
    /// The record of such a swap.
    Swap,
}

impl Role {
    const ALL: [Role; 9] = [
        Role::Stage,
        Role::StageDir,
        Role::Lock,
        Role::Change,
        Role::Journal,
        Role::Quarantined,
        Role::Tree,
        Role::Kept,
        Role::Swap,
    ];

    const fn letter(self) -> char {
        match self {
            Role::Stage => 's',
            Role::StageDir => 'b',
            Role::Lock => 'l',
            Role::Change => 'x',
            Role::Journal => 'j',
            Role::Quarantined => 'q',
            Role::Tree => 'd',
            Role::Kept => 'o',
            Role::Swap => 'r',
        }
    }
}

/// Is this the name of something that durafile put beside a target and that a crash may leave?
///
/// For programs that list directories and want to pass such entries over. The name alone is
/// judged, by a prefix and a checksum; no ordinary name passes by chance.
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
    let (body, check) = text.split_at(text.len().checked_sub(CHECK)?);
    (well_formed && check == encode(checksum(body), CHECK)).then_some(role)
}

/// A fresh name, which nobody can predict.
pub(crate) fn fresh(role: Role) -> OsString {
    name(role, u128::from(unpredictable()) << 64 | u128::from(unpredictable()))
}

/// The one name that belongs to a target, however long the target's own name is.
pub(crate) fn for_target(role: Role, target: &OsStr) -> OsString {
    let hash =
        target.as_encoded_bytes().iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, &b| {
            (hash ^ u128::from(b)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
        });
    name(role, hash ^ (hash >> 64))
}

fn name(role: Role, bits: u128) -> OsString {
    let body = format!("{PREFIX}{}-{}", role.letter(), encode(bits, RANDOM));
    let check = encode(checksum(&body), CHECK);
    OsString::from(body + &check)
}

/// SipHash under keys from the operating system, which are asked for once.
static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Asks for the keys, so that every save after the first makes the same system calls.
pub(crate) fn prepare() {
    LazyLock::force(&KEYS);
}

/// Counter and time make each input new, mostly in a forked child too; a name that is taken after
/// all is refused by the exclusive create, and another is tried.
fn unpredictable() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut hasher = KEYS.build_hasher();
    hasher.write_u64(COUNTER.fetch_add(1, Ordering::Relaxed));
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    hasher.write_u128(now.as_nanos());
    hasher.finish()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_names_are_short_distinct_and_recognised() {
        let names: std::collections::HashSet<_> = (0..10_000).map(|_| fresh(Role::Stage)).collect();
        assert_eq!(names.len(), 10_000);
        for name in &names {
            assert!(is_remnant(name), "{name:?}");
            assert!(name.len() < 48);
        }
    }

    #[test]
    fn a_name_with_any_one_character_changed_is_not_ours() {
        let name = fresh(Role::Stage).into_string().unwrap();
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
    }
}
