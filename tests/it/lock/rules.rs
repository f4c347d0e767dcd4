//! Goal: at most one holder at a time, whatever processes do, and the lock free the instant its holder
//! is gone. Method: real processes that hold, contend, fork and are killed; what the lock file says is
//! forged, and the file removed under those who wait.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use durafile::{ErrorKind, LockFile};
use fork::Fork;
use fs_err as fs;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use crate::support::{dir, expect_pass, in_child, job, names, refused, rerun, this_test};

/// The job of a child that says when it is ready, and then waits to be killed or let go.
#[expect(clippy::zombie_processes, reason = "what it starts outlives it, and the test ends that")]
fn hold(job: &str, path: &Path) {
    let held = match job {
        "hold" => vec![LockFile::lock(path).unwrap()],
        "share" => vec![LockFile::lock_shared(path).unwrap()],
        // A program that this process starts; then a mere copy of this process.
        "spawn" => {
            let lock = LockFile::lock(path).unwrap();
            let mut shell = Command::new("sh");
            shell.args(["-c", "echo up; exec sleep 600"]).stdin(Stdio::null()).stdout(Stdio::piped());
            let mut sleep = shell.spawn().unwrap();
            // Only once the program runs is the lock certainly closed in it.
            BufReader::new(sleep.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
            println!("SLEEP {}", sleep.id());
            vec![lock]
        }
        "fork" => {
            let lock = LockFile::lock(path).unwrap();
            match fork::fork().unwrap() {
                Fork::Child => {
                    std::thread::sleep(Duration::from_secs(600));
                    std::process::exit(0);
                }
                Fork::Parent(pid) => println!("SLEEP {pid}"),
            }
            vec![lock]
        }
        other => panic!("{other}"),
    };
    println!("READY");
    let _ = std::io::stdin().lines().next();
    drop(held);
    println!("GONE");
}

/// A child at work on `hold`.
struct Other {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    /// A child of its own, if it has one.
    sleeper: Option<u32>,
}

impl Other {
    fn start(test: &str, dir: &Path, job: &str) -> Other {
        let mut command = rerun(&[], test, dir, job);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut other = Other { child, lines, sleeper: None };
        let said = other.wait_for("READY");
        other.sleeper = said.iter().find_map(|line| line.split("SLEEP ").nth(1)?.parse().ok());
        other
    }

    /// What it says until it says this.
    fn wait_for(&mut self, word: &str) -> Vec<String> {
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the child ended: {said:?}");
            said.push(line.trim_end().to_owned());
            if said.last().is_some_and(|line| line.ends_with(word)) {
                return said;
            }
        }
    }

    /// SIGKILL; returns when it is dead.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn let_go(&mut self) {
        drop(self.child.stdin.take());
        self.wait_for("GONE");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(pid) = self.sleeper.and_then(|pid| Pid::from_raw(pid as i32)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn path_in(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("service.lock")
}

#[test]
fn many_processes_and_threads_never_hold_the_lock_together() {
    const ROUNDS: u64 = 100;
    let increment = |dir: &Path, take: &dyn Fn(&Path) -> LockFile| {
        for _ in 0..ROUNDS {
            let lock = take(&dir.join("service.lock"));
            let counter = dir.join("counter");
            let count: u64 = std::fs::read_to_string(&counter).unwrap_or_default().parse().unwrap_or(0);
            std::fs::write(&counter, (count + 1).to_string()).unwrap();
            lock.unlock().unwrap();
        }
    };
    let patient = |path: &Path| LockFile::lock_timeout(path, Duration::from_secs(600)).unwrap();
    let stubborn = |path: &Path| loop {
        match LockFile::try_lock(path) {
            Err(e) if e.kind() == ErrorKind::Locked => std::thread::yield_now(),
            taken => return taken.unwrap(),
        }
    };
    let all = |dir: &Path| {
        std::thread::scope(|scope| {
            scope.spawn(|| increment(dir, &|path| LockFile::lock(path).unwrap()));
            scope.spawn(|| increment(dir, &patient));
            scope.spawn(|| increment(dir, &stubborn));
        });
    };
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        return all(&dir);
    }
    let home = dir();
    let start = |_| rerun(&[], &test, home.path(), "count").stdout(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..3).map(start).collect();
    all(home.path());
    for child in children {
        expect_pass(&child.wait_with_output().unwrap());
    }
    assert_eq!(fs::read_to_string(home.path().join("counter")).unwrap(), (4 * 3 * ROUNDS).to_string());
    assert_eq!(names(&home), ["counter", "service.lock"]);
}

#[test]
fn a_killed_holder_frees_the_lock_at_once_and_is_not_named_any_more() {
    let test = this_test!();
    if let Some((dir, job)) = job(&test) {
        return hold(&job, &dir.join("service.lock"));
    }
    let home = dir();
    let path = path_in(&home);
    let before = SystemTime::now();
    let mut other = Other::start(&test, home.path(), "hold");
    let error = refused(LockFile::try_lock(&path), ErrorKind::Locked);
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(reason, format!("held by process {}", other.child.id()));
    assert!(error.is_transient());
    assert_eq!(error.path(), path);
    let holder = LockFile::holder(&path).unwrap().expect("somebody holds it");
    assert_eq!(holder.pid, other.child.id());
    assert_eq!(holder.host, rustix::system::uname().nodename().to_str().unwrap());
    assert!(before <= holder.since && holder.since <= SystemTime::now());

    other.kill();
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    // No second try: it is free when the holder is dead.
    let lock = LockFile::try_lock(&path).unwrap();
    assert_eq!(LockFile::holder(&path).unwrap().unwrap().pid, std::process::id());
    lock.unlock().unwrap();
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    assert_eq!(fs::read_to_string(&path).unwrap(), "", "the name goes with the lock");
    assert_eq!(names(&home), ["service.lock"]);
}

#[test]
fn whoever_waits_gets_the_lock_when_the_holder_gives_it_up_or_dies() {
    let test = this_test!();
    if let Some((dir, job)) = job(&test) {
        return hold(&job, &dir.join("service.lock"));
    }
    let home = dir();
    let path = path_in(&home);
    let take: [fn(&Path) -> durafile::Result<LockFile>; 3] = [
        |path| LockFile::lock(path),
        |path| LockFile::lock_shared(path),
        |path| LockFile::lock_timeout(path, Duration::from_secs(600)),
    ];
    for take in take {
        for killed in [false, true] {
            let mut other = Other::start(&test, home.path(), "hold");
            std::thread::scope(|scope| {
                let (send, receive) = mpsc::channel();
                let path = &path;
                let waiting = scope.spawn(move || {
                    let lock = take(path).unwrap();
                    send.send(()).unwrap();
                    lock
                });
                let early = receive.recv_timeout(Duration::from_millis(30));
                assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout), "it must wait");
                if killed {
                    other.kill()
                } else {
                    other.let_go()
                }
                drop(waiting.join().unwrap());
            });
        }
    }
}

