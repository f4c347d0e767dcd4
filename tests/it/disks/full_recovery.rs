//! Goal: a recovery on a full disk loses nothing: it settles what a crash left, or says that there is no
//! room, and finishes once there is. What it only has to remove is gone in any case. Method: what a
//! crash leaves at each stage of a transaction and of a swap is put on a small file system, which is
//! filled up to each number of free blocks (or inodes, or what a quota leaves) in turn.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use durafile::recover;
use fs_err as fs;

use crate::disks::full_disks::{Blocks, Inodes, Quota, SMALL_EXT4, Scarce, on, script, step, with_quota};
use crate::support::forged::{self, Record, name_of};
use crate::support::operations::{NEW, Operation, Tree, remnants, tree};
use crate::support::{chmod, this_test};

/// What a crash left, and what it is to become.
struct Rest {
    name: &'static str,
    leave: fn(&Path),
    after: fn(&mut Tree),
}

const RESTS: [Rest; 9] = [
    Rest { name: "transaction, decided", leave: |dir| decide(dir, 0), after: changed },
    Rest { name: "transaction, half carried out", leave: |dir| decide(dir, 1), after: changed },
    Rest { name: "transaction, between the names", leave: |dir| decide(dir, 2), after: changed },
    Rest { name: "transaction, not decided", leave: |dir| stage(dir, 1), after: |_| {} },
    Rest { name: "swap, decided", leave: |dir| swap(dir, &[]), after: swapped },
    Rest { name: "swap, old version away", leave: |dir| swap(dir, &["away"]), after: swapped },
    Rest { name: "swap, new version lost", leave: |dir| swap(dir, &["away", "lost"]), after: |_| {} },
    Rest { name: "orphans", leave: orphans, after: |_| {} },
    Rest {
        name: "transaction, decided, and orphans that take the room",
        leave: |dir| {
            decide(dir, 0);
            orphans(dir);
        },
        after: changed,
    },
];

fn put(path: &Path, content: &[u8]) -> fs::File {
    let mut file = fs::File::create_new(path).unwrap();
    file.write_all(content).unwrap();
    chmod(path, 0o600);
    file
}

fn private_dir(path: &Path) {
    fs::create_dir(path).unwrap();
    chmod(path, 0o700);
}

/// The private directory of a transaction.
fn stage(dir: &Path, bits: u128) {
    let stage = dir.join(forged::name('x', bits));
    private_dir(&stage);
    (1..=2).for_each(|number| drop(put(&stage.join(name_of(number)), &NEW)));
}

/// A record says the inode of its own file.
fn put_record(path: &Path, mut record: Record) {
    let own = put(path, &[]).metadata().unwrap().ino();
    forged::seal(&mut record.0, own);
    fs::write(path, &record.0).unwrap();
}

/// A transaction that replaces a file, makes another one with its directory and removes a third.
fn decide(dir: &Path, carried_out: usize) {
    let (staged, passing) = (forged::name('x', 2), forged::name('p', 2));
    stage(dir, 2);
    let mut record = Record::new(b't');
    record.name(&staged);
    record.name(&passing);
    record.number(1);
    record.name("made");
    record.number(3);
    for (path, number) in [("file", 1), ("folder/kept", 0), ("made/new", 2)] {
        record.name(path);
        let found = fs::symlink_metadata(dir.join(path)).ok();
        record.number(u64::from(found.is_some()));
        let before = found.map_or([0; 4], |found| {
            [found.ino(), found.size(), found.mtime() as u64, found.mtime_nsec() as u64]
        });
        before.into_iter().for_each(|number| record.number(number));
        if number == 0 {
            record.number(2);
            continue;
        }
        let ino = fs::metadata(dir.join(&staged).join(name_of(number))).unwrap().ino();
        let facts = [1, number, ino, NEW.len() as u64, forged::checksum(&NEW)];
        facts.into_iter().for_each(|number| record.number(number));
    }
    put_record(&dir.join(forged::name('j', 2)), record);
    if carried_out > 0 {
        fs::hard_link(dir.join(&staged).join(name_of(1)), dir.join(&passing)).unwrap();
    }
    if carried_out == 1 {
        fs::rename(dir.join(&passing), dir.join("file")).unwrap();
    }
}

fn changed(tree: &mut Tree) {
    tree.insert("file".into(), NEW.into());
    tree.insert("made/new".into(), NEW.into());
    tree.remove(Path::new("folder/kept"));
}

/// A swap by renames, as far as it has come.
fn swap(dir: &Path, steps: &[&str]) {
    let [new, old] = [('d', 1), ('o', 1)].map(|(letter, bits)| forged::name(letter, bits));
    private_dir(&dir.join(&new));
    drop(put(&dir.join(&new).join("kept"), &NEW));
    let record = forged::record_swapping("folder", &new, Some(&dir.join("folder")));
    put_record(&dir.join(forged::for_target('r', "folder")), record);
    if steps.contains(&"away") {
        fs::rename(dir.join("folder"), dir.join(&old)).unwrap();
    }
    if steps.contains(&"lost") {
        fs::remove_dir_all(dir.join(&new)).unwrap();
    }
}

fn swapped(tree: &mut Tree) {
    tree.insert("folder/kept".into(), NEW.into());
}

