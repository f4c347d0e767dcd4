//! Goal: a recovery is invisible to writers at work, and they to it; one user's crash keeps nobody out.
//! Method: busy processes beside recoveries that never pause; other users hold and leave locks.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use durafile::{AtomicDir, Batch, DirOptions, ErrorKind, Transaction, is_remnant, recover};
use fs_err as fs;
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::support::{as_user, chmod, chown, dir, forged, is_root, job, names, rerun, skip, this_test};

const TURNS: usize = 120;

/// The child's part: everything that takes a lock or has a passing name, in places of its own.
fn be_busy(home: &Path, job: &str) {
    let (mut locked, mut failed) = (0, 0);
    let own = home.join(format!("set {job}"));
    fs::create_dir(&own).unwrap();
    for turn in 0..TURNS {
        let set = || {
            let mut change = Transaction::begin(&own)?;
            change.write("one", format!("{turn}"))?;
            change.write("two", format!("{turn}"))?;
            change.commit().map(drop)
        };
        let tree = || {
            let mut next = DirOptions::new().update(home.join(format!("tree {job}")))?;
            next.write("file", format!("{turn}"))?;
            next.commit().map(drop)
        };
        let batch = || {
            let mut batch = Batch::new();
            batch.write(home.join(format!("one {job}")), format!("{turn}"))?;
            batch.write(home.join(format!("two {job}")), format!("{turn}"))?;
            batch.commit().map(drop)
        };
        for done in [set(), tree(), batch()] {
            match done {
                Err(e) if e.kind() == ErrorKind::Locked => locked += 1,
                Err(e) => {
                    eprintln!("{e}: {:?}", e.io_error());
                    failed += 1;
                }
                Ok(()) => {}
            }
        }
    }
    println!("\nBUSY {locked} {failed}");
}

#[test]
fn busy_writers_and_recoveries_do_not_see_each_other() {
    if let Some((home, job)) = job(&this_test!()) {
        return be_busy(&home, &job);
    }
    let home = dir();
    let test = this_test!();
    let start = |number: usize| {
        let mut command = rerun(&[], &test, home.path(), &number.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut children: Vec<_> = (0..6).map(start).collect();
    let (mut recoveries, mut told) = (0, Vec::new());
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        let recovery = recover(home.path()).unwrap();
        told.extend(recovery.removed().iter().chain(recovery.untrusted()).cloned());
        told.extend(recovery.completed().iter().chain(recovery.rolled_back()).cloned());
        told.extend(recovery.quarantined().iter().cloned());
        recoveries += 1;
    }
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("BUSY 0 0"), "{said}\n{errors}");
    }
    assert!(told.is_empty(), "{told:?}");
    assert!(recoveries > 5, "{recoveries}");
    assert!(recover(home.path()).unwrap().is_clean());
    assert!(!names(home.path()).iter().any(is_remnant));
}

const OTHER: u32 = 1234;
const STRANGER: u32 = 65534;

fn begin_both(home: &Path) -> [durafile::Result<()>; 2] {
    [Transaction::begin(home).map(drop), AtomicDir::create(home.join("talk")).map(drop)]
}

fn lock_files(home: &Path) -> [std::path::PathBuf; 2] {
    [home.join(forged::for_target('l', "")), home.join(forged::for_target('l', "talk"))]
}

#[test]
fn what_another_user_s_program_left_of_a_lock_keeps_nobody_out() {
    if !is_root() {
        return skip("only root can become another user");
    }
    for mode in [0o777, 0o1777, 0o2775] {
        let home = dir();
        chown(home.path(), 0, STRANGER);
        chmod(home.path(), mode);
        // As a killed program leaves them.
        let made = as_user(OTHER, STRANGER, || {
            let change = Transaction::begin(home.path()).unwrap();
            let next = AtomicDir::create(home.path().join("talk")).unwrap();
            let modes = lock_files(home.path()).map(|path| fs::metadata(path).unwrap().mode() & 0o777);
            drop((change, next));
            modes
        });
        assert_eq!(made, Some([0o666; 2]), "{mode:o}");
        for path in lock_files(home.path()) {
            fs::write(&path, "").unwrap();
            chown(&path, OTHER, STRANGER);
            chmod(&path, 0o666);
        }
        as_user(STRANGER, STRANGER, || {
            for begun in begin_both(home.path()) {
                begun.unwrap_or_else(|e| panic!("{mode:o}: {e}: {:?}", e.io_error()));
            }
        });
    }
}