#[test]
fn a_wait_with_a_time_out_ends_with_timed_out_and_not_before() {
    let home = dir();
    let path = path_in(&home);
    let lock = LockFile::lock(&path).unwrap();
    let start = Instant::now();
    let waited = LockFile::lock_timeout(&path, Duration::from_millis(150));
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert!(refused(waited, ErrorKind::TimedOut).is_transient());
    refused(LockFile::lock_timeout(&path, Duration::ZERO), ErrorKind::TimedOut);
    drop(lock);
    LockFile::lock_timeout(&path, Duration::ZERO).unwrap().unlock().unwrap();
    LockFile::lock_timeout(&path, Duration::MAX).unwrap().unlock().unwrap();
}

#[test]
fn shared_holders_exclude_a_single_one_and_not_each_other() {
    let test = this_test!();
    if let Some((dir, job)) = job(&test) {
        return hold(&job, &dir.join("service.lock"));
    }
    let home = dir();
    let path = path_in(&home);
    let mut other = Other::start(&test, home.path(), "share");
    let ours = LockFile::lock_shared(&path).unwrap();
    refused(LockFile::try_lock(&path), ErrorKind::Locked);
    assert_eq!(LockFile::holder(&path).unwrap(), None, "shared holders are not named");
    other.let_go();
    refused(LockFile::try_lock(&path), ErrorKind::Locked);
    drop(ours);
    LockFile::try_lock(&path).unwrap().unlock().unwrap();
}

