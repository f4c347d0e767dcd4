//! What the tests share: a directory to work in, the same test run again in a child process,
//! a body run as another user, and skipping that cannot go unnoticed.

use std::any::type_name_of_val;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use durafile::{Error, ErrorKind, TargetState};
use fs_err as fs;
use tempfile::TempDir;

#[cfg(target_os = "linux")]
pub(crate) mod forged;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub(crate) mod long;
#[cfg(target_os = "linux")]
pub(crate) mod operations;
#[cfg(target_os = "linux")]
pub(crate) mod strace;
#[cfg(target_os = "linux")]
pub(crate) mod uml;
#[cfg(target_os = "linux")]
pub(crate) use linux::*;

/// What `Durability::Full` can reach: on Windows nobody promises anything about a rename.
#[cfg(not(target_os = "linux"))]
pub(crate) fn best(_dir: impl AsRef<Path>) -> durafile::Durability {
    if cfg!(windows) { durafile::Durability::Data } else { durafile::Durability::Full }
}

/// Can a file be replaced that a program has open in the usual way? Windows can since its version
/// 10, on NTFS.
pub(crate) fn replaces_open_files(dir: &Path) -> bool {
    let (old, new) = (dir.join("probe of old"), dir.join("probe of new"));
    fs::write(&old, "old").unwrap();
    fs::write(&new, "new").unwrap();
    let held = std::fs::File::open(&old).unwrap();
    let can = std::fs::rename(&new, &old).is_ok() || cfg!(not(windows));
    drop(held);
    fs::remove_file(&old).unwrap();
    if !can {
        fs::remove_file(&new).unwrap();
        println!("NOT ASKED: this Windows can't replace a file that is open");
    }
    can
}

const CHILD: &str = "DURAFILE_TEST_CHILD";
const CHILD_DIR: &str = "DURAFILE_TEST_CHILD_DIR";

/// A directory of the test's own, removed afterwards; other users may enter it.
pub(crate) fn dir() -> TempDir {
    let base = env::var_os("DURAFILE_TEST_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let made = tempfile::Builder::new().prefix("durafile-test-").tempdir_in(base).unwrap();
    #[cfg(target_os = "linux")]
    chmod(made.path(), 0o755);
    made
}

/// Every name in the directory, hidden ones too, sorted.
pub(crate) fn names(dir: impl AsRef<Path>) -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(dir.as_ref()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// The error of a save that must have failed before it touched its target.
#[track_caller]
pub(crate) fn refused<T: Debug>(result: durafile::Result<T>, kind: ErrorKind) -> Error {
    let error = result.expect_err("this save must be refused");
    assert_eq!(error.kind(), kind, "{error}: {:?}", error.io_error());
    assert_eq!(error.target(), TargetState::Unchanged, "{error}");
    assert!(!error.hint().is_empty());
    error
}

/// The name of the calling test as libtest knows it, from a function defined inside it.
pub(crate) fn name_from(inner: impl Fn()) -> String {
    let full = type_name_of_val(&inner);
    let inside = full.split_once("::").unwrap().1;
    inside.rsplit_once("::").unwrap().0.to_owned()
}

macro_rules! this_test {
    () => {{
        fn inner() {}
        $crate::support::name_from(inner)
    }};
}
pub(crate) use this_test;

/// The command that runs one test of this executable, behind `prefix`; the child finds `dir` and
/// `job` by [`job`].
pub(crate) fn rerun(prefix: &[&OsStr], test: &str, dir: &Path, job: &str) -> Command {
    let exe = env::current_exe().unwrap();
    let words: Vec<&OsStr> = prefix.iter().copied().chain([exe.as_os_str()]).collect();
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{test} {job}"))
        .env(CHILD_DIR, dir)
        .env("DIR", dir)
        // Cargo's. With it the loader makes so many calls of its own on some processors that a count of calls is theirs.
        .env_remove("LD_LIBRARY_PATH");
    command
}

/// In a child made by [`rerun`] for this test: its directory and job.
pub(crate) fn job(test: &str) -> Option<(PathBuf, String)> {
    let wanted = env::var(CHILD).ok()?;
    let (name, job) = wanted.split_once(' ')?;
    (name == test).then(|| (env::var_os(CHILD_DIR).unwrap().into(), job.to_owned()))
}

/// Fails unless the child ran its one test and that passed; hands on what it skipped, or counted.
#[track_caller]
pub(crate) fn expect_pass(output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && stdout.contains("test result: ok. 1 passed"),
        "the child failed ({}):\n{stdout}\n{stderr}",
        output.status
    );
    let is_told = |line: &&str| ["SKIPPED", "SHORTENED", "TRIED"].iter().any(|word| line.starts_with(word));
    for line in stderr.lines().filter(is_told) {
        writeln!(std::io::stderr().lock(), "{line}").unwrap();
    }
}
