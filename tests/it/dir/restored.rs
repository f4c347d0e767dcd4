//! Goal: a directory that is restored or copied between a crash and the recovery is neither deleted nor left
//! without a version. Method: strace kills a child in the middle of a swap that takes several steps.

use std::path::Path;
use std::process::Command;

use durafile::{AtomicDir, ErrorKind, recover};
use fs_err as fs;
use tempfile::TempDir;

use crate::dir::meanwhile::swap_killed_at;
use crate::support::{dir, job, names, refused, this_test};
use crate::transaction::record::remnant;

/// Killed before and after the old version was renamed away.
const RENAMES: [usize; 2] = [1, 2];

fn content(home: &Path, name: &str) -> String {
    fs::read_to_string(home.join("talk").join(name)).unwrap()
}

#[test]
fn a_directory_that_is_restored_before_the_recovery_stays() {
    let test = this_test!();
    for nth in RENAMES {
        let Some(home) = swap_killed_at(&test, "EINVAL", ("renameat", nth)) else { return };
        let (talk, record) = (home.path().join("talk"), remnant(home.path(), "r"));
        assert_eq!(talk.exists(), nth == 1, "killed at another place");
        // So that its inode can't be given to the restored one.
        let aside = tempfile::tempdir_in(home.path().parent().unwrap()).unwrap();
        if talk.exists() {
            fs::rename(&talk, aside.path().join("talk")).unwrap();
        }
        fs::create_dir(&talk).unwrap();
        fs::write(talk.join("a"), "restored").unwrap();
        let error = refused(AtomicDir::update(&talk), ErrorKind::Corrupt);
        assert_eq!(error.path(), record);
        let recovery = recover(home.path()).unwrap();
        assert!(recovery.completed().is_empty() && !recovery.quarantined().is_empty(), "{recovery:?}");
        assert_eq!(content(home.path(), "a"), "restored");
        assert!(recover(home.path()).unwrap().is_clean());
        let mut next = AtomicDir::update(&talk).unwrap();
        next.write("b", "next").unwrap();
        next.commit().unwrap();
        assert_eq!(content(home.path(), "a"), "restored");
    }
}

/// The old version was being deleted at the target, since it could not be renamed.
#[test]
fn a_directory_that_is_restored_while_the_old_version_was_deleted_stays() {
    let Some(home) = swap_killed_at(&this_test!(), "EXDEV", ("unlinkat", 2)) else { return };
    let talk = home.path().join("talk");
    assert_eq!(names(&talk).len(), 1, "killed at another place");
    // The file system may give the restored one its inode.
    fs::remove_dir_all(&talk).unwrap();
    fs::create_dir(&talk).unwrap();
    fs::write(talk.join("a"), "restored").unwrap();
    refused(AtomicDir::update(&talk), ErrorKind::Corrupt);
    let recovery = recover(home.path()).unwrap();
    assert!(recovery.completed().is_empty() && !recovery.quarantined().is_empty(), "{recovery:?}");
    assert_eq!(content(home.path(), "a"), "restored");
    assert!(recover(home.path()).unwrap().is_clean());
}

fn copied(home: &TempDir) -> TempDir {
    let copy = dir();
    let from = home.path().join(".");
    let done = Command::new("cp").args(["-a".as_ref(), from.as_os_str(), copy.path().as_os_str()]).status();
    assert!(done.unwrap().success());
    copy
}

#[test]
fn a_copy_of_a_swap_is_completed_unless_the_old_version_was_changed_in_it() {
    let test = this_test!();
    if job(&test).is_none() {
        println!("by {} kills", RENAMES.len());
    }
    for nth in RENAMES {
        let Some(home) = swap_killed_at(&test, "EINVAL", ("renameat", nth)) else { return };
        let copy = copied(&home);
        let recovery = recover(copy.path()).unwrap();
        assert_eq!(recovery.completed(), [copy.path().join("talk")], "{recovery:?}");
        assert_eq!(["a", "b"].map(|name| content(copy.path(), name)), ["new", "new"]);
        assert_eq!(names(copy.path()), ["talk"]);
        if nth == 1 {
            let copy = copied(&home);
            fs::write(copy.path().join("talk/c"), "later").unwrap();
            let recovery = recover(copy.path()).unwrap();
            assert!(!recovery.quarantined().is_empty(), "{recovery:?}");
            assert_eq!(content(copy.path(), "c"), "later");
        }
    }
}
