//! Goal: SIGTERM ends the service with 0, soon, and costs nothing: what is in hand is finished, or
//! waits for the next run as if it had not been begun. Method: signals in the middle of each.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use durafile::AtomicDir;
use fs_err as fs;
use rustix::process::{Pid, Signal};

use crate::support::{
    PROGRAM, Service, count, dir, ledger, names, no_remnants, run, sha256, sparse_wav, until, wav,
};

/// Puts a recording that takes a while into the inbox.
fn long_recording(service: &Service, id: &str, seconds: u32) {
    let path = service.data.join("new");
    sparse_wav(&path, 48000, seconds);
    fs::rename(path, service.data.join("inbox").join(format!("{id}.wav"))).unwrap();
}

fn in_hand(service: &Service, id: &str) {
    until("it is in hand", || (service.status()["current"]["id"] == id).then_some(()));
}

#[test]
fn with_nothing_to_do_it_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = dir();
        let mut service = Service::start(home.path(), &["--poll", "3600"]);
        service.signal(signal);
        let (status, log) = service.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        no_remnants(home.path());
    }
}

#[test]
fn work_in_hand_is_finished_within_the_grace_period_and_no_more_is_taken() {
    let home = dir();
    let service = Service::start(home.path(), &["--poll", "0.1", "--grace", "80"]);
    long_recording(&service, "a-first", 600);
    in_hand(&service, "a-first");
    service.post("/recordings?name=z-second", &wav(1.0, 1)).id();
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(count(home.path(), "id = 'a-first' AND state = 'done'"), 1, "{log}");
    assert_eq!(count(home.path(), "state = 'waiting'"), 1, "{log}");
    assert_eq!(names(&home.path().join("inbox")).len(), 1);
    no_remnants(home.path());
}

#[test]
fn work_that_takes_longer_waits_for_the_next_run() {
    let home = dir();
    let service = Service::start(home.path(), &["--poll", "0.1", "--grace", "0.1"]);
    long_recording(&service, "long", 7000);
    in_hand(&service, "long");
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert_eq!(names(&home.path().join("inbox")), ["long.wav"]);
    let row = "SELECT state || ' ' || starts || ' ' || attempts FROM recordings WHERE id = 'long'";
    let row: String = ledger(home.path()).query_row(row, [], |row| row.get(0)).unwrap();
    assert_eq!(row, "waiting 0 0", "as if it had not been begun");
    for folder in ["results", "failed", "done", "locks"] {
        assert!(names(&home.path().join(folder)).is_empty(), "{folder}");
    }
    no_remnants(home.path());
}

#[test]
fn a_pause_before_a_retry_ends_with_the_signal() {
    let home = dir();
    let service = Service::start(home.path(), &["--retry-delay", "3000", "--grace", "80"]);
    let content = wav(1.0, 1);
    let in_the_way = AtomicDir::create(home.path().join("results").join(sha256(&content))).unwrap();
    let id = service.post("/recordings?name=later", &content).id();
    until("it is to be tried again", || service.log().contains("trying again").then_some(()));
    let began = Instant::now();
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(began.elapsed() < Duration::from_secs(60), "the grace period was waited for");
    assert_eq!(names(&home.path().join("inbox")), [format!("{id}.wav")]);
    assert_eq!(count(home.path(), "state = 'waiting' AND starts = 0"), 1, "{log}");
    in_the_way.discard().unwrap();
}

#[test]
fn a_pause_for_a_disk_out_of_order_ends_with_the_signal() {
    let home = dir();
    let service = Service::start(home.path(), &["--retry-delay", "3000", "--poll", "0.1"]);
    fs::rename(home.path().join("inbox"), home.path().join("away")).unwrap();
    until("it is held up", || service.log().contains("no work can be done").then_some(()));
    let (status, log) = service.terminate();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[test]
fn an_upload_under_way_may_end_and_one_that_does_not_is_dropped() {
    let home = dir();
    let service = Service::start(home.path(), &["--grace", "3"]);
    let content = wav(2.0, 1);
    let (half, rest) = content.split_at(content.len() / 2);
    let mut streams = [service.connect(), service.connect()];
    for stream in &mut streams {
        let length = content.len();
        write!(stream, "POST /recordings?name=half HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
            .unwrap();
        stream.write_all(half).unwrap();
    }
    until("both are being received", || (service.receiving() == 2).then_some(()));
    service.signal(Signal::TERM);
    until("it is stopping", || service.log().contains("stopping").then_some(()));
    streams[0].write_all(rest).unwrap();
    let mut said = [0; 12];
    streams[0].read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 201");
    let mut service = service;
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let kept = names(&home.path().join("inbox"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(fs::read(home.path().join("inbox").join(&kept[0])).unwrap(), content);
    no_remnants(home.path());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    use std::os::unix::process::ExitStatusExt as _;
    let home = dir();
    let mut service = Service::start(home.path(), &["--poll", "0.1", "--grace", "3000"]);
    long_recording(&service, "long", 7000);
    in_hand(&service, "long");
    service.signal(Signal::TERM);
    until("it is stopping", || service.log().contains("stopping").then_some(()));
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert_eq!(status.signal(), Some(15), "{log}");
    assert_eq!(names(&home.path().join("inbox")), ["long.wav"]);
}

#[test]
fn the_heartbeat_tells_a_live_service_from_a_dead_one() {
    let home = dir();
    let service = Service::start(home.path(), &["--poll", "0.1"]);
    let heartbeat = service.heartbeat();
    let alive = |max_age: &str| {
        let (data, file) = (home.path().to_str().unwrap(), heartbeat.to_str().unwrap());
        run(&["alive", "--data", data, "--heartbeat", file, "--max-age", max_age]).status.code()
    };
    until("it is alive", || (alive("60") == Some(0)).then_some(()));
    // A long stage is no death.
    long_recording(&service, "long", 7000);
    in_hand(&service, "long");
    let before = fs::read(&heartbeat).unwrap();
    until("it beats", || (fs::read(&heartbeat).unwrap() != before).then_some(()));
    assert_eq!(service.status()["current"]["id"], "long", "it beat only after the work");
    service.kill();
    until("it is dead", || (alive("1.5") == Some(1)).then_some(()));
}

#[test]
fn the_heartbeat_goes_when_the_service_ends_in_order() {
    let home = dir();
    let mut service = Service::start(home.path(), &["--poll", "0.1"]);
    let heartbeat = service.heartbeat();
    until("it beats", || heartbeat.exists().then_some(()));
    service.signal(Signal::TERM);
    let (status, log) = service.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!heartbeat.exists(), "a probe would take it for alive");
    let (data, file) = (home.path().to_str().unwrap(), heartbeat.to_str().unwrap());
    let alive = run(&["alive", "--data", data, "--heartbeat", file, "--max-age", "3600"]);
    assert_eq!(alive.status.code(), Some(1));
}

#[test]
fn only_a_heartbeat_is_removed_in_the_end() {
    let home = dir();
    let (data, pipe) = (home.path().join("data"), home.path().join("pipe"));
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, 0o600.into()).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["serve", "--port", "0", "--heartbeat"]).arg(&pipe).arg("--data").arg(&data);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    until("it waits for recordings", || data.join("inbox").exists().then_some(()));
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(pipe.exists(), "`--heartbeat /dev/null` would be the end of a system");
}
