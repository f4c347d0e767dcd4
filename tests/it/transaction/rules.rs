//! Goal: what `Transaction` says of itself holds. Method: each rule is tried through the public
//! interface on a real file system; `disks::filesystems` repeats it on others.

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use durafile::{
    CancelToken, Durability, ErrorKind, RecoveryOptions, SyncStrategy, TargetState, Transaction,
    TransactionOptions,
};
use fs_err as fs;

use crate::support::{
    as_user, best, chmod, chown, dir, in_child, in_private_mounts, is_root, limit_open_files, mode, names,
    public_dir, refused, this_test,
};

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap()
}

fn begin(dir: impl AsRef<Path>) -> Transaction {
    Transaction::begin(dir).unwrap()
}

#[test]
fn creates_replaces_and_removes_all_at_once() {
    for options in [
        TransactionOptions::new(),
        TransactionOptions::new().sync(SyncStrategy::PerFile),
        TransactionOptions::new().sync(SyncStrategy::FileSystem),
        TransactionOptions::new().single_flush(true),
    ] {
        let home = dir();
        let at = |name: &str| home.path().join(name);
        fs::create_dir(at("d")).unwrap();
        for name in ["a", "gone", "d/c", "d/gone"] {
            fs::write(at(name), "old").unwrap();
        }
        std::os::unix::fs::symlink("a", at("link")).unwrap();
        let mut change = options.begin(home.path()).unwrap();
        change.write("a", "new a").unwrap();
        change.write("b", "new b").unwrap();
        change.remove("gone").unwrap();
        change.remove("link").unwrap();
        change.write("d/c", "new c").unwrap();
        change.remove("d/gone").unwrap();
        change.write("x/y/z", "deep").unwrap();
        let mut stream = change.create_file("d/stream").unwrap();
        stream.write_all(b"streamed").unwrap();
        stream.finish().unwrap();
        #[cfg(feature = "json")]
        change.write_json("d/json", &[1, 2]).unwrap();
        assert_eq!([read(at("a")), read(at("d/c"))], ["old", "old"], "nothing happens before the commit");
        assert!(at("gone").exists() && !at("x").exists());
        let committed = change.commit().unwrap();
        assert_eq!(committed.durability(), best(home.path()));
        assert_eq!([read(at("a")), read(at("b")), read(at("d/c"))], ["new a", "new b", "new c"]);
        assert_eq!([read(at("x/y/z")), read(at("d/stream"))], ["deep", "streamed"]);
        assert_eq!(names(home.path()), ["a", "b", "d", "x"]);
        assert!(!at("d/gone").exists());
        assert!(durafile::recover(home.path()).unwrap().is_clean());
    }
}

#[test]
fn one_that_is_dropped_or_discarded_leaves_nothing() {
    for discard in [true, false] {
        let home = dir();
        fs::write(home.path().join("old"), "old").unwrap();
        let mut change = begin(home.path());
        change.write("old", "new").unwrap();
        change.write("a/b", "new").unwrap();
        change.remove("old").unwrap();
        if discard {
            change.discard().unwrap()
        } else {
            drop(change)
        }
        assert_eq!(names(home.path()), ["old"]);
    }
}

#[test]
fn without_changes_there_is_nothing_to_do() {
    let home = dir();
    let mut change = begin(home.path());
    change.write("a/b", "x").unwrap();
    change.remove("a/b").unwrap();
    refused(change.remove("a/b"), ErrorKind::NotFound);
    change.commit().unwrap();
    assert!(names(home.path()).is_empty(), "a directory that nothing needs is not made");
}

#[test]
fn the_last_change_of_a_path_counts() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("a"), "old").unwrap();
    fs::write(at("b"), "old").unwrap();
    let mut change = begin(home.path());
    change.write("a", "one").unwrap();
    change.write("a", "two").unwrap();
    change.remove("b").unwrap();
    change.write("b", "back").unwrap();
    change.write("c", "never").unwrap();
    change.remove("c").unwrap();
    change.commit().unwrap();
    assert_eq!([read(at("a")), read(at("b"))], ["two", "back"]);
    assert_eq!(names(home.path()), ["a", "b"]);
}

