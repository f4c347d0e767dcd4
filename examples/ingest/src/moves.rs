//! Moving a recording between two folders so that no power cut undoes it, and nothing is overwritten.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use durafile::{ErrorKind, WriteOptions};

use crate::failure::{Failure, Outcome};
use crate::item::exists;

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Moved {
    There,
    /// Something else has the new name; nothing was changed.
    Taken,
}

pub(crate) fn move_file(from: &Path, to: &Path) -> Outcome<Moved> {
    match durafile::rename_new(from, to) {
        Ok(_) => Ok(Moved::There),
        // Done already.
        Err(e) if e.kind() == ErrorKind::NotFound && exists(to)? => Ok(Moved::There),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => unless_other(from, to),
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::CrossDevice) => copy(from, to),
        Err(e) => Err(Failure::Disk(e.into())),
    }
}

/// Where the new name can't be another's, unless somebody interferes.
pub(crate) fn must_move(from: &Path, to: &Path) -> Outcome {
    match move_file(from, to)? {
        Moved::There => Ok(()),
        Moved::Taken => Err(Failure::Disk(io::ErrorKind::AlreadyExists.into())),
    }
}

/// The new name is there already: of the same recording, or of another?
fn unless_other(from: &Path, to: &Path) -> Outcome<Moved> {
    if !same(from, to)? {
        return Ok(Moved::Taken);
    }
    // Who put it there may not have lived to do this.
    durafile::sync(to).map_err(|e| Failure::Disk(e.into()))?;
    remove(from)
}

fn copy(from: &Path, to: &Path) -> Outcome<Moved> {
    let content = fs_err::File::open(from).map_err(Failure::Disk)?;
    match WriteOptions::new().create_new(true).write_from(to, content) {
        Ok(_) => remove(from),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => unless_other(from, to),
        Err(e) => Err(Failure::Disk(e.into())),
    }
}

/// The recording is where it was to go.
fn remove(from: &Path) -> Outcome<Moved> {
    match durafile::remove_file(from) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Failure::Disk(e.into())),
        _ => Ok(Moved::There),
    }
}

/// Whether two names, both there, are of the same recording: the same file, or the same content.
pub(crate) fn same(one: &Path, other: &Path) -> Outcome<bool> {
    let look = |path: &Path| fs_err::symlink_metadata(path).map_err(Failure::Disk);
    let (one_is, other_is) = (look(one)?, look(other)?);
    if (one_is.dev(), one_is.ino()) == (other_is.dev(), other_is.ino()) {
        return Ok(true);
    }
    let comparable = one_is.is_file() && other_is.is_file() && one_is.len() == other_is.len();
    Ok(comparable && same_content(one, other).map_err(Failure::Disk)?)
}

fn same_content(one: &Path, other: &Path) -> io::Result<bool> {
    const BLOCK: usize = 256 << 10;
    let (mut one, mut other) = (fs_err::File::open(one)?, fs_err::File::open(other)?);
    let (mut left, mut right) = (Vec::with_capacity(BLOCK), Vec::with_capacity(BLOCK));
    loop {
        left.clear();
        right.clear();
        one.by_ref().take(BLOCK as u64).read_to_end(&mut left)?;
        other.by_ref().take(BLOCK as u64).read_to_end(&mut right)?;
        if left != right || left.is_empty() {
            return Ok(left == right);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_renamed_is_copied() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("from"), home.path().join("to"));
        fs_err::write(&from, "recording").unwrap();
        assert_eq!(copy(&from, &to).unwrap(), Moved::There);
        assert!(!from.exists());
        assert_eq!(fs_err::read(&to).unwrap(), b"recording");

        // Killed before the old name was removed, it is the same recording all the same.
        fs_err::write(&from, "recording").unwrap();
        assert_eq!(copy(&from, &to).unwrap(), Moved::There);
        assert!(!from.exists());

        fs_err::write(&from, "different").unwrap();
        assert_eq!(copy(&from, &to).unwrap(), Moved::Taken);
        assert_eq!(
            (fs_err::read(&from).unwrap(), fs_err::read(&to).unwrap()),
            (b"different".into(), b"recording".into())
        );
    }

    #[test]
    fn nothing_is_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        fs_err::write(path("file"), "one").unwrap();
        fs_err::create_dir(path("dir")).unwrap();
        for to in ["other", "folder"] {
            fs_err::create_dir_all(path("folder")).unwrap();
            fs_err::write(path("other"), "two").unwrap();
            for from in ["file", "dir"] {
                assert_eq!(move_file(&path(from), &path(to)).unwrap(), Moved::Taken, "{from} {to}");
                assert!(path(from).exists() && path(to).exists());
            }
        }
        assert_eq!(fs_err::read(path("other")).unwrap(), b"two");
        assert_eq!(move_file(&path("dir"), &path("elsewhere")).unwrap(), Moved::There);
        assert!(path("elsewhere").is_dir() && !path("dir").exists());
    }

    #[test]
    fn what_is_moved_already_is_no_failure_and_what_is_lost_is_one() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("from"), home.path().join("to"));
        assert!(
            matches!(move_file(&from, &to), Err(Failure::Disk(e)) if e.kind() == io::ErrorKind::NotFound)
        );
        fs_err::write(&to, "").unwrap();
        assert_eq!(move_file(&from, &to).unwrap(), Moved::There);
    }
}
