//! Goal: directories and transactions change as a whole on every platform. Method: as users do it.

use std::path::Path;

use durafile::{
    AtomicDir, AtomicFile, Carry, DirOptions, DirSnapshot, ErrorKind, LockFile, RecoveryOptions, Transaction,
    WriteOptions, is_remnant, recover,
};
use fs_err as fs;

use crate::support::{best, dir, names, refused};

fn commit(target: &Path, text: &str) {
    let mut next = AtomicDir::update(target).unwrap();
    next.write("a", text).unwrap();
    next.write("sub/b", text).unwrap();
    assert_eq!(next.commit().unwrap().durability(), best(target));
}

#[track_caller]
fn holds(snapshot: &DirSnapshot, text: &str) {
    assert_eq!(snapshot.read("a").unwrap(), text.as_bytes());
    assert_eq!(snapshot.read("sub/b").unwrap(), text.as_bytes());
    assert_eq!(snapshot.entries().unwrap().len(), 3);
}

#[test]
fn a_directory_is_created_updated_and_discarded_as_a_whole() {
    let home = dir();
    let target = home.path().join("talk");
    for carry in [Carry::Copy, Carry::HardLink] {
        let mut new = AtomicDir::create(&target).unwrap();
        new.write("a", "1").unwrap();
        new.write("deep/er/b", "1").unwrap();
        new.create_dir("empty").unwrap();
        fs::write(new.staging().join("by another tool"), "1").unwrap();
        let _ = new.commit().unwrap();
        assert_eq!(names(&target), ["a", "by another tool", "deep", "empty"]);
        let mut next = DirOptions::new().carry(carry).update(&target).unwrap();
        next.write("a", "2").unwrap();
        next.remove("empty").unwrap();
        refused(next.remove("missing"), ErrorKind::NotFound);
        for path in ["../out", "/etc/x", "a//b", "deep", ""] {
            assert!(next.write(path, "x").is_err(), "{path}");
        }
        let _ = next.commit().unwrap();
        assert_eq!(names(&target), ["a", "by another tool", "deep"]);
        assert_eq!(fs::read(target.join("a")).unwrap(), b"2");
        assert_eq!(fs::read(target.join("deep/er/b")).unwrap(), b"1");
        let mut never = AtomicDir::update(&target).unwrap();
        never.write("a", "3").unwrap();
        refused(AtomicDir::update(&target), ErrorKind::Locked);
        never.discard().unwrap();
        assert_eq!(fs::read(target.join("a")).unwrap(), b"2");
        assert_eq!(names(&home), ["talk"]);
    }
    fs::write(home.path().join("file"), "x").unwrap();
    refused(AtomicDir::create(home.path().join("file")), ErrorKind::NotADirectory);
    assert!(recover(home.path()).unwrap().is_clean());
}

#[test]
fn a_snapshot_keeps_its_version_and_the_last_one_out_deletes_it() {
    let home = dir();
    let target = home.path().join("talk");
    commit(&target, "0");
    let (one, other) = (DirSnapshot::open(&target).unwrap(), DirSnapshot::open(&target).unwrap());
    for n in 1..4 {
        commit(&target, &n.to_string());
        holds(&one, "0");
        holds(&DirSnapshot::open(&target).unwrap(), &n.to_string());
    }
    let recovery = recover(home.path()).unwrap();
    assert!(recovery.is_clean(), "{recovery:?}");
    assert!(!recovery.in_use().is_empty());
    holds(&one, "0");
    drop(one);
    holds(&other, "0");
    refused(other.read("../talk/a"), ErrorKind::InvalidPath);
    refused(other.read("sub"), ErrorKind::IsADirectory);
    refused(other.read("missing"), ErrorKind::NotFound);
    drop(other);
    assert_eq!(names(&home), ["talk"]);
    holds(&DirSnapshot::open(&target).unwrap(), "3");
    refused(DirSnapshot::open(home.path().join("missing")), ErrorKind::NotFound);
}

