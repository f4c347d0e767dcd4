//! A file under another name where it can't be moved or linked.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::announce::announce;
use crate::atomic::content::ContentWriter;
use crate::atomic::metadata;
use crate::atomic::outcome::or_unsupported;
use crate::atomic::staged::create_named_in;
use crate::options::WriteOptions;
use crate::sys::{self, Dir};

/// Puts a copy of a file, complete and durable, in the place of what has this name: a sandbox may forbid to
/// move anything from one directory to another (Landlock without `LANDLOCK_ACCESS_FS_REFER`).
pub(crate) fn copy_into(
    stage: &Dir,
    staged: &OsStr,
    (dir, name): (&Arc<Dir>, &OsStr),
    create_new: bool,
) -> io::Result<()> {
    const PRIVATE: u32 = 0o600;
    let original = stage.open_file(staged)?;
    let existing = original.existing()?;
    let (passing, file, _) = create_named_in(dir, PRIVATE)?;
    let mut content = ContentWriter::new(file, Path::new(name), (&WriteOptions::new()).into());
    content.copy_from(&original, "copy")?;
    let copy = content.into_file();
    metadata::copy_metadata(&copy, &existing)?;
    copy.sync()?;
    let Some(passing) = passing else { return Ok(()) };
    if create_new {
        // If it was a link, dropping `passing` removes the other name.
        return move_new(dir, passing.as_name(), dir, name);
    }
    dir.rename(passing.as_name(), name)?;
    passing.keep();
    Ok(())
}

/// Moves a file to a name that must be new.
pub(crate) fn move_new(stage: &Dir, from: &OsStr, dir: &Dir, to: &OsStr) -> io::Result<()> {
    match stage.rename_new_into(from, dir, to) {
        // The file has two names for a moment; the staged one goes with the staging directory.
        Err(e) if sys::rename_unsupported(&e) => {
            stage.link_into(from, dir, to).map_err(|link| or_unsupported(e, link))?;
            announce(dir, to);
            Ok(())
        }
        moved => moved,
    }
}
