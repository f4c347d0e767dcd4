//! Goal: what the crate promises of single files, batches, locks and health holds on every platform.
//! Method: each public operation, by what the standard library sees of it.

use std::io::{Seek, SeekFrom, Write};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use durafile::health::{self, HealthOptions, Heartbeat};
use durafile::{
    AtomicFile, Batch, CancelToken, Durability, ErrorKind, LockFile, SyncStrategy, WriteOptions, is_remnant,
    recover,
};
use fs_err as fs;

use crate::support::{best, dir, names, refused, replaces_open_files};

#[test]
fn every_way_of_saving_creates_and_replaces_and_leaves_nothing_else() {
    let home = dir();
    let path = home.path().join("file");
    for _ in 0..2 {
        let committed = durafile::write(&path, "one").unwrap();
        assert_eq!((committed.durability(), committed.is_unchanged()), (best(&home), false));
        assert_eq!(fs::read(&path).unwrap(), b"one");
        for level in [Durability::None, Durability::Data] {
            assert_eq!(
                WriteOptions::new().durability(level).write(&path, "two").unwrap().durability(),
                level
            );
        }
        assert_eq!(fs::read(&path).unwrap(), b"two");
        let _ = WriteOptions::new().write_from(&path, &b"three"[..]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        let mut stream = AtomicFile::create(&path).unwrap();
        stream.write_all(&vec![7; 300_000]).unwrap();
        stream.seek(SeekFrom::Start(10)).unwrap();
        stream.write_all(b"x").unwrap();
        assert!(fs::read(&path).unwrap() == b"three", "nothing is seen before the commit");
        let _ = stream.commit().unwrap();
        let seen = fs::read(&path).unwrap();
        assert!(seen.len() == 300_000 && seen[10] == b'x' && seen[9] == 7);
        let mut stream = AtomicFile::create(&path).unwrap();
        stream.write_all(b"lost").unwrap();
        stream.discard().unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), 300_000);
        assert_eq!(names(&home), ["file"]);
        assert!(recover(&home).unwrap().is_clean());
    }
}

#[test]
fn live_writers_are_left_alone_by_a_recovery() {
    let home = dir();
    let mut stream = AtomicFile::create(home.path().join("streamed")).unwrap();
    stream.write_all(b"streamed").unwrap();
    stream.flush().unwrap();
    let mut batch = Batch::new();
    batch.write(home.path().join("in a batch"), "in a batch").unwrap();
    let lock = LockFile::try_lock(home.path().join("lock")).unwrap();
    let staged = names(&home);
    let recovery = recover(&home).unwrap();
    assert!(recovery.is_clean() && !recovery.in_use().is_empty(), "{recovery:?}");
    assert_eq!(names(&home), staged);
    let _ = stream.commit().unwrap();
    let _ = batch.commit().unwrap();
    lock.unlock().unwrap();
    assert_eq!(fs::read(home.path().join("streamed")).unwrap(), b"streamed");
    assert_eq!(fs::read(home.path().join("in a batch")).unwrap(), b"in a batch");
    assert!(!names(&home).iter().any(is_remnant));
}

#[cfg(feature = "json")]
#[test]
fn a_value_is_saved_as_json() {
    let home = dir();
    let path = home.path().join("value.json");
    let value = std::collections::BTreeMap::from([("a", vec![1, 2]), ("b", vec![])]);
    let _ = durafile::write_json(&path, &value).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), r#"{"a":[1,2],"b":[]}"#);
    let _ = WriteOptions::new().pretty(true).write_json(&path, &value).unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains("\n  \"a\""));
    assert_eq!(names(&home), ["value.json"]);
}

#[test]
fn of_many_who_create_a_name_exactly_one_wins() {
    let home = dir();
    for round in 0..20 {
        let path = home.path().join(round.to_string());
        let (won, start) = (AtomicUsize::new(0), Barrier::new(8));
        std::thread::scope(|scope| {
            for n in 0..8 {
                let (path, won, start) = (&path, &won, &start);
                scope.spawn(move || {
                    start.wait();
                    match WriteOptions::new().create_new(true).write(path, n.to_string()) {
                        Ok(_) => drop(won.fetch_add(1, Ordering::Relaxed)),
                        Err(e) => assert_eq!(e.kind(), ErrorKind::AlreadyExists, "{e}: {:?}", e.io_error()),
                    }
                });
            }
        });
        assert_eq!(won.into_inner(), 1);
        assert_eq!(fs::read(&path).unwrap().len(), 1);
    }
    assert_eq!(names(&home).len(), 20);
}

