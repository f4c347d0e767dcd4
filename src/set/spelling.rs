//! Are two names one? Some file systems don't compare names by their bytes: they fold case, and composed and
//! decomposed letters. Only the file system knows how, and so it is asked, about names that look alike.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::spelling::{loose_key, without_case};
use crate::names::Role;
use crate::set::staging_dir::StagingDir;
use crate::sys::{self, Dir, FsKind, absent};

/// Which names in a directory have to be compared. A set with many names of letters beyond ASCII has many with one
/// [`loose_key`], and on most file systems none of them needs to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// None.
    Bytes,
    /// Those that differ in case.
    IgnoringCase,
    /// Composed and decomposed letters count as one, too; also the answer if nothing is known.
    Loose,
}

impl Comparison {
    /// Finds out with a short-lived file in a private directory.
    pub(crate) fn ask(private: &Dir) -> io::Result<Comparison> {
        const NAME: &str = "a\u{e9}";
        if private.create_new(NAME.as_ref(), 0o600).is_err() {
            return Ok(Comparison::Loose);
        }
        let is_one = |other: &str| !matches!(absent(private.stat_at(other.as_ref())), Ok(None));
        let comparison = match () {
            () if is_one("ae\u{301}") => Comparison::Loose,
            () if is_one("A\u{e9}") || is_one("a\u{c9}") => Comparison::IgnoringCase,
            () if may_differ_from_its_parent(private) => Comparison::IgnoringCase,
            () => Comparison::Bytes,
        };
        private.unlink(NAME.as_ref())?;
        Ok(comparison)
    }

    /// The same for the directory `path` below `root`, as far as flags show that one on the way has its own way to compare
    /// names.
    pub(crate) fn below(self, root: &Dir, path: &Path) -> Comparison {
        for at in path.ancestors() {
            let has_flag = match at.as_os_str().is_empty() {
                true => Ok(root.has_casefold_flag()),
                false => root.open_beneath(at).map(|dir| dir.has_casefold_flag()),
            };
            match has_flag {
                // Names that differ in a directory that can't be listed can't be looked at either.
                Err(e) if sys::is_gone(&e) || sys::is_denied(&e) => {}
                Ok(false) => {}
                Ok(true) | Err(_) => return Comparison::Loose,
            }
        }
        self
    }
}

/// A new directory compares names as its parent does, but on Windows each directory may be told to tell case apart. A
/// server may do what it likes, and shows the drives of Windows to Linux.
fn may_differ_from_its_parent(dir: &Dir) -> bool {
    cfg!(windows) || dir.fs_kind().map_or(true, |kind| kind.remote)
}

/// May a directory compare names otherwise than another one of its file system?
pub(crate) fn may_differ(dir: &Dir, other: &Dir, kind: FsKind) -> bool {
    kind.remote || dir.has_casefold_flag() || other.has_casefold_flag()
}

/// Asks how a directory compares names, with files in a private directory inside it: `staging` or, if there is none, one
/// that is there for this alone. None if no such directory can be made.
pub(crate) fn ask_in<T>(
    dir: &Dir,
    staging: Option<&Dir>,
    question: impl FnOnce(&Dir) -> io::Result<T>,
) -> io::Result<Option<T>> {
    if let Some(staging) = staging {
        return question(staging).map(Some);
    }
    // Dropped, it is removed, or else left for recovery.
    let Ok(private) = StagingDir::create(dir, Role::StagingDir) else { return Ok(None) };
    question(private.dir()).map(Some)
}

/// The paths of a set, found by other spellings. A look-up costs the same however many paths there are, except in a
/// directory that compares loosely.
#[derive(Debug, Default)]
pub(crate) struct Spellings {
    loosely: HashMap<String, Vec<Arc<Path>>>,
    ignoring_case: HashMap<String, Vec<Arc<Path>>>,
}

impl Spellings {
    pub(crate) fn add(&mut self, path: &Path) {
        let alike = self.ignoring_case.entry(without_case(path)).or_default();
        if alike.iter().any(|known| **known == *path) {
            return;
        }
        let path: Arc<Path> = path.into();
        alike.push(Arc::clone(&path));
        self.loosely.entry(loose_key(&path)).or_default().push(path);
    }

    /// Does it depend on the directory whether there are [`others`](Spellings::others)?
    pub(crate) fn may_have_others(&self, path: &Path) -> bool {
        self.others(path, Comparison::Loose).next().is_some()
    }

    /// Those other than `path` that may lead to its file, for the file system to judge.
    pub(crate) fn others<'a>(
        &'a self,
        path: &'a Path,
        comparison: Comparison,
    ) -> impl Iterator<Item = &'a Path> {
        let alike = match comparison {
            Comparison::Bytes => None,
            Comparison::IgnoringCase => self.ignoring_case.get(&without_case(path)),
            Comparison::Loose => self.loosely.get(&loose_key(path)),
        };
        alike.into_iter().flatten().map(|known| &**known).filter(move |known| *known != path)
    }
}

/// Would they be one, as far as this private directory tells?
pub(crate) fn would_be_one(private: &Dir, one: &OsStr, other: &OsStr) -> io::Result<bool> {
    // What could not be removed the last time must not answer.
    if absent(private.stat_at(other))?.is_some() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    drop(private.create_new(one, 0o600)?);
    let found = absent(private.stat_at(other));
    private.unlink(one)?;
    Ok(found?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_spellings_are_what_the_directory_may_take_for_one() {
        let mut known = Spellings::default();
        for name in ["\u{e9}", "\u{c9}", "e\u{301}", "\u{430}", "plain", "plain"] {
            known.add(name.as_ref());
        }
        let others = |name: &str, comparison| {
            let found = known.others(name.as_ref(), comparison);
            found.map(|path| path.to_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert!(others("\u{e9}", Comparison::Bytes).is_empty());
        assert_eq!(others("\u{e9}", Comparison::IgnoringCase), ["\u{c9}"]);
        assert_eq!(others("\u{e9}", Comparison::Loose), ["\u{c9}", "e\u{301}", "\u{430}"]);
        assert_eq!(others("Plain", Comparison::IgnoringCase), ["plain"]);
        assert!(known.may_have_others("\u{430}".as_ref()));
        assert!(!known.may_have_others("plain".as_ref()));
    }
}
