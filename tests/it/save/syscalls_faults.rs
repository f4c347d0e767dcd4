//! Goal: rules 5, 6 and 7 where only the kernel could tell: every system call of a save fails,
//! or the process is killed there, and the target is complete old or complete new, nothing is
//! left behind, and the error says which. Method: strace injects the fault at one call of a
//! child; which call it is comes from a trace of the same save without faults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use durafile::{Durability, WriteOptions};
use fs_err as fs;

use crate::support::strace::{Call, Trace, run, traced, works};
use crate::support::{best, job, long, names, this_test};

/// More than one block, so that a torn file would show.
const OLD: [u8; 9000] = [b'o'; 9000];
const NEW: [u8; 10_000] = [b'n'; 10_000];

const CASES: [&str; 5] = ["replace", "new", "create_new", "parents", "unchanged"];

/// The save of one case, in the child.
fn save(dir: &Path, case: &str) {
    let path = target(dir, case);
    match case {
        "replace" => fs::write(&path, OLD).unwrap(),
        "unchanged" => fs::write(&path, NEW).unwrap(),
        _ => {}
    }
    // Warms up the library's probes.
    durafile::write(dir.join("beside"), "").unwrap();
    let options = WriteOptions::new()
        .create_new(case == "create_new")
        .create_parents(case == "parents")
        .skip_unchanged(case == "unchanged");
    traced(|| options.write(&path, NEW));
}

fn target(dir: &Path, case: &str) -> std::path::PathBuf {
    dir.join(if case == "parents" { "a/b/file" } else { "file" })
}

/// What the target holds: old (nothing, where there was none), or new. Anything else fails.
#[track_caller]
fn holds_new(trace: &Trace, case: &str, at: &str) -> bool {
    let seen = std::fs::read(target(trace.path(), case)).ok();
    let old = (case == "replace").then(|| OLD.to_vec());
    if seen.as_deref() == Some(&NEW) {
        return true;
    }
    assert!(seen == old, "torn by {at}: {:?}", seen.map(|seen| seen.len()));
    false
}

/// Names that no save should leave behind.
fn leftovers(trace: &Trace, case: &str) -> Vec<OsString> {
    let mut left = names(trace.path());
    let nested = target(trace.path(), case);
    let nested = nested.parent().unwrap();
    if nested != trace.path() && nested.exists() {
        left.extend(names(nested));
    }
    left.retain(|name| !["file", "beside", "a", "b"].iter().any(|known| name == known));
    left
}

fn inject(call: &Call, what: &str) -> String {
    format!("inject={}:{what}:when={}", call.name, call.nth)
}

/// Kills the child at each call of the save in turn.
fn kill_everywhere(test: &str, case: &str, options: &[&str], skip: &str) -> Option<(usize, usize)> {
    let body = &|dir: &Path, case: &str| save(dir, case);
    let whole = run(test, case, options, body)?;
    assert!(whole.outcome.as_ref().unwrap().starts_with("Ok"), "{whole:?}");
    let (mut old, mut new) = (0, 0);
    for call in long::each(3, whole.calls.iter().filter(|call| call.name != skip), "system calls") {
        let at = format!("a kill at {} {}", call.short(), call.nth);
        let kill = inject(call, "signal=KILL");
        let options: Vec<&str> = options.iter().copied().chain(["-e", &kill]).collect();
        let trace = run(test, case, &options, body)?;
        assert_eq!(trace.outcome, None, "{at} did not kill");
        if holds_new(&trace, case, &at) {
            new += 1;
        } else {
            old += 1;
            assert_eq!(new, 0, "{at}: old content came back");
        }
        let left = leftovers(&trace, case);
        assert!(left.len() <= 1, "{at}: {left:?}");
        assert!(left.iter().all(durafile::is_remnant), "{at}: {left:?}");
        // Whatever is left is in nobody's way.
        let path = target(trace.path(), case);
        let again = WriteOptions::new().create_parents(true);
        again.write(&path, "later").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "later");
    }
    assert!(old > 0 && new > 0, "{case}: {old} old, {new} new");
    Some((old, new))
}

#[test]
fn a_save_killed_at_any_system_call_leaves_complete_old_or_complete_new_content() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    for case in ["replace", "new", "create_new", "parents"] {
        if kill_everywhere(&test, case, &[], "").is_none() {
            return;
        }
    }
}