/// In a folder that is looked into last, too.
fn orphans(dir: &Path) {
    stage(dir, 4);
    private_dir(&dir.join(forged::name('b', 4)));
    drop(put(&dir.join(forged::name('b', 4)).join(name_of(1)), &NEW));
    private_dir(&dir.join(forged::name('d', 4)));
    drop(put(&dir.join(forged::name('d', 4)).join("kept"), &NEW));
    drop(put(&dir.join("folder").join(forged::name('s', 4)), &[1; 100_000]));
}

/// So many names that one block has no room for another: each is a name of one file.
fn crowd(dir: &Path) {
    let filler = dir.join("filler");
    drop(put(&filler, b""));
    let name = |number: u32| format!("filler {number:0>200}");
    let is_one_block = || fs::metadata(dir).unwrap().len() <= 1024;
    let mut number = 0;
    while is_one_block() && number < 20 {
        fs::hard_link(&filler, dir.join(name(number))).unwrap();
        number += 1;
    }
}

#[derive(Default)]
struct Tally {
    points: usize,
    failed: usize,
}

/// Recovers each rest with more and more room until it succeeds.
pub(crate) fn every_rest(mount: &Path, scarce: &mut dyn Scarce, step: u64, most: u64, what: &str) {
    let mut tally = Tally::default();
    for (number, rest) in RESTS.iter().enumerate() {
        let (mut room, mut successes) = (0, 0);
        while successes < 2 {
            assert!(room <= most, "{}: no success with {room}", rest.name);
            let dir = mount.join(format!("rest-{number}-{room}"));
            let done = with_room(scarce, room, rest, &dir);
            tally.points += 1;
            tally.failed += usize::from(!done);
            successes += usize::from(done);
            room += step;
        }
    }
    let Tally { points, failed } = tally;
    let said = format!(
        "TRIED recovery on {what}: {} rests of crashes at {points} points, {failed} without room\n",
        RESTS.len()
    );
    std::io::stderr().lock().write_all(said.as_bytes()).unwrap();
}

/// Whether it succeeded at once.
fn with_room(scarce: &mut dyn Scarce, room: u64, rest: &Rest, dir: &Path) -> bool {
    Operation::prepare(dir);
    crowd(dir);
    let before = tree(dir);
    let mut after = before.clone();
    (rest.after)(&mut after);
    (rest.leave)(dir);
    scarce.leave(room);
    let result = recover(dir);
    let now = tree(dir);
    let at = format!("{} with room for {room}: {result:?}", rest.name);
    scarce.give_back();
    match &result {
        Ok(_) => assert_eq!(now, after, "{at}"),
        Err(e) => {
            assert_eq!(e.kind(), scarce.kind(), "{at}: {:?}", e.io_error());
            assert!(!e.is_transient(), "{at}");
            let is_whole = |path: &&std::path::PathBuf| {
                durafile::is_remnant(path.file_name().unwrap())
                    || before.get(*path) == now.get(*path)
                    || after.get(*path) == now.get(*path)
            };
            assert!(now.keys().all(|path| is_whole(&path)), "{at}");
            let is_large = |content: &Vec<u8>| content.len() == 100_000;
            assert!(!now.values().any(is_large), "{at}: what is in the way stays");
        }
    }
    let again = recover(dir).unwrap_or_else(|e| panic!("{at}, again: {e}: {:?}", e.io_error()));
    assert_eq!(again.is_clean(), result.is_ok(), "{at}, then {again:?}");
    let now = tree(dir);
    assert!(remnants(&now).is_empty(), "{at}: {:?}", remnants(&now));
    assert_eq!(now, after, "{at}, again");
    assert!(recover(dir).unwrap().is_clean(), "{at}");
    fs::remove_dir_all(dir).unwrap();
    result.is_ok()
}

#[test]
fn ext4_full_at_every_block_of_a_recovery() {
    on(&this_test!(), "mkfs.ext4", &script(SMALL_EXT4, "6M", ""), |mount| {
        every_rest(mount, &mut Blocks::of(mount), 1, 50, "ext4, blocks");
    });
}

#[test]
fn ext4_without_inodes_at_every_step_of_a_recovery() {
    on(&this_test!(), "mkfs.ext4", &script(SMALL_EXT4, "6M", ""), |mount| {
        let dir = mount.join("fillers");
        fs::create_dir(&dir).unwrap();
        every_rest(mount, &mut Inodes { dir, taken: 0 }, 1, 20, "ext4, inodes");
    });
}

#[test]
fn xfs_full_at_every_block_of_a_recovery() {
    on(&this_test!(), "mkfs.xfs", &script("mkfs.xfs -q --unsupported", "64M", ""), |mount| {
        every_rest(mount, &mut Blocks::of(mount), 1, 200, "XFS, blocks");
    });
}

#[test]
fn btrfs_full_at_many_points_of_a_recovery() {
    on(&this_test!(), "mkfs.btrfs", &script("mkfs.btrfs -q --mixed", "64M", ""), |mount| {
        every_rest(mount, &mut Blocks::of(mount), step(16), 2000, "btrfs, blocks");
    });
}

#[test]
fn a_quota_used_up_at_many_points_of_a_recovery() {
    with_quota(&this_test!(), |mount| {
        let mut quota = Quota { mount: mount.to_owned(), step: 16384 };
        every_rest(&mount.join("sub"), &mut quota, step(1), 300, "btrfs, quota");
    });
}
