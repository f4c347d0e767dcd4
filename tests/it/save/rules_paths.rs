//! Goal: rules 1, 2 and 8 of a save: which paths it takes, where it stages, and that
//! `create_new` has one winner. Method: real directories, listed completely before and after.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use durafile::{
    AtomicDir, AtomicFile, Batch, DirOptions, ErrorKind, Symlinks, TransactionOptions, WriteOptions,
};
use fs_err as fs;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::{
    best, dir, forged, in_child, is_root, mode, names, public_dir, refused, skip, this_test,
};

#[test]
fn a_save_publishes_exactly_the_bytes_and_leaves_nothing_else() {
    let dir = dir();
    let path = dir.path().join("state");
    for contents in ["first", "", "the second, which is longer", "3"] {
        let committed = durafile::write(&path, contents).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        assert_eq!(committed.durability(), best(&dir));
        assert!(!committed.is_unchanged());
        assert_eq!(names(&dir), ["state"]);
    }
}

#[test]
fn a_bare_name_is_saved_in_the_current_directory() {
    in_child(&this_test!(), "cd \"$DIR\"", |dir| {
        for contents in ["new", "replaced"] {
            let committed = durafile::write("bare", contents).unwrap();
            assert_eq!(fs::read_to_string(dir.join("bare")).unwrap(), contents);
            assert_eq!(committed.durability(), best(dir));
        }
        let mut file = AtomicFile::create("./dotted").unwrap();
        file.write_all(b"x").unwrap();
        assert_eq!(file.path(), Path::new("./dotted"));
        file.commit().unwrap();
        let nested = WriteOptions::new().create_parents(true);
        nested.write("a/b", "y").unwrap();
        refused(durafile::write("missing/b", ""), ErrorKind::NotFound);
        assert_eq!(names(dir), ["a", "bare", "dotted"]);
    });
}

#[test]
fn a_path_that_cannot_name_a_file_is_refused_before_anything_is_written() {
    let dir = dir();
    let home = dir.path();
    fs::create_dir(home.join("folder")).unwrap();
    fs::write(home.join("file"), "old").unwrap();
    mknodat(CWD, home.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    let _socket = UnixListener::bind(home.join("socket")).unwrap();
    let before = names(home);

    let mut table: Vec<(PathBuf, ErrorKind)> = vec![("".into(), ErrorKind::InvalidPath)];
    for name in [
        ".",
        "..",
        "folder/.",
        "folder/..",
        "folder/",
        "file/",
        "new/",
        "new//",
        "fifo",
        "socket",
        "nul\0byte",
    ] {
        let mut path = home.as_os_str().to_owned();
        path.push("/");
        path.push(name);
        table.push((path.into(), ErrorKind::InvalidPath));
    }
    table.push((home.join("x".repeat(256)), ErrorKind::InvalidName));
    table.push((home.join("folder"), ErrorKind::IsADirectory));
    table.push((home.join("missing/new"), ErrorKind::NotFound));
    table.push((home.join("file/new"), ErrorKind::NotADirectory));

    for (path, kind) in table {
        let error = refused(durafile::write(&path, "new"), kind);
        assert_eq!(error.path(), path.as_path());
        refused(WriteOptions::new().open(&path), kind);
        let untouched = std::io::repeat(0);
        refused(WriteOptions::new().write_from(&path, untouched), kind);
        for symlinks in [Symlinks::Replace, Symlinks::Refuse] {
            refused(WriteOptions::new().symlinks(symlinks).write(&path, ""), kind);
        }
    }
    assert_eq!(names(home), before);
    assert!(names(home.join("folder")).is_empty());
    assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "old");
}

#[test]
fn a_device_is_refused() {
    refused(durafile::write("/dev/null", "x"), ErrorKind::InvalidPath);
    if !is_root() {
        return skip("only root can make a device node");
    }
    let dir = dir();
    for (name, kind) in [("character", FileType::CharacterDevice), ("block", FileType::BlockDevice)] {
        // Device 250:250 has no driver: nothing happens should it be opened.
        let made = mknodat(CWD, dir.path().join(name), kind, Mode::RUSR, makedev(250, 250));
        if made.is_err() {
            return skip("device nodes cannot be made here");
        }
        let path = dir.path().join(name);
        refused(durafile::write(path, "x"), ErrorKind::InvalidPath);
    }
    assert_eq!(names(&dir), ["block", "character"]);
}

