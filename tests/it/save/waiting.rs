//! Goal: saves of one process don't wait for each other where they have no reason to. Method: under strace a system
//! call takes a while; how many of them are under way at the same time is counted.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use durafile::WriteOptions;
use fs_err as fs;

use crate::support::{dir, expect_pass, job, names, rerun, skip, strace, this_test};

const THREADS: usize = 8;

/// Runs the calling test in a child in which each call of this name takes 300 ms longer; the trace of these calls.
fn slowed(test: &str, call: &str, home: &Path) -> String {
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let (traced, delayed) = (format!("trace={call}"), format!("inject={call}:delay_enter=300000"));
    let words = ["strace", "-f", "-y", "-e", &traced, "-e", &delayed, "-o"];
    let mut prefix: Vec<&OsStr> = words.map(OsStr::new).to_vec();
    prefix.extend([log.as_os_str(), OsStr::new("--")]);
    expect_pass(&rerun(&prefix, test, home, "").output().unwrap());
    fs::read_to_string(log).unwrap()
}

/// The most calls with such an argument that were under way at the same time.
fn most_at_once(log: &str, call: &str, argument: &str) -> usize {
    let (begins, ends) = (format!("{call}("), format!("<... {call} resumed>"));
    let (mut under_way, mut most) = (Vec::new(), 0);
    for line in log.lines() {
        let Some((thread, event)) = line.split_once(char::is_whitespace) else { continue };
        let event = event.trim_start();
        if event.starts_with(&begins) && event.contains(argument) {
            under_way.push(thread);
            most = most.max(under_way.len());
            if !event.contains("<unfinished") {
                under_way.pop();
            }
        } else if event.starts_with(&ends) {
            under_way.retain(|other| *other != thread);
        }
    }
    most
}

#[test]
fn directories_that_are_made_at_the_same_time_are_synced_at_the_same_time() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        let options = &WriteOptions::new().create_parents(true);
        return std::thread::scope(|scope| {
            for n in 0..THREADS {
                let path = home.join(format!("new{n}/file"));
                scope.spawn(move || options.write(path, "x").unwrap());
            }
        });
    }
    if !strace::works() {
        return;
    }
    let home = dir();
    let log = slowed(&test, "fsync", home.path());
    assert_eq!(names(home.path()).len(), THREADS);
    let parent = format!("<{}>", fs::canonicalize(home.path()).unwrap().display());
    let most = most_at_once(&log, "fsync", &parent);
    assert!(most > 1, "one after the other:\n{log}");
}

#[test]
fn a_mount_that_answers_slowly_keeps_no_save_on_another_mount_waiting() {
    const OTHER: &str = "/dev/shm";
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        let other = tempfile::tempdir_in(OTHER).unwrap();
        return std::thread::scope(|scope| {
            for dir in [home.as_path(), other.path()] {
                scope.spawn(move || durafile::write(dir.join("file"), "x").unwrap());
            }
        });
    }
    if !strace::works() {
        return;
    }
    let home = dir();
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    if [None, device(home.path())].contains(&device(Path::new(OTHER))) {
        return skip("there is no second mount");
    }
    let log = slowed(&test, "fstatfs", home.path());
    assert_eq!(most_at_once(&log, "fstatfs", "<"), 2, "one after the other:\n{log}");
}
