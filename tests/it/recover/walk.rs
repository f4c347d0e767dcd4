//! Goal: one odd folder or remnant never ends a recovery, its cost grows with the entries and no faster, and
//! it goes no further than it is told. Method: strace makes single calls fail; paths are made that are
//! longer than the system takes; something is mounted below; calls are counted.

use std::path::{Path, PathBuf};

use durafile::{ErrorKind, RecoveryOptions, recover};
use fs_err as fs;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

use crate::support::{dir, forged, in_private_mounts, job, names, refused, strace, this_test};

fn staged_in(folder: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let staged = folder.join(forged::name('s', 1));
    fs::write(&staged, "rest").unwrap();
    staged
}

#[test]
fn a_root_that_is_missing_is_clean_and_an_empty_path_is_refused() {
    let home = dir();
    assert!(recover(home.path().join("missing")).unwrap().is_clean());
    refused(recover(""), ErrorKind::InvalidPath);
}

#[test]
fn a_folder_whose_path_is_too_long_is_reported_and_the_rest_is_settled() {
    let home = dir();
    // Made step by step: no single path leads there.
    let folder = "f".repeat(250);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut at = openat(CWD, home.path(), flags, Mode::empty()).unwrap();
    for _ in 0..20 {
        mkdirat(&at, folder.as_str(), Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, folder.as_str(), flags, Mode::empty()).unwrap();
    }
    let staged = staged_in(&home.path().join("beside"));
    let recovery = recover(home.path()).unwrap();
    assert_eq!(recovery.removed(), [staged]);
    assert_eq!(recovery.unreadable().len(), 1);
    // What can't be listed is no remnant.
    let again = recover(home.path()).unwrap();
    assert!(again.is_clean() && again.unreadable().len() == 1);
    // The standard library's own way of removing it fails for the same reason.
    let removed = std::process::Command::new("rm").arg("-rf").arg(home.path().join(&folder)).status();
    assert!(removed.unwrap().success());
}

/// In the child: three folders with something to do, and what a recovery says of them.
fn recover_three(home: &Path, _: &str) {
    ["a", "b", "c"].iter().for_each(|folder| drop(staged_in(&home.join(folder))));
    let recovery = strace::marked(|| recover(home));
    fs::write(home.join("report"), format!("{recovery:?}")).unwrap();
    println!("\nOUTCOME told");
}

#[test]
fn an_odd_error_anywhere_in_a_folder_is_reported_and_the_rest_is_settled() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    // Behind the calls for the root itself.
    for (call, nth) in [("openat2", 1), ("openat2", 2), ("getdents64", 3), ("unlinkat", 1), ("flock", 3)] {
        for errno in ["ENOTCONN", "EIO", "ESTALE"] {
            let inject = format!("inject={call}:error={errno}:when={nth}");
            let Some(trace) = strace::run(&this_test!(), "-", &["-e", &inject], &recover_three) else {
                return;
            };
            let report = fs::read_to_string(trace.path().join("report")).unwrap();
            let case = format!("{inject}: {report}");
            let is_left = |folder: &&str| !names(trace.path().join(folder)).is_empty();
            assert_eq!(["a", "b", "c"].iter().filter(|folder| is_left(folder)).count(), 1, "{case}");
            assert!(report.starts_with("Ok") && report.contains("unreadable: [\""), "{case}");
            // A remnant that is left counts, a folder that can't be listed does not.
            let is_remnant = ["unlinkat", "flock"].contains(&call);
            assert!(report.contains(&format!("is_unsettled: {is_remnant}")), "{case}");
            assert_eq!(recover(trace.path()).unwrap().removed().len(), 1, "{case}");
        }
    }
}

#[test]
fn what_is_mounted_below_is_entered_unless_it_is_told_not_to() {
    let script = "mkdir $DIR/below; mount -t tmpfs none $DIR/below; chmod 0755 $DIR/below";
    in_private_mounts(&this_test!(), script, |home| {
        let staged = staged_in(&home.join("below"));
        let beside = staged_in(&home.join("beside"));
        let here = RecoveryOptions::new().one_file_system(true).run(home).unwrap();
        assert_eq!((here.removed(), here.unreadable().len()), (&[beside][..], 0));
        assert_eq!(recover(home).unwrap().removed(), [staged]);
    });
}

/// Of a folder with so many orphaned versions and staging directories.
fn listings_for(test: &str, orphans: usize) -> Option<usize> {
    let trace = strace::run(test, &orphans.to_string(), &[], &|home, job| {
        for number in 0..job.parse().unwrap() {
            for letter in ['d', 'x', 'b'] {
                let tree = home.join(forged::name(letter, number));
                fs::create_dir(&tree).unwrap();
                fs::write(tree.join("file"), "old").unwrap();
            }
        }
        let done = strace::marked(|| recover(home)).unwrap();
        assert!(done.removed().len() >= 3, "{done:?}");
        println!("\nOUTCOME told");
    })?;
    // Each listing opens the directory anew.
    Some(
        trace.calls.iter().filter(|call| call.name == "openat" && call.args.contains("<DIR>, \".\"")).count(),
    )
}

#[test]
fn a_folder_is_listed_as_often_for_many_orphans_as_for_one() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    let Some(few) = listings_for(&this_test!(), 2) else { return };
    let Some(many) = listings_for(&this_test!(), 12) else { return };
    assert_eq!(few, many);
}
