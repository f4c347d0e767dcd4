//! Goal: on older kernels a save promises no less, and costs little more. Method: a kernel that calls itself an
//! old one, one that really has no lasting ids of mounts, and faults where a newer one would do as asked.

use std::path::Path;

use durafile::WriteOptions;
use fs_err as fs;

use crate::support::strace::{run, traced, works};
use crate::support::uml::{Kernel, can_boot};
use crate::support::{dir, expect_pass, has, in_private_mounts, job, rerun, this_test};

/// Until Linux 5.2 `sync_file_range` did not wait for every page.
#[test]
fn before_linux_5_2_single_flush_is_the_ordinary_protocol() {
    let test = this_test!();
    if job(&test).is_none() && (!has("setarch", &["--uname-2.6", "true"]) || !works()) {
        return;
    }
    if job(&test).is_none() && !has("mkfs.ext4", &["-V"]) {
        return;
    }
    let logs = dir();
    let count = |prefix: &str| {
        let log = logs.path().join("log");
        let script = format!(
            "cd \"$DIR\"; mkdir mnt; truncate -s 64M image; mkfs.ext4 -q -F -b 4096 image; mount -o loop image mnt
             exec {prefix} strace -f -y -e trace=fsync,sync_file_range -o {} -- \"$0\" \"$@\"",
            log.display()
        );
        in_private_mounts(&test, &script, |home| {
            WriteOptions::new().single_flush(true).write(home.join("mnt/file"), "new").unwrap();
        });
        let said = fs::read_to_string(&log).unwrap_or_default();
        (said.matches(" fsync(").count(), said.matches("WAIT_AFTER").count())
    };
    let new = count("");
    if job(&test).is_none() {
        let old = count("setarch --uname-2.6");
        assert_eq!(
            (new, old),
            ((1, 1), (2, 0)),
            "syncs, and waits for write-out: here, and on an old kernel"
        );
    }
}

/// Linux 6.8 was the first to give mounts an id that is never used again.
#[test]
fn without_lasting_ids_of_mounts_the_journal_is_asked_for_once_a_second() {
    let test = this_test!();
    let save = |dir: &Path| {
        let path = dir.join("mnt/file");
        for version in ["first", "second", "third"] {
            assert!(fs::symlink_metadata(format!("/durafile-begins-{version}")).is_err());
            WriteOptions::new().single_flush(true).write(&path, version).unwrap();
        }
    };
    if let Some((home, _)) = job(&test) {
        return save(&home);
    }
    if !can_boot() || !works() {
        return;
    }
    let home = dir();
    let log = home.path().join("log");
    let prefix = ["strace", "-f", "-o"].map(std::ffi::OsStr::new);
    let prefix = [&prefix[..], &[log.as_os_str(), std::ffi::OsStr::new("--")]].concat();
    let script = "mkdir mnt; mkfs.ext4 -q -F -b 4096 $DISK; mount $DISK mnt";
    let kernel = Kernel { disk: 64, modules: &[], script, seconds: 120 };
    let Some(output) = kernel.run(home.path(), &rerun(&prefix, &test, home.path(), "")) else { return };
    expect_pass(&output);
    let log = fs::read_to_string(log).unwrap();
    let saves: Vec<&str> = log.split("/durafile-begins-").skip(1).collect();
    for call in ["fstatfs(", "readlink(", "/proc/fs/"] {
        let asked: Vec<bool> = saves.iter().map(|save| save.contains(call)).collect();
        assert_eq!(asked, [true, false, false], "{call}: {log}");
    }
}

/// Until Linux 6.10 a link by descriptor needed a right that few have (`ENOENT`).
#[test]
fn where_descriptors_can_t_be_linked_only_the_first_save_tries_it() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    let refuse = ["-e", "inject=linkat:error=ENOENT:when=1"];
    let Some(trace) = run(&test, "", &refuse, &|dir, _| {
        durafile::write(dir.join("first"), "new").unwrap();
        traced(|| durafile::write(dir.join("second"), "new"));
    }) else {
        return;
    };
    let links: Vec<_> = trace.calls.iter().filter(|call| call.name == "linkat").collect();
    assert!(links.len() == 1 && links[0].args.contains("/proc/self/fd"), "{links:?}");
}
