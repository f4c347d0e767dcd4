//! Goal: what the system refuses for good is found out before the commit point, or can be given up; and what a
//! recovery costs grows with what there is to do. Method: strace refuses calls of a child.
//!
//! Real places that refuse names and moves are in `places`: vfat, ntfs-3g, mergerfs, Landlock.

use std::path::Path;

use durafile::{
    ErrorKind, RecoveryOptions, SyncStrategy, TargetState, Transaction, TransactionOptions, recover,
};
use fs_err as fs;

use crate::places::sandboxes::forbid_moves;
use crate::support::strace;
use crate::support::{dir, expect_pass, in_private_mounts, job, names, this_test};
use crate::transaction::record::{content, half_applied, remnant};

#[test]
fn a_record_that_can_t_be_completed_is_given_up_only_if_asked() {
    let test = this_test!();
    if let Some((home, case)) = job(&test).filter(|(_, case)| case.starts_with("recover")) {
        let abandon = case == "recover and abandon";
        match RecoveryOptions::new().abandon(abandon).run(&home) {
            Ok(recovery) => {
                assert!(recovery.completed().is_empty(), "{recovery:?}");
                assert_eq!(recovery.quarantined().len(), if abandon { 2 } else { 0 });
            }
            Err(e) => assert!(!abandon && e.kind() == ErrorKind::Io, "{case}: {e}"),
        }
        return;
    }
    let Some(home) = half_applied(&test) else { return };
    let recover_without_removals = |case: &str| {
        let refuse = "inject=unlinkat:error=EINVAL";
        expect_pass(&strace::faulty(&[refuse], &test, home.path(), case).output().unwrap());
    };
    recover_without_removals("recover");
    assert!(remnant(home.path(), "j").exists());
    recover_without_removals("recover and abandon");
    let _ = recover(home.path()).unwrap();
    let found = ["a", "b", "d/c", "gone"].map(|name| content(&home, name));
    assert_eq!(found, ["new a", "new b", "old", "old"], "what was applied stays, and nothing else is");
    Transaction::begin(home.path()).unwrap().discard().unwrap();
}

/// Each kind of trial, refused alone: the links of new names and of directories come before the record's.
#[test]
fn what_would_be_refused_after_the_commit_point_is_refused_before_it() {
    let test = this_test!();
    let begin = |home: &Path| -> durafile::Result<Transaction> {
        let mut change = TransactionOptions::new().sync(SyncStrategy::PerFile).begin(home)?;
        change.write("a", "new")?;
        change.write("12:30.md", "new")?;
        change.write("made/deep", "new")?;
        Ok(change)
    };
    if let Some((home, _)) = job(&test) {
        let error = begin(&home).unwrap().commit().unwrap_err();
        assert_eq!(error.target(), TargetState::Unchanged, "{error}: {:?}", error.io_error());
        return;
    }
    if !strace::works() {
        return;
    }
    // The first link is that of the writer's lock, the next three are trials. Of the directories, the first is the
    // private one.
    for refusal in [
        "linkat:error=EINVAL:when=2",
        "linkat:error=EINVAL:when=3",
        "linkat:error=EINVAL:when=4",
        "mkdirat:error=EINVAL:when=2",
    ] {
        let home = dir();
        fs::write(home.path().join("a"), "old").unwrap();
        let refuse = format!("inject={refusal}");
        expect_pass(&strace::faulty(&[&refuse], &test, home.path(), "commit").output().unwrap());
        assert_eq!(names(home.path()), ["a"], "{refusal}");
        assert_eq!(fs::read_to_string(home.path().join("a")).unwrap(), "old");
    }
}

/// A transaction with so many new directories, killed when it makes the first.
fn calls_of_recovery(test: &str, count: usize) -> usize {
    let home = dir();
    // The private directory is the first, then each name is tried.
    let kill = format!("inject=mkdirat:signal=KILL:when={}", count + 2);
    let killed = strace::faulty(&[&kill], test, home.path(), &format!("commit {count}")).output().unwrap();
    assert!(!killed.status.success());
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = strace::faulty_to(log.path(), &[], test, home.path(), "recover").output().unwrap();
    expect_pass(&output);
    assert_eq!(names(home.path()).len(), count, "{output:?}");
    fs::read_to_string(log.path()).unwrap().lines().count()
}

#[test]
fn a_recovery_is_linear_in_new_directories() {
    let test = this_test!();
    match job(&test) {
        Some((home, case)) if case == "recover" => drop(recover(home).unwrap()),
        Some((home, case)) => {
            let count: usize = case.strip_prefix("commit ").unwrap().parse().unwrap();
            let mut change = Transaction::begin(home).unwrap();
            (0..count).for_each(|number| change.write(format!("{number}/f"), "new").unwrap());
            let _ = change.commit().unwrap();
        }
        None if !strace::works() => {}
        None => {
            let (few, many) = (calls_of_recovery(&test, 100), calls_of_recovery(&test, 400));
            assert!(many < few * 4, "{few} calls for 100, {many} for 400");
        }
    }
}

/// As in a sandbox that moves nothing from one directory to another, where content is copied past the commit point.
#[test]
fn a_disk_without_room_for_copies_is_told_before_the_commit_point() {
    let script = "cd \"$DIR\"; mkdir mnt; mount -t tmpfs -o size=4m tmpfs mnt; mkdir mnt/a mnt/b
        echo old >mnt/a/file; echo old >mnt/b/file; cd /";
    in_private_mounts(&this_test!(), script, |home| {
        let root = home.join("mnt");
        forbid_moves(home);
        let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
        let save = |size: usize| -> durafile::Result<durafile::Committed> {
            let mut change = Transaction::begin(&root)?;
            change.write("a/file", vec![b'a'; size])?;
            change.write("b/file", vec![b'b'; size])?;
            change.commit()
        };
        // Each of the copies would have room, and both would not.
        let error = save(1_200_000).unwrap_err();
        assert_eq!(
            (error.kind(), error.target()),
            (ErrorKind::StorageFull, TargetState::Unchanged),
            "{error}"
        );
        assert_eq!(read("a/file") + &read("b/file"), "old\nold\n");
        assert_eq!(names(&root), ["a", "b"]);
        assert!(recover(&root).unwrap().is_clean());

        let _ = save(500_000).unwrap();
        assert_eq!(read("a/file").len() + read("b/file").len(), 1_000_000);
        assert_eq!(names(&root), ["a", "b"]);
    });
}

/// Goal: no content whose fsync failed is taken for durable, whatever the errno: some of these are those of a refused link,
/// after which the record is written once more. Method: strace answers one fsync with them.
#[test]
fn a_failed_sync_fails_the_transaction_whatever_its_errno() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        let mut change = TransactionOptions::new().sync(SyncStrategy::PerFile).begin(home).unwrap();
        for name in ["a", "b", "c"] {
            change.write(name, "new").unwrap();
        }
        let error = change.commit().unwrap_err();
        assert_eq!(error.target(), TargetState::Unchanged, "{error}: {:?}", error.io_error());
        return;
    }
    if !strace::works() {
        return;
    }
    for errno in ["EUCLEAN", "EROFS", "EPERM", "ENXIO", "EIO"] {
        for nth in 1..=3 {
            let home = dir();
            let fault = format!("inject=fsync:error={errno}:when={nth}");
            expect_pass(&strace::faulty(&[&fault], &test, home.path(), "").output().unwrap());
            assert!(names(home.path()).is_empty(), "{errno} {nth}: {:?}", names(home.path()));
        }
    }
}