#[test]
fn what_can_not_be_saved_to_is_refused_and_left_alone() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("file"), "old").unwrap();
    refused(durafile::write(at("folder"), "x"), ErrorKind::IsADirectory);
    refused(durafile::write(at("missing/file"), "x"), ErrorKind::NotFound);
    for invalid in ["", ".", "..", "file/", "folder/.."] {
        let path = if invalid.is_empty() { "".into() } else { at(invalid) };
        refused(durafile::write(path, "x"), ErrorKind::InvalidPath);
    }
    refused(WriteOptions::new().create_new(true).write(at("file"), "x"), ErrorKind::AlreadyExists);
    refused(WriteOptions::new().size_limit(3).write_from(at("file"), &b"four"[..]), ErrorKind::TooLarge);
    let token = CancelToken::new();
    let mut stream = WriteOptions::new().cancel(&token).open(at("file")).unwrap();
    stream.write_all(b"some").unwrap();
    token.cancel();
    refused(stream.commit(), ErrorKind::Cancelled);
    assert_eq!(fs::read(at("file")).unwrap(), b"old");
    assert_eq!(names(&home), ["file", "folder"]);
    let _ = WriteOptions::new().create_parents(true).write(at("a/b/c"), "x").unwrap();
    assert_eq!(fs::read(at("a/b/c")).unwrap(), b"x");
}

#[test]
fn the_same_content_leaves_the_file_as_it_is() {
    let home = dir();
    let path = home.path().join("file");
    let options = WriteOptions::new().skip_unchanged(true);
    assert!(!options.write(&path, "same").unwrap().is_unchanged());
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(long_ago).unwrap();
    drop(file);
    let committed = options.write(&path, "same").unwrap();
    assert_eq!((committed.is_unchanged(), committed.durability()), (true, best(&home)));
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), long_ago);
    assert!(!options.write(&path, "other").unwrap().is_unchanged());
    assert_eq!(fs::read(&path).unwrap(), b"other");
    assert_eq!(names(&home), ["file"]);
}

#[test]
fn a_read_only_file_is_replaced_and_stays_read_only() {
    let home = dir();
    let path = home.path().join("file");
    fs::write(&path, "old").unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions.clone()).unwrap();
    for text in ["new", "newer"] {
        let _ = durafile::write(&path, text).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(fs::metadata(&path).unwrap().permissions().readonly());
        let _ = WriteOptions::new().skip_unchanged(true).write(&path, text).unwrap();
        assert!(fs::metadata(&path).unwrap().permissions().readonly());
    }
    let created = home.path().join("created");
    let _ = WriteOptions::new().permissions(permissions).create_new(true).write(&created, "x").unwrap();
    assert!(fs::metadata(&created).unwrap().permissions().readonly());
    let mut batch = Batch::new();
    batch.write(&path, "newest").unwrap();
    let _ = batch.commit().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "newest");
    assert!(fs::metadata(&path).unwrap().permissions().readonly());
    assert_eq!(names(&home), ["created", "file"]);
}

/// The mark belongs to the file: what another name leads to keeps it.
#[test]
fn the_other_name_of_a_read_only_file_keeps_its_content_and_its_mark() {
    let home = dir();
    let (path, other) = (home.path().join("file"), home.path().join("other"));
    fs::write(&path, "old").unwrap();
    fs::hard_link(&path, &other).unwrap();
    let mut permissions = fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&path, permissions).unwrap();
    let _ = durafile::write(&path, "new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap() + &fs::read_to_string(&other).unwrap(), "newold");
    assert!(fs::metadata(&path).unwrap().permissions().readonly());
    // The mark is given back through an open file.
    if !replaces_open_files(home.path()) {
        return;
    }
    assert!(fs::metadata(&other).unwrap().permissions().readonly());
}

