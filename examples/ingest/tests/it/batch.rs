//! Goal: two services share one directory, and killing one of them, again and again, costs nothing:
//! every recording is done exactly once, no result is torn, nothing is left over. Method: 200
//! recordings, SIGKILL at moments that the work itself chooses, then the ledger and the tree are read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use durafile::DirSnapshot;
use fs_err as fs;
use serde_json::Value;

use crate::support::{Service, count, dir, ledger, names, no_remnants, sha256, until, wav};

const ALL: u64 = 200;
const KILLS: u64 = 4;

fn recording(n: u64) -> Vec<u8> {
    wav(1.0 + (n % 7) as f64 / 4.0, n)
}

fn send_all(services: &[Service]) {
    std::thread::scope(|scope| {
        for sender in 0..4 {
            scope.spawn(move || {
                for n in (0..ALL).filter(|n| n % 4 == sender) {
                    let service = &services[(n % 2) as usize];
                    service.post(&format!("/recordings?name=take%20{n}"), &recording(n)).id();
                }
            });
        }
    });
}

fn done(data: &Path) -> u64 {
    count(data, "state = 'done'")
}

#[test]
fn two_hundred_recordings_are_done_exactly_once_while_a_service_is_killed() {
    let home = dir();
    let data = home.path();
    let options = ["--poll", "0.1", "--retry-delay", "0.1"];
    let services = [Service::start(data, &options), Service::start(data, &options)];
    send_all(&services);
    let [mut victim, other] = services;
    let ended = Arc::new(AtomicBool::new(false));
    let reader = {
        let (results, ended) = (data.join("results"), ended.clone());
        std::thread::spawn(move || read_all_the_time(&results, &ended))
    };
    let (mut hit, mut logs) = (0, Vec::new());
    for kill in 1..=KILLS {
        until("it is in the middle of the work", || (done(data) >= kill * 30).then_some(()));
        // While it works on something, so that there is something to be left.
        until("it has something in hand, or all is done", || {
            let busy = !victim.status()["current"].is_null();
            hit += u64::from(busy);
            (busy || done(data) == ALL).then_some(())
        });
        logs.push(victim.kill());
        victim = Service::start(data, &options);
    }
    assert!(hit > 0, "no kill fell into the work");
    until("all is done", || (done(data) == ALL).then_some(()));
    until("all is put away", || names(&data.join("inbox")).is_empty().then_some(()));
    ended.store(true, Ordering::SeqCst);
    assert!(reader.join().unwrap() > ALL, "the reader saw little");
    check_ledger(data);
    check_results(data);
    assert!(count(data, "state != 'done'") == 0);

    // Both worked.
    let sql = "SELECT count(DISTINCT service) FROM recordings";
    let workers: u64 = ledger(data).query_row(sql, [], |row| row.get(0)).unwrap();
    assert!(workers >= 2, "{workers}");

    for service in [victim, other] {
        let (status, log) = service.terminate();
        assert!(status.success());
        logs.push(log);
    }
    check_logs(&logs);
    let last = Service::start(data, &options);
    no_remnants(data);
    assert!(names(&data.join("locks")).is_empty());
    assert!(names(&data.join("failed")).is_empty());
    assert_eq!(last.status()["done"], ALL);
    assert!(last.terminate().0.success());
}

/// Whatever is under the name of a result is whole, at every moment. How many were looked at.
fn read_all_the_time(results: &Path, ended: &AtomicBool) -> u64 {
    let mut looks = 0;
    while !ended.load(Ordering::SeqCst) {
        for name in names(results).into_iter().filter(|name| !durafile::is_remnant(name)) {
            let result = DirSnapshot::open(results.join(&name)).unwrap();
            assert_eq!(result.entries().unwrap(), ["result.json", "waveform.png"].map(PathBuf::from));
            looks += 1;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    looks
}

/// The locks kept the services apart: nobody did again what another one had done.
fn check_logs(logs: &[String]) {
    let lines = logs.iter().flat_map(|log| log.lines());
    let done: Vec<_> = lines.filter_map(|line| line.split_once("done id=")).map(|(_, id)| id).collect();
    let ids: HashSet<_> = done.iter().map(|rest| rest.split(' ').next()).collect();
    assert_eq!(done.len(), ids.len(), "some were done twice");
    assert!(ids.len() as u64 > ALL - KILLS - 1, "{}", ids.len());
    assert!(!logs.concat().contains("skipped"));
}

fn check_ledger(data: &Path) {
    let connection = ledger(data);
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    let mut statement = connection.prepare("SELECT sha256 FROM recordings").unwrap();
    let rows = statement.query_map([], |row| row.get::<_, String>(0)).unwrap();
    let hashes: Vec<String> = rows.map(Result::unwrap).collect();
    let distinct: HashSet<&String> = hashes.iter().collect();
    assert_eq!((hashes.len() as u64, distinct.len() as u64), (ALL, ALL));
    for n in 0..ALL {
        assert!(distinct.contains(&sha256(&recording(n))), "{n} is missing");
    }
}

fn check_results(data: &Path) {
    for n in 0..ALL {
        let (content, sha256) = (recording(n), sha256(&recording(n)));
        let result = data.join("results").join(&sha256);
        assert_eq!(names(&result), ["result.json", "waveform.png"]);
        let report: Value = serde_json::from_slice(&fs::read(result.join("result.json")).unwrap()).unwrap();
        assert_eq!(report["sha256"], sha256.as_str());
        let frames = (content.len() - 44) as f64 / 2.0;
        assert_eq!(report["duration_seconds"], frames / 8000.0);
        let picture = fs::read(result.join("waveform.png")).unwrap();
        assert!(picture.starts_with(b"\x89PNG") && picture.ends_with(b"IEND\xaeB`\x82"));
    }
    let kept: u64 = names(&data.join("done")).len() as u64;
    assert_eq!(kept, ALL);
    assert_eq!(names(&data.join("results")).len() as u64, ALL);
}
