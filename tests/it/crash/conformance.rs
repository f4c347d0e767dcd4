//! Goal: the record is what happens. Method: each case runs once more without any recording,
//! on a real file system, and once under strace with recording on: the tree must be the same, and
//! the calls that strace sees must be the operations that were recorded, in that order.

use std::path::Path;
use std::sync::Arc;

use crate::crash::case::Case;
use crate::crash::cases_files::cases;
use crate::support::strace::{self, Call};
use crate::support::{best, dir, job, this_test};

#[test]
fn every_case_does_the_same_without_recording_on_a_real_file_system() {
    for case in cases() {
        let (expected, _) = case.learn();
        let home = dir();
        (case.initial)(home.path()).unwrap();
        let reached = (case.save)(home.path()).unwrap_or_else(|e| panic!("{}: {e}", case.name()));
        assert_eq!(reached, case.durability.min(best(home.path())), "{}", case.name());
        assert_eq!(case.look(home.path()), expected.new, "{}", case.name());
    }
}

/// In a child: the save of this case, recorded, with real syncs, between the marks.
pub(crate) fn record_marked(dir: &Path, name: &str) {
    let mut case = case_named(name);
    let save = Arc::clone(&case.save);
    case.save = Arc::new(move |dir| strace::marked(|| save(dir)));
    let (test, _) = case.test();
    let recording = test.real_syncs(true).record_in(dir).unwrap();
    let outcome = recording.result().as_ref().map_err(ToString::to_string);
    let operations = recording.trace().operations();
    let performed = operations.iter().filter(|op| op.errno().is_none() && op.name() != "acknowledged");
    let names: Vec<&str> = performed.map(|op| op.name()).collect();
    println!("\nOUTCOME {outcome:?}|{}", names.join("|"));
}

pub(crate) fn case_named(name: &str) -> Case {
    cases().into_iter().find(|case| case.name() == name).unwrap()
}

#[test]
fn strace_sees_exactly_the_operations_that_are_recorded() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    let mut compared = 0;
    let all = cases();
    for case in &all {
        let Some(trace) = strace::run(&this_test!(), &case.name(), &[], &record_marked) else { return };
        let outcome = trace.outcome.clone().unwrap();
        let (result, recorded) = outcome.split_once('|').unwrap_or((&outcome, ""));
        assert_eq!(result, "Ok(())", "{}", case.name());
        // Only one thread is traced; those that sets start do nothing but write out and sync.
        let background = |name: &str| ["sync", "write out"].contains(&name);
        let traced = |name: &&str| !((case.each || case.swaps) && background(name));
        let recorded = recorded.split('|').filter(|name| !name.is_empty()).map(general);
        let recorded: Vec<&str> = recorded.filter(traced).collect();
        // What is synced outside the root, the parent of the deepest directory that was there, is
        // not of the recording.
        let inside = |call: &&strace::Call| call.name != "fsync" || call.short().contains("DIR");
        let calls = trace.calls.iter().filter(inside);
        let seen: Vec<&str> = calls.filter_map(operation).filter(traced).collect();
        assert_eq!(seen, recorded, "{}\n{:#?}", case.name(), trace.text());
        compared += 1;
    }
    assert_eq!(compared, all.len());
}

/// strace does not tell a file from a directory.
fn general(operation: &str) -> &str {
    match operation {
        "sync file" | "sync directory" => "sync",
        "link unnamed" => "link",
        operation => operation,
    }
}

/// The operation that a system call is, if it changes anything.
fn operation(call: &Call) -> Option<&'static str> {
    let has = |flag: &str| call.args.contains(flag);
    Some(match call.name.as_str() {
        "openat" if has("O_TMPFILE") => "create unnamed",
        "openat" if has("O_CREAT") => "create",
        "openat" | "open" if has("O_TRUNC") => "truncate",
        "mkdirat" | "mkdir" => "mkdir",
        "symlinkat" => "symlink",
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "copy_file_range" => "write",
        "ftruncate" | "truncate" => "truncate",
        "fallocate" => "reserve",
        "fchmod" | "fchmodat" | "fchmodat2" => "set mode",
        "fchown" | "fchownat" => "set owner",
        "fsetxattr" | "setxattr" => "set xattr",
        "fremovexattr" | "removexattr" => "remove xattr",
        "sync_file_range" => "write out",
        "flock" if has("LOCK_UN") => return None,
        "flock" => "lock",
        "fcntl" if has("SETLK") => "lock",
        "fsync" | "fdatasync" => "sync",
        "syncfs" => "sync file system",
        // The question whether it could be linked, which changes nothing.
        "linkat" if has(", \".\", ") => return None,
        "linkat" => "link",
        "renameat" | "rename" => "rename",
        "renameat2" if has("RENAME_NOREPLACE") => "rename new",
        "renameat2" if has("RENAME_EXCHANGE") => "exchange",
        "renameat2" => "rename",
        "unlinkat" if has("AT_REMOVEDIR") => "rmdir",
        "unlinkat" | "unlink" => "unlink",
        _ => return None,
    })
}
