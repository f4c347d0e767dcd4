//! Goal: the system calls of a save, in their exact order: what no test of contents can see is
//! whether the right things were synced, and when. Method: one save in a child under strace,
//! between two marks; the whole sequence is compared.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use durafile::{AtomicFile, Durability, WriteOptions};
use fs_err as fs;
use rustix::fs::{CWD, Mode, OFlags, XattrFlags, openat, setxattr};

use crate::support::strace::{Trace, run, traced, works};
use crate::support::{best, chmod, chown, dir, is_root, job, names, skip, this_test};

const PAGE: [u8; 4096] = [b'n'; 4096];

/// Where the sequences below hold: strace works, and a file without a name can be made and linked.
pub(crate) fn traceable(test: &str) -> bool {
    if job(test).is_some() {
        return true;
    }
    let dir = dir();
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    if openat(CWD, dir.path(), flags, Mode::RUSR).is_err() {
        skip("the file system here makes no unnamed files");
        return false;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    if (numbers.next(), numbers.next()) < (Some(6), Some(10)) {
        skip("before Linux 6.10 there is one more call: may a descriptor be linked?");
        return false;
    }
    works()
}

/// Traces a save over a warm file: it was saved before, and so were the library's probes.
fn of_replace(test: &str, options: &WriteOptions) -> Option<Trace> {
    run(test, "", &[], &|dir, _| {
        let path = dir.join("file");
        durafile::write(&path, [b'o'; 4096]).unwrap();
        traced(|| options.clone().write(&path, PAGE));
    })
}

#[track_caller]
fn assert_calls(trace: &Trace, expected: &[&str]) {
    let text = trace.text();
    assert_eq!(text, expected, "\nwhole trace: {:#?}", trace.calls);
}

/// What `Full` reaches here, as a trace says it.
fn full(trace: &Trace) -> Option<String> {
    Some(format!("Ok {:?}", best(trace.path())))
}

fn syncs(trace: &Trace) -> usize {
    let calls = ["fsync", "fdatasync", "sync_file_range", "syncfs", "sync", "msync"];
    calls.iter().map(|name| trace.count(name)).sum()
}

#[test]
fn a_4_kib_replace_is_seventeen_calls_in_this_order_and_two_of_them_sync() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    let Some(trace) = of_replace(&test, &WriteOptions::new()) else {
        return;
    };
    assert_calls(
        &trace,
        &[
            "openat DIR",
            "openat DIR/file O_PATH",
            "statx DIR/file",
            "listxattr ",
            "openat DIR/. O_TMPFILE",
            "statx DIR/UNNAMED",
            "pwrite64 DIR/UNNAMED",
            "flistxattr DIR/UNNAMED",
            "fsync DIR/UNNAMED",
            "flock DIR/UNNAMED",
            // For the random name.
            "getrandom ",
            "linkat DIR/UNNAMED DIR/STAGED",
            "renameat DIR/STAGED DIR/file",
            "close DIR/UNNAMED",
            "fsync DIR",
            "close DIR",
            // Its blocks find no new owner before the rename is durable.
            "close DIR/file",
        ],
    );
    assert_eq!(trace.outcome, full(&trace));
    assert_eq!(fs::read(trace.path().join("file")).unwrap(), PAGE);
    let (calls, syncs) = (trace.calls.len(), syncs(&trace));
    assert!(calls <= 17 && syncs == 2);
    let said = format!("a 4 KiB replace: {calls} system calls, {syncs} of them syncs\n");
    std::io::stderr().lock().write_all(said.as_bytes()).unwrap();
    for call in trace.calls.iter().filter(|call| call.name == "openat") {
        assert!(call.args.contains("O_CLOEXEC"), "{call:?}");
        let staged = call.args.contains("O_TMPFILE");
        assert!(!staged || call.args.ends_with("0644"), "{call:?}");
    }
}

#[test]
fn a_new_file_is_linked_straight_to_its_name() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    for case in ["plain", "create_new"] {
        let Some(trace) = run(&test, case, &[], &|dir, case| {
            durafile::write(dir.join("warm"), PAGE).unwrap();
            let options = WriteOptions::new().create_new(case == "create_new");
            traced(|| options.write(dir.join("new"), PAGE));
        }) else {
            return;
        };
        assert_calls(
            &trace,
            &[
                "openat DIR",
                "openat DIR/new O_PATH",
                "openat DIR/. O_TMPFILE",
                "statx DIR/UNNAMED",
                "pwrite64 DIR/UNNAMED",
                "fsync DIR/UNNAMED",
                "linkat DIR/UNNAMED DIR/new",
                // For those who watch the directory: see `watchers`.
                "openat DIR/new",
                "close DIR/new",
                "close DIR/UNNAMED",
                "fsync DIR",
                "close DIR",
            ],
        );
        assert_eq!(trace.outcome, full(&trace));
    }
}

