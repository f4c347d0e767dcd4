//! What kind of file system a mount really is, and what its journal can be trusted with.

use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, io};

use super::{Dir, FsKind, Stat};

/// The file systems that the crate knows more about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Or ext2 or ext3, which have the same magic number.
    Ext4,
    Xfs,
    Btrfs,
    Other,
}

impl Family {
    pub(super) fn of(magic: u64) -> Family {
        match magic {
            0xef53 => Family::Ext4,
            0x5846_5342 => Family::Xfs,
            0x9123_683e => Family::Btrfs,
            _ => Family::Other,
        }
    }
}

/// Since Linux 5.8 `syncfs` reports errors of write-back that it didn't start itself, on these.
pub(crate) fn syncfs_reports_errors(kind: FsKind) -> bool {
    matches!(kind.family, Family::Ext4 | Family::Xfs | Family::Btrfs) && super::linux_since(5, 8)
}

/// Btrfs syncs files faster one after the other than on 16 threads (docs/bench).
pub(crate) fn syncs_in_turn(kind: FsKind) -> bool {
    kind.family == Family::Btrfs
}

/// Does `syncfs` all that an fsync of each file would? The driver of ext2 sends no flush, nor does XFS to a
/// device of real-time files; before Linux 5.17 not every error came through.
pub(crate) fn syncfs_is_enough(kind: FsKind, stat: &Stat) -> bool {
    syncfs_reports_errors(kind) && super::linux_since(5, 17) && journal(kind, stat).syncs_as_a_whole
}

/// Makes everything on the directory's file system durable, other programs' data too. Reports
/// errors that happened since `dir` was opened.
pub(crate) fn sync_file_system(dir: &Dir) -> io::Result<()> {
    record!(Op::SyncFs { dir }, Ok(rustix::fs::syncfs(dir.as_fd())?))
}

/// What is known of a journal. Whatever can't be told counts as no.
#[derive(Clone, Copy, Debug, Default)]
struct Journal {
    is_ordered: bool,
    frees_early: bool,
    syncs_as_a_whole: bool,
}

/// Is the journal of this file system totally ordered, so that one flush at the end of a save
/// covers the data that was written out before?
pub(crate) fn has_ordered_journal(kind: FsKind, stat: &Stat) -> bool {
    journal(kind, stat).is_ordered
}

/// May the blocks of a replaced file have a new owner before the rename is durable? So on ext4 with
/// `data=writeback`; an ordinary journal keeps them until then.
pub(crate) fn frees_blocks_early(kind: FsKind, stat: &Stat) -> bool {
    kind.family == Family::Ext4 && journal(kind, stat).frees_early
}

/// Asked anew each second: a remount may change it.
fn journal(kind: FsKind, stat: &Stat) -> Journal {
    #[cfg(feature = "crash_testing")]
    if super::record::current().is_some() {
        let is_ordered = matches!(kind.family, Family::Ext4 | Family::Xfs);
        return Journal { is_ordered, frees_early: false, syncs_as_a_whole: true };
    }
    static CACHE: Mutex<Vec<(u64, Instant, Journal)>> = Mutex::new(Vec::new());
    let Some(mount) = stat.mount else { return ask(kind, stat).unwrap_or_default() };
    let mut cache = CACHE.lock().unwrap_or_else(|broken| broken.into_inner());
    cache.retain(|(_, asked, _)| asked.elapsed() < Duration::from_secs(1));
    if let Some((_, _, answer)) = cache.iter().find(|(known, _, _)| *known == mount) {
        return *answer;
    }
    let answer = ask(kind, stat).unwrap_or_default();
    cache.push((mount, Instant::now(), answer));
    answer
}

fn ask(kind: FsKind, stat: &Stat) -> io::Result<Journal> {
    match kind.family {
        Family::Ext4 => ext4(stat),
        Family::Xfs => xfs(stat),
        Family::Btrfs => Ok(Journal { syncs_as_a_whole: true, ..Journal::default() }),
        Family::Other => Ok(Journal::default()),
    }
}

/// The kernel's name of the block device, as in `/sys/dev/block/8:1 -> ../../block/sda/sda1`.
fn device_name(stat: &Stat) -> io::Result<String> {
    let (major, minor) = (rustix::fs::major(stat.id.dev), rustix::fs::minor(stat.id.dev));
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}"))?;
    let name = link.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(name.to_owned())
}

/// `data=` is shown only where there is a journal. `fast_commit` logs single inodes past the
/// order; without barriers nothing is flushed; an asynchronous commit record is written before
/// what it commits; an external journal is flushed apart from the data.
fn ext4(stat: &Stat) -> io::Result<Journal> {
    let device = device_name(stat)?;
    let options = fs::read_to_string(format!("/proc/fs/ext4/{device}/options"))?;
    let has = |wanted: &str| options.lines().any(|option| option.starts_with(wanted));
    let unsafe_option = ["nobarrier", "barrier=0", "fast_commit", "fc_debug_force", "journal_async_commit"]
        .into_iter()
        .any(has);
    let internal_journal = fs::exists(format!("/proc/fs/jbd2/{device}-8"))?;
    let is_ordered = has("data=") && !unsafe_option && internal_journal;
    Ok(Journal { is_ordered, frees_early: has("data=writeback"), syncs_as_a_whole: true })
}

/// XFS has always one ordered log, and no way to mount without barriers since Linux 4.19. A log
/// or a real-time section on another device is flushed apart from the data.
fn xfs(stat: &Stat) -> io::Result<Journal> {
    let (major, minor) = (rustix::fs::major(stat.id.dev), rustix::fs::minor(stat.id.dev));
    let device = format!("{major}:{minor}");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device));
    let options = mount.and_then(|line| line.rsplit(' ').next()).ok_or(io::ErrorKind::NotFound)?;
    let other_device =
        options.split(',').any(|option| option.starts_with("logdev=") || option.starts_with("rtdev="));
    let is_ordered = !other_device && super::linux_since(4, 19);
    Ok(Journal { is_ordered, frees_early: false, syncs_as_a_whole: !other_device })
}
