//! Goal: a set makes the syncs that its strategy promises, no more and no fewer, and tells the truth
//! when one of them fails. Method: a child performs it under strace, all of whose threads are read.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use durafile::{Batch, DirOptions, SyncStrategy, Transaction, TransactionOptions, WriteOptions};
use fs_err as fs;

use crate::support::strace::{self, marked};
use crate::support::{dir, expect_pass, in_private_mounts, job, names, rerun, this_test};

/// The names of the calls that any thread made between the marks, with their arguments.
pub(crate) struct Calls(Vec<(String, String)>);

impl Calls {
    fn parse(log: &str) -> Calls {
        let inside = log.split_once("/durafile-trace-begins").expect("no mark in the trace").1;
        let inside = inside.split_once("/durafile-trace-ends").map_or(inside, |(inside, _)| inside);
        let calls = inside.lines().skip(1).filter_map(|line| {
            let (_thread, rest) = line.split_once(char::is_whitespace)?;
            let (name, args) = rest.trim_start().split_once('(')?;
            (!name.contains(' ')).then(|| (name.to_owned(), args.to_owned()))
        });
        Calls(calls.collect())
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.0.iter().filter(|(call, _)| call == name).count()
    }

    /// How many files were written out and waited for.
    pub(crate) fn waits_for_write_out(&self) -> usize {
        self.0.iter().filter(|(_, args)| args.contains("SYNC_FILE_RANGE_WAIT_AFTER")).count()
    }

    /// How often something is synced after names have changed.
    fn rounds(&self) -> usize {
        let mut rounds = 0;
        let mut is_first = true;
        for (name, args) in &self.0 {
            match name.as_str() {
                "fsync" | "syncfs" if !args.contains("memfd:") => {
                    rounds += usize::from(is_first);
                    is_first = false;
                }
                "linkat" | "renameat" | "renameat2" | "unlinkat" | "mkdirat" => is_first = true,
                _ => {}
            }
        }
        rounds
    }

    /// fsync of files, fsync of directories, syncfs.
    pub(crate) fn syncs(&self, dirs: &[&str]) -> (usize, usize, usize) {
        assert_eq!(self.count("fdatasync") + self.count("sync") + self.count("msync"), 0);
        let is_dir = |args: &str| dirs.iter().any(|dir| args.contains(&format!("{dir}>")));
        let fsyncs = self.0.iter().filter(|(name, _)| name == "fsync");
        let (of_dirs, of_files): (Vec<_>, Vec<_>) = fsyncs.partition(|(_, args)| is_dir(args));
        // One asks whether it may be called at all, and syncs nothing.
        let whole = self.0.iter().filter(|(name, args)| name == "syncfs" && !args.contains("memfd:"));
        (of_files.len(), of_dirs.len(), whole.count())
    }
}

/// Runs the job in a child under strace. None in the child itself.
pub(crate) fn run(
    test: &str,
    case: &str,
    options: &[&str],
    work: &dyn Fn(&Path, &str),
) -> Option<(Calls, tempfile::TempDir)> {
    if let Some((home, case)) = traced_job(test) {
        work(&home, &case);
        return None;
    }
    let home = dir();
    let calls = trace(test, case, options, home.path());
    Some((calls, home))
}

/// Runs the job under strace, in this directory.
fn trace(test: &str, case: &str, options: &[&str], home: &Path) -> Calls {
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let mut prefix: Vec<&OsStr> = ["strace", "-f", "-y", "-s", "64", "-o"].map(OsStr::new).to_vec();
    prefix.push(log.as_os_str());
    prefix.extend(options.iter().map(OsStr::new));
    prefix.push(OsStr::new("--"));
    expect_pass(&rerun(&prefix, test, home, case).output().unwrap());
    Calls::parse(&fs::read_to_string(&log).unwrap())
}

fn strategy(name: &str) -> SyncStrategy {
    match name {
        "Auto" => SyncStrategy::Auto,
        "PerFile" => SyncStrategy::PerFile,
        _ => SyncStrategy::FileSystem,
    }
}

/// Whether the test directory is on a file system whose `syncfs` is trusted.
pub(crate) fn has_syncfs(dir: &Path) -> bool {
    const EXT4: u64 = 0xef53;
    const TRUSTED: [u64; 2] = [0x5846_5342, 0x9123_683e];
    match rustix::fs::statfs(dir).unwrap().f_type as u64 {
        EXT4 => has_journal(dir),
        other => TRUSTED.contains(&other),
    }
}

/// Ext4 shows how it writes data only where it has a journal.
fn has_journal(dir: &Path) -> bool {
    let device = fs::metadata(dir).unwrap().dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let device = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).unwrap();
    let options = Path::new("/proc/fs/ext4").join(device.file_name().unwrap()).join("options");
    fs::read_to_string(options).unwrap().contains("data=")
}