#[test]
fn data_syncs_the_file_alone_and_none_syncs_nothing() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    for (case, asked) in [("Data", Durability::Data), ("None", Durability::None)] {
        let Some(mut trace) = run(&test, case, &[], &|dir, case| {
            let asked = if case == "Data" { Durability::Data } else { Durability::None };
            let path = dir.join("file");
            durafile::write(&path, PAGE).unwrap();
            traced(|| WriteOptions::new().durability(asked).write(&path, PAGE));
        }) else {
            return;
        };
        let mut expected = vec![
            "openat DIR",
            "openat DIR/file O_PATH",
            "statx DIR/file",
            "listxattr ",
            "openat DIR/. O_TMPFILE",
            "statx DIR/UNNAMED",
            "pwrite64 DIR/UNNAMED",
            "flistxattr DIR/UNNAMED",
        ];
        expected.extend((case == "Data").then_some("fsync DIR/UNNAMED"));
        expected.extend([
            "flock DIR/UNNAMED",
            "getrandom ",
            "linkat DIR/UNNAMED DIR/STAGED",
            "renameat DIR/STAGED DIR/file",
            "close DIR/UNNAMED",
            "close DIR",
            "close DIR/file",
        ]);
        // Once a second it asks what the journal does with freed blocks.
        trace.calls.retain(|call| {
            !["/proc/", "/sys/"].iter().any(|of| call.args.contains(of)) || call.name == "listxattr"
        });
        assert_calls(&trace, &expected);
        let reached = if best(trace.path()) == Durability::Full { asked } else { Durability::None };
        assert_eq!(trace.outcome, Some(format!("Ok {reached:?}")));
    }
}

#[test]
fn unchanged_content_is_synced_with_its_name_and_nothing_is_staged() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    let Some(trace) = run(&test, "", &[], &|dir, _| {
        let path = dir.join("file");
        // Written by somebody who synced nothing.
        fs::write(&path, PAGE).unwrap();
        traced(|| WriteOptions::new().skip_unchanged(true).write(&path, PAGE));
    }) else {
        return;
    };
    assert_eq!(trace.outcome.as_deref(), Some("unchanged"));
    let text = trace.text();
    let writes = ["O_TMPFILE", "pwrite64", "linkat", "rename", "unlink", "O_EXCL"];
    let changes = |line: &String| writes.iter().any(|word| line.contains(word));
    assert!(!text.iter().any(changes), "{text:#?}");
    let synced: Vec<_> = text.iter().filter(|line| line.contains("sync")).collect();
    assert_eq!(synced, ["fsync DIR/file", "fsync DIR"]);
}

#[test]
fn each_new_ancestor_is_synced_in_its_own_parent() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    let Some(trace) = run(&test, "", &[], &|dir, _| {
        let options = WriteOptions::new().create_parents(true);
        traced(|| options.write(dir.join("a/b/new"), PAGE));
    }) else {
        return;
    };
    let told = |line: &String| ["mkdirat", "fsync", "linkat"].iter().any(|word| line.starts_with(word));
    let text: Vec<_> = trace.text().into_iter().filter(told).collect();
    let position = |wanted: &str| {
        let found = text.iter().position(|line| line == wanted);
        found.unwrap_or_else(|| panic!("no {wanted} in {text:#?}"))
    };
    for (made, parent) in [("mkdirat DIR/a", "fsync DIR"), ("mkdirat DIR/a/b", "fsync DIR/a")] {
        assert!(position(made) < position(parent), "{text:#?}");
    }
    let linked = position("linkat DIR/a/b/UNNAMED DIR/a/b/new");
    assert!(position("fsync DIR/a/b/UNNAMED") < linked);
    assert!(linked < position("fsync DIR/a/b"));
    // And first the parent of the deepest directory that was there: who made that one may have
    // been killed before syncing it.
    assert!(text[0].starts_with("fsync /"), "{text:#?}");
    assert_eq!(text.len(), 8, "{text:#?}");
}

#[test]
fn through_a_link_the_directory_of_the_referent_is_synced() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    for case in ["live", "dangling"] {
        let Some(trace) = run(&test, case, &[], &|dir, case| {
            fs::create_dir(dir.join("far")).unwrap();
            if case == "live" {
                fs::write(dir.join("far/file"), "old").unwrap();
            }
            symlink("far/file", dir.join("link")).unwrap();
            traced(|| durafile::write(dir.join("link"), PAGE));
        }) else {
            return;
        };
        let text = trace.text();
        let synced: Vec<_> = text.iter().filter(|line| line.contains("sync")).collect();
        assert_eq!(synced, ["fsync DIR/far/UNNAMED", "fsync DIR/far"]);
        let closed = text.iter().skip_while(|line| *line != "fsync DIR/far").nth(1);
        assert_eq!(closed.unwrap(), "close DIR/far");
    }
}

