//! Goal: what a new version of a directory contains, and what it keeps of the old one.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use durafile::{AtomicDir, Carry, DirOptions, Durability, ErrorKind, SyncStrategy};
use fs_err as fs;

use crate::support::{best, chmod, dir, in_private_mounts, mode, names, refused, this_test};

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

#[test]
fn an_update_of_nothing_begins_with_nothing() {
    let home = dir();
    let target = home.path().join("talk");
    let mut next = AtomicDir::update(&target).unwrap();
    next.write("a", "1").unwrap();
    next.commit().unwrap();
    assert_eq!(tree(&target), texts(&[("a", "1")]));
}

#[test]
fn edits_see_one_tree_of_what_is_new_and_what_is_carried_over() {
    let home = dir();
    let target = conversation(home.path());
    let mut next = AtomicDir::update(&target).unwrap();
    refused(next.write("files", "x"), ErrorKind::IsADirectory);
    refused(next.write("events.json/x", "x"), ErrorKind::NotADirectory);
    refused(next.create_dir("events.json"), ErrorKind::AlreadyExists);
    refused(next.remove("nothing"), ErrorKind::NotFound);
    next.create_dir("files").unwrap();
    next.create_dir("files").unwrap();
    next.write("metadata.json", "2").unwrap();
    next.write("metadata.json", "3").unwrap();
    // A directory makes room for a file, and a file for a directory.
    next.remove("files").unwrap();
    refused(next.remove("files"), ErrorKind::NotFound);
    refused(next.remove("files/QUERY_MESSAGE.md"), ErrorKind::NotFound);
    next.write("files", "a file").unwrap();
    next.remove("events.json").unwrap();
    next.write("events.json/1", "one").unwrap();
    next.write("events.json/2", "two").unwrap();
    next.remove("events.json/1").unwrap();
    next.commit().unwrap();
    let expected =
        [("events.json", "/"), ("events.json/2", "two"), ("files", "a file"), ("metadata.json", "3")];
    assert_eq!(tree(&target), texts(&expected));
}

#[test]
fn paths_that_lead_out_or_are_ours_are_refused() {
    let home = dir();
    let target = conversation(home.path());
    let outside = home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "safe").unwrap();
    std::os::unix::fs::symlink(&outside, target.join("out")).unwrap();
    let mut next = AtomicDir::update(&target).unwrap();
    let ours = ".durafile-s-aaaaaaaaaaaaaaaaaaaaehkfbg";
    assert!(durafile::is_remnant(ours));
    for path in
        ["", ".", "..", "/etc/x", "a/../../x", "../x", "a//b", "./a", "a/", "a\0b", "out/victim", ours]
    {
        refused(next.write(path, "x"), ErrorKind::InvalidPath);
        refused(next.create_file(path), ErrorKind::InvalidPath);
        refused(next.create_dir(path), ErrorKind::InvalidPath);
    }
    refused(next.remove("../outside/victim"), ErrorKind::InvalidPath);
    refused(next.remove("out/victim"), ErrorKind::NotFound);
    next.write("out", "a file now").unwrap();
    next.commit().unwrap();
    assert_eq!(fs::read_to_string(outside.join("victim")).unwrap(), "safe");
    assert_eq!(fs::read_to_string(target.join("out")).unwrap(), "a file now");
}