#[test]
fn a_second_writer_is_locked_out_until_the_first_ends() {
    let home = dir();
    let first = begin(home.path());
    let error = refused(Transaction::begin(home.path()), ErrorKind::Locked);
    assert!(error.is_transient());
    let wait = Duration::from_millis(120);
    let started = Instant::now();
    let waiting = TransactionOptions::new().lock_timeout(wait);
    refused(waiting.begin(home.path()), ErrorKind::TimedOut);
    assert!(started.elapsed() >= wait);
    std::thread::scope(|scope| {
        let patient = TransactionOptions::new().lock_timeout(Duration::from_secs(60));
        let second = scope.spawn(move || patient.begin(home.path()).and_then(Transaction::discard));
        std::thread::sleep(wait);
        drop(first);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn waiting_for_the_lock_can_be_cancelled() {
    let home = dir();
    let _first = begin(home.path());
    let token = CancelToken::new();
    let options = TransactionOptions::new().cancel(&token).lock_timeout(Duration::MAX);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| options.begin(home.path()).map(Transaction::discard));
        std::thread::sleep(Duration::from_millis(50));
        token.cancel();
        refused(second.join().unwrap(), ErrorKind::Cancelled);
    });
}

#[test]
fn a_live_transaction_is_in_use() {
    let home = dir();
    let mut change = begin(home.path());
    change.write("a/b", "x").unwrap();
    for dry_run in [true, false] {
        let recovery = RecoveryOptions::new().dry_run(dry_run).run(home.path()).unwrap();
        assert!(recovery.is_clean() && !recovery.in_use().is_empty(), "{recovery:?}");
    }
    change.commit().unwrap();
    assert_eq!(read(home.path().join("a/b")), "x");
}

#[test]
fn what_is_staged_is_private() {
    let home = dir();
    fs::create_dir(home.path().join("private")).unwrap();
    let mut change = begin(home.path());
    change.write("private/secret", "secret").unwrap();
    change.write("plain", "plain").unwrap();
    for name in names(home.path()).into_iter().filter(|name| name != "private") {
        assert!(durafile::is_remnant(&name), "{name:?}");
        assert_eq!(mode(home.path().join(name)) & 0o077, 0);
    }
}

#[test]
fn paths_that_leave_the_root_are_refused() {
    let home = dir();
    let outside = dir();
    std::os::unix::fs::symlink(outside.path(), home.path().join("out")).unwrap();
    std::os::unix::fs::symlink("a", home.path().join("link")).unwrap();
    fs::write(home.path().join("a"), "a").unwrap();
    fs::create_dir(home.path().join("folder")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, home.path().join("fifo"), 0o600.into()).unwrap();
    let remnant = ".durafile-s-aaaaaaaaaaaaaaaaaaaaehkfbg";
    assert!(durafile::is_remnant(remnant));
    let mut change = begin(home.path());
    for (path, kind) in [
        ("", ErrorKind::InvalidPath),
        ("/etc/passwd", ErrorKind::InvalidPath),
        ("../x", ErrorKind::InvalidPath),
        ("a/../../x", ErrorKind::InvalidPath),
        (".", ErrorKind::InvalidPath),
        ("a/", ErrorKind::InvalidPath),
        ("./a", ErrorKind::InvalidPath),
        ("nul\0", ErrorKind::InvalidPath),
        ("out/x", ErrorKind::InvalidPath),
        ("link", ErrorKind::InvalidPath),
        ("fifo", ErrorKind::InvalidPath),
        ("folder", ErrorKind::IsADirectory),
        ("a/below", ErrorKind::NotADirectory),
        (remnant, ErrorKind::InvalidPath),
    ] {
        refused(change.write(path, "x"), kind);
    }
    refused(change.write(format!("{remnant}/x"), "x"), ErrorKind::InvalidPath);
    refused(change.remove("../a"), ErrorKind::InvalidPath);
    refused(change.remove("out/x"), ErrorKind::InvalidPath);
    refused(change.remove("nothing"), ErrorKind::NotFound);
    refused(change.remove("no/where"), ErrorKind::NotFound);
    refused(change.remove("folder"), ErrorKind::IsADirectory);
    change.commit().unwrap();
    assert!(names(outside.path()).is_empty());
    assert_eq!(names(home.path()), ["a", "fifo", "folder", "link", "out"]);
}

#[test]
fn a_file_and_a_directory_of_one_name_can_t_both_be_planned() {
    let home = dir();
    let mut change = begin(home.path());
    change.write("a", "file").unwrap();
    refused(change.write("a/b", "below"), ErrorKind::NotADirectory);
    change.write("c/d", "below").unwrap();
    refused(change.write("c", "file"), ErrorKind::IsADirectory);
    change.remove("c/d").unwrap();
    change.write("c", "file after all").unwrap();
    change.commit().unwrap();
    assert_eq!(names(home.path()), ["a", "c"]);
}

