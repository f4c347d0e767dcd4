//! Which version of a file was read.

use std::io;

use crate::sys::{self, Dir, File, Fingerprint};

/// One version of a file's content: what [`read_version`](crate::read_version) found, for
/// [`WriteOptions::expect`](crate::WriteOptions::expect).
///
/// It holds the inode, the size, the modification time and a checksum of the content (CRC-64/NVME). Two versions are
/// equal if all of these are. A save with `expect` compares less: a file with the same content is the expected
/// version even if its inode or its times have changed.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("notes.txt");
/// use durafile::read_version;
///
/// durafile::write(&path, "one")?;
/// let (_, before) = read_version(&path)?;
/// durafile::write(&path, "two")?;
/// let (_, after) = read_version(&path)?;
/// assert_ne!(before, after);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileVersion {
    stamp: Fingerprint,
    checksum: u64,
}

impl FileVersion {
    /// Of an open file that has content of this length and checksum.
    pub(crate) fn of(file: &File, size: u64, checksum: u64) -> io::Result<FileVersion> {
        let stamp = Fingerprint { size, ..sys::fingerprint_of(file)? };
        Ok(FileVersion { stamp, checksum })
    }

    /// Of the file at a name.
    pub(crate) fn at(dir: &Dir, name: &std::ffi::OsStr, checksum: u64) -> io::Result<FileVersion> {
        Ok(FileVersion { stamp: sys::fingerprint(dir, name)?, checksum })
    }

    /// Whether the content is the same, as far as a checksum can tell.
    pub(crate) fn has_content_of(&self, other: &FileVersion) -> bool {
        (self.size(), self.checksum) == (other.size(), other.checksum)
    }

    pub(crate) fn size(&self) -> u64 {
        self.stamp.size
    }

    pub(crate) fn checksum(&self) -> u64 {
        self.checksum
    }
}