#[test]
fn a_recycled_process_id_neither_keeps_the_lock_nor_is_named() {
    let test = this_test!();
    if let Some((dir, job)) = job(&test) {
        return hold(&job, &dir.join("service.lock"));
    }
    let home = dir();
    let path = path_in(&home);
    let mut other = Other::start(&test, home.path(), "hold");
    other.kill();
    // What it left, with the number of a process that lives: this one.
    let left = fs::read_to_string(&path).unwrap();
    let forged =
        left.replace(&format!("pid {}\n", other.child.id()), &format!("pid {}\n", std::process::id()));
    assert_ne!(forged, left);
    fs::write(&path, &forged).unwrap();
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    // Held by somebody who leaves no name, the stale one is not shown either.
    let shared = LockFile::lock_shared(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), forged);
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    drop(shared);
    LockFile::try_lock(&path).unwrap().unlock().unwrap();
}

/// It may be all that a program has counted, or the process id that another program waits for.
#[test]
fn a_file_that_holds_digits_or_zeros_is_locked_and_keeps_them() {
    let home = dir();
    let path = path_in(&home);
    for content in ["1\n", "42", "\0\0\0\0", " \n"] {
        fs::write(&path, content).unwrap();
        assert_eq!(LockFile::holder(&path).unwrap(), None);
        let lock = LockFile::try_lock(&path).unwrap();
        assert_eq!(LockFile::try_lock(&path).unwrap_err().kind(), durafile::ErrorKind::Locked);
        assert_eq!(LockFile::holder(&path).unwrap(), None, "{content:?}");
        lock.unlock().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn asking_who_holds_a_free_lock_gets_in_nobody_s_way() {
    let home = dir();
    let path = path_in(&home);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                LockFile::holder(&path).unwrap();
            }
        });
        let tried = (0..20_000).map(|_| LockFile::try_lock(&path).map(drop));
        let failed: Vec<_> = tried.filter_map(Result::err).collect();
        done.store(true, Ordering::Relaxed);
        // One, if the thread that asks was held up in the middle of it for long.
        assert!(failed.len() <= 1, "{} of 20000, such as {:?}", failed.len(), failed[0]);
    });
}

#[test]
fn a_record_of_another_run_of_the_system_names_nobody() {
    let home = dir();
    let path = path_in(&home);
    let lock = LockFile::lock(&path).unwrap();
    let record = fs::read_to_string(&path).unwrap();
    drop(lock);
    let boot = record.lines().find(|line| line.starts_with("boot ")).unwrap();
    fs::write(&path, record.replace(boot, "boot 00000000-0000-0000-0000-000000000000")).unwrap();
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    // Without what tells runs and processes apart, only the lock itself can say it.
    let bare: String = record
        .lines()
        .filter(|line| !["boot ", "space ", "started "].iter().any(|key| line.starts_with(key)))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&path, &bare).unwrap();
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    let lock = LockFile::lock(&path).unwrap();
    fs::write(&path, &bare).unwrap();
    assert_eq!(LockFile::holder(&path).unwrap().unwrap().pid, std::process::id());
    drop(lock);
}

