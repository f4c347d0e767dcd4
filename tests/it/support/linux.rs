//! What only tests for Linux share.

use std::env;
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use durafile::Durability;
use fs_err as fs;
use rustix::process::{Gid, Uid};
use tempfile::TempDir;

use super::{dir, expect_pass, job, rerun};

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

/// What `Durability::Full` can reach in this directory.
pub(crate) fn best(dir: impl AsRef<Path>) -> Durability {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let found = rustix::fs::statfs(dir.as_ref()).unwrap();
    if found.f_type as i64 == TMPFS_MAGIC { Durability::None } else { Durability::Full }
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
    staged_yet(dir).unwrap_or_else(|| panic!("no staged file is open in {}", dir.display()))
}

/// The same for a test that waits for it: nothing may be open yet, or what was may be gone while
/// it is looked at.
pub(crate) fn staged_yet(dir: &Path) -> Option<std::fs::Metadata> {
    let dir = fs::canonicalize(dir).unwrap();
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let link = entry.unwrap().path();
        let Ok(leads_to) = fs::read_link(&link) else {
            continue;
        };
        // The file that is to be replaced is open, too, by its own name.
        let staged = leads_to.file_name().is_some_and(durafile::is_remnant) || !leads_to.exists();
        if staged && leads_to.starts_with(&dir) && leads_to != dir {
            let found = std::fs::metadata(&link).ok();
            if let Some(found) = found.filter(|found| found.is_file()) {
                return Some(found);
            }
        }
    }
    None
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
pub(crate) fn after(test: &str, prefix: &[&str], script: &str, body: impl FnOnce(&Path)) {
    if let Some((dir, _)) = job(test) {
        return body(&dir);
    }
    let home = dir();
    let script = format!("set -e\n{script}\nexec \"$0\" \"$@\"");
    let prefix: Vec<&OsStr> = prefix.iter().copied().chain(["sh", "-c", &script]).map(OsStr::new).collect();
    expect_pass(&rerun(&prefix, test, home.path(), "").output().unwrap());
}