/// The options that make the save's own unnamed file impossible.
fn without_unnamed_files(test: &str, case: &str) -> Option<String> {
    let whole = run(test, case, &[], &save)?;
    let unnamed = whole.calls.iter().find(|call| call.args.contains("O_TMPFILE"));
    Some(inject(unnamed?, "error=EOPNOTSUPP"))
}

#[test]
fn the_same_holds_where_a_staged_file_must_have_a_name() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    for case in ["replace", "new", "create_new"] {
        let Some(refused) = without_unnamed_files(&test, case) else {
            return;
        };
        // strace takes one rule for each kind of call: openat is spoken for.
        if kill_everywhere(&test, case, &["-e", &refused], "openat").is_none() {
            return;
        }
    }
}

#[test]
fn a_named_staged_file_is_private_exclusive_locked_and_renamed_once_synced() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    for errno in ["EOPNOTSUPP", "EISDIR", "EINVAL"] {
        for case in ["replace", "new", "create_new"] {
            let Some(refused) = without_unnamed_files(&test, case) else {
                return;
            };
            let refused = refused.replace("EOPNOTSUPP", errno);
            let Some(trace) = run(&test, case, &["-e", &refused], &save) else {
                return;
            };
            assert_eq!(trace.outcome, Some(format!("Ok {:?}", best(trace.path()))));
            assert!(holds_new(&trace, case, errno));
            assert!(leftovers(&trace, case).is_empty());
            let changes = ["O_EXCL", "flock", "fsync", "rename", "link", "unlink"];
            let told = |line: &String| changes.iter().any(|word| line.contains(word));
            let text: Vec<_> = trace.text().into_iter().filter(told).collect();
            let rename = if case == "create_new" { "renameat2" } else { "renameat" };
            let rename = format!("{rename} DIR/STAGED DIR/file");
            let expected = ["openat DIR/STAGED O_EXCL", "flock DIR/STAGED", "fsync DIR/STAGED"];
            assert_eq!(text[..3], expected, "{errno}, {case}");
            assert_eq!(text[3..], [rename.as_str(), "fsync DIR"], "{errno}, {case}");
            if case == "replace" {
                let created = trace.calls.iter().find(|call| call.args.contains("O_EXCL"));
                assert!(created.unwrap().args.ends_with("0600"), "{created:?}");
            }
        }
    }
}

/// What an outcome says the target holds, and whether the save succeeded.
fn claims(outcome: &str) -> (bool, bool) {
    let ok = outcome.starts_with("Ok") || outcome == "unchanged";
    (ok, ok || outcome.contains(" Replaced "))
}

/// Fails each call of the save in turn with each errno, and checks what must always be true.
fn fail_everywhere(test: &str, errnos: &[&str]) {
    for case in CASES {
        let Some(whole) = run(test, case, &[], &save) else {
            return;
        };
        for call in long::each(4, &whole.calls, "system calls") {
            for errno in errnos {
                let at = format!("{case}: {errno} from {} {}", call.short(), call.nth);
                let fault = inject(call, &format!("error={errno}"));
                let Some(trace) = run(test, case, &["-e", &fault], &save) else {
                    return;
                };
                let outcome = trace.outcome.clone().unwrap();
                let (ok, replaced) = claims(&outcome);
                assert!(!outcome.contains("Unknown"), "{at}: {outcome}");
                let new = holds_new(&trace, case, &at) && case != "unchanged";
                assert_eq!(new, replaced && case != "unchanged", "{at}: {outcome}");
                assert_eq!(leftovers(&trace, case), [""; 0], "{at}: {outcome}");
                // Rule 5: never Ok after a sync that failed, and never a second one.
                if call.name == "fsync" {
                    let of_dir = !call.args.contains("UNNAMED") && !call.args.contains("file");
                    let cannot = of_dir && *errno == "EINVAL";
                    assert_eq!(ok, cannot, "{at}: {outcome}");
                    let same = trace.calls.iter().filter(|other| other.short() == call.short());
                    assert_eq!(same.count(), 1, "{at}: {:#?}", trace.text());
                }
            }
        }
    }
}

#[test]
fn an_io_error_from_any_system_call_is_told_truly_and_leaves_nothing() {
    let test = this_test!();
    if job(&test).is_some() || works() {
        fail_everywhere(&test, &["EIO"]);
    }
}