/// Waits until somebody waits for the lock on this file, as the kernel lists it.
fn until_somebody_waits(inode: u64) {
    let end = format!(":{inode} 0 EOF");
    let waits = |line: &str| line.contains("-> FLOCK") && line.trim_end().ends_with(&end);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
        assert!(Instant::now() < deadline, "nobody waits");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_lock_file_that_is_removed_does_not_split_the_lock_among_those_who_wait() {
    use std::os::unix::fs::MetadataExt;
    let home = dir();
    let path = path_in(&home);
    for replaced in [false, true] {
        let lock = LockFile::lock(&path).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| LockFile::lock(&path).unwrap());
            until_somebody_waits(inode);
            fs::remove_file(&path).unwrap();
            if replaced {
                fs::write(&path, "").unwrap();
            }
            lock.unlock().unwrap();
            let theirs = waiting.join().unwrap();
            refused(LockFile::try_lock(&path), ErrorKind::Locked);
            assert_eq!(LockFile::holder(&path).unwrap().unwrap().pid, std::process::id());
            drop(theirs);
        });
        LockFile::try_lock(&path).unwrap().unlock().unwrap();
        assert_eq!(names(&home), ["service.lock"], "the file stays");
    }
}

#[test]
fn a_forked_child_that_drops_its_copy_does_not_release_the_lock() {
    in_child(&this_test!(), "", |dir| {
        let path = dir.join("service.lock");
        let lock = LockFile::lock(&path).unwrap();
        match fork::fork().unwrap() {
            Fork::Child => {
                drop(lock);
                std::process::exit(0);
            }
            Fork::Parent(pid) => {
                assert_eq!(fork::waitpid(pid).unwrap(), 0);
            }
        }
        refused(LockFile::try_lock(&path), ErrorKind::Locked);
        assert_eq!(LockFile::holder(&path).unwrap().unwrap().pid, std::process::id());
        lock.unlock().unwrap();
        LockFile::try_lock(&path).unwrap().unlock().unwrap();
    });
}

#[test]
fn the_lock_of_a_dead_holder_lasts_as_long_as_its_forked_child_and_names_nobody() {
    let test = this_test!();
    if let Some((dir, job)) = job(&test) {
        return hold(&job, &dir.join("service.lock"));
    }
    let home = dir();
    let path = path_in(&home);
    let mut other = Other::start(&test, home.path(), "fork");
    other.kill();
    refused(LockFile::try_lock(&path), ErrorKind::Locked);
    assert_eq!(LockFile::holder(&path).unwrap(), None);
    drop(other);
    LockFile::lock(&path).unwrap().unlock().unwrap();
}

#[test]
fn a_program_that_the_holder_started_does_not_keep_the_lock() {
    let test = this_test!();
    if let Some((dir, job)) = job(&test) {
        return hold(&job, &dir.join("service.lock"));
    }
    let home = dir();
    let path = path_in(&home);
    let mut other = Other::start(&test, home.path(), "spawn");
    let sleeper = Pid::from_raw(other.sleeper.unwrap() as i32).unwrap();
    other.kill();
    rustix::process::test_kill_process(sleeper).unwrap();
    LockFile::try_lock(&path).unwrap().unlock().unwrap();
}

#[test]
fn giving_up_the_lock_frees_it_though_another_process_has_the_open_file() {
    in_child(&this_test!(), "", |dir| {
        let path = dir.join("service.lock");
        for explicit in [true, false] {
            let lock = LockFile::lock(&path).unwrap();
            // The same open file, as a child between fork and exec has it.
            let mut child = Command::new("sleep").arg("600").stdin(same_open_file(&path)).spawn().unwrap();
            refused(LockFile::try_lock(&path), ErrorKind::Locked);
            if explicit {
                lock.unlock().unwrap()
            } else {
                drop(lock)
            }
            let free = LockFile::try_lock(&path);
            child.kill().unwrap();
            child.wait().unwrap();
            free.unwrap().unlock().unwrap();
        }
    });
}

/// A second descriptor of what this process has open at a path.
fn same_open_file(path: &Path) -> Stdio {
    let path = fs::canonicalize(path).unwrap();
    let is_it = |number: &i32| {
        std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok_and(|target| target == path)
    };
    let number = (3..100).find(is_it).expect("the file is open");
    let this = pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).unwrap();
    Stdio::from(pidfd_getfd(this, number, PidfdGetfdFlags::empty()).unwrap())
}
