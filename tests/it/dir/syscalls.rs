//! Goal: everything in a new version is synced, once, before the swap, whoever wrote it. Method:
//! strace, for what other tools write is in no record of ours.

use std::path::Path;

use durafile::{Carry, DirOptions, SyncStrategy};
use fs_err as fs;

use crate::support::strace::{self, traced};
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
        next.commit()
    });
}

/// Syncs and the swap, in order, with `STAGE` for the new version.
fn steps(test: &str, case: &str) -> Option<Vec<String>> {
    let trace = strace::run(test, case, &[], &save)?;
    assert!(trace.outcome.as_ref().unwrap().starts_with("Ok"), "{case}: {trace:?}");
    let words = ["fsync", "sync_file_range", "renameat2"];
    let plain = |line: String| {
        let stage =
            |part: &str| if durafile::is_remnant(part) { "STAGE".to_owned() } else { part.to_owned() };
        let line = line.replace("STAGED", "STAGE");
        line.split('/').map(stage).collect::<Vec<_>>().join("/")
    };
    Some(
        trace
            .text()
            .into_iter()
            .filter(|line| words.iter().any(|word| line.starts_with(word)))
            .map(plain)
            .collect(),
    )
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
