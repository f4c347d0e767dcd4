//! Goal: what the simulation says of a process that dies holds for real processes. Method: a
//! child is killed with SIGKILL, at each system call of a save in turn, and at random moments
//! while it saves in a loop; then `recover` runs, and the directory is compared.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use durafile::crash_testing::{Acked, CrashTest, Fault, Model};
use fs_err as fs;

use crate::crash::conformance::{case_named, record_marked};
use crate::support::{dir, job, names, rerun, this_test};
use crate::support::{long, strace};

/// Those that go different ways; the enumeration covers the rest.
const CASES: [&str; 11] = [
    "AtomicFile, create_new",
    "AtomicFile, named, attributes kept",
    "write, attributes kept",
    "write, dangling link",
    "write, named, create_new",
    "write, no rename_new",
    "write, skip_unchanged, unsynced",
    "update, named, new",
    "update, replace",
    "write, expect, named",
    "recover, all",
];

#[test]
fn a_save_killed_at_any_system_call_leaves_old_or_new_and_recover_tidies_up() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    let mut kills = 0;
    for name in CASES {
        let Some(whole) = strace::run(&this_test!(), name, &[], &record_marked) else { return };
        let case = case_named(name);
        let (expected, _) = case.learn();
        for call in long::each(4, &whole.calls, "system calls") {
            let inject = format!("inject={}:signal=KILL:when={}", call.name, call.nth);
            let Some(killed) = strace::run(&this_test!(), name, &["-e", &inject], &record_marked) else {
                return;
            };
            assert!(killed.outcome.is_none(), "{name}: it survived {inject}");
            let context = || format!("{name}, killed at {} {}", call.short(), call.nth);
            let _ = durafile::recover(killed.path()).unwrap_or_else(|e| panic!("{}: {e}", context()));
            let checked = expected.check(&case, Model::ProcessDeath, killed.path(), &Acked::default());
            checked.unwrap_or_else(|e| panic!("{}: {e}", context()));
            assert!(durafile::recover(killed.path()).unwrap().is_clean(), "{}", context());
            kills += 1;
        }
    }
    writeln!(std::io::stderr().lock(), "killed at {kills} system calls").unwrap();
}

const ROUNDS: u64 = 40;

fn version(number: u64) -> Vec<u8> {
    let mut content = number.to_string().into_bytes();
    content.resize(20_000, b'.');
    content
}

/// In the child: saves for ever, and says after each save that it is done. Odd rounds do without
/// unnamed files, so that there is something to recover.
fn save_for_ever(dir: &Path, job: &str) {
    let round: u64 = job.parse().unwrap();
    let mut test = CrashTest::new(|dir| {
        for number in 1.. {
            durafile::write(dir.join("target"), version(number))?;
            println!("SAVED {number}");
        }
        Ok(())
    });
    if round % 2 == 1 {
        let errno = rustix::io::Errno::NOTSUP.raw_os_error();
        test = test.fault(Fault::Refuse { name: "create unnamed", errno });
    }
    test.real_syncs(round % 4 < 2).record_in(dir).unwrap();
}

#[test]
fn a_process_killed_at_random_moments_has_lost_nothing_it_acknowledged() {
    if let Some((dir, round)) = job(&this_test!()) {
        return save_for_ever(&dir, &round);
    }
    let home = dir();
    let (mut remnants, mut saves) = (0, 0);
    for round in 0..ROUNDS {
        fs::write(home.path().join("target"), version(0)).unwrap();
        let mut child = rerun(&[], &this_test!(), home.path(), &round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("SAVED") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the child did not save anything");
        }
        // Different moments, spread over the length of a few saves.
        std::thread::sleep(Duration::from_micros(round * 7919 % 5000));
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_string(&mut line).unwrap();
        let saved = line.lines().filter_map(|line| line.split("SAVED ").nth(1)?.parse::<u64>().ok());
        let acked = saved.max().unwrap();

        let recovery = durafile::recover(home.path()).unwrap();
        remnants += recovery.removed().len();
        saves += acked;
        assert!(recovery.quarantined().is_empty() && recovery.in_use().is_empty(), "{recovery:?}");
        let found = fs::read(home.path().join("target")).unwrap();
        assert!(
            found == version(acked) || found == version(acked + 1),
            "lost after {acked}: {} bytes",
            found.len()
        );
        assert_eq!(names(home.path()), ["target"]);
        assert!(durafile::recover(home.path()).unwrap().is_clean());
    }
    let text = format!("killed {ROUNDS} times in {saves} saves; {remnants} staged files recovered\n");
    std::io::stderr().lock().write_all(text.as_bytes()).unwrap();
}
