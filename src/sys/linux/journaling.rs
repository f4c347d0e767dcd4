//! The journal of a file system, and what it can be trusted with.

use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::{fs, io};

use super::linux_since;
use super::mount_cache::{A_SECOND, MountCache};
use crate::sys::unix::retry;
use crate::sys::{Dir, Family, FsKind, Stat};

/// Does `syncfs` all that an fsync of each file would, and may this process call it? Since Linux 5.8 it
/// reports errors of write-back that it didn't start itself, on these file systems. Ext4 without a journal flushes
/// the device before it has written the last inodes, and the driver of ext2 sends no flush, nor does XFS to
/// a device of real-time files.
pub(crate) fn syncfs_is_reliable(kind: FsKind, stat: &Stat) -> bool {
    syncs_as_a_whole(kind, stat) && may_sync_file_systems()
}

fn syncs_as_a_whole(kind: FsKind, stat: &Stat) -> bool {
    let is_known = matches!(kind.family, Family::Ext4 | Family::Xfs | Family::Btrfs) && linux_since(5, 8);
    is_known && journaling(kind, stat).syncs_as_a_whole
}

/// Btrfs syncs files faster one after the other than on 16 threads (docs/bench).
pub(crate) fn syncs_in_turn(kind: FsKind) -> bool {
    kind.family == Family::Btrfs
}

/// May it be called where nobody has asked for it, as far as the file system is concerned? Before Linux 5.17 not
/// every error came through.
pub(crate) fn syncfs_is_enough(kind: FsKind, stat: &Stat) -> bool {
    linux_since(5, 17) && syncs_as_a_whole(kind, stat)
}

/// A sandbox may forbid the call. It is asked with a file in memory: nothing has to be written for that.
pub(super) fn may_sync_file_systems() -> bool {
    #[cfg(feature = "crash_testing")]
    if crate::sys::recorder::current().is_some() {
        return true;
    }
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(|| {
        let file = rustix::fs::memfd_create(c"durafile", rustix::fs::MemfdFlags::CLOEXEC);
        file.is_ok_and(|file| retry(|| rustix::fs::syncfs(&file)).is_ok())
    })
}

/// Makes everything on the directory's file system durable, other programs' data too. Reports
/// errors that happened since `dir` was opened.
pub(crate) fn sync_file_system(dir: &Dir) -> io::Result<()> {
    record!(Op::SyncFs { dir }, rustix::fs::syncfs(dir.as_fd()))
}

/// The facts about a journal. A fact that can't be told counts as no.
#[derive(Clone, Copy, Debug, Default)]
struct Journaling {
    is_ordered: bool,
    frees_early: bool,
    syncs_as_a_whole: bool,
}

/// Is the journal of this file system totally ordered, so that one flush at the end of a save
/// covers the data that was written out before? Before Linux 5.2 that can't be had: `sync_file_range` with all
/// of its flags passed over pages that a full device queue kept waiting.
pub(crate) fn has_ordered_journal(kind: FsKind, stat: &Stat) -> bool {
    linux_since(5, 2) && journaling(kind, stat).is_ordered
}

/// May the blocks of a replaced file have a new owner before the rename is durable? It is so on some mounts of
/// ext4; nobody is asked.
pub(crate) fn may_free_blocks_early(kind: FsKind) -> bool {
    kind.family == Family::Ext4
}

/// May the blocks of a replaced file have a new owner before the rename is durable? So on ext4 with
/// `data=writeback`; an ordinary journal keeps them until then.
pub(crate) fn frees_blocks_early(kind: FsKind, stat: &Stat) -> bool {
    may_free_blocks_early(kind) && journaling(kind, stat).frees_early
}

/// The answer is asked for anew each second: a remount may change it.
fn journaling(kind: FsKind, stat: &Stat) -> Journaling {
    #[cfg(feature = "crash_testing")]
    if crate::sys::recorder::current().is_some() {
        let is_ordered = matches!(kind.family, Family::Ext4 | Family::Xfs);
        return Journaling { is_ordered, frees_early: false, syncs_as_a_whole: true };
    }
    static CACHE: MountCache<Journaling> = MountCache::that_lasts(A_SECOND, A_SECOND);
    CACHE.get(stat, || Ok(ask(kind, stat).unwrap_or_default())).unwrap_or_default()
}

fn ask(kind: FsKind, stat: &Stat) -> io::Result<Journaling> {
    match kind.family {
        Family::Ext4 => ext4(stat),
        Family::Xfs => xfs(stat),
        Family::Btrfs => Ok(Journaling { syncs_as_a_whole: true, ..Journaling::default() }),
        Family::Other => Ok(Journaling::default()),
    }
}

/// The kernel's name of the block device, as in `/sys/dev/block/8:1 -> ../../block/sda/sda1`.
fn device_name(stat: &Stat) -> io::Result<String> {
    let (major, minor) = (rustix::fs::major(stat.id.dev), rustix::fs::minor(stat.id.dev));
    let link = retry(|| fs::read_link(format!("/sys/dev/block/{major}:{minor}")))?;
    let name = link.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(name.to_owned())
}

/// `data=` is shown only where there is a journal. `fast_commit` logs single inodes past the
/// order; without barriers nothing is flushed; an asynchronous commit record is written before
/// what it commits; an external journal is flushed apart from the data.
fn ext4(stat: &Stat) -> io::Result<Journaling> {
    let device = device_name(stat)?;
    let options = fs::read_to_string(format!("/proc/fs/ext4/{device}/options"))?;
    let has = |wanted: &str| options.lines().any(|option| option.starts_with(wanted));
    let unsafe_option = ["nobarrier", "barrier=0", "fast_commit", "fc_debug_force", "journal_async_commit"]
        .into_iter()
        .any(has);
    let internal_journal = retry(|| fs::exists(format!("/proc/fs/jbd2/{device}-8")))?;
    let is_ordered = has("data=") && !unsafe_option && internal_journal;
    Ok(Journaling { is_ordered, frees_early: has("data=writeback"), syncs_as_a_whole: has("data=") })
}

/// XFS has always one ordered log, and no way to mount without barriers since Linux 4.19. A log
/// or a real-time section on another device is flushed apart from the data.
fn xfs(stat: &Stat) -> io::Result<Journaling> {
    let (major, minor) = (rustix::fs::major(stat.id.dev), rustix::fs::minor(stat.id.dev));
    let device = format!("{major}:{minor}");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device));
    let options = mount.and_then(|line| line.rsplit(' ').next()).ok_or(io::ErrorKind::NotFound)?;
    let other_device =
        options.split(',').any(|option| option.starts_with("logdev=") || option.starts_with("rtdev="));
    let is_ordered = !other_device && linux_since(4, 19);
    Ok(Journaling { is_ordered, frees_early: false, syncs_as_a_whole: !other_device })
}
