//! The properties of a directory's inode beside mode, owner and attributes.

use std::io;

use rustix::fs::{self, AtFlags, IFlags, StatxAttributes, StatxFlags};

use crate::sys::unix::{retry, was_not_opened_to_read};
use crate::sys::{Dir, DirNature, Family, fs_kind};

/// The flags that entries of a directory inherit from it and anybody may set: no copying on write and compression
/// (btrfs), and names without regard to case (`FS_CASEFOLD_FL`, for which rustix has no name).
const KEPT: IFlags = IFlags::NOCOW.union(IFlags::COMPRESSED).union(CASEFOLD);

const CASEFOLD: IFlags = IFlags::from_bits_retain(0x4000_0000);

/// `BTRFS_FIRST_FREE_OBJECTID`: the root of each subvolume has this number, and nothing else has.
const SUBVOLUME_ROOT: u64 = 256;

impl Dir {
    /// Reads these properties. One that can't be read counts as absent: a file system without such flags refuses the question.
    pub(crate) fn nature(&self) -> io::Result<DirNature> {
        let stat = self.stat()?;
        let asked = retry(|| fs::statx(self, c"", AtFlags::EMPTY_PATH, StatxFlags::TYPE));
        let attributes = asked.map_or(StatxAttributes::empty(), |found| found.stx_attributes);
        let flags = self.flags();
        let family = fs_kind(self, &stat)?.family;
        Ok(DirNature {
            is_encrypted: attributes.contains(StatxAttributes::ENCRYPTED),
            inherits_project: flags.contains(IFlags::PROJECT_INHERIT),
            is_subvolume: family == Family::Btrfs && stat.id.ino == SUBVOLUME_ROOT,
        })
    }

    /// Gives this empty directory the flags of another one. False if it can't have them.
    pub(crate) fn keep_flags_of(&self, other: &Dir) -> bool {
        let (wanted, present) = (other.flags().intersection(KEPT), self.flags());
        // The recorder has no word for it: no crash test has such directories.
        present.contains(wanted) || retry(|| fs::ioctl_setflags(self, present.union(wanted))).is_ok()
    }

    /// Does this directory compare names without regard to case, whatever others of its file system do? One that may not
    /// be read doesn't tell, and counts as such.
    pub(crate) fn has_casefold_flag(&self) -> bool {
        retry(|| fs::ioctl_getflags(self))
            .map_or_else(|e| was_not_opened_to_read(&e), |flags| flags.contains(CASEFOLD))
    }

    fn flags(&self) -> IFlags {
        retry(|| fs::ioctl_getflags(self)).unwrap_or(IFlags::empty())
    }
}
