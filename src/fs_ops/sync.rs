//! Making durable what another program wrote.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::parent_sync::sync_parent;
use crate::atomic::target::{MAX_LINKS, read_link, refuse_no_path, split};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::failing;
use crate::fs_ops::{Place, committed, without_slash};
use crate::options::durability::Committed;
use crate::remnant::trust::open_file;
use crate::set::parallel::in_parallel;
use crate::sys::{Dir, File, Kind};

/// Makes a file or a whole tree durable, together with its name.
///
/// This is for files that another program, or `std::fs`, has written: their content, metadata and names survive a
/// power cut once this has returned `Ok`. A link at `path` is followed, and its own name is made durable,
/// too; links inside a tree are not followed. FIFOs, sockets and devices have no content; only their
/// names are synced.
///
/// Errors that the system met while it wrote the data back are reported here as far as it still knows
/// them: Linux tells each open file once.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// std::fs::create_dir("export")?;
/// std::fs::write("export/table.csv", "a,b")?; // by some other library
/// durafile::sync("export")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`NotFound`](ErrorKind::NotFound); [`PermissionDenied`](ErrorKind::PermissionDenied) if a file may
/// neither be read nor written, or if the path is another user's link in a directory like `/tmp`, or leads to one by
/// links; and the errors of the disk. A part of the tree may be durable then.
pub fn sync(path: impl AsRef<Path>) -> Result<Committed> {
    let path = path.as_ref();
    failing::check(path)?;
    refuse_no_path("sync", path)?;
    let failed = |e| Error::io("sync", path, e);
    // `.`, `..` and `/` have no name of their own.
    if split(without_slash(path)).is_err() {
        return sync_dir(&Dir::open(path).map_err(failed)?, path);
    }
    let mut place = Place::open(path)?;
    for _ in 0..MAX_LINKS {
        let found = place.stat("sync")?;
        match found.kind {
            Kind::Symlink => {
                let text = read_link(&place.dir, &place.name, &found, path)?;
                place.sync_parent()?;
                let Ok((parent, name)) = split(without_slash(&text)) else {
                    return sync_dir(&place.dir.open_at(&text).map_err(failed)?, path);
                };
                let dir = place.dir.open_at(parent).map_err(failed)?;
                (place.dir, place.name) = (Arc::new(dir), name.to_owned());
            }
            Kind::Dir => return sync_dir(&place.dir.open_child(&place.name).map_err(failed)?, path),
            _ if place.only_dir => place.check_slash("sync")?,
            Kind::File => {
                open_file(&place.dir, &place.name).and_then(|file| file.sync()).map_err(failed)?;
                return place.sync_parent();
            }
            Kind::Other => return place.sync_parent(),
        }
    }
    Err(Error::new(ErrorKind::InvalidPath, "sync", path).because("the links lead round in a circle"))
}

/// So many files of a directory are open at once while they are synced.
const WINDOW: usize = 64;

/// Syncs the content of a directory, then the directory itself, then its name.
fn sync_dir(top: &Dir, path: &Path) -> Result<Committed> {
    let mut all = vec![PathBuf::new()];
    let mut at = 0;
    while let Some(rel) = all.get(at).cloned() {
        let failed = |e| Error::io("sync", &path.join(&rel), e);
        let dir = top.open_beneath(&rel).map_err(failed)?;
        let below = sync_files(&dir).map_err(failed)?;
        all.extend(below.into_iter().map(|name| rel.join(name)));
        at += 1;
    }
    let mut synced = true;
    for rel in all.iter().rev() {
        let done = top.open_beneath(rel).and_then(|dir| sync_parent(&dir));
        synced &= done.map_err(|e| Error::io("sync", &path.join(rel), e))?;
    }
    let failed = |e| Error::io("sync the directory of", path, e);
    // Whoever may not even pass through the parent has not created the directory either.
    if let Ok(parent) = top.open_at(Path::new("..")) {
        synced &= sync_parent(&parent).map_err(failed)?;
    }
    Ok(committed(synced, top.fs_kind().map_err(failed)?))
}

/// Syncs the files of a directory. The names of the directories in it are returned.
fn sync_files(dir: &Dir) -> io::Result<Vec<std::ffi::OsString>> {
    let (mut dirs, mut files) = (Vec::new(), Vec::new());
    for entry in dir.entries()? {
        let (name, kind) = entry?;
        match dir.kind_of(&name, kind)? {
            Kind::Dir => dirs.push(name),
            Kind::File => files.push(name),
            Kind::Symlink | Kind::Other => {}
        }
    }
    for window in files.chunks(WINDOW) {
        let opened: io::Result<Vec<File>> = window.iter().map(|name| open_file(dir, name)).collect();
        in_parallel(&opened?, File::sync).map_err(|(_, e)| e)?;
    }
    Ok(dirs)
}
