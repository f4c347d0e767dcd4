//! Goal: where a file system lacks what others have, a save takes another way that keeps its promises,
//! or says that it can't; and `Committed::durability()` claims no more than was reached. Method: a
//! FUSE file system over a directory refuses one thing after the other, and all at once; every operation
//! runs on it, the trees before and after are compared, and a writer is killed there.
#![cfg(target_os = "linux")]

#[allow(dead_code, unused_macros, unused_imports, reason = "the library's own tests need more of it")]
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use durafile::{
    AtomicDir, AtomicFile, Batch, DirOptions, DirSnapshot, Durability, ErrorKind, LockFile, RecoveryOptions,
    Transaction, health, recover,
};
use fs_err as fs;
use rustix::process::{Signal, getpid, kill_process};
use support::operations::{self, Operation, judge, remnants, tree};
use support::{expect_pass, has, is_root, job, names, refused, rerun, skip, this_test};

/// A mounted mirror; its daemon ends when this is dropped.
struct Mirror {
    daemon: Child,
    at: PathBuf,
}

impl Mirror {
    fn mount(home: &Path, number: usize, refuse: &[&str]) -> Mirror {
        let [backing, at] = ["backing", "at"].map(|name| home.join(format!("{name}-{number}")));
        fs::create_dir(&backing).unwrap();
        fs::create_dir(&at).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_powercut"));
        command.arg("mirror").arg(&backing).arg(&at).args(refuse.iter().flat_map(|lack| ["--refuse", lack]));
        let mut daemon = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n");
        Mirror { daemon, at }
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Each alone with its usual error and another one, and together.
const LACKS: [&[&str]; 14] = [
    &[],
    &["tmpfile"],
    &["tmpfile=21"],
    &["link"],
    &["link=95"],
    &["rename2"],
    &["flock"],
    &["flock=37"],
    &["xattr"],
    &["dirsync"],
    &["dirsync=95"],
    &["inodes"],
    &["tmpfile", "link", "rename2", "flock", "xattr", "dirsync"],
    &["tmpfile", "link", "rename2", "flock", "xattr", "dirsync", "inodes"],
];

/// Runs the body for each of these, in a child with mounts of its own.
fn on_each(test: &str, body: impl Fn(&Path, &[&str])) {
    if let Some((home, _)) = job(test) {
        for (number, lacks) in LACKS.iter().enumerate() {
            let mirror = Mirror::mount(&home, number, lacks);
            body(&mirror.at, lacks);
        }
        return;
    }
    if !is_root() || fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        return skip("it takes root and /dev/fuse");
    }
    if has("unshare", &["-m", "true"]) {
        let home = support::dir();
        let prefix = ["unshare", "-m"].map(std::ffi::OsStr::new);
        expect_pass(&rerun(&prefix, test, home.path(), "mounts").output().unwrap());
    }
}

fn lacks(refused: &[&str], what: &str) -> bool {
    refused.iter().any(|lack| lack.split('=').next() == Some(what))
}

#[test]
fn every_operation_finds_another_way_or_says_that_there_is_none() {
    on_each(&this_test!(), |at, refuse| {
        let (mut done, mut unsupported) = (0, Vec::new());
        let plain = at.parent().unwrap().join("plain");
        for (number, operation) in operations::all().iter().enumerate() {
            let (before, after) = operation.learn(&plain);
            let dir = at.join(number.to_string());
            Operation::prepare(&dir);
            let case = format!("without {refuse:?}: {}", operation.name);
            match operation.run(&dir) {
                Ok(reached) => {
                    assert_eq!(tree(&dir), after, "{case}");
                    let asked = match operation.name.as_str() {
                        "write, Data" => Durability::Data,
                        "write, None" => Durability::None,
                        _ if lacks(refuse, "dirsync") => Durability::Data,
                        _ => Durability::Full,
                    };
                    assert_eq!(reached, asked, "{case}");
                    done += 1;
                }
                Err(e) => {
                    assert_eq!(e.kind(), ErrorKind::Unsupported, "{case}: {e}: {:?}", e.io_error());
                    unsupported.push(operation.name.clone());
                    if lacks(refuse, "inodes") {
                        // Its own lock file stays: nobody can tell it from another's.
                        let mut now = tree(&dir);
                        now.retain(|path, _| before.contains_key(path));
                        assert_eq!(now, before, "{case}");
                        continue;
                    }
                    judge(&e, &dir, &before, &after).unwrap_or_else(|wrong| panic!("{case}: {e}: {wrong}"));
                }
            }
            let recovery = recover(&dir).unwrap_or_else(|e| panic!("{case}: {e}: {:?}", e.io_error()));
            assert!(recovery.is_clean() && recovery.in_use().is_empty(), "{case}: {recovery:?}");
            assert!(remnants(&tree(&dir)).is_empty(), "{case}");
        }
        let said =
            format!("TRIED without {refuse:?}: {done} operations done, unsupported: {unsupported:?}\n");
        std::io::stderr().lock().write_all(said.as_bytes()).unwrap();
        // One writer at a time can't be had without locks; all else can.
        assert!(unsupported.is_empty() || lacks(refuse, "flock") || lacks(refuse, "inodes"), "{said}");
    });
}

/// Begins one of each, and dies.
fn die_in_the_middle(dir: &Path) {
    let mut file = AtomicFile::create(dir.join("file")).unwrap();
    file.write_all(b"half").unwrap();
    file.flush().unwrap();
    let mut batch = Batch::new();
    batch.write(dir.join("file"), "half").unwrap();
    let mut stream = batch.create_file(dir.join("folder/kept")).unwrap();
    stream.write_all(&[1; 100_000]).unwrap();
    let change = Transaction::begin(dir).and_then(|mut change| change.write("file", "half").map(|()| change));
    let next = AtomicDir::update(dir.join("folder"));
    kill_process(getpid(), Signal::KILL).unwrap();
    drop((change, next));
}

#[test]
fn what_a_killed_writer_leaves_goes() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test).filter(|(_, job)| job == "die") {
        return die_in_the_middle(&dir);
    }
    on_each(&test, |at, refuse| {
        if lacks(refuse, "inodes") {
            return; // Nothing is safe to remove where nobody can tell one file from another.
        }
        Operation::prepare(&at.join("d"));
        let (dir, before) = (at.join("d"), tree(&at.join("d")));
        let killed = rerun(&[], &test, &dir, "die").output().unwrap();
        assert!(!killed.status.success());
        let left = remnants(&tree(&dir)).len();
        assert!(left > 0, "without {refuse:?}");
        let recovery = recover(&dir).unwrap();
        if lacks(refuse, "flock") && lacks(refuse, "tmpfile") {
            // Nobody can tell whether the writer of a file lives; of directories the kernel knows.
            assert!(!recovery.in_use().is_empty(), "without {refuse:?}: {recovery:?}");
            std::thread::sleep(Duration::from_millis(30));
            let _ = RecoveryOptions::new().min_age(Duration::from_millis(20)).run(&dir).unwrap();
        }
        assert_eq!(tree(&dir), before, "without {refuse:?}: {recovery:?}");
        assert_eq!(names(&dir), ["file", "folder"], "without {refuse:?}");
        assert!(recover(&dir).unwrap().is_clean(), "without {refuse:?}");
    });
}

