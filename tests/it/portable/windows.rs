//! Goal: on Windows, who has a file open in a way that forbids replacing it is waited for, within
//! bounds, and then named as the reason; names that mean something else are refused. Method: files
//! held open with less sharing than the standard library gives.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::os::windows::io::AsHandle;
use std::path::Path;
use std::time::{Duration, Instant};

use durafile::{Batch, ErrorKind, WriteOptions};
use fs_err as fs;

use crate::support::{dir, names, refused, replaces_open_files};

const SHARE_READ: u32 = 1;

/// As a program does that doesn't want the file to be removed meanwhile.
fn hold(path: &Path) -> File {
    OpenOptions::new().read(true).share_mode(SHARE_READ).open(path).unwrap()
}

#[test]
fn a_target_that_is_held_open_is_busy_after_a_bounded_wait() {
    let home = dir();
    let path = home.path().join("file");
    fs::write(&path, "old").unwrap();
    let held = hold(&path);
    let begun = Instant::now();
    let error = refused(durafile::write(&path, "new"), ErrorKind::Busy);
    assert!(error.is_transient(), "somebody may close it");
    assert!(begun.elapsed() > Duration::from_millis(500), "it was not waited for");
    assert!(begun.elapsed() < Duration::from_secs(30), "the wait has no bound");
    let mut batch = Batch::new();
    batch.write(&path, "new").unwrap();
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::Busy);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(&home), ["file"]);
    drop(held);
    let _ = durafile::write(&path, "new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn what_is_written_by_the_handle_counts() {
    let home = dir();
    let path = home.path().join("file");
    let by_handle = |options: &WriteOptions| {
        let mut stream = options.open(&path).unwrap();
        stream.write_all(b"by us").unwrap();
        stream.flush().unwrap();
        let theirs = File::from(stream.as_handle().try_clone_to_owned().unwrap());
        theirs.seek_write(b", and by others", 5).unwrap();
        drop(theirs);
        stream.commit()
    };
    let _ = by_handle(&WriteOptions::new()).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"by us, and by others");
    assert!(by_handle(&WriteOptions::new().skip_unchanged(true)).unwrap().is_unchanged());
    refused(by_handle(&WriteOptions::new().size_limit(8)), ErrorKind::TooLarge);
    let stream = WriteOptions::new().open_in(home.path()).unwrap();
    let _ = stream.as_handle();
    stream.discard().unwrap();
    assert_eq!(names(&home), ["file"]);
}

#[test]
fn who_lets_go_in_time_is_waited_for() {
    let home = dir();
    let path = home.path().join("file");
    fs::write(&path, "old").unwrap();
    let held = hold(&path);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(150));
            drop(held);
        });
        let _ = durafile::write(&path, "new").unwrap();
    });
    assert_eq!(fs::read(&path).unwrap(), b"new");
    assert_eq!(names(&home), ["file"]);
}

#[test]
fn the_wait_is_as_long_as_was_asked_for() {
    const HELD: Duration = Duration::from_millis(1800);
    let home = dir();
    let path = home.path().join("file");
    fs::write(&path, "old").unwrap();
    let asked = |time| WriteOptions::new().busy_timeout(time);
    let held = hold(&path);
    let begun = Instant::now();
    let at_once = asked(Duration::ZERO);
    refused(at_once.write(&path, "new"), ErrorKind::Busy);
    refused(at_once.write_from(&path, &b"new"[..]), ErrorKind::Busy);
    refused(at_once.update(&path, |_| Ok(b"new".to_vec())), ErrorKind::Busy);
    let mut batch = Batch::new().options(at_once);
    batch.write(&path, "new").unwrap();
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::Busy);
    // The usual second was not waited for even once.
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!(names(&home), ["file"]);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(HELD);
            drop(held);
        });
        // Longer than the usual second.
        asked(Duration::from_secs(60)).write(&path, "new").unwrap();
    });
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn a_reader_with_the_usual_sharing_is_in_nobodys_way() {
    let home = dir();
    let path = home.path().join("file");
    fs::write(&path, "old").unwrap();
    if !replaces_open_files(home.path()) {
        let _held = File::open(&path).unwrap();
        refused(durafile::write(&path, "new"), ErrorKind::Busy);
        return;
    }
    let held = File::open(&path).unwrap();
    let begun = Instant::now();
    let _ = durafile::write(&path, "new").unwrap();
    assert!(begun.elapsed() < Duration::from_millis(900), "somebody was waited for");
    assert_eq!(std::io::read_to_string(held).unwrap(), "old");
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn names_that_mean_something_else_are_refused() {
    let home = dir();
    for name in ["a:stream", "NUL", "com1.txt", "what?", "dot.", "space ", "a|b"] {
        // Joined, `a:stream` would be a path of drive A.
        let path = format!("{}\\{name}", home.path().display());
        refused(durafile::write(&path, "x"), ErrorKind::InvalidPath);
        refused(WriteOptions::new().create_new(true).write(&path, "x"), ErrorKind::InvalidPath);
    }
    assert_eq!(names(&home).len(), 0);
}

#[test]
fn long_paths_and_backslashes_work() {
    let home = dir();
    let mut deep = std::fs::canonicalize(home.path()).unwrap();
    (0..12).for_each(|_| deep.push("a folder with a rather long name"));
    fs::create_dir_all(&deep).unwrap();
    if std::fs::canonicalize(&deep).is_ok() {
        let _ = durafile::write(deep.join("file"), "deep").unwrap();
        assert_eq!(fs::read(deep.join("file")).unwrap(), b"deep");
    } else {
        println!("NOT ASKED: this Windows can't tell where a long path leads");
    }
    let mixed = format!("{}\\sub/file", home.path().display());
    let _ = WriteOptions::new().create_parents(true).write(&mixed, "mixed").unwrap();
    assert_eq!(fs::read(home.path().join("sub").join("file")).unwrap(), b"mixed");
}
