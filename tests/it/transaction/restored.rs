//! Goal: between a crash and the recovery people restore backups, copy trees and change modes; what they save is
//! never undone, and a copy never becomes half of a transaction. Method: a child is killed while it
//! applies a transaction, and then one of these things is done to what it leaves.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use durafile::{ErrorKind, Transaction, recover};
use fs_err as fs;
use tempfile::TempDir;

use crate::crash::case::look;
use crate::support::{chmod, dir, in_private_mounts, job, names, refused, strace, this_test};
use crate::transaction::record::{assert_complete, content, half_applied, killed_at_rename, remnant};

fn set_time(path: &Path, time: SystemTime) {
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn last_year() -> SystemTime {
    SystemTime::now() - Duration::from_secs(365 * 24 * 3600)
}

/// As `cp -p`, `rsync --inplace -t` and `tar x --overwrite` do: the same inode, and an old time.
fn restore_in_place(path: &Path) {
    fs::write(path, "backup").unwrap();
    set_time(path, last_year());
}

/// As they do to what was deleted before: ext4 gives the new file the same inode.
fn restore_anew(path: &Path) {
    fs::remove_file(path).unwrap();
    restore_in_place(path);
}

/// Written in place in the same moment of a coarse clock: only the size differs.
fn edit_within_a_tick(path: &Path) {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, "backup").unwrap();
    set_time(path, time);
}

#[test]
fn a_backup_that_is_restored_before_the_recovery_stays_whatever_its_time() {
    for restore in [restore_in_place, restore_anew, edit_within_a_tick] {
        let Some(home) = half_applied(&this_test!()) else { return };
        restore(&home.path().join("d/c"));
        restore(&home.path().join("gone"));
        let recovery = recover(home.path()).unwrap();
        assert!(recovery.quarantined().is_empty(), "{recovery:?}");
        assert_eq!(["d/c", "gone"].map(|name| content(&home, name)), ["backup", "backup"]);
        assert_eq!(["a", "b"].map(|name| content(&home, name)), ["new a", "new b"]);
        assert!(recover(home.path()).unwrap().is_clean());
    }
}

#[test]
fn another_mode_or_another_name_is_no_new_content() {
    let Some(home) = half_applied(&this_test!()) else { return };
    chmod(home.path().join("d/c"), 0o640);
    let elsewhere = tempfile::tempdir_in(home.path().parent().unwrap()).unwrap();
    fs::hard_link(home.path().join("gone"), elsewhere.path().join("second")).unwrap();
    let recovery = recover(home.path()).unwrap();
    assert_eq!(recovery.completed(), ["d/c", "gone"].map(|name| home.path().join(name)));
    assert_complete(&home);
}

/// What `cp` with these options makes of the tree.
fn copied(home: &TempDir, options: &str) -> TempDir {
    let copy = dir();
    let from = home.path().join(".");
    let done =
        Command::new("cp").args([options.as_ref(), from.as_os_str(), copy.path().as_os_str()]).status();
    assert!(done.unwrap().success());
    copy
}

#[test]
fn a_copy_of_the_tree_is_completed_as_the_original_would_be() {
    for nth in [1, 2] {
        let Some(home) = killed_at_rename(&this_test!(), nth) else { return };
        let copy = copied(&home, "-a");
        let recovery = recover(copy.path()).unwrap();
        assert!(recovery.quarantined().is_empty() && !recovery.completed().is_empty(), "{recovery:?}");
        assert_complete(&copy);
        let copy = copied(&home, "-a");
        Transaction::begin(copy.path()).unwrap().discard().unwrap();
        // What passes on its way to a target is an orphan in a copy.
        let _ = recover(copy.path()).unwrap();
        assert_complete(&copy);
        let _ = recover(home.path()).unwrap();
        assert_complete(&home);
    }
}

/// Neither a recovery nor a writer changes anything but to move record and stage aside.
fn assert_is_set_aside(copy: &TempDir, what: &str) {
    let contents = |home: &TempDir| {
        let files = ["a", "b", "d/c", "gone"];
        files.map(|name| std::fs::read_to_string(home.path().join(name)).unwrap_or_default())
    };
    let (before, record) = (contents(copy), remnant(copy.path(), "j"));
    for _ in 0..2 {
        let error = refused(Transaction::begin(copy.path()), ErrorKind::Corrupt);
        assert_eq!(error.path(), record, "{what}");
    }
    assert_eq!(contents(copy), before, "{what}");
    let recovery = recover(copy.path()).unwrap();
    assert!(recovery.completed().is_empty() && recovery.rolled_back().is_empty(), "{what}: {recovery:?}");
    assert!(!recovery.quarantined().is_empty(), "{what}");
    assert_eq!(contents(copy), before, "{what}");
    assert!(recover(copy.path()).unwrap().is_clean(), "{what}");
    Transaction::begin(copy.path()).unwrap().discard().unwrap();
}

