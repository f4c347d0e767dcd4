//! Goal: everything in a new version is synced, once, before the swap, whoever wrote it. Method:
//! strace, for what other tools write is in no record of ours.

use std::path::Path;

use durafile::{Carry, DirOptions, SyncStrategy};
use fs_err as fs;

use crate::support::strace::{self, Trace, traced};
use crate::support::{job, this_test};

/// One after the other, so that all is done by the thread that is traced.
fn save(dir: &Path, case: &str) {
    let target = dir.join("talk");
    fs::create_dir_all(target.join("files")).unwrap();
    fs::write(target.join("metadata"), "old").unwrap();
    fs::write(target.join("files/mine"), "mine").unwrap();
    let carry = if case.contains("link") { Carry::HardLink } else { Carry::Copy };
    let options = DirOptions::new().carry(carry).sync(SyncStrategy::PerFile);
    traced(|| {
        let mut next = options.update(&target)?;
        if case.contains("tool") {
            let staging = next.staging();
            std::fs::create_dir(staging.join("built")).unwrap();
            std::fs::write(staging.join("built/tool"), "tool").unwrap();
        }
        next.write("metadata", "new")?;
        if case.contains("again") {
            for name in ["files/new", "made/new"] {
                next.write(name, "new").or_else(|_| next.write(name, "new"))?;
            }
        }
        next.commit()
    });
}

/// Syncs and the swap, in order, with `STAGE` for the new version.
fn steps(test: &str, case: &str) -> Option<Vec<String>> {
    let trace = strace::run(test, case, &[], &save)?;
    assert!(trace.outcome.as_ref().unwrap().starts_with("Ok"), "{case}: {trace:?}");
    Some(steps_of(&trace))
}

fn steps_of(trace: &Trace) -> Vec<String> {
    let words = ["fsync", "sync_file_range", "renameat2"];
    let plain = |line: String| {
        let stage =
            |part: &str| if durafile::is_remnant(part) { "STAGE".to_owned() } else { part.to_owned() };
        let line = line.replace("STAGED", "STAGE");
        line.split('/').map(stage).collect::<Vec<_>>().join("/")
    };
    let is_step = |line: &String| words.iter().any(|word| line.starts_with(word));
    trace.text().into_iter().filter(is_step).map(plain).collect()
}

#[test]
fn everything_new_is_synced_once_before_the_swap() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    let table: [(&str, &[&str], &[&str]); 4] = [
        ("copy", &["metadata", "files/mine"], &["files"]),
        ("link", &["metadata"], &["files"]),
        ("copy, tool", &["metadata", "files/mine", "built/tool"], &["files", "built"]),
        ("link, tool", &["metadata", "files/mine", "built/tool"], &["files", "built"]),
    ];
    for (case, files, dirs) in table {
        let Some(steps) = steps(&test, case) else { return };
        let (swap, after) = steps.split_last().map(|(last, rest)| (rest.last().unwrap(), last)).unwrap();
        assert!(swap.starts_with("renameat2"), "{case}: {steps:#?}");
        assert_eq!(after, "fsync DIR", "{case}");
        let mut synced: Vec<&str> =
            steps.iter().filter_map(|step| step.strip_prefix("fsync DIR/STAGE")).collect();
        // Its root is the last to be synced.
        assert_eq!(synced.pop(), Some(""), "{case}: {steps:#?}");
        synced.sort_unstable();
        let mut expected: Vec<String> = files.iter().chain(dirs).map(|path| format!("/{path}")).collect();
        expected.sort_unstable();
        assert_eq!(synced, expected, "{case}: {steps:#?}");
        // What is only linked is at least written out.
        let written = steps.iter().any(|step| step == "sync_file_range DIR/talk/files/mine");
        assert_eq!(written, case == "link", "{case}: {steps:#?}");
    }
}

/// What a failed step has made already is no less synced when the step is done once more.
#[test]
fn what_is_tried_again_is_synced_like_the_rest() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    const CASE: &str = "copy, again";
    let Some(whole) = strace::run(&test, CASE, &[], &save) else { return };
    let synced = |trace: &Trace| {
        let mut synced = steps_of(trace);
        synced.retain(|step| step.starts_with("fsync DIR/STAGE"));
        synced.sort_unstable();
        synced
    };
    let expected = synced(&whole);
    assert_eq!(expected.len(), 7, "{expected:?}");
    let before_the_syncs = whole.calls.iter().take_while(|call| call.name != "fsync");
    let faults: Vec<_> = before_the_syncs
        .filter(|call| ["openat", "mkdirat", "fchmod", "statx"].contains(&call.name.as_str()))
        .map(|call| format!("inject={}:error=EIO:when={}", call.name, call.nth))
        .collect();
    let mut survived = 0;
    for fault in &faults {
        let trace = strace::run(&test, CASE, &["-e", fault], &save).unwrap();
        if trace.outcome.as_ref().is_some_and(|outcome| outcome.starts_with("Ok")) {
            survived += 1;
            assert_eq!(synced(&trace), expected, "{fault}");
        }
    }
    assert!(survived > 5, "{survived} of {} were tried again", faults.len());
}
