//! Goal: a new version of a directory loses nothing that was pending in the old one or saved in it by the crate
//! itself. Method: a child is killed in there, or a writer is at work in there, while the directory around it
//! is updated.

use std::path::{Path, PathBuf};

use durafile::{AtomicDir, DirSnapshot, ErrorKind, TargetState, Transaction, recover};
use fs_err as fs;

use crate::dir::meanwhile::swap_killed_at;
use crate::support::{dir, names, refused, this_test};
use crate::transaction::record::{half_applied, remnant};

fn content(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

/// A new version of it, in which only `extra` is new.
fn update(target: &Path) -> durafile::Result<()> {
    let mut next = AtomicDir::update(target)?;
    next.write("extra", "new")?;
    next.commit().map(drop)
}

#[test]
fn a_swap_that_was_killed_inside_is_completed_before_the_update() {
    for nth in [1, 2] {
        let Some(home) = swap_killed_at(&this_test!(), "EINVAL", ("renameat", nth)) else { return };
        let up = dir();
        let outer = up.path().join("outer");
        fs::rename(home.path(), &outer).unwrap();
        update(&outer).unwrap();
        for name in ["a", "b"] {
            assert_eq!(content(outer.join("talk").join(name)), "new");
        }
        assert_eq!(names(&outer), ["extra", "talk"]);
        assert!(recover(up.path()).unwrap().is_clean());
    }
}

#[test]
fn a_transaction_that_was_killed_inside_is_completed_before_the_update() {
    for around in ["db", "."] {
        let Some(home) = half_applied(&this_test!()) else { return };
        let up = dir();
        fs::create_dir(up.path().join("talk")).unwrap();
        let db = up.path().join("talk/db");
        fs::rename(home.path(), &db).unwrap();
        update(&db.parent().unwrap().join(around)).unwrap();
        let found = ["a", "b", "d/c"].map(|name| content(db.join(name)));
        assert_eq!(found, ["new a", "new b", "new c"], "{around}");
        assert!(!db.join("gone").exists());
        assert!(recover(up.path()).unwrap().is_clean());
    }
}

#[test]
fn what_can_t_be_settled_inside_fails_the_update_and_is_carried_over_once_it_was_moved_aside() {
    let Some(home) = half_applied(&this_test!()) else { return };
    let up = dir();
    let outer = up.path().join("outer");
    fs::create_dir(&outer).unwrap();
    let db = outer.join("db");
    fs::rename(home.path(), &db).unwrap();
    let record = remnant(&db, "j");
    let mut bytes = fs::read(&record).unwrap();
    bytes[50] ^= 1;
    fs::write(&record, bytes).unwrap();
    let error = refused(update(&outer), ErrorKind::Corrupt);
    assert_eq!(error.path(), record);
    assert!(record.exists());
    assert_eq!(recover(up.path()).unwrap().quarantined().len(), 2);
    update(&outer).unwrap();
    let aside = names(&db).into_iter().filter(|name| durafile::is_remnant(name)).count();
    assert_eq!(aside, 2, "what waits for a person is not deleted");
}

#[test]
fn a_writer_at_work_inside_fails_the_update() {
    let home = dir();
    let talk = home.path().join("talk");
    fs::create_dir_all(talk.join("db")).unwrap();
    for begin in [
        (|talk: &Path| Box::new(Transaction::begin(talk.join("db")).unwrap()) as Box<dyn Send>)
            as fn(&Path) -> Box<dyn Send>,
        |talk| Box::new(Transaction::begin(talk).unwrap()),
        |talk| Box::new(AtomicDir::update(talk.join("db")).unwrap()),
    ] {
        let inside = begin(&talk);
        refused(update(&talk), ErrorKind::Locked);
        drop(inside);
        update(&talk).unwrap();
    }
    assert_eq!(names(home.path()), ["talk"]);
}

#[test]
fn a_writer_inside_fails_while_the_directory_around_it_is_updated() {
    let home = dir();
    let talk = home.path().join("talk");
    fs::create_dir_all(talk.join("db")).unwrap();
    fs::write(talk.join("db/old"), "old").unwrap();
    let mut outer = AtomicDir::update(&talk).unwrap();
    // What is carried over is there from here on.
    assert!(outer.staging().join("db/old").exists());
    let change = |count: usize| {
        let mut change = Transaction::begin(talk.join("db"))?;
        (0..count).try_for_each(|number| change.write(format!("f{number}"), "new"))?;
        change.commit().map(drop)
    };
    refused(change(1), ErrorKind::Locked);
    refused(change(3), ErrorKind::Locked);
    refused(update(&talk.join("db")), ErrorKind::Locked);
    assert_eq!(names(talk.join("db")), ["old"]);
    outer.write("extra", "new").unwrap();
    let _ = outer.commit().unwrap();
    change(1).unwrap();
    change(3).unwrap();
    update(&talk.join("db")).unwrap();
    assert_eq!(names(talk.join("db")), ["extra", "f0", "f1", "f2", "old"]);
}

#[test]
fn a_writer_whose_directory_was_swapped_away_fails() {
    for count in [1, 3] {
        let home = dir();
        let talk = home.path().join("talk");
        fs::create_dir_all(talk.join("db")).unwrap();
        let mut change = Transaction::begin(&talk).unwrap();
        (0..count).for_each(|number| change.write(format!("f{number}"), "new").unwrap());
        let mut inner = AtomicDir::update(talk.join("db")).unwrap();
        inner.write("f", "new").unwrap();
        let reader = DirSnapshot::open(&talk).unwrap();
        let _ = AtomicDir::create(&talk).unwrap().commit().unwrap();
        let error = change.commit().unwrap_err();
        assert_eq!((error.kind(), error.target()), (ErrorKind::NotFound, TargetState::Unchanged), "{error}");
        let error = inner.commit().unwrap_err();
        assert_eq!((error.kind(), error.target()), (ErrorKind::NotFound, TargetState::Unchanged), "{error}");
        assert!(names(&talk).is_empty());
        drop(reader);
        assert_eq!(names(home.path()), ["talk"]);
    }
}

#[test]
fn a_snapshot_of_a_part_keeps_its_files_when_the_whole_is_swapped() {
    let home = dir();
    let talk = home.path().join("talk");
    fs::create_dir_all(talk.join("part/deep")).unwrap();
    fs::write(talk.join("part/deep/f"), "old").unwrap();
    let reader = DirSnapshot::open(talk.join("part/deep")).unwrap();
    let _ = AtomicDir::create(&talk).unwrap().commit().unwrap();
    for _ in 0..2 {
        assert_eq!(reader.entries().unwrap(), [PathBuf::from("f")]);
        assert_eq!(reader.read("f").unwrap(), b"old");
        let _ = recover(home.path()).unwrap();
        update(&talk).unwrap();
    }
    drop(reader);
    update(&talk).unwrap();
    let _ = recover(home.path()).unwrap();
    assert_eq!(names(home.path()), ["talk"]);
}

/// Another program makes and removes files in the directory all the time.
#[test]
fn names_that_vanish_while_they_are_carried_over_fail_no_update() {
    let home = dir();
    let talk = home.path().join("talk");
    fs::create_dir(&talk).unwrap();
    fs::write(talk.join("kept"), "old").unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                for number in 0..8 {
                    let (file, dir) = (talk.join(format!("t{number}")), talk.join(format!("d{number}")));
                    // The directory is swapped meanwhile, so that any of these may fail.
                    let _ = std::fs::write(&file, "passing");
                    let _ = std::fs::create_dir(&dir);
                    let _ = std::fs::remove_file(&file);
                    let _ = std::fs::remove_dir(&dir);
                }
            }
        });
        let failed: Vec<_> = (0..60).filter_map(|_| update(&talk).err()).collect();
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(failed.is_empty(), "{} of 60: {:?}", failed.len(), failed.first());
    });
    assert_eq!(content(talk.join("kept")), "old");
}