/// A save that has every kind of metadata to set.
fn elaborate(dir: &Path, options: &WriteOptions) {
    let path = dir.join("file");
    durafile::write(&path, "old").unwrap();
    if is_root() {
        chown(&path, 1001, 1002);
    }
    // A mode that the umask would not give.
    chmod(&path, 0o4773);
    let _ = setxattr(&path, "user.comment", b"kept", XattrFlags::empty());
    traced(|| {
        let mut file = options.clone().open(&path)?;
        for _ in 0..300 {
            file.write_all(&[b'n'; 1000]).unwrap();
        }
        file.commit()
    });
}

#[test]
fn all_metadata_is_set_before_the_sync_and_the_owner_first() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    for case in ["kept", "asked for"] {
        let Some(trace) = run(&test, case, &[], &|dir, case| {
            let options = WriteOptions::new();
            let asked = std::fs::Permissions::from_mode(0o6755);
            let options = if case == "kept" { options } else { options.permissions(asked) };
            elaborate(dir, &options);
        }) else {
            return;
        };
        let text = trace.text();
        let position = |name: &str| trace.calls.iter().position(|call| call.name == name);
        let synced = text.iter().position(|line| line == "fsync DIR/UNNAMED");
        let synced = synced.unwrap_or_else(|| panic!("no sync in {text:#?}"));
        let mode = position("fchmod").unwrap_or_else(|| panic!("no fchmod in {text:#?}"));
        assert!(mode < synced);
        if is_root() {
            let owner = position("fchown").unwrap_or_else(|| panic!("no fchown in {text:#?}"));
            assert!(owner < mode);
        }
        // From its sync to its name nothing changes the file again.
        let after: Vec<_> = text[synced + 1..].iter().map(String::as_str).collect();
        assert_eq!(
            after,
            [
                "flock DIR/UNNAMED",
                "getrandom ",
                "linkat DIR/UNNAMED DIR/STAGED",
                "renameat DIR/STAGED DIR/file",
                "close DIR/UNNAMED",
                "fsync DIR",
                "close DIR",
                "close DIR/file",
            ]
        );
        // 300 small writes are gathered.
        assert!(trace.count("pwrite64") <= 10, "{text:#?}");
        assert_eq!(names(trace.path()), ["file"]);
    }
}

#[test]
fn a_stream_that_is_given_up_syncs_nothing_and_touches_no_name() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    let Some(trace) = run(&test, "", &[], &|dir, _| {
        let path = dir.join("file");
        fs::write(&path, "old").unwrap();
        traced(|| {
            let mut file = AtomicFile::create(&path)?;
            file.write_all(&[b'n'; 200_000]).unwrap();
            file.discard()?;
            // The trace wants an outcome: this save changes nothing either.
            WriteOptions::new().create_new(true).write(&path, "")
        });
    }) else {
        return;
    };
    assert_eq!(trace.outcome.as_deref(), Some("already_exists Unchanged 0"));
    assert_eq!(syncs(&trace), 0);
    for name in ["linkat", "renameat", "renameat2", "unlinkat"] {
        assert_eq!(trace.count(name), 0, "{:#?}", trace.text());
    }
}

/// A buffer costs its zeros.
#[test]
fn what_is_small_is_compared_in_a_small_buffer() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    for (case, len) in [("whole", 1), ("stream", 1), ("whole", 4096)] {
        let Some(trace) = run(&test, &format!("{case} {len}"), &[], &|dir, case| {
            let (way, len) = case.split_once(' ').unwrap();
            let (path, content) = (dir.join("file"), vec![b'x'; len.parse().unwrap()]);
            durafile::write(&path, &content).unwrap();
            let options = WriteOptions::new().skip_unchanged(true);
            traced(|| match way {
                "whole" => options.write(&path, &content),
                _ => options.write_from(&path, &content[..]),
            });
        }) else {
            return;
        };
        assert_eq!(trace.outcome.as_deref(), Some("unchanged"));
        let reads =
            trace.calls.iter().filter(|call| call.name == "pread64" && call.short().contains("/file"));
        let longest = reads.map(|call| call.args.rsplit(", ").nth(1).unwrap().parse().unwrap()).max();
        assert_eq!(longest, Some(len + 1), "{case}");
    }
}
