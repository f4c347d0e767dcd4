//! Goal: what the simulation says of sets holds for real processes. Method: a child is killed with
//! SIGKILL at each system call of a batch and of transactions in turn; then `recover` runs, and every
//! file is looked at.

use std::io::Write;
use std::path::Path;

use durafile::{Batch, SyncStrategy, TransactionOptions, WriteOptions, recover};
use fs_err as fs;

use crate::support::strace::{self, Trace, marked};
use crate::support::{job, long, this_test};

/// Each path, what it holds before, and after.
const FILES: [(&str, Option<&str>, Option<&str>); 6] = [
    ("a", Some("old"), Some("new a")),
    ("b", None, Some("new b")),
    ("gone", Some("old"), None),
    ("d/c", Some("old"), Some("new c")),
    ("d/e", None, Some("new e")),
    ("n/m/f", None, Some("new f")),
];

fn prepare(home: &Path) {
    fs::create_dir(home.join("d")).unwrap();
    for (path, old, _) in FILES {
        old.map_or(Ok(()), |old| fs::write(home.join(path), old)).unwrap();
    }
}

/// New content in one directory: several would be synced by several threads.
fn batched() -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.into_iter().filter(|(path, ..)| !path.contains('/')).filter_map(|(path, _, new)| Some((path, new?)))
}

/// In the child. One file after the other, so that all is done by the thread that strace counts.
fn change(home: &Path, case: &str) {
    prepare(home);
    let single = case.ends_with("single_flush");
    if case.starts_with("batch") {
        let options = WriteOptions::new().single_flush(single);
        let mut batch = Batch::new().options(options).sync(SyncStrategy::PerFile);
        return marked(|| {
            batched().for_each(|(path, new)| batch.write(home.join(path), new).unwrap());
            batch.commit().map(drop).unwrap();
            println!("\nOUTCOME Ok");
        });
    }
    let options = TransactionOptions::new().single_flush(single).sync(SyncStrategy::PerFile);
    marked(|| {
        let mut change = options.begin(home).unwrap();
        for (path, _, new) in FILES {
            match new {
                Some(new) => change.write(path, new).unwrap(),
                None => change.remove(path).unwrap(),
            }
        }
        change.commit().map(drop).unwrap();
        println!("\nOUTCOME Ok");
    });
}

/// How many files are as after the change, and how many as before; after a recovery, which must find
/// nothing that it can't decide.
fn settled(killed: &Trace, at: &str) -> (usize, usize) {
    let recovery = recover(killed.path()).unwrap_or_else(|e| panic!("{at}: {e}"));
    assert!(recovery.quarantined().is_empty() && recovery.in_use().is_empty(), "{at}: {recovery:?}");
    assert!(recover(killed.path()).unwrap().is_clean(), "{at}");
    let (mut new_files, mut old_files) = (0, 0);
    for (path, old, new) in FILES {
        let found = fs::read_to_string(killed.path().join(path)).ok();
        match found.as_deref() {
            found if found == new => new_files += 1,
            found if found == old => old_files += 1,
            found => panic!("{at}: {path}: {found:?}"),
        }
    }
    (new_files, old_files)
}

/// Kills the child at each call. None in the child.
fn kill_everywhere(test: &str, case: &str, all_or_none: bool) -> Option<usize> {
    let whole = strace::run(test, case, &[], &change)?;
    let mut finals = std::collections::BTreeMap::<bool, usize>::new();
    // The main thread makes such calls at its start, and none of them changes anything.
    let elsewhere = ["newfstatat", "rt_sigprocmask", "getrandom", "futex", "read", "clone3"];
    let calls: Vec<_> = whole.calls.iter().filter(|call| !elsewhere.contains(&call.name.as_str())).collect();
    for call in long::each(4, &calls, "system calls") {
        let inject = format!("inject={}:signal=KILL:when={}", call.name, call.nth);
        let killed = strace::run(test, case, &["-e", &inject], &change)?;
        let at = format!("{case}, killed at {} {}", call.short(), call.nth);
        if killed.outcome.is_some() && call.name == "fsync" {
            // Of several directories: another thread took it this time.
            continue;
        }
        assert_eq!(killed.outcome, None, "{at}");
        let (new, old) = settled(&killed, &at);
        assert!(!all_or_none || new == 0 || old == 0, "{at}: {new} files are new and {old} are old");
        *finals.entry(new > 0).or_default() += 1;
    }
    assert_eq!(finals.len(), 2, "{case}: old at some calls, new at others: {finals:?}");
    Some(calls.len())
}

#[test]
fn a_set_killed_at_any_system_call_is_settled_by_a_recovery() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    let mut kills = 0;
    for (case, all_or_none) in [
        ("batch", false),
        ("batch, single_flush", false),
        ("transaction", true),
        ("transaction, single_flush", true),
    ] {
        let Some(killed) = kill_everywhere(&test, case, all_or_none) else { return };
        kills += killed;
    }
    writeln!(std::io::stderr().lock(), "sets killed at {kills} system calls").unwrap();
}
