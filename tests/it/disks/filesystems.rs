//! Goal: every rule holds on each file system that people keep their files on. Method: each is
//! made in an image, mounted where only a child sees it, and the tests of the rules, the races and
//! the model run there in this same executable. The mounts end with the child, however it ends.

use std::env;
use std::io::Write;
use std::process::Command;

use durafile::Durability;
use fs_err as fs;

use crate::support::{
    dir, expect_pass, has, in_private_mounts, job, long, mode, names, rerun, skip, this_test,
};

/// Only these: not this module again, and not what is independent of the file system.
const FILTERS: &[&str] = &[
    "save::rules_",
    "save::property::",
    "dir::",
    "crash::random_dirs::",
    "portable::dir_writers::",
    "portable::errors::",
    "portable::update::",
    "fs_ops::rules::",
    "overwrite::",
    "update::rules::",
    "set::options::",
    "portable::races::",
];

/// What a file system decides most about.
const SHORT_FILTERS: &[&str] = &["save::rules_", "dir::rules::"];

/// Mounts by the script, which has an empty directory `$DIR` to work in, at `$DIR/mnt`.
fn everything_passes_on(name: &str, tools: &[&str], script: &str) {
    if !has("unshare", &["-m", "true"]) {
        return;
    }
    for tool in tools {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        if !found.is_ok_and(|found| found.status.success()) {
            return skip(&format!("{tool} is not installed"));
        }
    }
    let home = dir();
    let filters = long::choose(SHORT_FILTERS, FILTERS, &format!("{} on {name}", SHORT_FILTERS.join(" and ")));
    let script = format!(
        "set -e\ncd \"$DIR\"\nmkdir mnt\n{script}\ncd /\nchmod 755 \"$DIR/mnt\"\n\
         export DURAFILE_TEST_DIR=\"$DIR/mnt\"\nexec \"$0\" \"$@\""
    );
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script])
        .arg(env::current_exe().unwrap())
        .args(filters)
        .env("DIR", home.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "on {name}:\n{stdout}\n{stderr}");
    let passed = stdout
        .split_once("test result: ok. ")
        .and_then(|(_, rest)| rest.split(' ').next()?.parse::<u32>().ok());
    let passed = passed.unwrap_or_else(|| panic!("no result on {name}:\n{stdout}"));
    assert!(passed > 60, "only {passed} tests ran on {name}");
    let mut said = format!("on {name}: {passed} passed\n");
    for line in stderr.lines().filter(|line| line.starts_with("SKIPPED")) {
        said.push_str(&format!("on {name}: {line}\n"));
    }
    std::io::stderr().lock().write_all(said.as_bytes()).unwrap();
}

#[test]
fn every_rule_holds_on_ext4_with_a_journal() {
    everything_passes_on(
        "ext4",
        &["mkfs.ext4"],
        "truncate -s 256M image; mkfs.ext4 -q -F -b 4096 image; mount -o loop image mnt",
    );
}

#[test]
fn every_rule_holds_on_xfs() {
    everything_passes_on(
        "XFS",
        &["mkfs.xfs"],
        "truncate -s 320M image; mkfs.xfs -q image; mount -o loop image mnt",
    );
}

#[test]
fn every_rule_holds_on_btrfs() {
    everything_passes_on(
        "btrfs",
        &["mkfs.btrfs"],
        "truncate -s 256M image; mkfs.btrfs -q image >notes 2>&1; mount -o loop image mnt",
    );
}

#[test]
fn every_rule_holds_on_tmpfs() {
    everything_passes_on("tmpfs", &[], "mount -t tmpfs -o size=256m tmpfs mnt");
}

#[test]
fn every_rule_holds_on_an_overlay() {
    everything_passes_on(
        "overlay",
        &["mkfs.ext4"],
        "truncate -s 256M image; mkfs.ext4 -q -F -b 4096 image; mkdir layers; mount -o loop image layers
         mkdir layers/lower layers/upper layers/work
         mount -t overlay -o lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work overlay mnt",
    );
}

#[test]
fn a_file_of_an_overlays_lower_layer_is_replaced_and_keeps_what_it_was() {
    let script = "cd \"$DIR\"; mkdir mnt layers; mount -t tmpfs tmpfs layers
        mkdir layers/lower layers/upper layers/work
        echo old >layers/lower/file; chown 1001:1002 layers/lower/file; chmod 640 layers/lower/file
        ln -s file layers/lower/link
        mount -t overlay -o lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work overlay mnt";
    in_private_mounts(&this_test!(), script, |dir| {
        let path = dir.join("mnt/file");
        for (number, name) in ["file", "link"].into_iter().enumerate() {
            let contents = format!("new {number}");
            durafile::write(dir.join("mnt").join(name), &contents).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
            let found = fs::metadata(&path).unwrap();
            use std::os::unix::fs::MetadataExt;
            assert_eq!((found.uid(), found.gid(), mode(&path)), (1001, 1002, 0o640));
        }
        assert_eq!(names(dir.join("mnt")), ["file", "link"]);
        let lower = fs::read_to_string(dir.join("layers/lower/file")).unwrap();
        assert_eq!(lower, "old\n");
    });
}

#[test]
fn a_full_journaled_disk_is_told_and_keeps_the_old_content() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        let dir = home.join("mnt");
        let path = dir.join("file");
        let mut fill = std::fs::File::create(dir.join("filler")).unwrap();
        while fill.write_all(&[1; 65536]).is_ok() {}
        while fill.write_all(&[1; 512]).is_ok() {}
        drop(fill);
        let before = names(&dir);
        for size in [300_000, 50_000_000] {
            let error = durafile::write(&path, vec![b'n'; size]).unwrap_err();
            assert_eq!(error.kind(), durafile::ErrorKind::StorageFull, "{error:?}");
            assert_eq!(fs::read(&path).unwrap(), b"old\n");
            assert_eq!(names(&dir), before);
        }
        fs::remove_file(dir.join("filler")).unwrap();
        let committed = durafile::write(&path, vec![b'n'; 300_000]).unwrap();
        assert_eq!(committed.durability(), Durability::Full);
        return;
    }
    if !has("unshare", &["-m", "true"]) || !has("mkfs.ext4", &["-V"]) {
        return;
    }
    let home = dir();
    let script = "set -e; cd \"$DIR\"; mkdir mnt; truncate -s 16M image; mkfs.ext4 -q -F -b 4096 image
        mount -o loop image mnt; echo old >mnt/file; exec \"$0\" \"$@\"";
    let prefix = ["unshare", "-m", "sh", "-c", script].map(std::ffi::OsStr::new);
    expect_pass(&rerun(&prefix, &test, home.path(), "").output().unwrap());
}
