//! Goal: the system calls of each operation, in their exact order: nothing is synced too early, and
//! nothing is called that the promise doesn't need. Method: as for saves, one child under strace.

use std::path::Path;

use durafile::{Committed, Result, create_dir_all, remove_dir_all, remove_file, rename, rename_new, sync};
use fs_err as fs;

use crate::support::strace::{run, traced, works};
use crate::support::{job, this_test};

/// Each operation with the calls between opening the directory and closing it.
const SEQUENCES: [(&str, &[&str]); 8] = [
    ("remove_file", &["openat DIR", "unlinkat DIR/file", "statx DIR", "fsync DIR", "close DIR"]),
    ("rename within", &["openat DIR", "renameat DIR/file DIR/new", "statx DIR", "fsync DIR", "close DIR"]),
    ("rename_new", &["openat DIR", "renameat2 DIR/file DIR/new", "statx DIR", "fsync DIR", "close DIR"]),
    (
        "rename between",
        &[
            "openat DIR",
            "openat DIR/folder",
            "renameat DIR/file DIR/folder/new",
            "statx DIR/folder",
            "fsync DIR/folder",
            "statx DIR",
            "fsync DIR",
            "close DIR/folder",
            "close DIR",
        ],
    ),
    ("create_dir_all", &[]),
    (
        "sync a file",
        &[
            "openat DIR",
            "statx DIR",
            "openat DIR/file",
            "fsync DIR/file",
            "close DIR/file",
            "statx DIR",
            "fsync DIR",
            "close DIR",
        ],
    ),
    ("sync a tree", &[]),
    ("remove_dir_all", &[]),
];

fn perform(name: &str, dir: &Path) -> Result<Committed> {
    let (file, new) = (dir.join("file"), dir.join("new"));
    match name {
        "remove_file" => remove_file(file),
        "rename within" => rename(file, new),
        "rename_new" => rename_new(file, new),
        "rename between" => rename(file, dir.join("folder/new")),
        "create_dir_all" => create_dir_all(dir.join("one/two")),
        "sync a file" => sync(file),
        "sync a tree" => sync(dir.join("folder")),
        _ => remove_dir_all(dir.join("folder")),
    }
}

#[test]
fn each_operation_makes_these_calls_and_no_others() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    for (name, expected) in SEQUENCES {
        let trace = run(&test, name, &[], &|dir, name| {
            // The probes of the mount come before.
            durafile::write(dir.join("file"), "content").unwrap();
            fs::create_dir(dir.join("folder")).unwrap();
            fs::write(dir.join("folder/inside"), "content").unwrap();
            traced(|| perform(name, dir));
        });
        let Some(trace) = trace else { return };
        let calls = trace.text();
        match name {
            "sync a tree" => {
                let syncs: Vec<_> = calls.iter().filter(|call| call.starts_with("fsync")).collect();
                assert_eq!(syncs, ["fsync DIR/folder/inside", "fsync DIR/folder", "fsync DIR"], "{calls:#?}");
            }
            "remove_dir_all" => {
                let at = |wanted: &dyn Fn(&String) -> bool| calls.iter().position(wanted).unwrap();
                let moved = at(&|call| call == "renameat2 DIR/folder DIR/STAGED");
                let synced = at(&|call| call == "fsync DIR");
                let deleted = at(&|call| call.starts_with("unlinkat") && call.ends_with("/inside"));
                // Out of sight, durably, before anything is deleted.
                assert!(moved < synced && synced < deleted, "{calls:#?}");
                assert_eq!(trace.count("fsync"), 1);
            }
            "create_dir_all" => {
                let steps =
                    calls.iter().filter(|call| call.starts_with("fsync") || call.starts_with("mkdir"));
                // Whoever created what is there already may not have made it durable: its parent first.
                let steps: Vec<_> = steps.skip(1).collect();
                assert_eq!(steps, ["mkdirat DIR/one", "fsync DIR", "mkdirat DIR/one/two", "fsync DIR/one"]);
            }
            _ => assert_eq!(calls, expected, "{name}: {:#?}", trace.calls),
        }
        println!("{name}: {} system calls, {} syncs", calls.len(), trace.count("fsync"));
    }
}
