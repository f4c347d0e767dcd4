//! Goal: a disk without room for a save is told as that, at whatever step it runs out, and costs
//! nothing but the save. Method: small file systems, filled up to each number of free blocks (or
//! inodes, or what a quota leaves) in turn; each operation runs there, what its error says is held
//! against what is there, and with room again the same call succeeds.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use durafile::{ErrorKind, TargetState, health, recover};
use fs_err as fs;
use rustix::fs::{FallocateFlags, fallocate, ftruncate, statvfs, syncfs};

use crate::support::operations::{self, Operation, Tree, judge, remnants, tree};
use crate::support::{has, in_private_mounts, job, long, this_test};

/// What runs out, and comes back.
pub(crate) trait Scarce {
    /// Leaves so much of it.
    fn leave(&mut self, count: u64);
    fn give_back(&mut self);
    fn kind(&self) -> ErrorKind;
}

/// Counts of what was tried.
#[derive(Default)]
pub(crate) struct Tally {
    operations: usize,
    points: usize,
    failed: usize,
    replaced: usize,
}

/// Runs every operation with more and more room until it succeeds.
pub(crate) fn every_operation(mount: &Path, scarce: &mut dyn Scarce, step: u64, most: u64) -> Tally {
    let mut tally = Tally::default();
    for (number, operation) in operations::all().iter().enumerate() {
        tally.operations += 1;
        let place = mount.join(format!("place-{number}"));
        let (before, after) = operation.learn(&place);
        let (mut room, mut successes) = (0, 0);
        while successes < 2 {
            assert!(room <= most, "{}: no success with {room}", operation.name);
            let dir = mount.join(format!("place-{number}-{room}"));
            if with_room(scarce, room, operation, &dir, (&before, &after), &mut tally) {
                successes += 1;
            }
            tally.points += 1;
            room += step;
        }
    }
    tally
}

/// Whether it succeeded at once.
fn with_room(
    scarce: &mut dyn Scarce,
    room: u64,
    operation: &Operation,
    dir: &Path,
    (before, after): (&Tree, &Tree),
    tally: &mut Tally,
) -> bool {
    Operation::prepare(dir);
    scarce.leave(room);
    let result = operation.run(dir);
    let at = format!("{} with room for {room}", operation.name);
    let is_done = result.is_ok();
    let mut judged = Ok(());
    if let Err(e) = &result {
        assert_eq!(e.kind(), scarce.kind(), "{at}: {e}: {:?}", e.io_error());
        assert!(!e.is_transient(), "{at}: {e}");
        judged =
            judge(e, dir, before, after).map_err(|wrong| format!("{at}: {e} ({:?}): {wrong}", e.target()));
        tally.failed += 1;
        tally.replaced += usize::from(e.target() != TargetState::Unchanged);
    } else {
        assert_eq!(&tree(dir), after, "{at}");
    }
    scarce.give_back();
    judged.unwrap();
    if !is_done {
        // Only what is pending, or was replaced, may need it.
        let _ = recover(dir).unwrap_or_else(|e| panic!("{at}: {e}"));
        // Done already, or finished by the recovery: not everything can be done twice.
        if tree(dir) != *after {
            operation.run(dir).unwrap_or_else(|e| panic!("{at}, again: {e}: {:?}", e.io_error()));
        }
        let now = tree(dir);
        assert!(remnants(&now).is_empty(), "{at}: {:?}", remnants(&now));
        assert_eq!(&now, after, "{at}, again");
        assert!(recover(dir).unwrap().is_clean(), "{at}");
    }
    fs::remove_dir_all(dir).unwrap();
    is_done
}

/// Blocks, taken by one file.
pub(crate) struct Blocks {
    ballast: File,
    block: u64,
}

impl Blocks {
    pub(crate) fn of(mount: &Path) -> Blocks {
        let ballast = File::create(mount.join("ballast")).unwrap();
        Blocks { ballast, block: statvfs(mount).unwrap().f_frsize }
    }
}

impl Scarce for Blocks {
    fn leave(&mut self, count: u64) {
        syncfs(&self.ballast).unwrap();
        let mut size = 0;
        let mut step = (64 << 20) / self.block;
        while step > 0 {
            match fallocate(&self.ballast, FallocateFlags::empty(), size, step * self.block) {
                Ok(()) => size += step * self.block,
                Err(_) => step /= 2,
            }
        }
        ftruncate(&self.ballast, size.saturating_sub(count * self.block)).unwrap();
        syncfs(&self.ballast).unwrap();
    }

    fn give_back(&mut self) {
        ftruncate(&self.ballast, 0).unwrap();
        syncfs(&self.ballast).unwrap();
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::StorageFull
    }
}

/// Inodes, taken by empty files.
pub(crate) struct Inodes {
    pub(crate) dir: PathBuf,
    pub(crate) taken: usize,
}

impl Scarce for Inodes {
    fn leave(&mut self, count: u64) {
        while File::create(self.dir.join(self.taken.to_string())).is_ok() {
            self.taken += 1;
        }
        for _ in 0..count {
            self.taken -= 1;
            fs::remove_file(self.dir.join(self.taken.to_string())).unwrap();
        }
    }

