//! What the tests share: a directory to work in, the same test run again in a child process,
//! a body run as another user, and skipping that cannot go unnoticed.

use std::any::type_name_of_val;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt::Debug;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use durafile::{Durability, Error, ErrorKind, TargetState};
use fs_err as fs;
use rustix::process::{Gid, Uid};
use tempfile::TempDir;

const CHILD: &str = "DURAFILE_TEST_CHILD";
const CHILD_DIR: &str = "DURAFILE_TEST_CHILD_DIR";

/// A directory of the test's own, removed afterwards; other users may enter it.
pub(crate) fn dir() -> TempDir {
    let base = env::var_os("DURAFILE_TEST_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let made = tempfile::Builder::new().prefix("durafile-test-").tempdir_in(base).unwrap();
    chmod(made.path(), 0o755);
    made
}

/// A directory in which everyone may create files.
pub(crate) fn public_dir() -> TempDir {
    let made = dir();
    chmod(made.path(), 0o777);
    made
}

/// Says loudly that a test did not run. Written to the descriptor, which libtest does not capture.
pub(crate) fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    writeln!(std::io::stderr().lock(), "SKIPPED {test}: {why}").unwrap();
    assert!(
        env::var_os("DURAFILE_REQUIRE_ALL").is_none(),
        "DURAFILE_REQUIRE_ALL is set, but this test cannot run: {why}"
    );
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// True when the tool runs; skips the calling test otherwise.
pub(crate) fn has(program: &str, args: &[&str]) -> bool {
    let works = Command::new(program).args(args).output().is_ok_and(|output| output.status.success());
    if !works {
        skip(&format!("`{program} {}` does not work here", args.join(" ")));
    }
    works
}

pub(crate) fn chmod(path: impl AsRef<Path>, mode: u32) {
    fs::set_permissions(path.as_ref(), std::fs::Permissions::from_mode(mode)).unwrap();
}

pub(crate) fn chown(path: impl AsRef<Path>, uid: u32, gid: u32) {
    std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
}

pub(crate) fn mode(path: impl AsRef<Path>) -> u32 {
    fs::symlink_metadata(path.as_ref()).unwrap().mode() & 0o7777
}

/// Every name in the directory, hidden ones too, sorted.
pub(crate) fn names(dir: impl AsRef<Path>) -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(dir.as_ref()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// What `Durability::Full` can reach in this directory.
pub(crate) fn best(dir: impl AsRef<Path>) -> Durability {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let found = rustix::fs::statfs(dir.as_ref()).unwrap();
    if found.f_type as i64 == TMPFS_MAGIC { Durability::None } else { Durability::Full }
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

/// Whoever opens more of them in this process gets an error.
pub(crate) fn limit_open_files(most: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }).unwrap();
}

/// The file that a streaming save of this process is writing to in `dir`, by its descriptor:
/// it need not have a name.
pub(crate) fn staged_in(dir: &Path) -> std::fs::Metadata {
    let dir = fs::canonicalize(dir).unwrap();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let link = entry.unwrap().path();
        let Ok(leads_to) = fs::read_link(&link) else {
            continue;
        };
        if leads_to.starts_with(&dir) && leads_to != dir {
            let found = std::fs::metadata(&link).unwrap();
            if found.is_file() {
                return found;
            }
        }
    }
    panic!("no staged file is open in {}", dir.display());
}

/// Runs the body as another user, in a thread of its own (Linux keeps credentials by thread).
/// `None`, and a skip, when that takes rights that we lack.
pub(crate) fn as_user<T: Send>(uid: u32, gid: u32, body: impl FnOnce() -> T + Send) -> Option<T> {
    if !is_root() {
        skip("only root can become another user");
        return None;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            body()
        });
        match thread.join() {
            Ok(value) => Some(value),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
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
        .env("DIR", dir);
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
    let is_told = |line: &&str| line.starts_with("SKIPPED") || line.starts_with("TRIED");
    for line in stderr.lines().filter(is_told) {
        writeln!(std::io::stderr().lock(), "{line}").unwrap();
    }
}

/// Runs the body in a child process, in a directory of its own, after a shell script has
/// prepared the process (`$DIR` is that directory).
#[track_caller]
pub(crate) fn in_child(test: &str, script: &str, body: impl FnOnce(&Path)) {
    after(test, &[], script, body);
}

/// As [`in_child`], where the script may also mount: nobody else sees it, and it ends with the child.
#[track_caller]
pub(crate) fn in_private_mounts(test: &str, script: &str, body: impl FnOnce(&Path)) {
    if job(test).is_some() || has("unshare", &["-m", "true"]) {
        after(test, &["unshare", "-m"], script, body);
    }
}

#[track_caller]
fn after(test: &str, prefix: &[&str], script: &str, body: impl FnOnce(&Path)) {
    if let Some((dir, _)) = job(test) {
        return body(&dir);
    }
    let home = dir();
    let script = format!("set -e\n{script}\nexec \"$0\" \"$@\"");
    let prefix: Vec<&OsStr> = prefix.iter().copied().chain(["sh", "-c", &script]).map(OsStr::new).collect();
    expect_pass(&rerun(&prefix, test, home.path(), "").output().unwrap());
}
