//! Which file system this is, and what it can be trusted with.

use std::io;
use std::os::fd::AsFd;

use rustix::fs;

use super::mount_cache::{A_SECOND, FOR_GOOD, MountCache};
use crate::sys::unix::{is_denied, is_unsupported, retry};
use crate::sys::{Dir, Family, FsKind, Stat};

impl Family {
    fn of(magic: u64) -> Family {
        match magic {
            0xef53 => Family::Ext4,
            0x5846_5342 => Family::Xfs,
            0x9123_683e => Family::Btrfs,
            _ => Family::Other,
        }
    }
}

/// The guarantees of the file system that holds an open file.
pub(crate) fn fs_kind(fd: impl AsFd, stat: &Stat) -> io::Result<FsKind> {
    #[cfg(feature = "crash_testing")]
    if let Some(assumed) = crate::sys::recorder::assumed_fs_kind() {
        return Ok(assumed);
    }
    static CACHE: MountCache<FsKind> = MountCache::that_lasts(FOR_GOOD, A_SECOND);
    match CACHE.get(stat, || Ok(fs_kind_of(magic_of(&fd)?))) {
        // A sandbox may refuse to tell.
        Err(e) if is_denied(&e) || is_unsupported(&e) => Ok(untold_kind(stat)),
        told => told,
    }
}

/// The guarantees of a file system that can't be asked: the worst. One on a block device of its own is on a disk.
fn untold_kind(stat: &Stat) -> FsKind {
    let is_disk = is_on_a_disk(stat);
    FsKind { memory_backed: !is_disk, remote: !is_disk, family: Family::Other }
}

/// Memory and servers have devices without a major number; so have btrfs, ZFS and overlays.
fn is_on_a_disk(stat: &Stat) -> bool {
    fs::major(stat.id.dev) != 0
}

/// The number that a kind of file system is known by. The field is signed on some architectures, and 32 bits wide.
#[allow(clippy::unnecessary_cast, reason = "the type of this field differs by architecture")]
pub(super) fn magic_of(fd: impl AsFd) -> io::Result<u64> {
    Ok(retry(|| fs::fstatfs(&fd))?.f_type as u64 & 0xffff_ffff)
}

/// The magic numbers are those of `linux/magic.h` and of each file system's own header.
fn fs_kind_of(magic: u64) -> FsKind {
    const VOLATILE: [u64; 2] = [/* tmpfs */ 0x0102_1994, /* ramfs */ 0x8584_58f6];
    const OTHER_SERVERS: [u64; 2] =
        [/* FUSE: a server, near or far */ 0x6573_5546, /* Lustre */ 0x0bd0_0bd0];
    FsKind {
        memory_backed: VOLATILE.contains(&magic),
        remote: keeps_locks_of_dirs_to_itself(magic) || OTHER_SERVERS.contains(&magic),
        family: Family::of(magic),
    }
}

/// Is this a client of a network file system that tells its server nothing of the lock of a directory?
fn keeps_locks_of_dirs_to_itself(magic: u64) -> bool {
    const CLIENTS: [u64; 10] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x0102_1997, // 9P
        0x00c3_6400, // Ceph
        0x5346_414f, // OpenAFS
        0x6b41_4653, // kAFS
        0x7375_7245, // Coda
        0x786f_4256, // VirtualBox shared folder
    ];
    CLIENTS.contains(&magic)
}

/// Is the lock of a directory seen by everybody who uses it? A client of a network file system keeps it to
/// itself. A FUSE server may be far away, too; it can't be told, and most are not.
pub(crate) fn shares_locks_of_dirs(dir: &Dir) -> bool {
    match magic_of(dir) {
        Ok(magic) => !keeps_locks_of_dirs_to_itself(magic),
        Err(_) => dir.stat().is_ok_and(|stat| is_on_a_disk(&stat)),
    }
}

/// Is a directory in this one held by its own lock alone? So it costs one descriptor.
pub(crate) fn holds_dirs_by_their_locks(dir: &Dir) -> bool {
    shares_locks_of_dirs(dir)
}

/// The kind of file system under a directory, and whether it is known to exchange names.
pub(in crate::sys) fn look_at_volume(dir: &Dir) -> io::Result<(FsKind, bool)> {
    let magic = magic_of(dir)?;
    Ok((fs_kind_of(magic), is_known_to_exchange(magic)))
}

fn is_known_to_exchange(magic: u64) -> bool {
    const KNOWN: [u64; 7] = [
        0xef53,      // ext4
        0x5846_5342, // XFS
        0x9123_683e, // btrfs
        0x0102_1994, // tmpfs
        0x794c_7630, // overlay, as far as its upper layer is one of these
        0xf2f5_2010, // F2FS
        0xca45_1a4e, // bcachefs
    ];
    KNOWN.contains(&magic)
}