#[test]
fn long_and_strange_names_work() {
    let dir = dir();
    let table: Vec<OsString> = vec![
        "x".repeat(255).into(),
        "é".repeat(127).into(),
        OsString::from_vec(b"not \xff utf-8 \xc3".to_vec()),
        "new\nline".into(),
        " ".into(),
        "...".into(),
        "-rf".into(),
        "back\\slash".into(),
        "a (deleted)".into(),
    ];
    for name in &table {
        let path = dir.path().join(name);
        for contents in ["new", "replaced"] {
            durafile::write(&path, contents).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"never").unwrap();
        file.discard().unwrap();
        assert_eq!(names(&dir), [name.as_os_str()]);
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn missing_parents_are_created_only_when_asked_for() {
    let dir = dir();
    let path = dir.path().join("a/b/c/file");
    refused(durafile::write(&path, "x"), ErrorKind::NotFound);
    assert!(names(&dir).is_empty());

    let options = WriteOptions::new().create_parents(true);
    let committed = options.clone().write(&path, "x").unwrap();
    assert_eq!(committed.durability(), best(&dir));
    assert_eq!(fs::read_to_string(&path).unwrap(), "x");
    options.clone().write(&path, "y").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "y");
    refused(options.clone().write(path.join("under a file"), "z"), ErrorKind::NotADirectory);

    // Directories made stay, whatever happens to the save.
    let mut file = options.open(dir.path().join("d/e/file")).unwrap();
    file.write_all(b"x").unwrap();
    file.discard().unwrap();
    assert!(names(dir.path().join("d/e")).is_empty());
}

#[test]
fn a_parent_renamed_during_a_save_still_gets_the_file() {
    let dir = dir();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    for old in [None, Some("old")] {
        fs::create_dir(&before).unwrap();
        if let Some(old) = old {
            fs::write(before.join("file"), old).unwrap();
        }
        let mut file = AtomicFile::create(before.join("file")).unwrap();
        file.write_all(b"new").unwrap();
        fs::rename(&before, &after).unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read_to_string(after.join("file")).unwrap(), "new");
        assert_eq!(names(&dir), ["after"]);
        assert_eq!(names(&after), ["file"]);
        fs::remove_dir_all(&after).unwrap();
    }
}

#[test]
fn links_planted_at_guessable_staging_names_are_never_followed() {
    let dir = public_dir();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let pid = std::process::id();
    for planted in [
        "a.tmp".to_owned(),
        "a.json.tmp".to_owned(),
        ".a.json.tmp".to_owned(),
        ".a.json.swp".to_owned(),
        "a.json~".to_owned(),
        "a.json.new".to_owned(),
        format!(".a.json.{pid}"),
        format!("a.json.{pid}.tmp"),
    ] {
        symlink(&victim, dir.path().join(planted)).unwrap();
    }
    let before = names(&dir);
    for round in ["one", "two"] {
        durafile::write(dir.path().join("a.json"), round).unwrap();
        fs::remove_file(dir.path().join("a.json")).unwrap();
        assert_eq!(names(&dir), before, "clean-up must not touch these");
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn saves_of_names_that_differ_only_in_the_extension_do_not_mix() {
    let dir = dir();
    let paths = ["a.json", "a.yaml", "a"].map(|name| dir.path().join(name));
    let mut open: Vec<_> = paths.iter().chain(&paths).map(|path| AtomicFile::create(path).unwrap()).collect();
    for (number, file) in open.iter_mut().enumerate() {
        write!(file, "{number}").unwrap();
    }
    for file in open {
        file.commit().unwrap();
    }
    for (number, path) in paths.iter().enumerate() {
        let last = (number + 3).to_string();
        assert_eq!(fs::read_to_string(path).unwrap(), last);
    }
    assert_eq!(names(&dir), ["a", "a.json", "a.yaml"]);
}

#[test]
fn another_name_of_the_replaced_file_keeps_the_old_content() {
    let dir = dir();
    let (path, other) = (dir.path().join("file"), dir.path().join("other"));
    fs::write(&path, "old").unwrap();
    fs::hard_link(&path, &other).unwrap();
    durafile::write(&path, "new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(fs::read_to_string(&other).unwrap(), "old");
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
}

#[test]
fn create_new_has_one_winner_among_sixteen_threads_and_readers_see_it_complete() {
    let dir = dir();
    for round in 0..8 {
        let path = dir.path().join(round.to_string());
        let start = Barrier::new(17);
        let over = AtomicBool::new(false);
        let winners: Vec<u8> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..16u8)
                .map(|racer| {
                    let (start, path) = (&start, &path);
                    scope.spawn(move || {
                        let options = WriteOptions::new().create_new(true);
                        start.wait();
                        match options.write(path, vec![racer; 40_000]) {
                            Ok(_) => Some(racer),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
                                None
                            }
                        }
                    })
                })
                .collect();
            scope.spawn(|| {
                start.wait();
                while !over.load(Ordering::Relaxed) {
                    if let Ok(seen) = std::fs::read(&path) {
                        assert_eq!(seen.len(), 40_000);
                        assert!(seen.iter().all(|byte| *byte == seen[0]));
                    }
                }
            });
            // All are joined before any result is looked at: a panic must not leave the reader looping.
            let ended: Vec<_> = racers.into_iter().map(|racer| racer.join()).collect();
            over.store(true, Ordering::Relaxed);
            ended.into_iter().filter_map(Result::unwrap).collect()
        });
        assert_eq!(winners.len(), 1, "winners: {winners:?}");
        assert_eq!(fs::read(&path).unwrap(), vec![winners[0]; 40_000]);
        assert_eq!(names(&dir).len(), round + 1);
    }
}