#[test]
fn a_lock_that_is_held_is_locked_for_everybody() {
    if !is_root() {
        return skip("only root can become another user");
    }
    for mode in [0o777, 0o2775] {
        let home = dir();
        chown(home.path(), 0, STRANGER);
        chmod(home.path(), mode);
        let held = (Transaction::begin(home.path()), AtomicDir::create(home.path().join("talk")));
        assert!(held.0.is_ok() && held.1.is_ok());
        let all_are_locked = || {
            for begun in begin_both(home.path()) {
                assert_eq!(begun.unwrap_err().kind(), ErrorKind::Locked, "{mode:o}");
            }
        };
        all_are_locked();
        as_user(STRANGER, STRANGER, all_are_locked);
        // One that can't even be opened.
        lock_files(home.path()).iter().for_each(|path| chmod(path, 0o600));
        as_user(STRANGER, STRANGER, all_are_locked);
        drop(held);
        as_user(STRANGER, STRANGER, || begin_both(home.path()).map(|begun| begun.unwrap()));
        assert!(names(home.path()).is_empty());
    }
}

#[test]
fn a_lock_file_in_a_directory_of_one_s_own_is_one_s_own() {
    let home = dir();
    let held = Transaction::begin(home.path()).unwrap();
    assert_eq!(fs::metadata(&lock_files(home.path())[0]).unwrap().mode() & 0o777, 0o600);
    drop(held);
}

#[test]
fn what_is_no_lock_file_is_refused() {
    let home = dir();
    for path in lock_files(home.path()) {
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap();
    }
    for begun in begin_both(home.path()) {
        assert_eq!(begun.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}

/// The child's part: stages, and ends without a word.
fn stage_and_die(home: &Path, job: &str) {
    let mut batch = Batch::new();
    let mut next = AtomicDir::create(home.join("talk")).unwrap();
    let mut change = Transaction::begin(home).unwrap();
    batch.write(home.join("file"), "new").unwrap();
    next.write("file", "new").unwrap();
    change.write("file", "new").unwrap();
    if job == "die" {
        std::process::exit(0);
    }
    println!("\nREADY");
    let _ = std::io::stdin().lines().next();
    std::process::exit(0);
}

#[test]
fn what_a_dead_writer_staged_goes_where_others_can_create_names_too() {
    if let Some((home, job)) = job(&this_test!()) {
        return stage_and_die(&home, &job);
    }
    for mode in [0o755, 0o1777, 0o777, 0o2775] {
        let home = dir();
        chmod(home.path(), mode);
        assert!(rerun(&[], &this_test!(), home.path(), "die").output().unwrap().status.success());
        assert!(names(home.path()).len() >= 3);
        let recovery = recover(home.path()).unwrap();
        assert!(recovery.untrusted().is_empty(), "{mode:o}: {recovery:?}");
        assert!(names(home.path()).is_empty(), "{mode:o}: {recovery:?}");
    }
}

#[test]
fn a_directory_that_took_the_place_of_a_stage_stays() {
    // The stranger moves the stage away and gives its name to another directory of ours.
    if let Some((home, job)) = job(&this_test!()) {
        return stage_and_die(&home, &job);
    }
    let home = dir();
    chmod(home.path(), 0o777);
    assert!(rerun(&[], &this_test!(), home.path(), "die").output().unwrap().status.success());
    let is_dir = |name: &std::ffi::OsString| home.path().join(name).is_dir();
    let mut taken = Vec::new();
    for (number, name) in names(home.path()).into_iter().filter(is_dir).enumerate() {
        let dear = home.path().join(format!("dear {number}"));
        fs::create_dir(&dear).unwrap();
        fs::write(dear.join("file"), "dear to us").unwrap();
        fs::rename(home.path().join(&name), home.path().join(format!("moved {number}"))).unwrap();
        fs::rename(&dear, home.path().join(&name)).unwrap();
        // A stage itself under the name of another one is none either.
        taken.push(home.path().join(name));
    }
    assert!(taken.len() >= 3);
    let recovery = recover(home.path()).unwrap();
    assert_eq!(recovery.untrusted().len(), taken.len(), "{recovery:?}");
    for path in taken {
        assert_eq!(fs::read_to_string(path.join("file")).unwrap(), "dear to us");
    }
}
