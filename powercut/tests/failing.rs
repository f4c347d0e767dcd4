//! Goal: when the disk fails, each save's error tells it, names what the target holds, and the old
//! content or the new one is complete; once the disk works again, so do saves. Method: the rig's disk
//! fails its writes, its flushes or both from the nth on; every operation runs on ext4, XFS and btrfs
//! there, which go read-only or shut down; then they are mounted again from what the disk has.
#![cfg(target_os = "linux")]

#[allow(dead_code, unused_macros, unused_imports, reason = "the library's own tests need more of it")]
#[path = "../../tests/it/support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use durafile::{Durability, ErrorKind, TargetState, recover};
use fs_err as fs;
use support::operations::{self, Operation, Tree, judge, remnants, tree};
use support::{expect_pass, has, is_root, job, rerun, skip, this_test};

/// The rig, by its orders.
struct Disk {
    rig: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    at: PathBuf,
}

impl Disk {
    fn new(file_system: &str, home: &Path) -> Disk {
        // Its name is also that of the file behind the loop device.
        let dir = home.join(format!("failing-{}-{file_system}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let host = format!("/proc/{}/ns/mnt", std::os::unix::process::parent_id());
        let mut command = Command::new(env!("CARGO_BIN_EXE_powercut"));
        command.args(["bare", "--fs", file_system, "--host", &host, "--dir"]).arg(&dir);
        let mut rig = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, answers) = (rig.stdin.take().unwrap(), rig.stdout.take().unwrap());
        Disk { rig, orders, answers: BufReader::new(answers), at: dir.join("fs") }
    }

    fn try_order(&mut self, order: &str) -> Result<(), String> {
        writeln!(self.orders, "{order}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        if answer.starts_with("ok") { Ok(()) } else { Err(format!("{order}: {answer}")) }
    }

    #[track_caller]
    fn order(&mut self, order: &str) {
        self.try_order(order).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.try_order("fail");
        let _ = self.try_order("unmount");
        let _ = self.rig.kill();
        let _ = self.rig.wait();
    }
}

#[derive(Default)]
struct Tally {
    runs: usize,
    failed: usize,
    after_rename: usize,
    pending: usize,
    read_only: usize,
}

/// Which requests fail.
const WAYS: [&str; 3] = ["writes N", "flushes N", "writes N flushes N"];

fn every_operation(disk: &mut Disk, file_system: &str) -> Tally {
    let mut tally = Tally::default();
    let plain = disk.at.parent().unwrap().join("plain");
    disk.order("format");
    disk.order("mount");
    Operation::prepare(&disk.at.join("d"));
    disk.order("unmount");
    disk.order("keep 0");
    for operation in operations::all().iter().filter(|operation| is_of_its_own_kind(operation)) {
        let (before, after) = operation.learn(&plain);
        for way in WAYS {
            let mut passed = 0;
            // From the first request on, and later, until it doesn't matter any more.
            for count in [0, 1, 3, 8, 21] {
                let fault = way.replace('N', &count.to_string());
                let case = format!("{file_system}, {fault}: {}", operation.name);
                let failed = with_fault(disk, operation, &fault, (&before, &after), &case, &mut tally);
                passed += usize::from(!failed);
                if passed == 2 {
                    break;
                }
            }
        }
    }
    tally
}

/// All, where there is time; else not every strategy of every set.
fn is_of_its_own_kind(operation: &Operation) -> bool {
    let name = &operation.name;
    std::env::var_os("DURAFILE_FULL").is_some()
        || !["PerFile", "FileSystem", "HardLink", "write_", "skip", "parents"]
            .iter()
            .any(|part| name.contains(part))
}

/// Whether it failed.
fn with_fault(
    disk: &mut Disk,
    operation: &Operation,
    fault: &str,
    (before, after): (&Tree, &Tree),
    case: &str,
    tally: &mut Tally,
) -> bool {
    disk.order("load 0");
    disk.order("mount");
    let dir = disk.at.join("d");
    assert_eq!(&tree(&dir), before, "{case}");
    disk.order(&format!("fail {fault}"));
    let result = operation.run(&dir);
    tally.runs += 1;
    if let Err(e) = &result {
        let kinds = [ErrorKind::Io, ErrorKind::ReadOnlyFilesystem];
        assert!(kinds.contains(&e.kind()), "{case}: {e}: {:?}", e.io_error());
        assert_ne!(e.target(), TargetState::Unknown, "{case}: {e}");
        tally.failed += 1;
        tally.after_rename += usize::from(e.target() == TargetState::Replaced);
        tally.pending += usize::from(e.target() == TargetState::Pending);
        tally.read_only += usize::from(e.kind() == ErrorKind::ReadOnlyFilesystem);
        // As long as the file system answers, and could still remove something, what it shows must
        // fit what the error says.
        let is_writable = std::fs::write(disk.at.join("probe"), "").is_ok();
        if is_writable && std::fs::read(dir.join("file")).is_ok() {
            judge(e, &dir, before, after).unwrap_or_else(|wrong| panic!("{case}: {e}: {wrong}"));
        }
    }
    let _ = disk.try_order("unmount");
    disk.order("fail");
    disk.order("mount");
    let recovery = recover(&dir).unwrap_or_else(|e| panic!("{case}: {e}: {:?}", e.io_error()));
    assert!(recovery.quarantined().is_empty() && recovery.in_use().is_empty(), "{case}: {recovery:?}");
    let now = tree(&dir);
    assert!(remnants(&now).is_empty(), "{case}: {:?}", remnants(&now));
    match &result {
        Ok(Durability::Full) => assert_eq!(&now, after, "{case}: acknowledged and lost"),
        _ if operation.name.starts_with("Batch") || operation.name == "write, None" => {}
        _ => assert!(now == *before || now == *after, "{case}: neither old nor new: {result:?}"),
    }
    if operation.name.starts_with("Batch") {
        let is_whole = |(path, seen): (&PathBuf, &Vec<u8>)| {
            before.get(path) == Some(seen) || after.get(path) == Some(seen)
        };
        assert!(now.iter().all(is_whole), "{case}");
    }
    if now != *after {
        operation.run(&dir).unwrap_or_else(|e| panic!("{case}, again: {e}: {:?}", e.io_error()));
        assert_eq!(&tree(&dir), after, "{case}, again");
    }
    disk.order("unmount");
    result.is_err()
}

fn on(test: &str, file_system: &str) {
    if let Some((home, _)) = job(test) {
        let mut disk = Disk::new(file_system, &home);
        let tally = every_operation(&mut disk, file_system);
        let Tally { runs, failed, after_rename, pending, read_only } = tally;
        let said = format!(
            "TRIED {file_system} on a failing disk: {runs} runs, {failed} failed ({after_rename} after a rename, \
             {pending} pending, {read_only} as read-only)\n"
        );
        std::io::stderr().lock().write_all(said.as_bytes()).unwrap();
        assert!(failed > runs / 4, "{said}");
        return;
    }
    let mkfs = format!("mkfs.{file_system}");
    if !is_root() || fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        return skip("it takes root and /dev/fuse");
    }
    if has("unshare", &["-m", "true"]) && has(&mkfs, &["-V"]) {
        let home = support::dir();
        let prefix = ["unshare", "-m"].map(std::ffi::OsStr::new);
        expect_pass(&rerun(&prefix, test, home.path(), "mounts").output().unwrap());
    }
}

#[test]
fn ext4_on_a_disk_that_fails_in_the_middle_of_every_operation() {
    on(&this_test!(), "ext4");
}

#[test]
fn xfs_on_a_disk_that_fails_in_the_middle_of_every_operation() {
    on(&this_test!(), "xfs");
}

#[test]
fn btrfs_on_a_disk_that_fails_in_the_middle_of_every_operation() {
    on(&this_test!(), "btrfs");
}
