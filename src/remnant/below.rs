//! Every directory of a tree, however deep it is, with few open descriptors.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys::{self, Dir, Kind};

/// By so many bytes of a path is a directory looked for; what lies deeper is looked for from there. So no path gets
/// as long as one that Linux refuses (4096), and for so many bytes only one directory is held open.
const FAR: usize = 2048;

/// A name in a directory, and what it leads to where the file system tells that with the name.
pub(crate) type Entry = (OsString, Option<Kind>);

/// Looks at every directory inside `top`, which isn't looked at itself, until a look gives something. What is gone, or
/// may not be opened, is left out.
pub(crate) fn visit_dirs<T, L>(top: &Dir, look: &L) -> io::Result<Option<T>>
where
    L: Fn(&Dir, &[Entry]) -> io::Result<Option<T>>,
{
    // Paths wait for their turn instead of open directories, of which a wide tree would take too many.
    let mut pending = folders(&list(top)?, Path::new(""));
    while let Some(path) = pending.pop() {
        let dir = match top.open_beneath(&path) {
            Err(e) if sys::is_gone(&e) || sys::is_forbidden(&e) => continue,
            opened => opened?,
        };
        let entries = match list(&dir) {
            Err(e) if sys::is_gone(&e) => continue,
            entries => entries?,
        };
        if let Some(found) = look(&dir, &entries)? {
            return Ok(Some(found));
        }
        if path.as_os_str().len() <= FAR {
            pending.append(&mut folders(&entries, &path));
        } else if let Some(found) = visit_dirs(&dir, look)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// The names in a directory, all at once.
pub(crate) fn list(dir: &Dir) -> io::Result<Vec<Entry>> {
    dir.entries()?.collect()
}

/// The paths of what may be a directory in one whose own path is `path`.
fn folders(entries: &[Entry], path: &Path) -> Vec<PathBuf> {
    // The kind is unknown where the file system doesn't tell it with the name.
    let may_be_dir = |kind: &Option<Kind>| kind.is_none_or(|kind| kind == Kind::Dir);
    entries.iter().filter(|(_, kind)| may_be_dir(kind)).map(|(name, _)| path.join(name)).collect()
}