#[test]
fn what_is_carried_over_keeps_mode_times_links_and_attributes() {
    for carry in [Carry::Copy, Carry::HardLink] {
        let home = dir();
        let target = conversation(home.path());
        let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        let run = target.join("files/run.sh");
        fs::write(&run, vec![7; 100_000]).unwrap();
        chmod(&run, 0o751);
        rustix::fs::setxattr(&run, c"user.note", b"mine", rustix::fs::XattrFlags::empty()).unwrap();
        fs::hard_link(&run, target.join("files/twin")).unwrap();
        std::os::unix::fs::symlink("files/run.sh", target.join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", target.join("dangling")).unwrap();
        let holes = std::fs::File::create(target.join("holes")).unwrap();
        holes.set_len(64 << 20).unwrap();
        fs::create_dir_all(target.join("a/b")).unwrap();
        chmod(target.join("a/b"), 0o711);
        chmod(target.join("a"), 0o555);
        for path in [&run, &target.join("a"), &target.join("files")] {
            let times = std::fs::FileTimes::new().set_accessed(long_ago).set_modified(long_ago);
            std::fs::File::open(path).unwrap().set_times(times).unwrap();
        }
        let mut next = DirOptions::new().carry(carry).update(&target).unwrap();
        next.write("metadata.json", "2").unwrap();
        next.commit().unwrap();
        let found = fs::metadata(&run).unwrap();
        assert_eq!((mode(&run), found.modified().unwrap(), found.len()), (0o751, long_ago, 100_000));
        assert_eq!(fs::metadata(target.join("files")).unwrap().modified().unwrap(), long_ago);
        let mut note = [0; 8];
        assert_eq!(rustix::fs::getxattr(&run, c"user.note", &mut note).unwrap(), 4);
        assert_eq!(fs::metadata(target.join("files/twin")).unwrap().ino(), found.ino());
        assert_eq!(found.nlink(), 2);
        assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("files/run.sh"));
        assert_eq!(fs::read_link(target.join("dangling")).unwrap(), Path::new("nowhere"));
        let holes = fs::metadata(target.join("holes")).unwrap();
        assert_eq!(holes.len(), 64 << 20);
        assert!(holes.blocks() < 1000, "{} blocks", holes.blocks());
        assert_eq!((mode(target.join("a")), mode(target.join("a/b"))), (0o555, 0o711));
        assert_eq!(fs::metadata(target.join("a")).unwrap().modified().unwrap(), long_ago);
        assert_eq!(names(home.path()), ["talk"]);
    }
}

#[test]
fn a_replaced_file_and_the_root_keep_their_mode_and_new_ones_honour_the_umask() {
    let home = dir();
    let target = conversation(home.path());
    chmod(&target, 0o2710);
    chmod(target.join("metadata.json"), 0o640);
    let mut next = AtomicDir::update(&target).unwrap();
    next.write("metadata.json", "2").unwrap();
    next.write("new", "n").unwrap();
    next.create_dir("dir").unwrap();
    assert_eq!(mode(next.staging()) & 0o777, 0o700, "nobody else sees the next version");
    next.commit().unwrap();
    assert_eq!((mode(&target), mode(target.join("metadata.json"))), (0o2710, 0o640));
    let plain = home.path().join("plain");
    fs::create_dir(&plain).unwrap();
    fs::write(plain.join("f"), "").unwrap();
    assert_eq!(mode(target.join("new")), mode(plain.join("f")));
    assert_eq!(mode(target.join("dir")) & 0o777, mode(&plain));
    let mut new = AtomicDir::create(&target).unwrap();
    new.write("x", "").unwrap();
    new.commit().unwrap();
    assert_eq!(mode(&target), 0o2710);
    let fresh = home.path().join("fresh");
    AtomicDir::create(&fresh).unwrap().commit().unwrap();
    assert_eq!(mode(&fresh), mode(&plain));
}

