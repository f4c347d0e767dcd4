//! Goal: a recovery loses no version of a directory while a writer decides, and dies. Method: strace
//! kills a child in the middle of a swap that takes several steps. Its record is put aside, and comes
//! back while strace holds a recovery up between its listing and what it makes of that.

use std::path::Path;
use std::time::{Duration, Instant};

use durafile::AtomicDir;
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::strace;
use crate::support::{dir, job, names, this_test};
use crate::transaction::meanwhile::{begin, recovers};
use crate::transaction::record::remnant;

/// Old and new version can't be exchanged, for this reason, and the writer dies at the second such call.
fn half_swapped(test: &str, refusal: &str, last: &str) -> Option<TempDir> {
    swap_killed_at(test, refusal, (last, 2))
}

/// The same, at any such call.
pub(crate) fn swap_killed_at(test: &str, refusal: &str, (last, nth): (&str, usize)) -> Option<TempDir> {
    if let Some((home, _)) = job(test) {
        let mut next = AtomicDir::update(home.join("talk")).unwrap();
        next.write("a", "new").unwrap();
        next.write("b", "new").unwrap();
        next.commit().unwrap();
        unreachable!("it was to be killed");
    }
    if !strace::works() {
        return None;
    }
    let home = dir();
    fs::create_dir(home.path().join("talk")).unwrap();
    for name in ["a", "b"] {
        fs::write(home.path().join("talk").join(name), "old").unwrap();
    }
    let refuse = format!("inject=renameat2:error={refusal}");
    let kill = format!("inject={last}:signal=KILL:when={nth}");
    let output = strace::faulty(&[&refuse, &kill], test, home.path(), "").output().unwrap();
    assert!(!output.status.success());
    Some(home)
}

/// The record is not there when a recovery lists the directory, and is once the recovery has made that call.
fn appears_after((call, nth): (&str, usize), test: &str, home: &Path) {
    let record = remnant(home, "r");
    let elsewhere = tempfile::tempdir_in(home.parent().unwrap()).unwrap();
    let (aside, log) = (elsewhere.path().join("record"), elsewhere.path().join("log"));
    fs::rename(&record, &aside).unwrap();
    let stop = format!("inject={call}:signal=STOP:when={nth}");
    let (mut child, process) = begin(strace::faulty_to(&log, &[&stop], test, home, "recover"));
    let deadline = Instant::now() + Duration::from_secs(60);
    let stopped = loop {
        let called = fs::read_to_string(&log).unwrap();
        if called.contains("stopped by SIGSTOP") {
            break true;
        }
        if Instant::now() > deadline || child.try_wait().unwrap().is_some() {
            break false;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    fs::rename(&aside, &record).unwrap();
    let _ = kill_process(Pid::from_raw(process).unwrap(), Signal::CONT);
    let ended = child.wait().unwrap();
    assert!(stopped && ended.success(), "{ended}: {}", fs::read_to_string(&log).unwrap());
}

/// Everything that was there is, and the next recovery completes the swap.
fn nothing_is_lost(home: &Path, before: &[std::ffi::OsString]) {
    assert_eq!(names(home), before);
    let recovery = durafile::recover(home).unwrap();
    assert_eq!(recovery.completed(), [home.join("talk")]);
    for name in ["a", "b"] {
        assert_eq!(fs::read_to_string(home.join("talk").join(name)).unwrap(), "new");
    }
    assert_eq!(names(home), ["talk"]);
    assert!(durafile::recover(home).unwrap().is_clean());
}

#[test]
fn a_version_that_was_renamed_away_waits_for_a_record_that_appears_after_the_listing() {
    let test = this_test!();
    if recovers(&test) {
        return;
    }
    let Some(home) = half_swapped(&test, "EINVAL", "renameat") else { return };
    assert!(!home.path().join("talk").exists());
    // A recovery removes the lock of the dead writer.
    fs::remove_file(remnant(home.path(), "l")).unwrap();
    let before = names(home.path());
    // The second time, nothing more is listed.
    appears_after(("getdents64", 2), &test, home.path());
    nothing_is_lost(home.path(), &before);
}

#[test]
fn a_new_version_stays_while_the_record_of_its_swap_appears_after_the_listing() {
    let test = this_test!();
    if recovers(&test) {
        return;
    }
    let Some(home) = half_swapped(&test, "EXDEV", "unlinkat") else { return };
    assert_eq!(names(home.path().join("talk")).len(), 1, "some of the old version is gone");
    fs::remove_file(remnant(home.path(), "l")).unwrap();
    let before = names(home.path());
    appears_after(("flock", 1), &test, home.path());
    nothing_is_lost(home.path(), &before);
}