#[test]
fn locks_snapshots_and_health_tell_what_there_is() {
    on_each(&this_test!(), |at, refuse| {
        let case = format!("without {refuse:?}");
        let has_locks = !lacks(refuse, "flock");
        let path = at.join("lock");
        if lacks(refuse, "inodes") {
            // Which file it is that was locked can't be told.
            refused(LockFile::try_lock(&path), ErrorKind::Unsupported);
        } else if has_locks {
            let lock = LockFile::lock(&path).unwrap();
            refused(LockFile::try_lock(&path), ErrorKind::Locked);
            lock.unlock().unwrap();
        } else {
            refused(LockFile::try_lock(&path), ErrorKind::Unsupported);
        }
        Operation::prepare(&at.join("d"));
        let target = at.join("d/folder");
        match DirSnapshot::open(&target) {
            Ok(snapshot) => {
                let next = DirOptions::new().update(&target).and_then(|mut next| {
                    next.write("kept", "new")?;
                    next.commit()
                });
                assert_eq!(snapshot.read("kept").unwrap(), operations::OLD, "{case}: {next:?}");
            }
            Err(e) => {
                let is_told = [ErrorKind::Unsupported, ErrorKind::Locked].contains(&e.kind());
                assert!(is_told && (!has_locks || lacks(refuse, "inodes")), "{case}: {e}");
            }
        }
        let _ = recover(at.join("d")).unwrap();
        let health = health::HealthOptions::new().min_free_bytes(0).check([at]);
        let found = &health.dirs[0];
        assert!(found.writable && found.exists, "{case}: {found:?}");
        assert_eq!(found.durable, !lacks(refuse, "dirsync"), "{case}: {found:?}");
        assert_eq!(found.dir_swap, !lacks(refuse, "rename2"), "{case}: {found:?}");
        assert_eq!(found.locks, has_locks, "{case}: {found:?}");
        assert_eq!(names(at).iter().filter(|name| durafile::is_remnant(name)).count(), 0, "{case}");
    });
}