/// Runs the body where `syncfs` is trusted: on an image with a journal, if the test directory is no such place.
pub(crate) fn where_syncfs_is_trusted(test: &str, body: impl FnOnce()) {
    let script = "cd \"$DIR\"; mkdir mnt; truncate -s 1G image; mkfs.ext4 -q -F image
        mount -o loop image mnt; cd /; export DURAFILE_TEST_DIR=\"$DIR/mnt\"";
    if job(test).is_some() || has_syncfs(dir().path()) {
        body();
    } else {
        in_private_mounts(test, script, |_| body());
    }
}

/// In the child that is traced: its directory and case.
pub(crate) fn traced_job(test: &str) -> Option<(PathBuf, String)> {
    job(test).filter(|(_, case)| !case.is_empty())
}

/// With more, `Auto` may do otherwise: see `adaptive.rs`.
fn many(strategy: &str) -> usize {
    if strategy == "Auto" { 49 } else { 150 }
}

#[test]
fn a_batch_syncs_each_file_once_or_the_file_system_and_each_directory_once() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    where_syncfs_is_trusted(&test, || {
        for name in ["Auto", "PerFile", "FileSystem"] {
            let work = |home: &Path, case: &str| {
                fs::create_dir(home.join("one")).unwrap();
                fs::create_dir(home.join("two")).unwrap();
                marked(|| {
                    let mut batch = Batch::new().sync(strategy(case));
                    for n in 0..many(case) {
                        let folder = if n % 3 == 0 { "one" } else { "two" };
                        batch.write(home.join(folder).join(n.to_string()), "x").unwrap();
                    }
                    batch.commit().unwrap();
                });
            };
            let Some((calls, home)) = run(&test, name, &[], &work) else { return };
            let whole = name == "FileSystem" && has_syncfs(home.path());
            let n = many(name);
            let expected = if whole { (0, 2, 1) } else { (n, 2, 0) };
            assert_eq!(calls.syncs(&["/one", "/two"]), expected, "{name}");
            // What a new file costs besides: look, create, write, start of write-out, rename, close.
            let renames = calls.count("renameat");
            assert_eq!((renames, calls.count("pwrite64")), (n, n), "{name}");
            assert!(calls.count("statx") < 30, "{name}: {} statx", calls.count("statx"));
        }
    });
}

#[test]
fn a_set_of_any_size_is_saved_where_no_thread_can_be_had() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    let work = |home: &Path, case: &str| {
        // The only one.
        std::thread::spawn(|| ()).join().unwrap();
        marked(|| {
            let options = WriteOptions::new().single_flush(case == "single_flush");
            let mut batch = Batch::new().options(options);
            for n in 0..300 {
                batch.write(home.join(n.to_string()), "x").unwrap();
            }
            assert_eq!(batch.commit().unwrap().len(), 300);
        });
    };
    let no_threads = ["-e", "inject=clone,clone3:error=EAGAIN:when=2+"];
    for case in ["Auto", "single_flush"] {
        let Some((calls, home)) = run(&this_test!(), case, &no_threads, &work) else { return };
        assert_eq!(names(home.path()).len(), 300, "{case}");
        assert!(calls.count("clone3") + calls.count("clone") > 0, "{case}: none was asked for");
    }
}

#[test]
fn what_is_unchanged_is_synced_under_every_strategy() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    for name in ["Auto", "PerFile", "FileSystem"] {
        let work = |home: &Path, case: &str| {
            fs::write(home.join("same"), "same").unwrap();
            marked(|| {
                let options = WriteOptions::new().skip_unchanged(true);
                let mut batch = Batch::new().options(options).sync(strategy(case));
                batch.write(home.join("same"), "same").unwrap();
                assert!(batch.commit().unwrap()[0].is_unchanged());
            });
        };
        let Some((calls, _)) = run(&this_test!(), name, &[], &work) else { return };
        assert_eq!(calls.count("fsync"), 2, "{name}: the file and its directory");
    }
}

#[test]
fn a_stranger_s_dirty_data_does_not_matter_to_a_small_set() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    // No call that waits for it is made, however much there is: time would prove less.
    let work = |home: &Path, _: &str| {
        let strangers = home.join("stranger");
        fs::write(&strangers, vec![1; 8 << 20]).unwrap();
        marked(|| {
            let mut batch = Batch::new();
            for n in 0..16 {
                batch.write(home.join(n.to_string()), "x").unwrap();
            }
            batch.commit().unwrap();
            let mut change = Transaction::begin(home).unwrap();
            for n in 0..16 {
                change.write(n.to_string(), "y").unwrap();
            }
            change.commit().unwrap();
        });
    };
    let Some((calls, _)) = run(&this_test!(), "few", &[], &work) else { return };
    assert_eq!(calls.count("syncfs") + calls.count("sync"), 0);
    assert!(calls.count("fsync") >= 32);
    assert!(calls.0.iter().all(|(_, args)| !args.contains("stranger")));
}

