//! A file under another name where it can't be moved or linked.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::atomic::content::ContentWriter;
use crate::atomic::metadata;
use crate::atomic::new_name::move_new;
use crate::atomic::staged::create_named_in;
use crate::options::WriteOptions;
use crate::sys::Dir;

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
        return move_new((dir, passing.as_name()), (dir, name)).0;
    }
    dir.rename(passing.as_name(), name)?;
    passing.keep();
    Ok(())
}
