//! Goal: a signal that interrupts a system call fails nothing. Method: strace answers `EINTR` to each
//! call of each operation in turn; which calls there are comes from a trace of the same operation without
//! faults, and everything must end as it did there.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use durafile::health::{self, Heartbeat};
use durafile::{
    AtomicDir, Batch, Carry, Committed, DirOptions, DirSnapshot, LockFile, Result, SyncStrategy, Transaction,
    TransactionOptions, WriteOptions,
};
use fs_err as fs;

use crate::support::strace::{Call, marked, run, traced, works};
use crate::support::{chmod, job, this_test};

/// Linux gives a descriptor back whatever `close` answers, so that a second call could close
/// somebody else's. The others belong to threads, or wait for nothing: the kernel begins them anew by itself,
/// and a wake-up that did not happen would be missed for ever.
const NEVER_INTERRUPTED: [&str; 10] = [
    "close",
    "futex",
    "geteuid",
    "getpid",
    "uname",
    "clock_gettime",
    "prctl",
    "clone3",
    "clone",
    "rt_sigprocmask",
];

/// What an operation left: each name below the directory, and the first line of each file.
pub(super) fn tree(dir: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
                found.push((name, String::new()));
            } else {
                let text = fs::read_to_string(&path).unwrap_or_default();
                // The others of a heartbeat or lock file tell of the time and the process.
                found.push((name, text.lines().next().unwrap_or_default().to_owned()));
            }
        }
    }
    found.sort();
    found
}

/// Ends the child's job with what came of something that saves nothing.
fn told<T>(act: impl FnOnce() -> Result<T>) {
    match marked(act) {
        Ok(_) => println!("\nOUTCOME Ok"),
        Err(e) => println!("\nOUTCOME {e}: {:?}", e.io_error()),
    }
}

fn last(committed: Result<Vec<Committed>>) -> Result<Committed> {
    committed.map(|mut all| all.pop().unwrap())
}

/// Interrupts every call of `act` once, all in one run: each is repeated, so that it is every second call of
/// its name that fails. Should that go wrong, one call after the other is interrupted, to name those that
/// matter. How many there were.
#[track_caller]
fn interrupt_everywhere(test: &str, act: &dyn Fn(&Path, &str), case: &str) -> Option<usize> {
    let whole = run(test, case, &[], act)?;
    let outcome = whole.outcome.as_ref().unwrap();
    assert!(outcome.starts_with("Ok") || outcome == "unchanged", "{case}: {outcome}");
    let expected = tree(whole.path());
    let calls: Vec<&Call> =
        whole.calls.iter().filter(|call| !NEVER_INTERRUPTED.contains(&call.name.as_str())).collect();
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for call in &calls {
        named.entry(&call.name).or_default().push(call.nth);
    }
    let fault = |name: &str, when: String| format!("inject={name}:error=EINTR:when={when}");
    let faults: Vec<String> = named
        .iter()
        .map(|(name, nth)| fault(name, format!("{}..{}+2", nth[0], nth[0] + 2 * (nth.len() - 1))))
        .collect();
    let options: Vec<&str> = faults.iter().flat_map(|fault| ["-e", fault]).collect();
    let trace = run(test, case, &options, act)?;
    if trace.outcome.as_ref() == Some(outcome) && tree(trace.path()) == expected {
        // Reading what has no size, the standard library asks for it once, and does without an answer.
        let asked_twice = calls.iter().filter(|call| !call.args.contains("/proc/")).count();
        let (now, before) = (trace.calls.len(), whole.calls.len());
        assert!(
            now >= before + asked_twice,
            "{case}: {now} calls, not {before} and {asked_twice}: {:#?}, not {:#?}",
            trace.text(),
            whole.text()
        );
        return Some(calls.len());
    }
    let mut wrong = Vec::new();
    for call in &calls {
        let trace = run(test, case, &["-e", &fault(&call.name, call.nth.to_string())], act)?;
        let (now, left) = (trace.outcome.as_ref().unwrap(), tree(trace.path()));
        if now != outcome || left != expected {
            wrong.push(format!("{} ({}): {now}, {left:?}", call.short(), call.nth));
        }
    }
    panic!(
        "{case}: {:?} instead of {outcome}, {expected:?}; interrupted at\n{}",
        trace.outcome,
        wrong.join("\n")
    );
}

/// Tries the cases, all of which `act` knows.
fn all(test: &str, cases: &[&str], act: impl Fn(&Path, &str)) {
    if job(test).is_none() && !works() {
        return;
    }
    for case in cases {
        match interrupt_everywhere(test, &act, case) {
            Some(calls) => assert!(calls > 3, "{case}: only {calls} calls"),
            None => return,
        }
    }
}