#[test]
fn a_transaction_changes_all_or_nothing() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("old"), "old").unwrap();
    fs::write(at("kept"), "old").unwrap();
    let change = |text: &str| {
        let mut change = Transaction::begin(home.path()).unwrap();
        change.write("kept", text).unwrap();
        change.write("new/one/a", text).unwrap();
        change.write("new/b", text).unwrap();
        if at("old").exists() {
            change.remove("old").unwrap();
        }
        change
    };
    change("never").discard().unwrap();
    drop(change("never"));
    assert_eq!(names(&home), ["kept", "old"]);
    assert_eq!(fs::read(at("kept")).unwrap(), b"old");
    for text in ["1", "2"] {
        let pending = change(text);
        refused(Transaction::begin(home.path()), ErrorKind::Locked);
        assert_eq!(pending.commit().unwrap().durability(), best(&home));
        for name in ["kept", "new/one/a", "new/b"] {
            assert_eq!(fs::read_to_string(at(name)).unwrap(), text);
        }
        assert_eq!(names(&home), ["kept", "new"]);
        assert!(recover(home.path()).unwrap().is_clean());
    }
    let mut one = Transaction::begin(home.path()).unwrap();
    one.write("kept", "alone").unwrap();
    for path in ["../x", "/x", "", "new"] {
        assert!(one.write(path, "x").is_err(), "{path}");
    }
    let _ = one.commit().unwrap();
    assert_eq!(fs::read(at("kept")).unwrap(), b"alone");
}

#[test]
fn names_of_ours_are_told_from_all_others() {
    let home = dir();
    let mut new = AtomicDir::create(home.path().join("talk")).unwrap();
    new.write("a", "1").unwrap();
    let staged = names(&home);
    assert!(!staged.is_empty() && staged.iter().all(is_remnant), "{staged:?}");
    new.discard().unwrap();
    assert!(!["talk", ".durafile-notes", "a.tmp"].into_iter().any(is_remnant));
    assert_eq!(names(&home).len(), 0);
}

/// An unset variable is no directory to begin in, and a refusal says why.
#[test]
fn what_is_no_path_is_refused_with_a_reason() {
    let reason = |e: durafile::Error| format!("{:?}: {e:#}", e.kind());
    let home = dir();
    let with_nul = home.path().join("a\0b");
    let undo_dir = |path: &Path| {
        let saved = WriteOptions::new().undo_dir(path).write(home.path().join("file"), "").map(drop);
        let file = WriteOptions::new().undo_dir(path).open(home.path().join("file")).map(drop);
        [saved, file, RecoveryOptions::new().undo_dir(path).run(home.path()).map(drop)]
    };
    for (path, why) in [(Path::new(""), "empty"), (&with_nul, "NUL")] {
        let results = [
            durafile::write(path, "").map(drop),
            durafile::read_version(path).map(drop),
            durafile::create_dir_all(path).map(drop),
            durafile::sync(path).map(drop),
            durafile::remove_file(path).map(drop),
            durafile::rename(path, home.path().join("b")).map(drop),
            durafile::rename(home.path().join("b"), path).map(drop),
            AtomicFile::create(path).map(drop),
            WriteOptions::new().open_in(path).map(drop),
            LockFile::try_lock(path).map(drop),
            recover(path).map(drop),
            Transaction::begin(path).map(drop),
            AtomicDir::create(path).map(drop),
            AtomicDir::update(path).map(drop),
            DirSnapshot::open(path).map(drop),
        ];
        for (n, refused) in results.into_iter().chain(undo_dir(path)).enumerate() {
            let text = reason(refused.expect_err(&n.to_string()));
            assert!(text.starts_with("InvalidPath") && text.contains(why), "{n}: {text}");
        }
        let health = durafile::health::check([path]);
        assert_eq!(health.dirs[0].error, Some(ErrorKind::InvalidPath), "{path:?}");
    }
    // One that ends with no name of its own is opened as it is.
    let text = reason(durafile::sync(with_nul.join("..")).unwrap_err());
    assert!(text.starts_with("InvalidPath") && text.contains("NUL"), "{text}");
    assert_eq!(names(&home).len(), 0);
    let mut change = Transaction::begin(home.path()).unwrap();
    let mut next = AtomicDir::create(home.path().join("dir")).unwrap();
    let absolute = home.path().join("x");
    for outside in [Path::new("../x"), &absolute, Path::new("")] {
        for refused in [change.write(outside, ""), next.write(outside, ""), next.remove(outside)] {
            let text = reason(refused.unwrap_err());
            assert!(text.starts_with("InvalidPath") && text.contains("relative"), "{text}");
        }
    }
    let text = reason(next.remove("missing").unwrap_err());
    assert!(text.starts_with("NotFound") && text.contains("there is nothing"), "{text}");
    fs::write(home.path().join("file"), "").unwrap();
    let text = reason(DirSnapshot::open(home.path().join("file")).unwrap_err());
    assert!(text.starts_with("NotADirectory") && !text.contains("replace"), "{text}");
}