/// More than `Auto` syncs one by one, while nobody else writes.
const LARGE: usize = 60;

/// Without a journal `syncfs` flushes the device before it has written the last inodes.
#[test]
fn ext4_without_a_journal_is_never_synced_as_a_whole() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    let script = "cd \"$DIR\"; mkdir mnt; truncate -s 64M image
        mkfs.ext4 -q -F -O ^has_journal image; mount -o loop image mnt; cd /";
    in_private_mounts(&test, script, |home| {
        let case = job(&test).unwrap().1;
        if case.is_empty() {
            for case in ["Auto", "FileSystem"] {
                let calls = trace(&test, case, &[], &home.join("mnt"));
                let (files, _, whole) = calls.syncs(&["/b", "/t", "/d"]);
                assert_eq!(whole, 0, "{case}");
                assert!(files >= 3 * LARGE, "{case}: {files} syncs");
            }
            return;
        }
        let home = home.join(&case);
        fs::create_dir_all(home.join("b")).unwrap();
        fs::create_dir(home.join("t")).unwrap();
        rustix::fs::sync();
        marked(|| {
            let how = strategy(&case);
            let mut batch = Batch::new().sync(how);
            let mut change = TransactionOptions::new().sync(how).begin(home.join("t")).unwrap();
            let mut new = DirOptions::new().sync(how).update(home.join("d")).unwrap();
            for n in 0..LARGE {
                batch.write(home.join("b").join(n.to_string()), "x").unwrap();
                change.write(n.to_string(), "x").unwrap();
                new.write(n.to_string(), "x").unwrap();
            }
            batch.commit().unwrap();
            change.commit().unwrap();
            new.commit().unwrap();
        });
    });
}

/// Changes files in a transaction: `3 Auto d` saves three new files into `d`.
fn transact(home: &Path, case: &str) {
    fs::create_dir(home.join("d")).unwrap();
    let words: Vec<&str> = case.split(' ').collect();
    let folder = if words[2] == "d" { "d/" } else { "" };
    marked(|| {
        let options = TransactionOptions::new().sync(strategy(words[1]));
        let mut change = options.begin(home).unwrap();
        for n in 0..words[0].parse::<usize>().unwrap() {
            change.write(format!("{folder}file-{n}"), "x").unwrap();
        }
        change.commit().unwrap();
    });
}

/// Where the journal is totally ordered, the sync of the record covers all content, and that of the targets' names covers the
/// record's name.
#[test]
fn a_transaction_makes_few_syncs_in_two_rounds_on_a_journaled_ext4() {
    let script =
        "cd \"$DIR\"; mkdir mnt; truncate -s 64M image; mkfs.ext4 -q -F image; mount -o loop image mnt; cd /";
    few_syncs(
        &this_test!(),
        script,
        2,
        &[
            ("1 PerFile root", 2),
            ("1 Auto root", 2),
            ("1 Auto d", 2),
            ("1 FileSystem d", 2),
            ("2 Auto root", 2),
            ("7 Auto d", 2),
            ("60 Auto d", 2),
            ("30 FileSystem root", 2),
            ("30 FileSystem d", 2),
            ("3 PerFile root", 3 + 3),
            ("3 PerFile d", 3 + 3),
        ],
    );
}

#[test]
fn a_transaction_makes_few_syncs_in_four_rounds_on_btrfs() {
    let script =
        "cd \"$DIR\"; mkdir mnt; truncate -s 128M image; mkfs.btrfs -q image; mount -o loop image mnt; cd /";
    few_syncs(
        &this_test!(),
        script,
        4,
        &[
            ("1 Auto d", 2),
            ("30 FileSystem root", 3),
            ("30 FileSystem d", 4),
            ("3 PerFile root", 3 + 4),
            ("3 PerFile d", 3 + 5),
            ("3 Auto root", 3 + 4),
            ("3 Auto d", 3 + 5),
        ],
    );
}

#[test]
fn a_transaction_makes_few_syncs_in_four_rounds_where_nothing_is_ordered() {
    let script = "cd \"$DIR\"; mkdir mnt; truncate -s 64M image
        mkfs.ext4 -q -F -O ^has_journal image; mount -o loop image mnt; cd /";
    few_syncs(
        &this_test!(),
        script,
        4,
        &[
            ("1 Auto d", 2),
            ("16 FileSystem d", 16 + 5),
            ("3 PerFile root", 3 + 4),
            ("3 Auto root", 3 + 4),
            ("3 Auto d", 3 + 5),
        ],
    );
}

