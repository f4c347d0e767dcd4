//! Goal: where names that differ only in case are one, sets and directories know it. Method: the same file or
//! directory is called by several spellings. On Linux `places::folding` does it, on a file system that folds case.

use std::path::Path;

use durafile::{AtomicDir, Batch, ErrorKind, Transaction, WriteOptions};
use fs_err as fs;

use crate::support::{names, refused};

#[cfg(any(windows, target_os = "macos"))]
fn where_case_is_folded(body: fn(&Path)) {
    let home = crate::support::dir();
    fs::write(home.path().join("probe"), "").unwrap();
    if home.path().join("PROBE").exists() {
        fs::remove_file(home.path().join("probe")).unwrap();
        body(home.path());
    } else {
        println!("NOT ASKED: names that differ in case are different here");
    }
}

#[cfg(any(windows, target_os = "macos"))]
#[test]
fn the_last_call_for_a_name_wins_in_any_spelling() {
    where_case_is_folded(the_last_call_for_a_name_wins);
}

#[cfg(any(windows, target_os = "macos"))]
#[test]
fn a_directory_has_one_writer_in_all_spellings() {
    where_case_is_folded(a_directory_has_one_writer);
}

#[cfg(any(windows, target_os = "macos"))]
#[test]
fn a_previous_version_can_not_keep_another_spelling_of_the_name() {
    where_case_is_folded(a_previous_version_keeps_no_other_spelling);
}

#[cfg(any(windows, target_os = "macos"))]
#[test]
fn a_file_and_a_directory_never_have_one_name() {
    where_case_is_folded(no_file_is_put_where_another_needs_a_directory);
}

/// What can't all be done is refused before anything is decided, however each change spells the name.
pub(crate) fn no_file_is_put_where_another_needs_a_directory(home: &Path) {
    let root = home.join("root");
    let begin = || {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(root.join("there")).unwrap();
        Transaction::begin(&root).unwrap()
    };
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    for (file, inside) in
        [("A", "a/b"), ("a", "A/b/c"), ("there/made", "THERE/Made/b"), ("made/A", "MADE/a/b")]
    {
        let mut change = begin();
        change.write(file, "file").unwrap();
        change.write("other", "other").unwrap();
        refused(change.write(inside, "inside"), ErrorKind::NotADirectory);
        let _ = change.commit().unwrap();
        assert_eq!([read(file), read("other")], ["file", "other"], "{file}, {inside}");

        let mut change = begin();
        change.write(inside, "inside").unwrap();
        change.write("other", "other").unwrap();
        refused(change.write(file, "file"), ErrorKind::IsADirectory);
        let _ = change.commit().unwrap();
        assert_eq!([read(inside), read("other")], ["inside", "other"], "{file}, {inside}");

        // What was taken back is in nobody's way.
        let mut change = begin();
        change.write(file, "file").unwrap();
        change.remove(file).unwrap();
        change.write(inside, "inside").unwrap();
        change.remove(inside).unwrap();
        change.write(file, "file").unwrap();
        change.write("other", "other").unwrap();
        let _ = change.commit().unwrap();
        assert_eq!([read(file), read("other")], ["file", "other"], "{file}, {inside}");
    }
}

/// Another spelling of the target's name is no name for what the save replaces, not even if the file has a second one.
pub(crate) fn a_previous_version_keeps_no_other_spelling(home: &Path) {
    let _ = keeps_no_other_spelling(home, "notes", "Notes");
}

/// False where the file could not be given a second name.
pub(crate) fn keeps_no_other_spelling(home: &Path, one: &str, other: &str) -> bool {
    let at = |name: &str| home.join(name);
    fs::write(at(one), "old").unwrap();
    for has_second_name in [false, true] {
        if has_second_name && fs::hard_link(at(one), at("second")).is_err() {
            return false;
        }
        let refused = WriteOptions::new().keep_previous(other).write(at(one), "new").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::InvalidPath, "{other}, {has_second_name}: {refused}");
        assert_eq!(fs::read_to_string(at(one)).unwrap(), "old");
    }
    true
}

/// Of two calls for one file the later counts, however each spells its name.
pub(crate) fn the_last_call_for_a_name_wins(home: &Path) {
    let root = home.join("root");
    let at = |name: &str| root.join(name);
    let read = |name: &str| fs::read_to_string(at(name)).unwrap();
    let reset = || {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir(&root).unwrap();
        fs::write(at("notes"), "old").unwrap();
        fs::write(at("README.md"), "old").unwrap();
    };

    for (first, second) in [("notes", "Notes"), ("config", "Config"), ("made/config", "MADE/Config")] {
        reset();
        let mut change = Transaction::begin(&root).unwrap();
        change.write(first, "first").unwrap();
        change.write(second, "second").unwrap();
        change.write("other", "other").unwrap();
        change.commit().unwrap();
        assert_eq!([read(first), read(second)], ["second", "second"]);
    }
    reset();
    let mut change = Transaction::begin(&root).unwrap();
    change.remove("notes").unwrap();
    change.write("Notes", "new").unwrap();
    change.write("other", "other").unwrap();
    change.commit().unwrap();
    assert_eq!(read("notes"), "new");
    let mut change = Transaction::begin(&root).unwrap();
    change.write("notes", "newer").unwrap();
    change.remove("NOTES").unwrap();
    change.write("only planned", "").unwrap();
    change.remove("Only Planned").unwrap();
    change.write("another", "another").unwrap();
    change.commit().unwrap();
    assert_eq!(names(&root), ["README.md", "another", "other"]);

    for name in ["notes", "config"] {
        reset();
        let mut batch = Batch::new();
        batch.write(at(name), "first").unwrap();
        batch.write(at(&name.to_uppercase()), "second").unwrap();
        assert_eq!(batch.commit().unwrap().len(), 2);
        assert_eq!(read(name), "second");
    }

    reset();
    fs::create_dir(at("inside")).unwrap();
    fs::write(at("inside/file"), "old").unwrap();
    let mut next = AtomicDir::update(&root).unwrap();
    next.remove("readme.md").unwrap();
    next.write("NOTES", "new").unwrap();
    next.write("INSIDE/File", "new").unwrap();
    next.commit().unwrap();
    assert_eq!([read("notes"), read("inside/file")], ["new", "new"]);
    assert!(!at("README.md").exists());
}

/// A directory has one writer, however each of them spells its name.
pub(crate) fn a_directory_has_one_writer(home: &Path) {
    let at = |name: &str| home.join(name);
    for there in ["missing", "There", "elsewhere"] {
        if there == "There" {
            fs::create_dir(at(there)).unwrap();
            fs::write(at(there).join("kept"), "kept").unwrap();
        }
        let first = AtomicDir::update(at(there)).unwrap();
        for other in [there.to_uppercase(), there.to_lowercase()] {
            assert_eq!(AtomicDir::update(at(&other)).unwrap_err().kind(), ErrorKind::Locked, "{other}");
        }
        first.discard().unwrap();
        for (n, other) in [there.to_uppercase(), there.to_owned(), there.to_lowercase()].iter().enumerate() {
            let mut next = AtomicDir::update(at(other)).unwrap();
            next.write(format!("file-{n}"), "new").unwrap();
            next.commit().unwrap();
            assert!(at(there).join(format!("file-{n}")).exists());
            assert!(at(there).join("file-0").exists(), "{other}: what the others saved is lost");
        }
    }
    assert!(at("there/kept").exists());
    assert_eq!(names(home), ["ELSEWHERE", "MISSING", "There"]);
}
