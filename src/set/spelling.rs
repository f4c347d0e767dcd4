//! Are two names one? Some file systems don't compare names by their bytes: they fold case, and composed and
//! decomposed letters. Only the file system knows how, and so it is asked, about names that look alike.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use crate::remnant::trust::absent;
use crate::sys::{Dir, FileId};

/// Names that may be one have the same key. What differs by more than case and marks on letters is never asked
/// about: letters that are not of ASCII count for nothing, however they are spelled.
pub(crate) fn loose_key(path: &Path) -> String {
    const MARKS: std::ops::RangeInclusive<char> = '\u{300}'..='\u{36f}';
    let mut key = String::new();
    let mut is_bare = false;
    // Windows has two separators.
    let parts: Vec<_> = path.iter().map(OsStr::to_string_lossy).collect();
    for letter in parts.join("/").chars() {
        if MARKS.contains(&letter) && is_bare {
            key.pop();
        }
        is_bare = letter.is_ascii();
        if is_bare {
            key.push(letter.to_ascii_lowercase());
        }
    }
    key
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
        if absent(dir.stat_at(listed))?.is_some_and(|found| found.id == id) {
            return Ok(Some(listed));
        }
    }
    // Some file systems (exfat-fuse) give each spelling of a name an inode of its own.
    let lower = lower_case(name);
    Ok(alike().find(|listed| lower_case(listed) == lower).map(OsString::as_os_str))
}

pub(crate) fn lower_case(name: &OsStr) -> OsString {
    name.to_string_lossy().to_lowercase().into()
}

/// Would they be one, as far as a private directory on the same file system tells?
pub(crate) fn would_be_one(private: &Dir, one: &OsStr, other: &OsStr) -> io::Result<bool> {
    drop(private.create_new(one, 0o600)?);
    let found = absent(private.stat_at(other));
    private.unlink(one)?;
    Ok(found?.is_some())
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
}
