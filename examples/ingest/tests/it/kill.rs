//! Goal: a kill between any two steps of the work costs nothing. Method: strace kills the service
//! right before the nth call of a kind, for each n up to the end of the work; then another service
//! starts, and the recording must be done, once, with everything in its place.

use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;

use crate::support::{PROGRAM, Service, count, dir, names, no_remnants, sha256, skip, until, wav};

/// What changes the disk or makes it durable, and how many of each there may be.
const CALLS: [(&str, u32); 5] = [
    ("renameat2", 3),
    ("rename,renameat", 4),
    ("link,linkat", 8),
    ("unlink,unlinkat", 12),
    ("fsync,fdatasync", 24),
];

/// Whether it was killed; otherwise the work came to its end first.
fn run_and_kill(data: &Path, calls: &str, nth: u32) -> bool {
    let mut command = Command::new("strace");
    // -D: the service is our own child, and not strace's.
    command.args(["-D", "-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}")]);
    command.args(["-e", &format!("inject={calls}:signal=KILL:when={nth}"), PROGRAM]);
    // The sign of life would take part in the count.
    command.args(["serve", "--port", "0", "--heartbeat", "/nowhere/heartbeat", "--data"]).arg(data);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let killed = until("it is killed or has ended its work", || match child.try_wait().unwrap() {
        Some(status) => Some(!status.success()),
        None => is_put_away(data).then_some(false),
    });
    if !killed {
        let _ = child.kill();
        let _ = child.wait();
    }
    killed
}

fn is_put_away(data: &Path) -> bool {
    names(&data.join("inbox")).is_empty() && names(&data.join("locks")).is_empty()
}

#[test]
fn a_kill_between_any_two_steps_costs_nothing() {
    let strace = Command::new("strace").args(["-D", "-qq", "-o", "/dev/null", "true"]).status();
    if !strace.is_ok_and(|status| status.success()) {
        return skip("`strace` does not work here");
    }
    let home = dir();
    let data = home.path();
    Service::start(data, &[]).terminate();
    let (mut rounds, mut kills) = (0, 0);
    for (calls, most) in CALLS {
        for nth in 1..=most {
            rounds += 1;
            let (id, content) = (format!("take-{rounds}"), wav(1.0, rounds));
            fs::write(data.join("new"), &content).unwrap();
            fs::rename(data.join("new"), data.join("inbox").join(format!("{id}.wav"))).unwrap();
            let killed = run_and_kill(data, calls, nth);
            let service = Service::start(data, &["--poll", "0.1"]);
            assert_eq!(service.settled(&id)["state"], "done", "{calls} {nth}");
            until("it is put away", || is_put_away(data).then_some(()));
            assert!(service.terminate().0.success());
            check(data, &id, &content, rounds);
            if !killed {
                break;
            }
            println!("killed before {calls} {nth}");
            kills += 1;
        }
    }
    assert!(kills >= 12, "only {kills} kills fell into the work");
}

fn check(data: &Path, id: &str, content: &[u8], rounds: u64) {
    let sha256 = sha256(content);
    assert_eq!(count(data, &format!("sha256 = '{sha256}' AND state = 'done' AND id = '{id}'")), 1);
    assert_eq!(count(data, "true"), rounds);
    assert_eq!(names(&data.join("results").join(&sha256)), ["result.json", "waveform.png"]);
    assert_eq!(names(&data.join("results")).len() as u64, rounds);
    assert_eq!(fs::read(data.join("done").join(format!("{id}.wav"))).unwrap(), content);
    assert!(names(&data.join("failed")).is_empty());
    no_remnants(data);
}
