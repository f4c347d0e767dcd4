//! Goal: whatever is killed, whenever: what it saved is complete old or complete new, all files of
//! a set belong together after a recovery, and nothing is left. Method: a child that saves one
//! version after the other is killed after a random time, again and again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use durafile::{AtomicDir, AtomicFile, Batch, DirSnapshot, LockFile, Transaction, recover};
use fs_err as fs;

#[cfg(all(feature = "signals", not(windows)))]
use crate::support::expect_pass;
use crate::support::{dir, job, names, rerun, this_test};

const ROUNDS: u64 = 12;

fn text(version: u64) -> String {
    format!("{version}\n").repeat(2000)
}

/// Fails unless it is one version, complete; returns which.
#[track_caller]
fn version_of(path: &Path) -> u64 {
    let seen = fs::read_to_string(path).unwrap();
    let version = seen.lines().next().unwrap_or_default().parse().expect("torn");
    assert!(seen == text(version), "torn");
    version
}

/// A child that has begun to save.
fn start(test: &str, home: &Path) -> Child {
    let mut command = rerun(&[], test, home, "save");
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = match command.spawn() {
        // Wine fails with an internal error now and then, when a process was killed a moment ago.
        Err(_) if cfg!(windows) => {
            std::thread::sleep(Duration::from_secs(1));
            command.spawn().unwrap()
        }
        spawned => spawned.unwrap(),
    };
    let stdout = child.stdout.as_mut().unwrap();
    let mut lines = BufReader::new(stdout).lines();
    assert!(lines.any(|line| line.unwrap().contains("SAVING")), "the child ended");
    child
}

/// Saves versions until it is killed.
fn save_for_ever(save: impl Fn(u64)) -> ! {
    println!("SAVING");
    for version in 1.. {
        save(version);
    }
    unreachable!("there are enough numbers");
}

/// Kills the child at some time, and calls `check` before and after a recovery.
fn kill_and_check(test: &str, home: &Path, check: impl Fn(bool)) {
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..ROUNDS {
        let mut child = start(test, home);
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((chance >> 40) % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        check(false);
        let recovery = recover(home).unwrap();
        assert!(recovery.in_use().is_empty(), "{recovery:?}");
        assert!(recovery.quarantined().is_empty(), "{recovery:?}");
        check(true);
        assert!(recover(home).unwrap().is_clean());
        let left: Vec<_> = names(home).into_iter().filter(|name| durafile::is_remnant(name)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn a_killed_save_leaves_a_complete_version() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        save_for_ever(|version| {
            let _ = durafile::write(home.join("at once"), text(version)).unwrap();
            let mut stream = AtomicFile::create(home.join("streamed")).unwrap();
            stream.write_all(text(version).as_bytes()).unwrap();
            let _ = stream.commit().unwrap();
        });
    }
    let home = dir();
    for name in ["at once", "streamed"] {
        fs::write(home.path().join(name), text(0)).unwrap();
    }
    kill_and_check(&test, home.path(), |_| {
        version_of(&home.path().join("at once"));
        version_of(&home.path().join("streamed"));
    });
}

#[test]
fn a_killed_batch_leaves_complete_files() {
    let test = this_test!();
    let paths = |home: &Path| (0..24).map(|n| home.join(format!("{}/{n}", n % 3))).collect::<Vec<_>>();
    if let Some((home, _)) = job(&test) {
        save_for_ever(|version| {
            let mut batch = Batch::new();
            paths(&home).iter().for_each(|path| batch.write(path, text(version)).unwrap());
            let _ = batch.commit().unwrap();
        });
    }
    let home = dir();
    for path in paths(home.path()) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text(0)).unwrap();
    }
    kill_and_check(&test, home.path(), |recovered| {
        for path in paths(home.path()) {
            version_of(&path);
        }
        if recovered {
            assert_eq!(names(home.path().join("0")).len(), 8);
        }
    });
}

#[test]
fn a_killed_swap_leaves_one_version_after_recovery() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        save_for_ever(|version| {
            let mut next = AtomicDir::update(home.join("talk")).unwrap();
            next.write("a", text(version)).unwrap();
            next.write("sub/b", text(version)).unwrap();
            let _ = next.commit().unwrap();
        });
    }
    let home = dir();
    let target = home.path().join("talk");
    let mut new = AtomicDir::create(&target).unwrap();
    new.write("a", text(0)).unwrap();
    new.write("sub/b", text(0)).unwrap();
    let _ = new.commit().unwrap();
    kill_and_check(&test, home.path(), |recovered| {
        // Where names can't be exchanged, the name may be missing until then.
        if recovered {
            assert_eq!(version_of(&target.join("a")), version_of(&target.join("sub/b")));
            assert_eq!(DirSnapshot::open(&target).unwrap().entries().unwrap().len(), 3);
        }
    });
}

#[test]
fn a_killed_transaction_is_done_or_undone_as_a_whole() {
    let test = this_test!();
    const PATHS: [&str; 5] = ["a", "b", "sub/c", "sub/d", "other/e"];
    if let Some((home, _)) = job(&test) {
        save_for_ever(|version| {
            let mut change = Transaction::begin(&home).unwrap();
            PATHS.iter().for_each(|path| change.write(path, text(version)).unwrap());
            let _ = change.commit().unwrap();
        });
    }
    let home = dir();
    let mut first = Transaction::begin(home.path()).unwrap();
    PATHS.iter().for_each(|path| first.write(path, text(0)).unwrap());
    let _ = first.commit().unwrap();
    kill_and_check(&test, home.path(), |recovered| {
        let versions = PATHS.map(|path| version_of(&home.path().join(path)));
        assert!(!recovered || versions.iter().all(|version| *version == versions[0]), "{versions:?}");
    });
}

/// Not asked under wine, whose C library has no `SIG_GET`, which `signal-hook` uses on Windows.
#[cfg(all(feature = "signals", not(windows)))]
#[test]
fn a_signal_to_end_cancels_the_save_under_way_and_the_process_lives_on() {
    use signal_hook::consts::SIGINT;
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        let token = durafile::CancelToken::on_termination().unwrap();
        let options = durafile::WriteOptions::new().cancel(&token);
        let mut stream = options.open(home.join("file")).unwrap();
        stream.write_all(b"new").unwrap();
        assert!(!token.is_cancelled());
        signal_hook::low_level::raise(SIGINT).unwrap();
        assert!(token.is_cancelled());
        assert_eq!(stream.commit().unwrap_err().kind(), durafile::ErrorKind::Cancelled);
        return;
    }
    let home = dir();
    fs::write(home.path().join("file"), "old").unwrap();
    expect_pass(&rerun(&[], &test, home.path(), "cancel").output().unwrap());
    assert_eq!(fs::read(home.path().join("file")).unwrap(), b"old");
    assert_eq!(names(home.path()), ["file"]);
}

#[test]
fn the_lock_of_a_killed_holder_is_free() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        let _lock = LockFile::try_lock(home.join("lock")).unwrap();
        println!("SAVING");
        loop {
            std::thread::park();
        }
    }
    let home = dir();
    let path = home.path().join("lock");
    for _ in 0..3 {
        let mut child = start(&test, home.path());
        let error = LockFile::try_lock(&path).unwrap_err();
        assert_eq!(error.kind(), durafile::ErrorKind::Locked);
        let holder = LockFile::holder(&path).unwrap().expect("it is held");
        assert_eq!(holder.pid, child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        LockFile::lock_timeout(&path, Duration::from_secs(30)).unwrap().unlock().unwrap();
        assert_eq!(LockFile::holder(&path).unwrap(), None);
    }
}