#[test]
fn create_new_refuses_whatever_has_the_name_already() {
    let dir = dir();
    let home = dir.path();
    fs::write(home.join("file"), "old").unwrap();
    symlink("file", home.join("link")).unwrap();
    symlink("missing", home.join("dangling")).unwrap();
    symlink("loop", home.join("loop")).unwrap();
    let before = names(home);
    for name in ["file", "link", "dangling", "loop"] {
        for symlinks in [Symlinks::Follow, Symlinks::Replace] {
            let options = WriteOptions::new().create_new(true).symlinks(symlinks);
            let path = home.join(name);
            refused(options.clone().write(&path, "x"), ErrorKind::AlreadyExists);
            refused(options.open(&path), ErrorKind::AlreadyExists);
        }
    }
    assert_eq!(names(home), before);
    assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "old");
}

#[test]
fn create_new_loses_to_a_file_that_appears_while_it_streams() {
    let dir = dir();
    type Plant = fn(&Path);
    let plants: [(&str, Plant); 3] = [
        ("file", |path| fs::write(path, "theirs").unwrap()),
        ("link", |path| symlink("nowhere", path).unwrap()),
        ("folder", |path| fs::create_dir(path).unwrap()),
    ];
    for (name, plant) in plants {
        let path = dir.path().join(name);
        let mut file = WriteOptions::new().create_new(true).open(&path).unwrap();
        file.write_all(b"ours").unwrap();
        plant(&path);
        refused(file.commit(), ErrorKind::AlreadyExists);
    }
    let path = dir.path().join("file");
    assert_eq!(fs::read_to_string(path).unwrap(), "theirs");
    assert_eq!(names(&dir), ["file", "folder", "link"]);
}

#[test]
fn a_new_file_may_meet_another_one_at_its_name_and_then_replaces_it() {
    let dir = dir();
    let path = dir.path().join("file");
    let mut file = AtomicFile::create(&path).unwrap();
    file.write_all(b"ours").unwrap();
    fs::write(&path, "theirs").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "ours");
    assert_eq!(names(&dir), ["file"]);
}

#[test]
fn the_staged_file_is_unreachable_or_unmistakably_hidden() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let mut file = AtomicFile::create(&path).unwrap();
    file.write_all(&[7; 100_000]).unwrap();
    let beside: Vec<OsString> = names(&dir).into_iter().filter(|name| name != OsStr::new("file")).collect();
    assert!(beside.len() <= 1);
    for name in &beside {
        assert!(name.as_encoded_bytes().starts_with(b"."));
        assert!(name.len() <= 64, "{name:?}");
        assert_eq!(mode(dir.path().join(name)) & 0o077, 0);
    }
    drop(file);
    assert_eq!(names(&dir), ["file"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

/// Goal: nothing is saved under a name that the next recovery takes for a remnant and removes. Method: each way of creating
/// or replacing something is given such a name, by itself, behind a link and as a directory to be made.
#[test]
fn a_name_that_recovery_would_remove_is_refused_before_anything_is_touched() {
    let dir = dir();
    let home = dir.path();
    let (ours, link) = (home.join(forged::name('s', 7)), home.join("link"));
    symlink(&ours, &link).unwrap();
    let kind = ErrorKind::InvalidPath;
    for path in [&ours, &link] {
        refused(durafile::write(path, "new"), kind);
        refused(AtomicFile::create(path), kind);
        let mut stream = WriteOptions::new().open_in(home).unwrap();
        stream.write_all(b"new").unwrap();
        refused(stream.commit_as(path), kind);
        refused(Batch::new().write(path, "new"), kind);
        refused(durafile::update(path, |_| Ok(b"new".to_vec())), kind);
        refused(AtomicDir::create(path), kind);
        refused(AtomicDir::update(path), kind);
    }
    let below = ours.join("below");
    refused(WriteOptions::new().create_parents(true).write(&below, "new"), kind);
    refused(
        WriteOptions::new().create_parents(true).write(home.join("made").join(ours.file_name().unwrap()), ""),
        kind,
    );
    refused(durafile::create_dir_all(&ours), kind);
    refused(durafile::create_dir_all(&below), kind);
    refused(durafile::create_dir_all(home.join("made").join(ours.file_name().unwrap())), kind);
    refused(TransactionOptions::new().create_parents(true).begin(&ours), kind);
    refused(DirOptions::new().create_parents(true).create(&below), kind);
    assert_eq!(names(home), ["link"]);
    // What is there can be read and removed, as any other file.
    fs::write(&ours, "dear to somebody").unwrap();
    assert_eq!(durafile::read_version(&ours).unwrap().0, b"dear to somebody");
    refused(durafile::write(&ours, "new"), kind);
    assert_eq!(fs::read_to_string(&ours).unwrap(), "dear to somebody");
    durafile::remove_file(&ours).unwrap();
    assert_eq!(names(home), ["link"]);
}