#[test]
fn a_batch_publishes_all_at_its_end_and_nothing_before() {
    let home = dir();
    for strategy in [SyncStrategy::Auto, SyncStrategy::PerFile, SyncStrategy::FileSystem] {
        let mut batch = Batch::new().sync(strategy).options(WriteOptions::new().create_parents(true));
        for n in 0..60 {
            batch.write(home.path().join(format!("{}/{n}", n % 12)), n.to_string()).unwrap();
        }
        let mut stream = batch.create_file(home.path().join("stream")).unwrap();
        stream.write_all(b"streamed").unwrap();
        stream.finish().unwrap();
        batch.write(home.path().join("0/0"), "later wins").unwrap();
        let committed = batch.commit().unwrap();
        assert_eq!(committed.len(), 62);
        assert!(committed.iter().all(|one| one.durability() == best(&home)));
        assert_eq!(fs::read(home.path().join("0/0")).unwrap(), b"later wins");
        for n in 1..60 {
            let path = home.path().join(format!("{}/{n}", n % 12));
            assert_eq!(fs::read_to_string(path).unwrap(), n.to_string());
        }
        assert_eq!(names(home.path().join("0")).len(), 5);
    }
    let mut batch = Batch::new();
    batch.write(home.path().join("never"), "x").unwrap();
    assert!(names(&home).iter().any(is_remnant), "it is staged beside its target");
    batch.discard().unwrap();
    assert!(!names(&home).iter().any(|name| name == "never" || is_remnant(name)));
    let mut batch = Batch::new().options(WriteOptions::new().create_new(true));
    batch.write(home.path().join("first"), "x").unwrap();
    batch.write(home.path().join("second"), "x").unwrap();
    fs::write(home.path().join("first"), "theirs").unwrap();
    assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(home.path().join("first")).unwrap(), b"theirs");
    assert!(!names(&home).iter().any(is_remnant));
}

#[test]
fn a_lock_excludes_others_and_names_its_holder() {
    let home = dir();
    let path = home.path().join("service.lock");
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    for _ in 0..3 {
        let lock = LockFile::try_lock(&path).unwrap();
        refused(LockFile::try_lock(&path), ErrorKind::Locked);
        refused(LockFile::lock_timeout(&path, Duration::from_millis(30)), ErrorKind::TimedOut);
        let holder = LockFile::holder(&path).unwrap().expect("it is held");
        assert_eq!(holder.pid, std::process::id());
        assert!(!holder.host.is_empty());
        lock.unlock().unwrap();
        assert_eq!(LockFile::holder(&path).unwrap(), None);
    }
    let shared = [LockFile::lock_shared(&path).unwrap(), LockFile::lock_shared(&path).unwrap()];
    refused(LockFile::try_lock(&path), ErrorKind::Locked);
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| LockFile::lock(&path).unwrap());
        std::thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(shared);
        waiting.join().unwrap().unlock().unwrap();
    });
    let fresh = home.path().join("fresh.lock");
    let first = LockFile::lock_shared(&fresh).unwrap();
    drop(LockFile::lock_shared(&fresh).unwrap());
    drop(first);
    refused(LockFile::lock(home.path()), ErrorKind::IsADirectory);
    assert_eq!(names(&home), ["fresh.lock", "service.lock"]);
}

#[test]
fn health_tries_a_save_and_a_heartbeat_shows_life() {
    let home = dir();
    let missing = home.path().join("missing");
    let found = HealthOptions::new().min_free_bytes(1).check([home.path(), &missing]);
    assert!(!found.healthy);
    let [here, gone] = &found.dirs[..] else { panic!("{found:?}") };
    assert!(here.exists && here.writable && here.locks && here.error.is_none(), "{here:?}");
    assert!(here.free_bytes > 0 && here.total_bytes >= here.free_bytes, "{here:?}");
    assert!((0.0..=100.0).contains(&here.used_percent));
    assert_eq!(here.durable, best(&home) == Durability::Full);
    assert_eq!((gone.exists, gone.error), (false, Some(ErrorKind::NotFound)));
    assert!(!health::check([home.path()]).dirs.is_empty());
    let alive = home.path().join("alive");
    assert!(!Heartbeat::is_alive(&alive, Duration::from_secs(60)).unwrap());
    Heartbeat::new(&alive).beat().unwrap();
    assert!(Heartbeat::is_alive(&alive, Duration::from_secs(60)).unwrap());
    fs::write(&alive, "no beat").unwrap();
    assert!(!Heartbeat::is_alive(&alive, Duration::from_secs(60)).unwrap());
    assert_eq!(names(&home), ["alive"]);
}
