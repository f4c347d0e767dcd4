//! May two names of one directory be one file? The directory is asked.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use crate::sys::{Dir, FileId, absent};

/// Names that may be one have the same key. Letters that have no ASCII form in another case count for nothing, however
/// they are spelled.
pub(crate) fn loose_key(path: &Path) -> String {
    const MARKS: std::ops::RangeInclusive<char> = '\u{300}'..='\u{36f}';
    let mut key = String::new();
    let mut is_bare = false;
    for letter in without_case(path).chars() {
        if MARKS.contains(&letter) && is_bare {
            key.pop();
        }
        is_bare = letter.is_ascii();
        if is_bare {
            key.push(letter);
        }
    }
    key
}

/// Upper case brings together what has several lower cases, and `\u{df}` with `ss`; `\u{1e9e}` needs lower case before.
pub(crate) fn without_case(path: &Path) -> String {
    // Windows has two separators.
    let text = path.iter().map(OsStr::to_string_lossy).collect::<Vec<_>>().join("/");
    text.to_lowercase().to_uppercase().to_lowercase()
}

/// Do two names lead to one entry of a directory? None if there is nothing at either. Of two entries, links to one
/// file too, both are listed. The numbers of inodes don't tell: some file systems (exfat-fuse) give each spelling of a
/// name its own.
pub(crate) fn is_one_entry(dir: &Dir, one: &OsStr, other: &OsStr) -> io::Result<Option<bool>> {
    let (found, also) = match (absent(dir.stat_at(one))?, absent(dir.stat_at(other))?) {
        (None, None) => return Ok(None),
        (Some(found), Some(also)) => (found, also),
        _ => return Ok(Some(false)),
    };
    // Where the numbers of inodes don't tell (exfat-fuse), only case is folded.
    if found.id != also.id && without_case(one.as_ref()) != without_case(other.as_ref()) {
        return Ok(Some(false));
    }
    let listed = dir.entries()?.map(|entry| entry.map(|(name, _)| name)).collect::<io::Result<Vec<_>>>()?;
    let entry = entry_of(dir, (one, found.id), &listed)?;
    Ok(Some(entry.is_some() && entry == entry_of(dir, (other, also.id), &listed)?))
}

/// The entry that a name leads to, as the directory lists it.
fn entry_of<'a>(
    dir: &Dir,
    (name, id): (&OsStr, FileId),
    listed: &'a [OsString],
) -> io::Result<Option<&'a OsStr>> {
    if let Some(itself) = listed.iter().find(|listed| *listed == name) {
        return Ok(Some(itself));
    }
    let key = loose_key(name.as_ref());
    let alike = || listed.iter().filter(|listed| loose_key(listed.as_ref()) == key);
    for listed in alike() {
        if dir.leads_to(listed, id)? {
            return Ok(Some(listed));
        }
    }
    // Some file systems (exfat-fuse) give each spelling of a name an inode of its own.
    let folded = without_case(name.as_ref());
    Ok(alike().find(|listed| without_case(listed.as_ref()) == folded).map(OsString::as_os_str))
}

pub(crate) fn lower_case(name: &OsStr) -> OsString {
    name.to_string_lossy().to_lowercase().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_may_be_one_have_one_key() {
        let key = |name: &str| loose_key(Path::new(name));
        assert_eq!(key("Dir/Notes"), key("dir/notes"));
        // Composed and decomposed.
        assert_eq!(key("caf\u{e9}"), key("cafe\u{301}"));
        assert_eq!(key("\u{1ed9}x"), key("o\u{323}\u{302}x"));
        assert_eq!(key("\u{c9}"), key("\u{e9}"));
        #[cfg(windows)]
        assert_eq!(key("a\\b"), key("a/b"));
        assert_ne!(key("a/b"), key("ab"));
        assert_ne!(key("notes"), key("note"));
    }

    #[test]
    fn what_some_file_system_folds_has_one_key() {
        let keys = |name: &str| (loose_key(name.as_ref()), without_case(name.as_ref()));
        for (one, other) in [
            ("stra\u{df}e", "STRASSE"),
            ("\u{1e9e}", "ss"),
            ("\u{212a}", "k"),
            ("\u{17f}", "S"),
            ("\u{fb01}", "FI"),
        ] {
            assert_eq!(keys(one), keys(other), "{one} {other}");
        }
    }
}