#[test]
fn what_comes_into_the_way_before_the_commit_is_refused_before_anything_changes() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("d")).unwrap();
    for (spoil, kind) in [
        ((|dir: &Path| fs::create_dir(dir.join("b")).unwrap()) as fn(&Path), ErrorKind::IsADirectory),
        (|dir| fs::remove_dir(dir.join("d")).unwrap(), ErrorKind::NotFound),
    ] {
        let mut change = begin(home.path());
        for name in ["a", "b", "d/c"] {
            change.write(name, "new").unwrap();
        }
        spoil(home.path());
        let error = refused(change.commit(), kind);
        let states = ["a", "b", "d/c"].map(|name| (at(name), TargetState::Unchanged));
        assert_eq!(error.files(), states);
        assert!(!at("a").exists());
        let _ = std::fs::remove_dir(at("b"));
    }
    assert!(names(home.path()).is_empty());
}

#[test]
fn an_unfinished_stream_and_a_failed_write_fail_the_commit() {
    let home = dir();
    let mut change = begin(home.path());
    change.write("whole", "x").unwrap();
    let mut file = change.create_file("half").unwrap();
    file.write_all(b"half").unwrap();
    drop(file);
    refused(change.commit(), ErrorKind::Reader);
    let token = CancelToken::new();
    let mut change = TransactionOptions::new().cancel(&token).begin(home.path()).unwrap();
    change.write("whole", "x").unwrap();
    token.cancel();
    refused(change.commit(), ErrorKind::Cancelled);
    assert!(names(home.path()).is_empty());
}

#[test]
fn replaced_files_keep_their_metadata_and_new_ones_are_like_any_in_their_directory() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("shared")).unwrap();
    fs::write(at("shared/old"), "old").unwrap();
    if is_root() {
        chown(at("shared"), 0, 1002);
        chown(at("shared/old"), 1001, 1002);
    }
    chmod(at("shared"), 0o2770);
    chmod(at("shared/old"), 0o640);
    let mut change = begin(home.path());
    change.write("shared/old", "new").unwrap();
    change.write("shared/new", "new").unwrap();
    change.commit().unwrap();
    let (old, new) = (fs::metadata(at("shared/old")).unwrap(), fs::metadata(at("shared/new")).unwrap());
    assert_eq!(mode(at("shared/old")), 0o640);
    assert_eq!((old.nlink(), new.nlink()), (1, 1));
    assert_eq!(new.gid(), fs::metadata(at("shared")).unwrap().gid());
    if is_root() {
        assert_eq!((old.uid(), old.gid(), new.gid()), (1001, 1002, 1002));
    }
}

#[test]
fn a_directory_that_may_not_be_changed_is_found_out_before_the_commit() {
    let home = public_dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("closed")).unwrap();
    fs::create_dir(at("sticky")).unwrap();
    for name in ["closed/file", "sticky/file"] {
        fs::write(at(name), "root's").unwrap();
        chmod(at(name), 0o666);
    }
    chmod(at("sticky"), 0o1777);
    let done = as_user(1001, 1001, || {
        let mut change = begin(home.path());
        refused(change.remove("closed/file"), ErrorKind::PermissionDenied);
        refused(change.write("closed/new", "x"), ErrorKind::PermissionDenied);
        refused(change.remove("sticky/file"), ErrorKind::PermissionDenied);
        refused(change.write("sticky/file", "x"), ErrorKind::PermissionDenied);
        change.write("sticky/mine", "x").unwrap();
        change.write("mine", "x").unwrap();
        change.commit().unwrap();
    });
    if done.is_some() {
        assert_eq!(names(home.path()), ["closed", "mine", "sticky"]);
        assert_eq!(names(at("sticky")), ["file", "mine"]);
    }
}

#[test]
fn a_file_that_is_fixed_is_found_out_before_the_commit() {
    let home = dir();
    let path = home.path().join("fixed");
    fs::write(&path, "fixed").unwrap();
    let chattr = |flag| std::process::Command::new("chattr").arg(flag).arg(&path).output();
    if !is_root() || !chattr("+i").is_ok_and(|output| output.status.success()) {
        return crate::support::skip("chattr +i does not work here");
    }
    let result = std::panic::catch_unwind(|| {
        let mut change = begin(home.path());
        refused(change.remove("fixed"), ErrorKind::PermissionDenied);
        refused(change.write("fixed", "x"), ErrorKind::PermissionDenied);
    });
    chattr("-i").unwrap();
    result.unwrap();
}