#[test]
fn a_copy_that_nobody_can_judge_is_left_as_it_is() {
    let Some(home) = half_applied(&this_test!()) else { return };
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 4] = [
        ("content that was saved since", |copy| fs::write(copy.join("a"), "later").unwrap()),
        ("an old file that was saved since", |copy| fs::write(copy.join("d/c"), "later").unwrap()),
        ("a file that was to be replaced is gone", |copy| fs::remove_file(copy.join("d/c")).unwrap()),
        ("no stage", |copy| fs::remove_dir_all(remnant(copy, "x")).unwrap()),
    ];
    for (what, spoil) in spoils {
        let copy = copied(&home, "-a");
        spoil(copy.path());
        assert_is_set_aside(&copy, what);
    }
    assert_is_set_aside(&copied(&home, "-r"), "times that were not copied");
}

#[test]
fn a_copy_without_the_stage_in_which_nothing_was_applied_is_rolled_back() {
    let Some(home) = killed_at_rename(&this_test!(), 1) else { return };
    let copy = copied(&home, "-a");
    fs::remove_dir_all(remnant(copy.path(), "x")).unwrap();
    let recovery = recover(copy.path()).unwrap();
    assert_eq!(recovery.rolled_back().len(), 4, "{recovery:?}");
    assert_eq!(["a", "d/c", "gone"].map(|name| content(&copy, name)), ["old"; 3]);
    assert_eq!(names(copy.path()), ["a", "d", "gone"]);
    assert!(recover(copy.path()).unwrap().is_clean());
}

fn clear(home: &TempDir) {
    for name in names(home.path()) {
        let path = home.path().join(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
}

fn copy_back(backup: &TempDir, home: &TempDir) {
    let from = backup.path().join(".");
    let done = Command::new("cp").args(["-a".as_ref(), from.as_os_str(), home.path().as_os_str()]).status();
    assert!(done.unwrap().success());
}

/// In place over the tree that crashed: its root keeps its inode, everything in it gets another one.
#[test]
fn a_backup_of_the_whole_tree_that_is_restored_over_it_is_completed() {
    let Some(home) = half_applied(&this_test!()) else { return };
    let backup = copied(&home, "-a");
    clear(&home);
    copy_back(&backup, &home);
    let _ = recover(home.path()).unwrap();
    assert_complete(&home);
    assert!(!look(home.path()).is_empty());
}

/// Lets the file have this inode again, with all else that a copy keeps. Those that were given out are in `given`.
fn back_to_inode(ino: u64, path: &Path, given: &TempDir) {
    let mut again = names(given.path()).into_iter().map(|name| given.path().join(name));
    let again =
        again.find(|path| fs::metadata(path).unwrap().ino() == ino).expect("the number was given out again");
    let (content, metadata) = (fs::read(path).unwrap(), fs::metadata(path).unwrap());
    fs::write(&again, content).unwrap();
    chmod(&again, metadata.mode() & 0o7777);
    set_time(&again, metadata.modified().unwrap());
    fs::remove_file(path).unwrap();
    fs::hard_link(again, path).unwrap();
}

/// As above, but by chance the record and all staged files have their old inode numbers again.
#[test]
fn inode_numbers_that_come_back_by_chance_do_not_make_a_copy_the_original() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    // One group of inodes, whose lowest is given out first.
    let script = "cd \"$DIR\"; mkdir mnt; truncate -s 8M image; mkfs.ext4 -q -F -b 1024 -I 256 image; mount -o loop image mnt; \
                  export DURAFILE_TEST_DIR=\"$DIR/mnt\"; cd /";
    in_private_mounts(&this_test!(), script, |_| {
        let saver = "transaction::restored::a_backup_of_the_whole_tree_that_is_restored_over_it_is_completed";
        let home = half_applied(saver).unwrap();
        let (backup, given) = (copied(&home, "-a"), dir());
        let (record, stage) = (remnant(home.path(), "j"), remnant(home.path(), "x"));
        let mut files: Vec<PathBuf> = names(&stage).into_iter().map(|name| stage.join(name)).collect();
        // Some of them are in place already, by another name of the same file.
        files.extend(["a", "b"].map(|name| home.path().join(name)));
        files.push(record);
        let inodes: Vec<u64> = files.iter().map(|path| fs::metadata(path).unwrap().ino()).collect();
        clear(&home);
        for number in 0..100 {
            fs::write(given.path().join(number.to_string()), "").unwrap();
        }
        copy_back(&backup, &home);
        for (path, ino) in files.iter().zip(inodes) {
            back_to_inode(ino, path, &given);
        }
        fs::remove_dir_all(given.path()).unwrap();
        let recovery = recover(home.path()).unwrap();
        assert!(recovery.quarantined().is_empty(), "{recovery:?}");
        assert_complete(&home);
    });
}
