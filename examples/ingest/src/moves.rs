//! Moving a recording between two folders so that no power cut loses it, and nothing is overwritten.
//!
//! A rename from one directory to another may survive a power cut by halves, and the recording be in
//! neither. So it gets its new name first; only when that is durable, the old one goes. A crash in between
//! leaves both, and the move done again finds that they are one recording.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use durafile::{ErrorKind, WriteOptions};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;

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
    let link = |from: &Path, to: &Path| fs_err::hard_link(from, to);
    move_with(link, from, to)
}

/// Where the new name can't be another's, unless somebody interferes.
pub(crate) fn must_move(from: &Path, to: &Path) -> Outcome {
    match move_file(from, to)? {
        Moved::There => Ok(()),
        Moved::Taken => Err(Failure::Disk(io::ErrorKind::AlreadyExists.into())),
    }
}

fn move_with(link: impl FnOnce(&Path, &Path) -> io::Result<()>, from: &Path, to: &Path) -> Outcome<Moved> {
    match fs_err::symlink_metadata(from) {
        Ok(found) if found.is_file() || found.is_symlink() => {}
        Ok(_) => return move_oddity(from, to),
        // Done already.
        Err(e) if e.kind() == io::ErrorKind::NotFound && exists(to)? => return Ok(Moved::There),
        Err(e) => return Err(Failure::Disk(e)),
    }
    let moved = match link(from, to) {
        Ok(()) => sync_parent(to).map(|()| Moved::There),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => unless_other(from, to),
        // If it can't be copied either, that says why.
        Err(_) => copy(from, to),
    }?;
    if moved == Moved::There {
        // Not synced: should the old name come back, this is done again.
        remove(from)?;
    }
    Ok(moved)
}

/// A directory, say, that somebody put in the place of a recording: it can't be linked.
fn move_oddity(from: &Path, to: &Path) -> Outcome<Moved> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => sync_parent(to).map(|()| Moved::There),
        Err(Errno::EXIST) => Ok(Moved::Taken),
        Err(e) => Err(Failure::Disk(e.into())),
    }
}

/// The new name is there already: of the same recording, or of another?
fn unless_other(from: &Path, to: &Path) -> Outcome<Moved> {
    if !same(from, to)? {
        return Ok(Moved::Taken);
    }
    // Who put it there may not have lived to do this.
    fs_err::File::open(to).and_then(|file| file.sync_all()).map_err(Failure::Disk)?;
    sync_parent(to)?;
    Ok(Moved::There)
}

fn copy(from: &Path, to: &Path) -> Outcome<Moved> {
    let content = fs_err::File::open(from).map_err(Failure::Disk)?;
    match WriteOptions::new().create_new(true).write_from(to, content) {
        Ok(_) => Ok(Moved::There),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => unless_other(from, to),
        Err(e) => Err(Failure::Disk(e.into())),
    }
}

fn remove(path: &Path) -> Outcome {
    match fs_err::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Failure::Disk(e)),
        _ => Ok(()),
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

fn sync_parent(path: &Path) -> Outcome {
    path.parent().map_or(Ok(()), sync_dir)
}

/// Makes the names in a directory durable, where the file system can.
pub(crate) fn sync_dir(path: &Path) -> Outcome {
    let here = Path::new(".");
    let path = if path.as_os_str().is_empty() { here } else { path };
    let dir = match fs_err::File::open(path) {
        Ok(dir) => dir,
        // It may be written to, but not read.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(e) => return Err(Failure::Disk(e)),
    };
    match rustix::fs::fsync(&dir) {
        Err(Errno::INVAL | Errno::NOTSUP | Errno::BADF) | Ok(()) => Ok(()),
        Err(e) => Err(Failure::Disk(e.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(_: &Path, _: &Path) -> io::Result<()> {
        Err(Errno::PERM.into())
    }

    #[test]
    fn where_links_are_refused_a_recording_is_copied() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("from"), home.path().join("to"));
        fs_err::write(&from, "recording").unwrap();
        assert_eq!(move_with(refused, &from, &to).unwrap(), Moved::There);
        assert!(!from.exists());
        assert_eq!(fs_err::read(&to).unwrap(), b"recording");

        // Killed before the old name was removed, it is the same recording all the same.
        fs_err::write(&from, "recording").unwrap();
        assert_eq!(move_with(refused, &from, &to).unwrap(), Moved::There);
        assert!(!from.exists());

        fs_err::write(&from, "different").unwrap();
        assert_eq!(move_with(refused, &from, &to).unwrap(), Moved::Taken);
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
