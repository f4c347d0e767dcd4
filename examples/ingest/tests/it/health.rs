//! Goal: the answers about health and status are true, complete and say nothing about the machine.
//! Method: each address is asked, in good and in bad order.

use crate::support::{Service, dir, ledger, until, wav};

#[test]
fn a_healthy_service_says_so() {
    let home = dir();
    let service = Service::start(home.path(), &["--min-free", "0"]);
    let disk = service.get("/health/filesystem");
    assert_eq!(disk.status, 200);
    let disk = disk.json();
    assert_eq!(disk["healthy"], true);
    assert_eq!(disk["dirs"].as_array().unwrap().len(), 6);
    for dir in disk["dirs"].as_array().unwrap() {
        assert!(dir["writable"] == true && dir["total_bytes"].as_u64().unwrap() > 0, "{dir}");
    }
    let health = service.get("/ingest/health");
    assert_eq!(health.status, 200);
    assert_eq!(health.json()["ledger"]["healthy"], true);
}

#[test]
fn too_little_room_is_unhealthy() {
    let home = dir();
    let service = Service::start(home.path(), &["--min-free", "1000000000000000"]);
    for path in ["/health/filesystem", "/ingest/health"] {
        let reply = service.get(path);
        assert_eq!(reply.status, 503, "{path}");
        assert_eq!(reply.json()["healthy"], false);
    }
}

#[test]
fn the_status_counts_what_is_there() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    let one = service.post("/recordings?name=one", &wav(1.0, 1)).id();
    service.settled(&one);
    let copy = service.post("/recordings?name=copy", &wav(1.0, 1)).id();
    service.settled(&copy);
    let bad = service.post("/recordings?name=bad", &wav(0.5, 1)).id();
    service.settled(&bad);
    service.post("/recordings/part/chunks/0", b"part");
    let status = service.status();
    for (name, count) in [("done", 1), ("duplicate", 1), ("failed", 1), ("chunk_sets", 1)] {
        assert_eq!(status[name], count, "{status}");
    }
    assert!(status["uptime_seconds"].is_u64() && status["disk_used_percent"].is_f64(), "{status}");
    let recent = service.get("/recordings?limit=2").json();
    assert_eq!((&recent[0]["id"], &recent[1]["id"]), (&bad.into(), &copy.into()));
}

#[test]
fn every_request_is_in_the_log_with_method_path_status_and_time() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    service.get("/ingest/status");
    service.get("/nowhere");
    let log = service.log();
    for line in [r#"method=GET path="/ingest/status" status=200 ms="#, r#"path="/nowhere" status=404 ms="#] {
        assert!(log.contains(line), "{log}");
    }
}

/// Another program that has the whole ledger for itself is as good as a disk that hangs.
#[test]
fn a_request_does_not_wait_for_ever_for_the_disk() {
    let home = dir();
    let service = Service::start(home.path(), &["--poll", "3600"]);
    let id = service.post("/recordings?name=one", &wav(1.0, 1)).id();
    service.settled(&id);
    until("the service rests", || service.status()["current"].is_null().then_some(()));
    let hog = ledger(home.path());
    hog.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for path in ["/recordings".to_owned(), format!("/recordings/{id}"), format!("/recordings/{id}/result")] {
        service.get(&path).refused(504, "timed_out");
    }
    hog.execute_batch("ROLLBACK").unwrap();
    assert_eq!(service.get("/recordings").status, 200);
}
