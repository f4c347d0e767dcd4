//! Goal: the system calls of a save with a condition, in their exact order: it is compared under the lock, as the last
//! thing before the rename, and the lock is given up right after it. Method: as for saves, one child under strace.

use durafile::{WriteOptions, read_version, update};
use fs_err as fs;

use crate::save::syscalls::traceable;
use crate::support::strace::{run, traced};
use crate::support::this_test;

const SEQUENCES: [(&str, &[&str]); 3] =
    [("update, new", NEW), ("update, replace", REPLACE), ("write, expect", EXPECT)];

const NEW: &[&str] = &[
    "openat DIR",
    "openat DIR/file O_PATH",
    // The lock.
    "statx DIR",
    "geteuid ",
    "openat DIR/. O_TMPFILE",
    "flock DIR/UNNAMED",
    "linkat DIR/UNNAMED DIR/STAGED",
    "statx DIR/UNNAMED",
    "statx DIR/UNNAMED",
    "getpid ",
    // Still nothing there: the closure runs.
    "openat DIR/file O_PATH",
    "openat DIR/. O_TMPFILE",
    "statx DIR/UNNAMED",
    "pwrite64 DIR/UNNAMED",
    "fstat DIR/UNNAMED",
    "fsync DIR/UNNAMED",
    // Fails if anything has come meanwhile.
    "linkat DIR/UNNAMED DIR/file",
    // For those who watch the directory.
    "openat DIR/file",
    "close DIR/file",
    "close DIR/UNNAMED",
    "getpid ",
    "unlinkat DIR/STAGED",
    "flock DIR/UNNAMED",
    "close DIR/UNNAMED",
    "fsync DIR",
    "close DIR",
];

const REPLACE: &[&str] = &[
    "openat DIR",
    "openat DIR/file O_PATH",
    "statx DIR/file",
    "listxattr ",
    // The lock.
    "statx DIR",
    "geteuid ",
    "openat DIR/. O_TMPFILE",
    "flock DIR/UNNAMED",
    "linkat DIR/UNNAMED DIR/STAGED",
    "statx DIR/UNNAMED",
    "statx DIR/UNNAMED",
    "getpid ",
    // Looked at once more, now that nobody else is at work; then it is read, and the closure runs.
    "openat DIR/file O_PATH",
    "statx DIR/file",
    "listxattr ",
    "close DIR/file",
    "openat DIR/file",
    "statx DIR/file",
    "pread64 DIR/file",
    "pread64 DIR/file",
    "fstat DIR/file",
    "close DIR/file",
    "openat DIR/. O_TMPFILE",
    "statx DIR/UNNAMED",
    "pwrite64 DIR/UNNAMED",
    "fstat DIR/UNNAMED",
    "flistxattr DIR/UNNAMED",
    "fsync DIR/UNNAMED",
    "flock DIR/UNNAMED",
    "getrandom ",
    "linkat DIR/UNNAMED DIR/STAGED",
    // Compared, right before the rename.
    "statx DIR",
    "openat DIR/file",
    "pread64 DIR/file",
    "pread64 DIR/file",
    "close DIR/file",
    "renameat DIR/STAGED DIR/file",
    "close DIR/UNNAMED",
    "getpid ",
    // The lock is given up before the directory is synced.
    "unlinkat DIR/STAGED",
    "flock DIR/UNNAMED",
    "close DIR/UNNAMED",
    "fsync DIR",
    "close DIR",
    "close DIR/file",
];

const EXPECT: &[&str] = &[
    "openat DIR",
    "openat DIR/file O_PATH",
    "statx DIR/file",
    "listxattr ",
    "statx DIR",
    "geteuid ",
    "openat DIR/. O_TMPFILE",
    "flock DIR/UNNAMED",
    "linkat DIR/UNNAMED DIR/STAGED",
    "statx DIR/UNNAMED",
    "statx DIR/UNNAMED",
    "getpid ",
    "openat DIR/file O_PATH",
    "statx DIR/file",
    "listxattr ",
    "close DIR/file",
    "openat DIR/. O_TMPFILE",
    "statx DIR/UNNAMED",
    "pwrite64 DIR/UNNAMED",
    "fstat DIR/UNNAMED",
    "flistxattr DIR/UNNAMED",
    "fsync DIR/UNNAMED",
    "flock DIR/UNNAMED",
    "getrandom ",
    "linkat DIR/UNNAMED DIR/STAGED",
    "statx DIR",
    "openat DIR/file",
    "pread64 DIR/file",
    "pread64 DIR/file",
    "close DIR/file",
    "renameat DIR/STAGED DIR/file",
    "close DIR/UNNAMED",
    "getpid ",
    "unlinkat DIR/STAGED",
    "flock DIR/UNNAMED",
    "close DIR/UNNAMED",
    "fsync DIR",
    "close DIR",
    "close DIR/file",
];

#[test]
fn each_save_with_a_condition_makes_these_calls_and_no_others() {
    let test = this_test!();
    if !traceable(&test) {
        return;
    }
    for (name, expected) in SEQUENCES {
        let trace = run(&test, name, &[], &|dir, name| {
            // The probes of the mount come before.
            durafile::write(dir.join("warm"), "content").unwrap();
            update(dir.join("warm"), |_| Ok(Vec::new())).unwrap();
            let path = dir.join("file");
            if name != "update, new" {
                fs::write(&path, "old").unwrap();
            }
            match name {
                "write, expect" => {
                    let (_, version) = read_version(&path).unwrap();
                    traced(|| WriteOptions::new().expect(&version).write(&path, "new"));
                }
                _ => traced(|| update(&path, |_| Ok(b"new".to_vec()))),
            }
        });
        let Some(trace) = trace else { return };
        println!("{name}: {} system calls, {} syncs", trace.calls.len(), trace.count("fsync"));
        assert_eq!(trace.text(), expected, "{name}: {:#?}", trace.calls);
    }
}