#[test]
fn special_files_are_refused_by_name() {
    let home = dir();
    let target = conversation(home.path());
    let fifo = target.join("files/fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    let mut next = AtomicDir::update(&target).unwrap();
    next.write("metadata.json", "2").unwrap();
    let error = refused(next.commit(), ErrorKind::InvalidPath);
    assert_eq!(error.path(), fifo);
    assert_eq!(fs::read_to_string(target.join("metadata.json")).unwrap(), "1");
    assert_eq!(names(home.path()), ["talk"]);
    // It can be removed, though.
    let mut next = AtomicDir::update(&target).unwrap();
    next.remove("files/fifo").unwrap();
    next.commit().unwrap();
}

#[test]
fn the_remnants_of_a_crash_are_not_carried_over() {
    let home = dir();
    let target = conversation(home.path());
    fs::write(target.join(".durafile-s-aaaaaaaaaaaaaaaaaaaaehkfbg"), "half").unwrap();
    AtomicDir::update(&target).unwrap().commit().unwrap();
    assert_eq!(names(&target), ["events.json", "files", "metadata.json"]);
}

#[test]
fn what_other_tools_write_to_the_stage_is_published() {
    for carry in [Carry::Copy, Carry::HardLink] {
        for strategy in [SyncStrategy::Auto, SyncStrategy::PerFile, SyncStrategy::FileSystem] {
            let home = dir();
            let target = conversation(home.path());
            let mut next = DirOptions::new().carry(carry).sync(strategy).update(&target).unwrap();
            next.write("metadata.json", "2").unwrap();
            let staging = next.staging().to_owned();
            assert!(staging.is_absolute());
            assert_eq!(fs::read_to_string(staging.join("events.json")).unwrap(), "hello");
            fs::create_dir_all(staging.join("built/deep")).unwrap();
            fs::write(staging.join("built/deep/tool"), "t").unwrap();
            fs::remove_file(staging.join("events.json")).unwrap();
            next.write("built/ours", "o").unwrap();
            next.remove("files").unwrap();
            next.commit().unwrap();
            let expected = [
                ("built", "/"),
                ("built/deep", "/"),
                ("built/deep/tool", "t"),
                ("built/ours", "o"),
                ("metadata.json", "2"),
            ];
            assert_eq!(tree(&target), texts(&expected));
            assert_eq!(names(home.path()), ["talk"]);
        }
    }
}

#[test]
fn a_copy_is_independent_and_a_hard_link_is_the_same_file() {
    for (carry, leaks) in [(Carry::Copy, false), (Carry::HardLink, true)] {
        let home = dir();
        let target = conversation(home.path());
        let next = DirOptions::new().carry(carry).update(&target).unwrap();
        let staged = next.staging().join("events.json");
        std::fs::OpenOptions::new().append(true).open(staged).unwrap().write_all(b"!").unwrap();
        let live = fs::read_to_string(target.join("events.json")).unwrap();
        assert_eq!(live == "hello!", leaks, "{carry:?}");
        next.discard().unwrap();
    }
}

#[test]
fn dropping_and_discarding_leave_everything_as_it_was() {
    let home = dir();
    let target = conversation(home.path());
    let before = tree(home.path());
    let mut next = AtomicDir::update(&target).unwrap();
    next.write("files/x", "2").unwrap();
    next.staging();
    next.discard().unwrap();
    assert_eq!(tree(home.path()), before);
    let mut next = AtomicDir::create(&target).unwrap();
    next.write("metadata.json", "2").unwrap();
    drop(next);
    assert_eq!(tree(home.path()), before);
}

#[test]
fn an_unfinished_stream_fails_the_commit() {
    let home = dir();
    let target = conversation(home.path());
    let mut next = AtomicDir::update(&target).unwrap();
    drop(next.create_file("half").unwrap());
    refused(next.commit(), ErrorKind::Reader);
    let mut next = AtomicDir::update(&target).unwrap();
    let stream = next.create_file("open").unwrap();
    refused(next.commit(), ErrorKind::Reader);
    drop(stream);
    assert_eq!(names(home.path()), ["talk"]);
    assert!(!target.join("half").exists());
}

#[test]
fn a_target_that_is_no_directory_is_refused_and_a_link_to_one_followed() {
    let home = dir();
    let file = home.path().join("file");
    fs::write(&file, "x").unwrap();
    refused(AtomicDir::create(&file), ErrorKind::NotADirectory);
    refused(AtomicDir::update(&file), ErrorKind::NotADirectory);
    refused(AtomicDir::create(home.path().join("missing/x")), ErrorKind::NotFound);
    for path in ["", ".", "..", "/"] {
        refused(AtomicDir::create(path), ErrorKind::InvalidPath);
    }
    let target = conversation(home.path());
    let link = home.path().join("link");
    std::os::unix::fs::symlink("talk", &link).unwrap();
    let mut next = AtomicDir::update(&link).unwrap();
    next.write("metadata.json", "2").unwrap();
    next.commit().unwrap();
    assert_eq!(fs::read_to_string(target.join("metadata.json")).unwrap(), "2");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    let mut next = AtomicDir::update(home.path().join("talk/")).unwrap();
    next.write("metadata.json", "3").unwrap();
    next.commit().unwrap();
    assert_eq!(fs::read_to_string(link.join("metadata.json")).unwrap(), "3");
    std::os::unix::fs::symlink("loop", home.path().join("loop")).unwrap();
    refused(AtomicDir::create(home.path().join("loop")), ErrorKind::InvalidPath);
    std::os::unix::fs::symlink("later", home.path().join("dangling")).unwrap();
    AtomicDir::create(home.path().join("dangling")).unwrap().commit().unwrap();
    assert!(home.path().join("later").is_dir());
}

#[test]
fn a_name_of_any_length_works() {
    let home = dir();
    let target = home.path().join("n".repeat(255));
    for text in ["1", "2"] {
        let mut new = AtomicDir::create(&target).unwrap();
        new.write("f".repeat(255), text).unwrap();
        new.commit().unwrap();
    }
    assert_eq!(names(home.path()).len(), 1);
}

#[test]
fn cancelling_before_the_swap_publishes_nothing() {
    let home = dir();
    let target = conversation(home.path());
    let token = durafile::CancelToken::new();
    let mut next = DirOptions::new().cancel(&token).update(&target).unwrap();
    next.write("metadata.json", "2").unwrap();
    token.cancel();
    refused(next.write("x", "2"), ErrorKind::Cancelled);
    refused(next.commit(), ErrorKind::Cancelled);
    assert_eq!(fs::read_to_string(target.join("metadata.json")).unwrap(), "1");
    assert_eq!(names(home.path()), ["talk"]);
    refused(DirOptions::new().cancel(&token).update(&target), ErrorKind::Cancelled);
}

#[test]
fn less_durability_is_less_and_no_more_is_claimed() {
    for durability in [Durability::None, Durability::Data, Durability::Full] {
        let home = dir();
        let target = conversation(home.path());
        let mut next = DirOptions::new().durability(durability).update(&target).unwrap();
        next.write("metadata.json", "2").unwrap();
        let committed = next.commit().unwrap();
        assert_eq!(committed.durability(), durability.min(best(home.path())));
        assert_eq!(names(home.path()), ["talk"]);
    }
}

#[test]
fn a_tree_that_may_not_be_written_is_replaced_and_deleted() {
    let home = dir();
    let target = conversation(home.path());
    let body = |target: &Path| {
        for text in ["2", "3"] {
            let mut next = AtomicDir::update(target).unwrap();
            next.write("metadata.json", text).unwrap();
            next.commit().unwrap();
        }
    };
    chmod(target.join("files"), 0o555);
    chmod(&target, 0o555);
    if crate::support::is_root() {
        // Root is not stopped by a mode.
        for path in [home.path(), &target, &target.join("files")] {
            crate::support::chown(path, 1001, 1001);
        }
        for path in ["metadata.json", "events.json", "files/QUERY_MESSAGE.md"] {
            crate::support::chown(target.join(path), 1001, 1001);
        }
        crate::support::as_user(1001, 1001, || body(&target));
    } else {
        body(&target);
    }
    assert_eq!(fs::read_to_string(target.join("metadata.json")).unwrap(), "3");
    assert_eq!((mode(&target), mode(target.join("files"))), (0o555, 0o555));
    assert_eq!(names(home.path()), ["talk"]);
    chmod(&target, 0o755);
    chmod(target.join("files"), 0o755);
}

#[test]
fn a_second_write_of_one_name_that_fails_keeps_the_first() {
    let script = "mkdir \"$DIR/mnt\"; mount -t tmpfs -o nr_inodes=32 tmpfs \"$DIR/mnt\"";
    in_private_mounts(&this_test!(), script, |home| {
        let mnt = home.join("mnt");
        let mut new = AtomicDir::create(mnt.join("target")).unwrap();
        new.write("file", "first").unwrap();
        // Every inode is in use now.
        let mut number = 0;
        while fs::write(mnt.join(number.to_string()), "").is_ok() {
            number += 1;
        }
        refused(new.write("file", "second"), ErrorKind::StorageFull);
        (0..number).for_each(|number| fs::remove_file(mnt.join(number.to_string())).unwrap());
        new.commit().unwrap();
        assert_eq!(fs::read_to_string(mnt.join("target/file")).unwrap(), "first");
    });
}
