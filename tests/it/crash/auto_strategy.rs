//! Goal: a set of so many files that one sync of the file system makes them durable is as safe as a
//! small one. Method: every disk that a crash may leave of it is looked at, with that sync and without.

use std::path::Path;

use durafile::crash_testing::{Acked, CrashTest, Outcome};
use durafile::{AtomicDir, Batch, Transaction};
use fs_err as fs;

/// More than `Auto` syncs one by one; few enough to look at every name.
const SOME: usize = 70;

fn look(dir: &Path) -> Vec<String> {
    let content = |n: usize| fs::read_to_string(dir.join(n.to_string())).unwrap_or_default();
    (0..SOME).map(content).collect()
}

/// Nothing is published that is not complete, and nothing acknowledged is lost.
fn check(dir: &Path, acked: &Acked, all_or_none: bool) -> Outcome {
    let found = look(&dir.join("d"));
    let count = |content: &str| found.iter().filter(|found| *found == content).count();
    let (old, new) = (count("old"), count("new"));
    if old + new == SOME && !(acked.saved() && old > 0) && !(all_or_none && old > 0 && new > 0) {
        return Ok(());
    }
    Err(format!("{old} old and {new} new of {SOME}").into())
}

fn save_some(dir: &Path, how: &str) -> durafile::Result<()> {
    match how {
        "Batch" => {
            let mut batch = Batch::new();
            (0..SOME).try_for_each(|n| batch.write(dir.join(format!("d/{n}")), "new"))?;
            batch.commit().map(drop)
        }
        "Transaction" => {
            let mut change = Transaction::begin(dir)?;
            (0..SOME).try_for_each(|n| change.write(format!("d/{n}"), "new"))?;
            change.commit().map(drop)
        }
        _ => {
            let mut change = AtomicDir::create(dir.join("d"))?;
            (0..SOME).try_for_each(|n| change.write(n.to_string(), "new"))?;
            change.commit().map(drop)
        }
    }
}

fn old(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir.join("d"))?;
    (0..SOME).try_for_each(|n| std::fs::write(dir.join(format!("d/{n}")), "old"))
}

#[test]
fn no_crash_tears_a_large_set_and_its_sync_of_the_file_system_is_needed_for_that() {
    for (name, all_or_none) in [("Batch", false), ("Transaction", true), ("AtomicDir", true)] {
        // A file system that is known, and on which nobody else writes.
        let test = CrashTest::new(|dir: &Path| Ok(save_some(dir, name)?));
        // A transaction needs no sync of the file system where the journal is ordered.
        let test = if all_or_none { test.btrfs(true) } else { test.journaled(true) };
        let test = test.initial(old).max_states(25).second_crashes(false);
        let holds = |dir: &Path, acked: &Acked| check(dir, acked, all_or_none);
        let report = test.run(holds).unwrap_or_else(|failure| panic!("{name}: {failure}"));
        println!("{name}: {report}");
        let recording = test.record().unwrap();
        let operations = recording.trace().operations();
        assert!(operations.iter().all(|operation| operation.name() != "sync file"), "{}", recording.trace());
        let first = operations.iter().position(|operation| operation.name() == "sync file system").unwrap();
        let mutant = recording.trace().without(first).unwrap();
        assert!(test.explore(&mutant, holds).is_err(), "{name}: not needed");
    }
}