#[test]
fn another_mount_is_refused() {
    let script =
        "mkdir \"$DIR/other\" \"$DIR/bound\" \"$DIR/d\"; echo x >\"$DIR/file\"; echo x >\"$DIR/d/file\"
        mount -t tmpfs tmpfs \"$DIR/other\"; echo x >\"$DIR/other/file\"
        mount --bind \"$DIR/d\" \"$DIR/bound\"; mount --bind \"$DIR/d/file\" \"$DIR/file\"";
    in_private_mounts(&this_test!(), script, |home| {
        let mut change = begin(home);
        for path in ["other/file", "other/new", "bound/file", "bound/new"] {
            refused(change.write(path, "x"), ErrorKind::CrossDevice);
        }
        refused(change.remove("other/file"), ErrorKind::CrossDevice);
        let error = refused(change.write("file", "x"), ErrorKind::Busy);
        assert!(!error.is_transient());
        change.write("fine", "x").unwrap();
        change.commit().unwrap();
    });
}

/// It was made in a directory that may be written and not be read, and so can't be synced.
#[test]
fn a_root_that_can_t_be_made_durable_is_told_on_a_journal_too() {
    let script =
        "cd \"$DIR\"; mkdir mnt; truncate -s 64M image; mkfs.ext4 -q -F image; mount -o loop image mnt; cd /
        mkdir -m 733 \"$DIR/mnt/drop\"; chmod 755 \"$DIR\"";
    in_private_mounts(&this_test!(), script, |home| {
        let root = home.join("mnt/drop/new");
        let reached = as_user(1234, 1234, || {
            let mut change = TransactionOptions::new().create_parents(true).begin(&root).unwrap();
            change.write("a", "x").unwrap();
            change.write("b", "x").unwrap();
            change.commit().unwrap().durability()
        });
        assert!(reached.is_none_or(|reached| reached == Durability::Data), "{reached:?}");
    });
}

#[test]
fn what_was_planted_at_the_name_of_the_lock_is_not_touched() {
    let home = public_dir();
    let victim = dir();
    let target = victim.path().join("victim");
    fs::write(&target, "precious").unwrap();
    // The one name that can be known beforehand: it shows while a transaction is under way.
    let change = begin(home.path());
    let lock = names(home.path()).remove(0);
    drop(change);
    let lock = home.path().join(lock);
    std::os::unix::fs::symlink(&target, &lock).unwrap();
    Transaction::begin(home.path()).unwrap_err();
    fs::remove_file(&lock).unwrap();
    fs::hard_link(&target, &lock).unwrap();
    let result = Transaction::begin(home.path());
    if is_root() {
        refused(result, ErrorKind::PermissionDenied);
        fs::remove_file(&lock).unwrap();
        fs::write(&lock, "").unwrap();
        chown(&lock, 1001, 1001);
        // That is what another user's program leaves when it is killed.
        Transaction::begin(home.path()).unwrap().discard().unwrap();
        fs::write(&lock, "something").unwrap();
        refused(Transaction::begin(home.path()), ErrorKind::PermissionDenied);
        assert_eq!(read(&lock), "something");
    }
    assert_eq!(read(&target), "precious");
}

#[test]
fn a_root_that_is_none_is_refused() {
    let home = dir();
    fs::write(home.path().join("file"), "x").unwrap();
    refused(Transaction::begin(home.path().join("missing")), ErrorKind::NotFound);
    refused(Transaction::begin(home.path().join("file")), ErrorKind::NotADirectory);
}

#[test]
fn files_of_any_number_need_few_descriptors() {
    in_child(&this_test!(), "", |home| {
        for n in 0..300 {
            fs::create_dir(home.join(format!("d{n}"))).unwrap();
        }
        let before = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        limit_open_files(before + 128);
        for sync in [SyncStrategy::Auto, SyncStrategy::FileSystem] {
            let mut change = TransactionOptions::new().sync(sync).begin(home).unwrap();
            for n in 0..300 {
                change.write(format!("d{n}/file"), "x").unwrap();
                change.write(format!("file-{n}"), "x").unwrap();
            }
            change.commit().unwrap();
        }
        assert_eq!(fs::read_dir(home).unwrap().count(), 600);
    });
}

#[test]
fn a_lock_whose_holder_was_killed_is_free() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;
    let test = this_test!();
    if let Some((home, _)) = crate::support::job(&test) {
        let mut change = begin(home);
        change.write("a/b", "half").unwrap();
        println!("\nHOLDING");
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let home = dir();
    let mut child =
        crate::support::rerun(&[], &test, home.path(), "hold").stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().any(|line| line.unwrap().contains("HOLDING")));
    refused(Transaction::begin(home.path()), ErrorKind::Locked);
    let recovery = durafile::recover(home.path()).unwrap();
    assert!(recovery.is_clean() && !recovery.in_use().is_empty(), "{recovery:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    begin(home.path()).discard().unwrap();
    assert!(names(home.path()).is_empty(), "{:?}", names(home.path()));
}
