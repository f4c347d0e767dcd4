//! The news of a file that got its name by a link, for those who watch its directory.

use std::ffi::OsStr;

use crate::options::WriteOptions;
use crate::sys::Dir;

/// Whether a program may open what is published for writing, by its mode alone.
pub(crate) fn can_be_announced(options: &WriteOptions) -> bool {
    const OWNER_WRITES: u32 = 0o200;
    options.asked_mode().is_none_or(|mode| mode & OWNER_WRITES != 0)
}

/// Tells those who watch a directory for finished files of one that got its name by a link. They wait for a name
/// that is moved in (`IN_MOVED_TO`), or for the end of writing at a name (`IN_CLOSE_WRITE`); a link is neither.
/// So the file is opened for writing and closed. Where that is refused, nobody is told, and the save is as good.
pub(crate) fn announce(dir: &Dir, name: &OsStr) {
    if cfg!(any(target_os = "linux", target_os = "android")) {
        let _ = dir.open_file_to_write(name);
    }
}
