//! Goal: `fail_saves` lets every operation of its thread fail with the kind that was asked for, before anything
//! changes, and concerns nobody else. Method: each operation, with and without a guard.

use std::io::Write;
use std::path::Path;

use durafile::crash_testing::fail_saves;
use durafile::{
    AtomicDir, AtomicFile, Batch, ErrorKind, Result, TargetState, Transaction, WriteOptions, create_dir_all,
    recover, remove_dir_all, remove_file, rename, rename_new, sync, update, write,
};
use fs_err as fs;

use crate::support::{dir, names, refused};

type Operation = (&'static str, fn(&Path) -> Result<()>);

/// Everything that changes something.
const OPERATIONS: &[Operation] = &[
    ("write", |at| write(at.join("file"), "new").map(drop)),
    ("write_from", |at| WriteOptions::new().write_from(at.join("file"), &b"new"[..]).map(drop)),
    ("open", |at| AtomicFile::create(at.join("file")).map(drop)),
    ("update", |at| update(at.join("file"), |_| Ok(b"new".to_vec())).map(drop)),
    ("Transaction::begin", |at| Transaction::begin(at).map(drop)),
    ("AtomicDir::create", |at| AtomicDir::create(at.join("tree")).map(drop)),
    ("AtomicDir::update", |at| AtomicDir::update(at.join("tree")).map(drop)),
    ("create_dir_all", |at| create_dir_all(at.join("a/b")).map(drop)),
    ("rename", |at| rename(at.join("file"), at.join("other")).map(drop)),
    ("rename_new", |at| rename_new(at.join("file"), at.join("other")).map(drop)),
    ("remove_file", |at| remove_file(at.join("file")).map(drop)),
    ("remove_dir_all", |at| remove_dir_all(at.join("tree")).map(drop)),
    ("sync", |at| sync(at.join("tree")).map(drop)),
    ("sync .", |at| sync(at.join(".")).map(drop)),
];

/// What is begun before the guard, and ended under it.
const COMMITS: &[Operation] = &[
    ("AtomicFile::commit", |at| {
        let mut file = AtomicFile::create(at.join("file"))?;
        file.write_all(b"new").unwrap();
        let _full = fail_saves(ErrorKind::StorageFull);
        file.commit().map(drop)
    }),
    ("Batch::commit", |at| {
        let mut batch = Batch::new();
        batch.write(at.join("file"), "new")?;
        batch.write(at.join("new"), "new")?;
        let _full = fail_saves(ErrorKind::StorageFull);
        let error = batch.commit().map(drop).unwrap_err();
        assert_eq!(error.files().len(), 2);
        assert!(error.files().iter().all(|(_, state)| *state == TargetState::Unchanged));
        Err(error)
    }),
    ("Transaction::commit", |at| {
        let mut change = Transaction::begin(at)?;
        change.write("file", "new")?;
        change.write("tree/inside", "new")?;
        let _full = fail_saves(ErrorKind::StorageFull);
        change.commit().map(drop)
    }),
    ("AtomicDir::commit", |at| {
        let mut next = AtomicDir::update(at.join("tree"))?;
        next.write("inside", "new")?;
        let _full = fail_saves(ErrorKind::StorageFull);
        next.commit().map(drop)
    }),
];

fn unchanged(home: &Path, name: &str) {
    assert_eq!(names(home), ["file", "tree"], "{name}");
    assert_eq!(names(home.join("tree")), ["inside"], "{name}");
    assert_eq!(fs::read(home.join("file")).unwrap(), b"old", "{name}");
    assert_eq!(fs::read(home.join("tree/inside")).unwrap(), b"old", "{name}");
    assert!(recover(home).unwrap().is_clean(), "{name}");
}

fn prepared() -> tempfile::TempDir {
    let home = dir();
    fs::write(home.path().join("file"), "old").unwrap();
    fs::create_dir(home.path().join("tree")).unwrap();
    fs::write(home.path().join("tree/inside"), "old").unwrap();
    home
}

#[test]
fn every_operation_fails_as_asked_and_changes_nothing() {
    for (name, operation) in OPERATIONS {
        let home = prepared();
        let full = fail_saves(ErrorKind::StorageFull);
        let error = refused(operation(home.path()), ErrorKind::StorageFull);
        assert!(std::error::Error::source(&error).unwrap().to_string().contains("fail_saves"), "{name}");
        unchanged(home.path(), name);
        drop(full);
        operation(home.path()).unwrap_or_else(|e| panic!("{name}: {e:?}"));
    }
    for (name, operation) in COMMITS {
        let home = prepared();
        refused(operation(home.path()), ErrorKind::StorageFull);
        unchanged(home.path(), name);
    }
}

#[test]
fn the_youngest_guard_counts_and_other_threads_are_left_alone() {
    let home = dir();
    let path = home.path().join("file");
    let outer = fail_saves(ErrorKind::StorageFull);
    let inner = fail_saves(ErrorKind::ReadOnlyFilesystem);
    refused(write(&path, "new"), ErrorKind::ReadOnlyFilesystem);
    std::thread::scope(|scope| {
        scope.spawn(|| write(&path, "another thread's").unwrap());
    });
    drop(inner);
    refused(write(&path, "new"), ErrorKind::StorageFull);
    // In whatever order they go.
    let inner = fail_saves(ErrorKind::Io);
    drop(outer);
    refused(write(&path, "new"), ErrorKind::Io);
    drop(inner);
    write(&path, "new").unwrap();
    let panicked = std::panic::catch_unwind(|| {
        let _full = fail_saves(ErrorKind::StorageFull);
        panic!("the test fails");
    });
    assert!(panicked.is_err());
    write(&path, "newer").unwrap();
}
