//! Calls for whole trees: links, times, opening within bounds.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use super::super::Stat;
use super::errors::link_in_the_way;
use super::{Dir, File, open};
use crate::sys::Kind;

impl Dir {
    /// This directory as something that has metadata.
    pub(crate) fn as_inode(&self) -> io::Result<File> {
        File::described(self.path()?)
    }

    /// Links to directories and to files are different things here.
    pub(crate) fn symlink(&self, name: &OsStr, target: &OsStr) -> io::Result<()> {
        let leads_to_dir = fs::metadata(self.path()?.join(target)).is_ok_and(|found| found.is_dir());
        let at = self.at(name)?;
        match leads_to_dir {
            true => std::os::windows::fs::symlink_dir(target, at),
            false => std::os::windows::fs::symlink_file(target, at),
        }
    }

    /// Gives a link the times of another one, as far as the system permits.
    pub(crate) fn copy_link_times(&self, name: &OsStr, _stat: &Stat, from: (&Dir, &OsStr)) {
        let liken = || {
            let times = open::times(&open::to_inspect(&from.0.at(from.1)?)?)?;
            open::to_describe(&self.at(name)?)?.set_times(times)
        };
        let _: io::Result<()> = liken();
    }

    /// Opens whatever is at a path for reading; links are not followed.
    pub(crate) fn open_within(&self, path: &Path) -> io::Result<(fs::File, Stat)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let parent = path.parent().unwrap_or(Path::new(""));
        self.steadily(|_| {
            let parent = self.open_beneath(parent)?;
            let file = open::to_read(&parent.at(name)?)?;
            let stat = open::stat(&file)?;
            if stat.kind == Kind::Symlink { Err(link_in_the_way()) } else { Ok((file, stat)) }
        })
    }
}

/// Gives a file or directory the times of another.
pub(crate) fn copy_times(from: &File, to: &File) -> io::Result<()> {
    to.set_times(from.times()?)
}

/// A standard handle of what is one already.
pub(crate) fn std_file(file: fs::File) -> fs::File {
    file
}