#[test]
fn a_full_disk_at_any_system_call_is_told_truly_and_leaves_nothing() {
    let test = this_test!();
    if job(&test).is_some() || works() {
        fail_everywhere(&test, &["ENOSPC"]);
    }
}

#[test]
fn a_system_call_that_is_unknown_or_refused_is_told_truly_and_leaves_nothing() {
    let test = this_test!();
    if job(&test).is_some() || works() {
        fail_everywhere(&test, &["EINVAL", "EPERM"]);
    }
}

#[test]
fn particular_failures_have_particular_outcomes() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    // Calls are named as a trace shortens them; a bare `Ok` is the best that can be had here.
    let table = [
        ("replace", "fsync DIR/UNNAMED", "EIO", "io Unchanged 5"),
        ("replace", "fsync DIR/UNNAMED", "ENOSPC", "storage_full Unchanged 28"),
        ("replace", "fsync DIR/UNNAMED", "EDQUOT", "quota_exceeded Unchanged 122"),
        ("replace", "fsync DIR/UNNAMED", "EINVAL", "io Unchanged 22"),
        ("replace", "fsync DIR", "EIO", "io Replaced 5"),
        ("replace", "fsync DIR", "ENOSPC", "storage_full Replaced 28"),
        ("replace", "fsync DIR", "EDQUOT", "quota_exceeded Replaced 122"),
        ("replace", "fsync DIR", "EINVAL", "Ok Data"),
        ("replace", "fsync DIR", "EOPNOTSUPP", "Ok Data"),
        ("replace", "fsync DIR", "EBADF", "Ok Data"),
        ("new", "fsync DIR", "EIO", "io Replaced 5"),
        ("new", "fsync DIR", "EINVAL", "Ok Data"),
        ("create_new", "fsync DIR", "EIO", "io Replaced 5"),
        ("parents", "fsync DIR", "EIO", "io Unchanged 5"),
        ("parents", "fsync DIR/a/b", "EIO", "io Replaced 5"),
        ("unchanged", "fsync DIR/file", "EIO", "io Unchanged 5"),
        ("unchanged", "fsync DIR", "EIO", "io Unchanged 5"),
        ("replace", "pwrite64 DIR/UNNAMED", "EIO", "io Unchanged 5"),
        ("replace", "pwrite64 DIR/UNNAMED", "ENOSPC", "storage_full Unchanged 28"),
        ("replace", "pwrite64 DIR/UNNAMED", "EDQUOT", "quota_exceeded Unchanged 122"),
        ("replace", "pwrite64 DIR/UNNAMED", "EFBIG", "too_large Unchanged 27"),
        ("replace", "pwrite64 DIR/UNNAMED", "EINTR", "Ok"),
        ("replace", "openat DIR/. O_TMPFILE", "ENOSPC", "storage_full Unchanged 28"),
        ("replace", "openat DIR/. O_TMPFILE", "EROFS", "read_only_filesystem Unchanged 30"),
        ("replace", "openat DIR/. O_TMPFILE", "EACCES", "permission_denied Unchanged 13"),
        ("replace", "openat DIR/. O_TMPFILE", "EMFILE", "io Unchanged 24"),
        ("replace", "openat DIR", "ENOMEM", "io Unchanged 12"),
        ("replace", "openat DIR", "EINTR", "Ok"),
        ("replace", "renameat DIR/STAGED DIR/file", "EIO", "io Unchanged 5"),
        ("replace", "renameat DIR/STAGED DIR/file", "ENOSPC", "storage_full Unchanged 28"),
        // A share that renames no open file gets a closed one.
        ("replace", "renameat DIR/STAGED DIR/file", "EBUSY", "Ok"),
        ("replace", "renameat DIR/STAGED DIR/file", "EXDEV", "cross_device Unchanged 18"),
        ("replace", "renameat DIR/STAGED DIR/file", "EROFS", "read_only_filesystem Unchanged 30"),
        // By its descriptor a file can't be linked on every kernel; by `/proc` it can.
        ("replace", "linkat DIR/UNNAMED DIR/STAGED", "ENOENT", "Ok"),
        ("replace", "linkat DIR/UNNAMED DIR/STAGED", "EDQUOT", "quota_exceeded Unchanged 122"),
        ("new", "linkat DIR/UNNAMED DIR/file", "ENOENT", "Ok"),
        ("new", "linkat DIR/UNNAMED DIR/file", "EEXIST", "Ok"),
        ("create_new", "linkat DIR/UNNAMED DIR/file", "EEXIST", "already_exists Unchanged 17"),
        // A file that has a name from the start needs no link.
        ("new", "linkat DIR/UNNAMED DIR/file", "EMLINK", "Ok"),
        ("create_new", "linkat DIR/UNNAMED DIR/file", "EXDEV", "Ok"),
        ("replace", "openat DIR/. O_TMPFILE", "EPERM", "Ok"),
        // What only improves a save must not prevent it.
        ("replace", "flock DIR/UNNAMED", "ENOLCK", "Ok"),
        ("replace", "flock DIR/UNNAMED", "EOPNOTSUPP", "Ok"),
        ("replace", "flock DIR/UNNAMED", "ENOSYS", "Ok"),
        ("replace", "flock DIR/UNNAMED", "EACCES", "Ok"),
        ("replace", "listxattr ", "EOPNOTSUPP", "Ok"),
        ("replace", "flistxattr DIR/UNNAMED", "EOPNOTSUPP", "Ok"),
        ("replace", "statx DIR/file", "ENOSYS", "Ok"),
        // Another machine has replaced it meanwhile.
        ("replace", "statx DIR/file", "ESTALE", "Ok"),
        ("replace", "statx DIR/UNNAMED", "ENOSYS", "Ok"),
        ("replace", "close DIR/UNNAMED", "EIO", "Ok"),
    ];
    let mut whole: BTreeMap<&str, Trace> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (case, short, errno, expected) in table {
        if !whole.contains_key(case) {
            let Some(trace) = run(&test, case, &[], &save) else {
                return;
            };
            whole.insert(case, trace);
        }
        let at = format!("{case}: {errno} from {short}");
        // The last of several: an ancestor's sync comes before the save's own.
        let calls = &whole[case].calls;
        let found = calls.iter().rfind(|call| call.short() == short);
        let call = found.unwrap_or_else(|| panic!("{at}: not in {calls:#?}"));
        let fault = inject(call, &format!("error={errno}"));
        let Some(trace) = run(&test, case, &["-e", &fault], &save) else {
            return;
        };
        let outcome = trace.outcome.clone().unwrap();
        let wanted = match expected {
            "Ok" => format!("Ok {:?}", best(trace.path())),
            "Ok Data" if best(trace.path()) == Durability::None => "Ok None".to_owned(),
            other => other.to_owned(),
        };
        if outcome != wanted {
            wrong.push(format!("{at}: {outcome}, not {wanted}"));
        }
        let new = holds_new(&trace, case, &at);
        assert_eq!(new, claims(&outcome).1 || case == "unchanged", "{at}");
        assert_eq!(leftovers(&trace, case), [""; 0], "{at}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn an_error_of_an_early_write_out_fails_the_save_for_the_sync_would_not_tell_it_again() {
    const MIB: usize = 1 << 20;
    let save = |dir: &Path, _: &str| {
        use std::io::Write;
        let path = dir.join("file");
        fs::write(&path, "old").unwrap();
        durafile::write(dir.join("beside"), "").unwrap();
        traced(|| {
            let mut file = WriteOptions::new().open(&path)?;
            for _ in 0..40 {
                // Poisoned: `commit` says why.
                let _ = file.write_all(&[b'n'; MIB]);
            }
            file.commit()
        });
    };
    if job(&this_test!()).is_none() && !works() {
        return;
    }
    let Some(whole) = run(&this_test!(), "whole", &[], &save) else { return };
    let calls = whole.calls.iter().filter(|call| call.name == "sync_file_range");
    let waits = calls.filter(|call| call.args.contains("WAIT_AFTER")).count();
    assert!(waits >= 3, "{waits} waits");
    for when in 1..=2 * waits {
        let inject = format!("inject=sync_file_range:error=EIO:when={when}");
        let Some(trace) = run(&this_test!(), "EIO", &["-e", &inject], &save) else { return };
        assert_eq!(trace.outcome.as_deref(), Some("io Unchanged 5"), "{inject}");
        assert_eq!(fs::read(trace.path().join("file")).unwrap(), b"old", "{inject}");
    }
}
