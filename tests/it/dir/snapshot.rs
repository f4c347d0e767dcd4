//! Goal: a snapshot is one version, for as long as it is held, and old versions go with their
//! last reader. Method: snapshots held over commits, by this process and by children.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use durafile::{AtomicDir, DirSnapshot, ErrorKind, recover};
use fs_err as fs;

use crate::support::strace;
use crate::support::{dir, expect_pass, job, names, refused, rerun, this_test};

fn commit(target: &Path, text: &str) {
    let mut next = AtomicDir::update(target).unwrap();
    next.write("a", text).unwrap();
    next.write("sub/b", text).unwrap();
    next.commit().unwrap();
}

#[track_caller]
fn holds(snapshot: &DirSnapshot, text: &str) {
    assert_eq!(snapshot.read("a").unwrap(), text.as_bytes());
    assert_eq!(snapshot.read("sub/b").unwrap(), text.as_bytes());
    let entries: Vec<PathBuf> = ["a", "sub", "sub/b"].map(PathBuf::from).into();
    assert_eq!(snapshot.entries().unwrap(), entries);
}

#[test]
fn a_snapshot_stays_as_it_is_whatever_is_committed_and_its_version_goes_with_it() {
    let home = dir();
    let target = home.path().join("talk");
    commit(&target, "0");
    let mut held = Vec::new();
    for n in 0..20 {
        held.push(DirSnapshot::open(&target).unwrap());
        commit(&target, &(n + 1).to_string());
    }
    assert_eq!(names(home.path()).len(), 21, "each version is kept for its reader");
    for (n, snapshot) in held.iter().enumerate() {
        holds(snapshot, &n.to_string());
    }
    // In any order.
    held.swap(3, 17);
    drop(held);
    assert_eq!(names(home.path()), ["talk"]);
    holds(&DirSnapshot::open(&target).unwrap(), "20");
    assert_eq!(names(home.path()), ["talk"]);
}

#[test]
fn the_last_of_several_readers_deletes_a_version() {
    let home = dir();
    let target = home.path().join("talk");
    commit(&target, "0");
    let (one, other) = (DirSnapshot::open(&target).unwrap(), DirSnapshot::open(&target).unwrap());
    commit(&target, "1");
    drop(one);
    assert_eq!(names(home.path()).len(), 2);
    holds(&other, "0");
    let file = other.open_file("a").unwrap();
    drop(other);
    assert_eq!(names(home.path()), ["talk"]);
    // A file that was opened stays readable.
    assert_eq!(std::io::read_to_string(file).unwrap(), "0");
}

#[test]
fn recovery_leaves_a_version_that_is_read_alone_and_deletes_it_afterwards() {
    let home = dir();
    let target = home.path().join("talk");
    commit(&target, "0");
    let snapshot = DirSnapshot::open(&target).unwrap();
    commit(&target, "1");
    let recovery = recover(home.path()).unwrap();
    assert_eq!((recovery.in_use().len(), recovery.is_clean()), (1, true));
    holds(&snapshot, "0");
    drop(snapshot);
    assert!(recover(home.path()).unwrap().in_use().is_empty());
    assert_eq!(names(home.path()), ["talk"]);
}

/// A child that opens a snapshot and says so, and then waits to be killed.
fn reader(test: &str, target: &Path) -> std::process::Child {
    let mut child = rerun(&[], test, target, "read").stdout(Stdio::piped()).spawn().unwrap();
    let stdout = child.stdout.as_mut().unwrap();
    let mut lines = BufReader::new(stdout).lines();
    assert!(lines.any(|line| line.unwrap().contains("READING")));
    child
}

fn be_reader(target: &Path) -> ! {
    let _snapshot = DirSnapshot::open(target).unwrap();
    println!("READING");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_version_whose_reader_was_killed_goes_with_the_next_commit_or_a_recovery() {
    let test = this_test!();
    if let Some((target, _)) = job(&test) {
        be_reader(&target);
    }
    let home = dir();
    let target = home.path().join("talk");
    commit(&target, "0");
    for by_recovery in [false, true] {
        let mut child = reader(&test, &target);
        commit(&target, "1");
        assert_eq!(names(home.path()).len(), 2, "the child reads");
        assert_eq!(recover(home.path()).unwrap().in_use().len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        if by_recovery {
            assert_eq!(recover(home.path()).unwrap().removed().len(), 1);
        } else {
            commit(&target, "2");
        }
        assert_eq!(names(home.path()), ["talk"]);
    }
}

#[test]
fn a_snapshot_reads_within_and_nothing_else() {
    let home = dir();
    let target = home.path().join("talk");
    commit(&target, "0");
    fs::write(home.path().join("secret"), "s").unwrap();
    std::os::unix::fs::symlink("../secret", target.join("out")).unwrap();
    std::os::unix::fs::symlink(home.path().join("secret"), target.join("absolute")).unwrap();
    std::os::unix::fs::symlink("sub/b", target.join("in")).unwrap();
    let snapshot = DirSnapshot::open(&target).unwrap();
    for path in ["../secret", "/etc/passwd", "", "sub/../a", "out", "absolute"] {
        refused(snapshot.read(path), ErrorKind::InvalidPath);
    }
    refused(snapshot.read("sub"), ErrorKind::IsADirectory);
    refused(snapshot.read("missing"), ErrorKind::NotFound);
    assert_eq!(snapshot.read("in").unwrap(), b"0");
    refused(DirSnapshot::open(home.path().join("missing")), ErrorKind::NotFound);
    refused(DirSnapshot::open(home.path().join("secret")), ErrorKind::NotADirectory);
}

#[test]
fn all_files_of_a_snapshot_are_of_one_version_while_another_process_commits() {
    let test = this_test!();
    if let Some((target, _)) = job(&test) {
        for n in 0..150 {
            commit(&target, &n.to_string());
        }
        return;
    }
    let home = dir();
    let target = home.path().join("talk");
    commit(&target, "start");
    let child = rerun(&[], &test, &target, "write").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    let mut versions = std::collections::BTreeSet::new();
    while child.try_wait().unwrap().is_none() {
        let snapshot = DirSnapshot::open(&target).unwrap();
        let a = snapshot.read("a").unwrap();
        std::thread::yield_now();
        assert_eq!(snapshot.read("sub/b").unwrap(), a);
        versions.insert(a);
    }
    expect_pass(&child.wait_with_output().unwrap());
    assert!(versions.len() > 3, "{}", versions.len());
    // A reader that let go in the middle of a swap may have left its version to the next one.
    let _ = recover(home.path()).unwrap();
    assert_eq!(names(home.path()), ["talk"]);
}

#[test]
fn a_version_that_goes_between_opening_and_locking_is_not_taken() {
    let test = this_test!();
    if let Some((target, _)) = job(&test) {
        println!("OPENING");
        return holds(&DirSnapshot::open(&target).unwrap(), "1");
    }
    if !strace::works() {
        return;
    }
    let home = dir();
    let target = home.path().join("talk");
    commit(&target, "0");
    // The reader takes its time between the two.
    let delay = "inject=flock:delay_enter=600000:when=1";
    let mut child = strace::faulty(&[delay], &test, &target, "read");
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("OPENING") {
        line.clear();
        assert_ne!(stdout.read_line(&mut line).unwrap(), 0, "it ended");
    }
    std::thread::sleep(Duration::from_millis(150));
    commit(&target, "1");
    let (mut rest, status) = (String::new(), child.wait().unwrap());
    std::io::Read::read_to_string(&mut stdout, &mut rest).unwrap();
    assert!(status.success(), "{rest}");
    assert_eq!(names(home.path()), ["talk"]);
}
