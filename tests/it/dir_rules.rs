//! Goal: what a new version of a directory contains, and what it keeps of the old one.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use durafile::{AtomicDir, Carry, DirOptions, DirSnapshot, Durability, ErrorKind, SyncStrategy, TargetState};
use fs_err as fs;

use crate::support::{best, chmod, dir, mode, names, refused};

/// Every file below a directory with its content, every directory and link.
#[track_caller]
fn tree(root: &Path) -> Vec<(PathBuf, String)> {
    let mut all = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let rel = path.strip_prefix(root).unwrap().to_owned();
            if found.is_dir() {
                all.push((rel, "/".to_owned()));
                pending.push(path);
            } else if found.is_symlink() {
                all.push((rel, format!("-> {}", fs::read_link(&path).unwrap().display())));
            } else {
                all.push((rel, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    all.sort();
    all
}

fn texts(expected: &[(&str, &str)]) -> Vec<(PathBuf, String)> {
    expected.iter().map(|(path, text)| (path.into(), (*text).to_owned())).collect()
}

/// A conversation with a file of the user's, in a directory of its own.
fn conversation(home: &Path) -> PathBuf {
    let target = home.join("talk");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("metadata.json"), "1").unwrap();
    fs::write(target.join("events.json"), "hello").unwrap();
    fs::create_dir(target.join("files")).unwrap();
    fs::write(target.join("files/QUERY_MESSAGE.md"), "mine").unwrap();
    target
}

#[test]
fn a_new_directory_appears_with_everything_and_nothing_else_is_left() {
    let home = dir();
    let target = home.path().join("talk");
    let mut new = AtomicDir::create(&target).unwrap();
    new.write("a", "1").unwrap();
    new.write("deep/er/b", "2").unwrap();
    new.create_dir("empty").unwrap();
    new.write_json("c.json", &[1, 2]).unwrap();
    let mut stream = new.create_file("d").unwrap();
    stream.write_all(b"streamed").unwrap();
    stream.finish().unwrap();
    assert!(!target.exists());
    let committed = new.commit().unwrap();
    assert_eq!(committed.durability(), best(home.path()));
    assert!(!committed.is_unchanged());
    let expected = [
        ("a", "1"),
        ("c.json", "[1,2]"),
        ("d", "streamed"),
        ("deep", "/"),
        ("deep/er", "/"),
        ("deep/er/b", "2"),
        ("empty", "/"),
    ];
    assert_eq!(tree(&target), texts(&expected));
    assert_eq!(names(home.path()), ["talk"]);
}

#[test]
fn an_update_carries_over_what_is_not_replaced_or_removed() {
    for carry in [Carry::Copy, Carry::HardLink] {
        let home = dir();
        let target = conversation(home.path());
        fs::write(target.join("gone"), "x").unwrap();
        let mut next = DirOptions::new().carry(carry).update(&target).unwrap();
        next.write("metadata.json", "2").unwrap();
        next.write("files/new", "n").unwrap();
        next.remove("gone").unwrap();
        next.commit().unwrap();
        let expected = [
            ("events.json", "hello"),
            ("files", "/"),
            ("files/QUERY_MESSAGE.md", "mine"),
            ("files/new", "n"),
            ("metadata.json", "2"),
        ];
        assert_eq!(tree(&target), texts(&expected));
        assert_eq!(names(home.path()), ["talk"]);
    }
}

#[test]
fn what_is_created_over_a_directory_has_nothing_of_its_content() {
    let home = dir();
    let target = conversation(home.path());
    let mut new = AtomicDir::create(&target).unwrap();
    new.write("only", "this").unwrap();
    new.commit().unwrap();
    assert_eq!(tree(&target), texts(&[("only", "this")]));
    assert_eq!(names(home.path()), ["talk"]);
}
