//! Waiting, within bounds, for those who have a file open: virus scanners and indexers do for some
//! milliseconds, right when a file is new.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::super::Kind;
use super::errors::{in_use, is_denied, is_in_use, is_not_found};
use super::open;

/// A program that has a file open for longer is not passing by.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// Calls until nobody is in the way any more.
pub(super) fn patiently<T>(call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    within(PATIENCE, call)
}

pub(super) fn within<T>(patience: Duration, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match call() {
            Err(e) if is_in_use(&e) && begun.elapsed() < patience => std::thread::sleep(pause),
            done => return done,
        }
        pause = LONGEST_PAUSE.min(pause * 2);
    }
}

/// "Access denied" also means: it is removed and somebody has it open still, so that its name
/// can't be used yet. Then even a look at it is denied.
pub(super) fn or_removed<T>(path: &Path, done: io::Result<T>) -> io::Result<T> {
    match done {
        Err(e) if is_denied(&e) && open::to_inspect(path).is_err_and(|e| is_denied(&e) || is_in_use(&e)) => {
            Err(in_use())
        }
        done => done,
    }
}

/// Renames, and waits so long for those who have one of the two open.
pub(super) fn rename(from: &Path, to: &Path, patience: Duration) -> io::Result<()> {
    within(patience, || match std::fs::rename(from, to) {
        Err(e) if is_denied(&e) => rename_denied(from, to, e),
        renamed => renamed,
    })
}

/// Windows has one word for many reasons.
fn rename_denied(from: &Path, to: &Path, denied: io::Error) -> io::Result<()> {
    let kind_of = |path: &Path| open::to_inspect(path).and_then(|found| open::stat(&found)).ok();
    let (source, target) = (kind_of(from), kind_of(to));
    match (source.map(|stat| stat.kind), target) {
        (Some(Kind::File), Some(target)) if target.kind == Kind::Dir => {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        (Some(_), Some(target)) if target.kind == Kind::File && target.mode & 0o200 == 0 => {
            return replace_read_only(from, to);
        }
        _ => {}
    }
    // The right to remove either of them, and to create names here: we just did. Before Windows 10 and
    // on FAT a file that is open can't be replaced; and nowhere a directory be renamed while something
    // in it is open.
    let may_move = |path: &Path| match open::to_move(path) {
        Err(e) => is_in_use(&e) || is_not_found(&e),
        Ok(_) => true,
    };
    if may_move(from) && may_move(to) { Err(in_use()) } else { or_removed(to, Err(denied)) }
}

/// A file that is marked read-only can't be replaced before it is writable. The mark belongs to the file: where that has
/// another name, it gets its mark back.
fn replace_read_only(from: &Path, to: &Path) -> io::Result<()> {
    let old = open::to_describe(to)?;
    mark_read_only(&old, false)?;
    let has_other_names = open::stat(&old)?.nlink > 1;
    let mut old = has_other_names.then_some(old);
    let mut renamed = std::fs::rename(from, to);
    if old.is_some() && renamed.as_ref().is_err_and(is_denied) {
        // A file that is open, by us too, can't be replaced before Windows 10 and on FAT.
        old = None;
        renamed = std::fs::rename(from, to);
    }
    if renamed.is_err() {
        // The file is as it was, or gone.
        let _ = set_read_only(to, true);
    } else if let Some(old) = old {
        let _ = mark_read_only(&old, true);
    }
    match renamed {
        Err(e) if is_denied(&e) => Err(in_use()),
        renamed => renamed,
    }
}

pub(super) fn set_read_only(path: &Path, yes: bool) -> io::Result<()> {
    mark_read_only(&open::to_describe(path)?, yes)
}

pub(super) fn mark_read_only(handle: &File, yes: bool) -> io::Result<()> {
    let mut permissions = handle.metadata()?.permissions();
    if permissions.readonly() != yes {
        // Windows knows no other rights here: nobody else gets any.
        permissions.set_readonly(yes);
        handle.set_permissions(permissions)?;
    }
    Ok(())
}

/// Removes a file or a link, and waits for those who have it open.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    patiently(|| match std::fs::remove_file(path) {
        Err(e) if is_denied(&e) => remove_denied(path, e),
        removed => removed,
    })
}

/// The mark belongs to the file, which may have another name.
fn remove_read_only(path: &Path) -> io::Result<()> {
    let handle = open::to_describe(path)?;
    mark_read_only(&handle, false)?;
    let removed = std::fs::remove_file(path);
    if removed.is_err() || open::stat(&handle).is_ok_and(|stat| stat.nlink > 0) {
        // Nobody may see it any more: then this fails, and means nothing.
        let _ = mark_read_only(&handle, true);
    }
    removed
}

fn remove_denied(path: &Path, denied: io::Error) -> io::Result<()> {
    let handle = match open::to_inspect(path) {
        Err(_) => return or_removed(path, Err(denied)),
        Ok(handle) => handle,
    };
    let stat = open::stat(&handle)?;
    match stat.kind {
        // A link to a directory is removed like one.
        Kind::Symlink => std::fs::remove_dir(path),
        Kind::Dir => Err(io::ErrorKind::IsADirectory.into()),
        _ if stat.mode & 0o200 == 0 => remove_read_only(path),
        _ if open::to_move(path).is_err_and(|e| is_in_use(&e)) => Err(in_use()),
        _ => Err(denied),
    }
}
