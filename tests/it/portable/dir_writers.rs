//! Goal: one writer of a directory at a time, in all processes, and no update is lost.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use durafile::{AtomicDir, DirOptions, Durability, ErrorKind, recover};
use fs_err as fs;

use crate::support::{dir, expect_pass, job, names, refused, rerun, this_test};

#[test]
fn a_second_writer_is_told_at_once_or_waits() {
    let home = dir();
    let target = home.path().join("talk");
    let mut first = AtomicDir::create(&target).unwrap();
    first.write("a", "1").unwrap();
    let error = refused(AtomicDir::update(&target), ErrorKind::Locked);
    assert!(error.is_transient());
    refused(AtomicDir::create(&target), ErrorKind::Locked);
    let begun = Instant::now();
    let waiting = DirOptions::new().lock_timeout(Duration::from_millis(120));
    refused(waiting.update(&target), ErrorKind::TimedOut);
    assert!(begun.elapsed() >= Duration::from_millis(100));
    // Another name is another matter.
    AtomicDir::create(home.path().join("other")).unwrap().commit().unwrap();
    std::thread::scope(|scope| {
        // Later than any clock can tell.
        let patient = DirOptions::new().lock_timeout(Duration::MAX);
        let second = scope.spawn({
            let target = &target;
            move || {
                let mut second = patient.update(target).unwrap();
                second.write("b", "2").unwrap();
                second.commit().unwrap();
            }
        });
        std::thread::sleep(Duration::from_millis(120));
        first.commit().unwrap();
        second.join().unwrap();
    });
    assert_eq!(names(&target), ["a", "b"]);
    assert_eq!(names(home.path()), ["other", "talk"]);
}

#[test]
fn a_live_writer_is_left_alone_by_recovery_and_a_dead_one_cleaned_up() {
    let home = dir();
    let target = home.path().join("talk");
    let mut writer = AtomicDir::create(&target).unwrap();
    writer.write("a", "1").unwrap();
    let recovery = recover(home.path()).unwrap();
    assert!(recovery.is_clean());
    // On Windows the lock of the stage is a file beside it.
    let expected = if cfg!(windows) { 3 } else { 2 };
    assert_eq!(recovery.in_use().len(), expected, "stage and lock");
    writer.commit().unwrap();
    assert_eq!(names(home.path()), ["talk"]);
    assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "1");
}

/// Adds one to a number, again and again, however long it has to wait.
fn count(target: &Path, times: usize) {
    let options = DirOptions::new().durability(Durability::None).lock_timeout(Duration::from_secs(100));
    for _ in 0..times {
        let mut next = options.update(target).unwrap();
        let n: usize = fs::read_to_string(target.join("n")).unwrap().parse().unwrap();
        next.write("n", (n + 1).to_string()).unwrap();
        next.commit().unwrap();
    }
}

#[test]
fn of_many_processes_that_count_none_loses_a_step() {
    const TIMES: usize = if cfg!(windows) { 40 } else { 200 };
    let test = this_test!();
    if let Some((target, _)) = job(&test) {
        return count(&target, TIMES);
    }
    let home = dir();
    let target = home.path().join("talk");
    let mut new = AtomicDir::create(&target).unwrap();
    new.write("n", "0").unwrap();
    new.commit().unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| {
            rerun(&[], &test, &target, "count").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    // Recoveries in between disturb nobody.
    let mut children: Vec<_> = children.into_iter().map(Some).collect();
    while children.iter().any(Option::is_some) {
        let _ = recover(home.path()).unwrap();
        for slot in &mut children {
            if slot.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()) {
                expect_pass(&slot.take().unwrap().wait_with_output().unwrap());
            }
        }
    }
    assert_eq!(fs::read_to_string(target.join("n")).unwrap(), (4 * TIMES).to_string());
    let _ = recover(home.path()).unwrap();
    assert_eq!(names(home.path()), ["talk"]);
}

#[cfg(target_os = "linux")]
#[test]
fn without_the_exchange_a_writer_that_may_not_fall_back_changes_nothing() {
    // A target that is a mount point can't be swapped in any way; see the overlay for the rest.
    let home = dir();
    let target = home.path().join("talk");
    let mut new = DirOptions::new().allow_fallback(false).create(&target).unwrap();
    new.write("a", "1").unwrap();
    assert_eq!(new.commit().unwrap().durability(), crate::support::best(home.path()));
    let error = durafile::AtomicDir::create("/proc").unwrap_err();
    assert_eq!((error.kind(), error.target()), (ErrorKind::Busy, durafile::TargetState::Unchanged));
}