    fn give_back(&mut self) {
        while self.taken > 0 {
            self.taken -= 1;
            fs::remove_file(self.dir.join(self.taken.to_string())).unwrap();
        }
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::StorageFull
    }
}

/// What a quota leaves: btrfs counts the bytes of a subvolume, the first one here.
pub(crate) struct Quota {
    pub(crate) mount: PathBuf,
    pub(crate) step: u64,
}

const SUBVOLUME: &str = "0/256";

impl Quota {
    fn btrfs(&self, words: &[&str]) -> String {
        let done = Command::new("btrfs").args(words).arg(&self.mount).output().unwrap();
        assert!(done.status.success(), "{words:?}: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    fn used(&self) -> u64 {
        self.btrfs(&["filesystem", "sync"]);
        let groups = self.btrfs(&["qgroup", "show", "--raw"]);
        let own = groups.lines().find(|line| line.starts_with(SUBVOLUME)).unwrap();
        own.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Scarce for Quota {
    fn leave(&mut self, count: u64) {
        let limit = self.used() + count * self.step;
        self.btrfs(&["qgroup", "limit", &limit.to_string(), SUBVOLUME]);
    }

    fn give_back(&mut self) {
        self.btrfs(&["qgroup", "limit", "none", SUBVOLUME]);
    }

    fn kind(&self) -> ErrorKind {
        ErrorKind::QuotaExceeded
    }
}

/// An image in memory, mounted where only the child sees it.
pub(crate) fn script(make: &str, size: &str, options: &str) -> String {
    format!(
        "cd \"$DIR\"; mkdir disk mnt; mount -t tmpfs -o size=400m tmpfs disk; truncate -s {size} disk/image
         {make} disk/image >disk/notes 2>&1; mount -o loop{options} disk/image mnt"
    )
}

pub(crate) fn on(test: &str, tool: &str, script: &str, body: impl FnOnce(&Path)) {
    if job(test).is_some() || has(tool, &["-V"]) {
        in_private_mounts(test, script, |home| body(&home.join("mnt")));
    }
}

pub(crate) fn say(tally: &Tally, what: &str) {
    let Tally { operations, points, failed, replaced } = tally;
    let said = format!(
        "TRIED {what}: {operations} operations at {points} points, {failed} failed as they should, \
         {replaced} of these after a rename\n"
    );
    std::io::stderr().lock().write_all(said.as_bytes()).unwrap();
    assert!(failed >= operations, "{said}");
}

/// From one point to the next, where a file system is slow: further in the ordinary run.
pub(crate) fn step(step: u64) -> u64 {
    const FURTHER: u64 = 5;
    step * long::choose(FURTHER, 1, &format!("each {FURTHER}th number of what is left"))
}

pub(crate) const SMALL_EXT4: &str = "mkfs.ext4 -q -F -b 1024 -m 0 -N 200 -J size=1";

#[test]
fn ext4_full_at_every_block_of_every_operation() {
    on(&this_test!(), "mkfs.ext4", &script(SMALL_EXT4, "6M", ""), |mount| {
        say(&every_operation(mount, &mut Blocks::of(mount), 1, 200), "ext4, blocks");
        let mut blocks = Blocks::of(mount);
        blocks.leave(0);
        let check = || health::HealthOptions::new().min_free_bytes(0).check([mount]);
        let full = check();
        assert!(!full.healthy && !full.dirs[0].writable, "{full:?}");
        assert_eq!(full.dirs[0].error, Some(ErrorKind::StorageFull), "{full:?}");
        blocks.give_back();
        assert!(check().healthy);
    });
}

#[test]
fn ext4_without_inodes_at_every_step_of_every_operation() {
    on(&this_test!(), "mkfs.ext4", &script(SMALL_EXT4, "6M", ""), |mount| {
        let dir = mount.join("fillers");
        fs::create_dir(&dir).unwrap();
        say(&every_operation(mount, &mut Inodes { dir, taken: 0 }, 1, 30), "ext4, inodes");
    });
}

#[test]
fn xfs_full_at_every_block_of_every_operation() {
    let script = script("mkfs.xfs -q --unsupported", "64M", "");
    on(&this_test!(), "mkfs.xfs", &script, |mount| {
        say(&every_operation(mount, &mut Blocks::of(mount), 3, 300), "XFS, blocks");
    });
}

#[test]
fn btrfs_full_at_many_points_of_every_operation() {
    let script = script("mkfs.btrfs -q --mixed", "64M", "");
    on(&this_test!(), "mkfs.btrfs", &script, |mount| {
        say(&every_operation(mount, &mut Blocks::of(mount), step(48), 2000), "btrfs, blocks");
    });
}

#[test]
fn a_quota_used_up_at_many_points_of_every_operation() {
    with_quota(&this_test!(), |mount| {
        let mut quota = Quota { mount: mount.to_owned(), step: 32768 };
        say(&every_operation(&mount.join("sub"), &mut quota, step(1), 300), "btrfs, quota");
    });
}

/// On btrfs with a subvolume `sub`, and quotas.
pub(crate) fn with_quota(test: &str, body: impl FnOnce(&Path)) {
    let script = script("mkfs.btrfs -q", "200M", "");
    let script = format!("{script}; btrfs subvolume create mnt/sub; btrfs quota enable mnt");
    on(test, "mkfs.btrfs", &script, body);
}
