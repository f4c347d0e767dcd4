//! Goal: a recording that arrives in pieces is put together byte for byte, and pieces that are
//! forgotten don't stay for ever. Method: pieces out of order, missing, sent twice, too large, too old.

use std::time::{Duration, Instant, SystemTime};

use durafile::LockFile;
use fs_err as fs;

use crate::support::{Service, dir, names, no_remnants, until, wav};

const CHUNK: usize = 256 << 10;

#[test]
fn chunks_are_put_together_in_order() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    let content = wav(45.0, 1);
    let pieces: Vec<&[u8]> = content.chunks(CHUNK).collect();
    assert_eq!(pieces.len(), 3);
    let send = |n: usize, body: &[u8]| service.post(&format!("/recordings/talk-7/chunks/{n}"), body).status;
    assert_eq!(send(2, pieces[2]), 204);
    assert_eq!(send(0, b"a first try"), 204);
    assert_eq!(send(0, pieces[0]), 204);

    let finish = || service.post("/recordings/talk-7/finish?chunks=3&name=Talk%20seven", b"");
    let json = finish().refused(409, "missing_chunks");
    assert_eq!(json["missing"], serde_json::json!([1]));
    assert_eq!(send(1, pieces[1]), 204);
    assert_eq!(finish().id(), "talk-7");
    // The answer may have been lost: asking again does no harm.
    assert_eq!(finish().status, 200);

    let entry = service.settled("talk-7");
    assert_eq!((&entry["state"], &entry["name"]), (&"done".into(), &"Talk seven".into()));
    until("it is put away", || {
        fs::read(home.path().join("done/talk-7.wav")).ok().filter(|kept| *kept == content)
    });
    assert_eq!(finish().status, 200);
    service.post("/recordings/talk-7/chunks/0", b"late").refused(409, "already_exists");
    assert!(names(&home.path().join("chunks")).is_empty());
    no_remnants(home.path());
}

#[test]
fn a_chunk_or_a_recording_that_is_too_large_is_refused() {
    let home = dir();
    let service = Service::start(home.path(), &["--size-limit", "400000"]);
    service.post("/recordings/big/chunks/0", &vec![7; CHUNK + 1]).refused(413, "too_large");
    let content = wav(40.0, 3);
    for (n, piece) in content.chunks(CHUNK).take(2).enumerate() {
        assert_eq!(service.post(&format!("/recordings/big/chunks/{n}"), piece).status, 204);
    }
    service.post("/recordings/big/finish?chunks=2", b"").refused(413, "too_large");
    assert!(names(&home.path().join("chunks")).is_empty(), "it can never fit: nothing is kept");
    assert!(names(&home.path().join("inbox")).is_empty());
    no_remnants(home.path());
}

#[test]
fn chunks_that_were_forgotten_are_swept_after_a_day() {
    let home = dir();
    let chunks = home.path().join("chunks");
    for (name, hours) in [("old", 25), ("young", 23)] {
        fs::create_dir_all(chunks.join(name)).unwrap();
        fs::write(chunks.join(name).join("000000"), "data").unwrap();
        let then = SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::open(chunks.join(name)).unwrap().into_file().set_modified(then).unwrap();
    }
    let service = Service::start(home.path(), &[]);
    until("the old ones are gone", || (names(&chunks) == ["young"]).then_some(()));
    assert_eq!(service.status()["chunk_sets"], 1);
    assert_eq!(names(&chunks.join("young")), ["000000"]);
}

#[test]
fn chunks_survive_a_service_that_is_killed() {
    let home = dir();
    let content = wav(40.0, 2);
    let pieces: Vec<&[u8]> = content.chunks(CHUNK).collect();
    let service = Service::start(home.path(), &[]);
    for (n, piece) in pieces.iter().enumerate() {
        assert_eq!(service.post(&format!("/recordings/kept/chunks/{n}"), piece).status, 204);
    }
    service.kill();
    let service = Service::start(home.path(), &[]);
    let count = pieces.len();
    assert_eq!(service.post(&format!("/recordings/kept/finish?chunks={count}"), b"").id(), "kept");
    assert_eq!(service.settled("kept")["state"], "done");
}

/// Whoever removes a set holds the lock of the recording, and looks at its age a last time.
#[test]
fn a_chunk_that_is_answered_with_204_is_not_in_a_set_that_is_being_removed() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    let set = home.path().join("chunks/talk");
    let lock = home.path().join("locks/talk.lock");
    let sweeper = LockFile::lock(&lock).unwrap();
    let status = std::thread::scope(|scope| {
        let sender = scope.spawn(|| service.post("/recordings/talk/chunks/0", b"piece").status);
        until("the set is there", || set.exists().then_some(()));
        // Time enough to put a chunk there, if nothing keeps it.
        let began = Instant::now();
        while !sender.is_finished() && began.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(10));
        }
        fs::remove_dir_all(&set).unwrap();
        fs::remove_file(&lock).unwrap();
        drop(sweeper);
        sender.join().unwrap()
    });
    assert_eq!(status == 204, set.join("000000").exists(), "{status}");
    assert_eq!(service.post("/recordings/talk/chunks/0", b"piece").status, 204);
    assert_eq!(fs::read(set.join("000000")).unwrap(), b"piece");
    until("the lock is gone", || names(&home.path().join("locks")).is_empty().then_some(()));
    no_remnants(home.path());
}