fn few_syncs(test: &str, script: &str, most_rounds: usize, cases: &[(&str, usize)]) {
    if job(test).is_none() && !strace::works() {
        return;
    }
    in_private_mounts(test, script, |home| {
        let case = job(test).unwrap().1;
        if !case.is_empty() {
            return transact(home, &case);
        }
        for (number, (case, most)) in cases.iter().enumerate() {
            let here = home.join("mnt").join(number.to_string());
            fs::create_dir(&here).unwrap();
            let calls = trace(test, case, &[], &here);
            let (files, dirs, whole) = calls.syncs(&["/d"]);
            assert_eq!(files + dirs + whole, *most, "{case}");
            let rounds = calls.rounds();
            assert!(rounds <= most_rounds, "{case}: {rounds} rounds");
            let threads = calls.count("clone3") + calls.count("clone");
            let is_small = case.split(' ').next().unwrap().parse::<usize>().unwrap() < 8;
            println!("{case}: {} calls, {most} syncs, {rounds} rounds, {threads} threads", calls.0.len());
            assert!(threads == 0 || !is_small, "{case}: {threads} threads");
        }
    });
}

/// What the child prints of an error: kind, state, and the states of the files.
pub(crate) fn tell<T>(result: durafile::Result<T>) {
    match result {
        Ok(_) => println!("\nSAID Ok"),
        Err(e) => {
            let states: Vec<String> = e.files().iter().map(|(_, state)| format!("{state:?}")).collect();
            println!("\nSAID {} {:?} {}", e.kind(), e.target(), states.join(","));
        }
    }
}

fn said(output: &std::process::Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("SAID ")).unwrap_or_else(|| panic!("{text}"));
    line.to_owned()
}

pub(crate) fn inject(
    test: &str,
    case: &str,
    fault: &str,
    work: &dyn Fn(&Path, &str),
) -> Option<(String, tempfile::TempDir)> {
    if let Some((home, case)) = traced_job(test) {
        work(&home, &case);
        return None;
    }
    let home = dir();
    let output = strace::faulty(&[fault], test, home.path(), case).output().unwrap();
    Some((said(&output), home))
}

#[test]
fn an_injected_error_leaves_each_file_as_the_error_says() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    let work = |home: &Path, case: &str| {
        fs::write(home.join("0"), "old").unwrap();
        let mut batch = Batch::new().options(WriteOptions::new()).sync(strategy(case));
        for n in 0..4 {
            batch.write(home.join(n.to_string()), "new").unwrap();
        }
        tell(batch.commit());
    };
    let unchanged = "Unchanged,Unchanged,Unchanged,Unchanged";
    let replaced = "Replaced,Replaced,Replaced,Replaced";
    for (case, fault, expected) in [
        ("PerFile", "inject=fsync:error=EIO:when=1", format!("io Unchanged {unchanged}")),
        ("PerFile", "inject=fsync:error=EIO:when=4", format!("io Unchanged {unchanged}")),
        ("PerFile", "inject=fsync:error=EIO:when=5", format!("io Replaced {replaced}")),
        ("PerFile", "inject=fsync:error=EINVAL:when=5", "Ok".to_owned()),
        ("PerFile", "inject=fsync:error=ENOSPC:when=2", format!("storage_full Unchanged {unchanged}")),
        ("Auto", "inject=fsync:error=EIO:when=1", format!("io Unchanged {unchanged}")),
        (
            "PerFile",
            "inject=renameat:error=EIO:when=3",
            "io Unchanged Replaced,Replaced,Unchanged,Unchanged".to_owned(),
        ),
        ("PerFile", "inject=renameat:error=ENOSPC:when=1", format!("storage_full Unchanged {unchanged}")),
    ] {
        let Some((said, home)) = inject(&this_test!(), case, fault, &work) else { return };
        assert_eq!(said, expected, "{case}, {fault}");
        let content = |n: usize| fs::read_to_string(home.path().join(n.to_string())).ok();
        let states = expected.rsplit(' ').next().unwrap();
        for (n, state) in states.split(',').enumerate().filter(|_| expected != "Ok") {
            let old = (n == 0).then(|| "old".to_owned());
            let wanted = if state == "Replaced" { Some("new".to_owned()) } else { old };
            assert_eq!(content(n), wanted, "{case}, {fault}: file {n}");
        }
        assert!(names(home.path()).iter().all(|name| !durafile::is_remnant(name)), "{case}, {fault}");
    }
}
