//! Goal: the rules hold wherever users save: on network shares, odd mounts, in sandboxes. Method:
//! each such place is made real, this executable runs again inside it, and every rule is asked there,
//! one after the other. What each rule did is told in a line that begins with `TRIED`; what is wrong
//! today is listed in `known.rs`, and a test fails when that list and the truth differ.
//!
//! `cargo test -p durafile --all-features --test it -- places::`
//!
//! To run anything else on a place, call [`on`], or [`Site::run_tests`] inside of it. There is nothing to
//! take down: mounts, loop devices and daemons of a place live in name spaces (or in a kernel) of
//! its own, which end with the test's thread, however that ends.

mod folding;
mod fuse;
mod killed;
mod known;
mod live;
mod nfs;
mod ntfs;
mod ops;
mod rules;
pub(crate) mod sandboxes;
mod suite;
mod table;
mod vfat;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::uml::{Kernel, can_boot};
use crate::support::{dir, expect_pass, has, is_root, job, rerun, skip};

/// Where a test can run.
pub(crate) struct Place {
    /// Commands that must be here.
    pub(crate) tools: &'static [&'static str],
    /// The kernel that has the place: the machine's, or one of its own.
    pub(crate) kernel: Host,
    /// Run by a shell as root, in an empty directory `$DIR` of a local disk; makes the mounts there. It
    /// may set `WRAP` to a command that runs the test.
    pub(crate) script: &'static str,
    /// Restricts the thread that the test runs in, and all that it starts.
    pub(crate) enter: fn(&Path),
    pub(crate) mounts: &'static [Mount],
}

#[derive(Clone, Copy)]
pub(crate) enum Host {
    /// A mount and a process name space of this kernel.
    Namespaces,
    /// User-mode Linux with a disk of so many MiB, and these modules.
    UserMode { disk: u64, modules: &'static [&'static str] },
}

/// A file system of the place, seen by two clients; by one if both names are the same.
pub(crate) struct Mount {
    pub(crate) name: &'static str,
    pub(crate) first: &'static str,
    pub(crate) second: &'static str,
    /// The directory as its server sees it, else the first client's.
    pub(crate) server: &'static str,
}

/// A place as its mounts usually are: one, and nothing restricted.
pub(crate) const fn mounted(mounts: &'static [Mount], script: &'static str) -> Place {
    Place { tools: &["strace"], kernel: Host::Namespaces, script, enter: |_| (), mounts }
}

/// `mnt`, under the name of the place.
macro_rules! one {
    ($name:literal) => {
        &[$crate::places::Mount { name: $name, first: "mnt", second: "mnt", server: "mnt" }]
    };
}
pub(crate) use one;

/// One mount of the place, seen from inside.
pub(crate) struct Site {
    pub(crate) name: &'static str,
    pub(crate) first: PathBuf,
    pub(crate) second: PathBuf,
    pub(crate) server: PathBuf,
    /// Whether it takes a second to start a process.
    pub(crate) is_slow: bool,
    /// What a process that [`Site::child`] made is to do; empty in the test itself.
    pub(crate) role: String,
    test: String,
    home: PathBuf,
    number: usize,
}

impl Site {
    fn new(place: &Place, number: usize, test: &str, home: &Path, role: &str) -> Site {
        let mount = &place.mounts[number];
        let [first, second, server] = [mount.first, mount.second, mount.server].map(|name| home.join(name));
        let (test, home, role) = (test.to_owned(), home.to_owned(), role.to_owned());
        let is_slow = matches!(place.kernel, Host::UserMode { .. });
        Site { name: mount.name, first, second, server, is_slow, role, test, home, number }
    }

    /// The calling test in another process, behind `prefix`: its body is called with this role.
    pub(crate) fn child(&self, prefix: &[&str], role: &str) -> Command {
        let prefix: Vec<&OsStr> = prefix.iter().map(OsStr::new).collect();
        rerun(&prefix, &self.test, &self.home, &format!("{} {role}", self.number))
    }

    /// Runs other tests of this executable with their directories on the first mount.
    pub(crate) fn run_tests(&self, filters: &[&str]) -> Output {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(filters).args(["--skip", "places::"]).env("DURAFILE_TEST_DIR", &self.first);
        command.output().unwrap()
    }
}

/// Runs the body on the place, in another process: once for each of its mounts. What was said there; none
/// in that process, and if the place can't be had, which skips the calling test.
#[track_caller]
pub(crate) fn on(test: &str, place: &Place, body: impl Fn(&Site)) -> Option<String> {
    if let Some((home, job)) = job(test) {
        let Some((number, role)) = job.split_once(' ') else {
            (place.enter)(&home);
            (0..place.mounts.len()).for_each(|n| body(&Site::new(place, n, test, &home, "")));
            return None;
        };
        body(&Site::new(place, number.parse().unwrap(), test, &home, role));
        return None;
    }
    if !is_root() {
        skip("only root can make this place");
        return None;
    }
    for tool in place.tools {
        let found = Command::new("sh").args(["-c", &format!("{PATH}; command -v {tool}")]).output();
        if !found.is_ok_and(|found| found.status.success()) {
            skip(&format!("{tool} is not installed"));
            return None;
        }
    }
    let home = dir();
    let output = match place.kernel {
        Host::Namespaces => in_name_spaces(place, test, home.path()),
        Host::UserMode { disk, modules } => in_own_kernel(place, test, home.path(), disk, modules),
    }?;
    expect_pass(&output);
    Some(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Administrators' tools are not on everybody's path.
const PATH: &str = "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin";

fn in_name_spaces(place: &Place, test: &str, home: &Path) -> Option<Output> {
    if !has("setpriv", &["--pdeathsig", "KILL", "unshare", "-m", "-p", "--fork", "true"]) {
        return None;
    }
    // The shell is the first process of the name space: when it ends, or this thread does, the kernel
    // kills all others in it, so that the mounts lose their last users.
    let script =
        format!("set -e\n{PATH}\ncd \"$DIR\"\nWRAP=\n{}\ncd \"$DIR\"\n$WRAP \"$0\" \"$@\"", place.script);
    let prefix = ["setpriv", "--pdeathsig", "KILL", "unshare", "-m", "-p", "--fork", "--kill-child"];
    let prefix: Vec<&OsStr> =
        prefix.into_iter().chain(["--mount-proc", "sh", "-c", &script]).map(OsStr::new).collect();
    Some(rerun(&prefix, test, home, "").output().unwrap())
}

fn in_own_kernel(place: &Place, test: &str, home: &Path, disk: u64, modules: &[&str]) -> Option<Output> {
    if !can_boot() {
        return None;
    }
    let script = format!("{PATH}\n{}", place.script);
    Kernel { disk, modules, script: &script, seconds: 300 }.run(home, &rerun(&[], test, home, ""))
}