fn save(dir: &Path, case: &str) {
    let path = dir.join(if case == "parents" { "a/b/file" } else { "file" });
    if ["replace", "linked", "data"].contains(&case) {
        fs::write(dir.join("file"), "old").unwrap();
        chmod(dir.join("file"), 0o640);
        let named = rustix::fs::setxattr(dir.join("file"), "user.a", b"1", rustix::fs::XattrFlags::empty());
        println!("an attribute to keep: {named:?}");
    }
    if case == "unchanged" {
        fs::write(&path, "new").unwrap();
    }
    if case == "linked" {
        symlink("file", dir.join("link")).unwrap();
    }
    // Warms up the library's probes.
    durafile::write(dir.join("beside"), "").unwrap();
    let options = WriteOptions::new()
        .create_new(case == "create_new")
        .create_parents(case == "parents")
        .skip_unchanged(case == "unchanged");
    let path = if case == "linked" { dir.join("link") } else { path };
    traced(|| options.write(&path, "new"));
}

#[test]
fn a_save_goes_on_after_a_signal() {
    all(&this_test!(), &["replace", "new", "create_new", "parents", "unchanged", "linked"], save);
}

#[test]
fn a_set_goes_on_after_a_signal() {
    all(&this_test!(), &["batch", "transaction"], |dir, case| {
        fs::create_dir(dir.join("d")).unwrap();
        for name in ["one", "two", "d/three", "gone"] {
            fs::write(dir.join(name), "old").unwrap();
        }
        durafile::write(dir.join("beside"), "").unwrap();
        if case == "batch" {
            traced(|| {
                let mut batch = Batch::new().sync(SyncStrategy::PerFile);
                batch.write(dir.join("one"), "new")?;
                batch.write(dir.join("two"), "new")?;
                batch.write(dir.join("fresh"), "new")?;
                last(batch.commit())
            });
        } else {
            traced(|| {
                let options = TransactionOptions::new().sync(SyncStrategy::PerFile);
                let mut transaction: Transaction = options.begin(dir)?;
                transaction.write("one", "new")?;
                transaction.write("d/three", "new")?;
                transaction.write("e/fresh", "new")?;
                transaction.remove("gone")?;
                transaction.commit()
            });
        }
    });
}

#[test]
fn a_directory_goes_on_after_a_signal() {
    all(&this_test!(), &["new", "copy", "link"], |dir, case| {
        let target = dir.join("talk");
        let beside = AtomicDir::create(dir.join("beside")).unwrap();
        beside.commit().unwrap();
        if case != "new" {
            fs::create_dir_all(target.join("files")).unwrap();
            fs::write(target.join("metadata"), "old").unwrap();
            fs::write(target.join("files/mine"), "mine").unwrap();
            symlink("metadata", target.join("link")).unwrap();
        }
        let carry = if case == "link" { Carry::HardLink } else { Carry::Copy };
        let options = DirOptions::new().carry(carry).sync(SyncStrategy::PerFile);
        traced(|| {
            let mut next: AtomicDir = options.update(&target)?;
            next.write("metadata", "new")?;
            next.create_dir("empty")?;
            next.commit()
        });
    });
}

#[test]
fn what_saves_nothing_goes_on_after_a_signal() {
    let cases = ["lock", "holder", "recover", "snapshot", "heartbeat", "health"];
    all(&this_test!(), &cases, |dir, case| {
        fs::create_dir(dir.join("talk")).unwrap();
        fs::write(dir.join("talk/metadata"), "old").unwrap();
        durafile::write(dir.join("beside"), "").unwrap();
        match case {
            "lock" => told(|| LockFile::lock(dir.join("lock"))?.unlock()),
            "holder" => {
                let held = LockFile::lock(dir.join("lock")).unwrap();
                told(|| LockFile::holder(dir.join("lock")));
                held.unlock().unwrap();
            }
            "recover" => {
                // What a save that was killed leaves.
                let file = WriteOptions::new().open(dir.join("file")).unwrap();
                std::mem::forget(file);
                told(|| durafile::recover(dir));
            }
            "snapshot" => told(|| {
                let snapshot = DirSnapshot::open(dir.join("talk"))?;
                snapshot.open_file("metadata")
            }),
            "heartbeat" => {
                let heart = Heartbeat::new(dir.join("beat"));
                told(|| {
                    heart.beat()?;
                    Heartbeat::is_alive(dir.join("beat"), Duration::from_secs(3600))
                });
            }
            _ => told(|| {
                let found = health::check([dir]);
                found.dirs.into_iter().find_map(|dir| dir.error).map_or(Ok(()), |kind| panic!("{kind:?}"))
            }),
        }
    });
}
