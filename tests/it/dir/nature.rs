//! Goal: a directory is not replaced by one that lacks what belongs to its inode. Method: real subvolumes, projects and
//! flags, on file systems that have them; what encryption would come to is a unit test of the rule.

use std::path::Path;
use std::process::Command;

use durafile::{AtomicDir, ErrorKind};
use fs_err as fs;

use crate::support::{has, in_private_mounts, is_root, names, refused, skip, this_test};

fn sh(script: &str, dir: &Path) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refuses(target: &Path, both: bool) {
    let before = names(target.parent().unwrap());
    if both {
        refused(AtomicDir::create(target), ErrorKind::Unsupported);
        refused(AtomicDir::update(target), ErrorKind::Unsupported);
    } else {
        refused(AtomicDir::update(target).unwrap().commit(), ErrorKind::Unsupported);
    }
    assert_eq!(names(target.parent().unwrap()), before);
}

fn can(tool: &str) -> bool {
    if !is_root() {
        skip("only root can mount");
        return false;
    }
    has(tool, &["-V"])
}

#[test]
fn a_subvolume_is_not_replaced_by_a_directory() {
    if !can("mkfs.btrfs") {
        return;
    }
    let script = "cd \"$DIR\"; mkdir mnt; truncate -s 256M image; mkfs.btrfs -q image >notes 2>&1
        mount -o loop image mnt; cd /";
    in_private_mounts(&this_test!(), script, |home| {
        let mnt = home.join("mnt");
        sh(
            "btrfs -q subvolume create sub; mkdir dir; echo old >sub/file; btrfs -q subvolume create dir/nested",
            &mnt,
        );
        refuses(&mnt.join("sub"), true);
        refuses(&mnt.join("dir"), false);
        assert_eq!(fs::read_to_string(mnt.join("sub/file")).unwrap(), "old\n");
    });
}

#[test]
fn that_a_directory_is_not_copied_on_write_is_kept() {
    if !can("mkfs.btrfs") {
        return;
    }
    let script = "cd \"$DIR\"; mkdir mnt; truncate -s 256M image; mkfs.btrfs -q image >notes 2>&1
        mount -o loop image mnt; cd /";
    in_private_mounts(&this_test!(), script, |home| {
        let mnt = home.join("mnt");
        sh("mkdir -p dir/inside plain; chattr +C dir dir/inside; echo old >dir/inside/file", &mnt);
        for target in ["dir", "plain"] {
            let mut next = AtomicDir::update(mnt.join(target)).unwrap();
            next.write("new", "new").unwrap();
            next.write("inside/new", "new").unwrap();
            assert!(next.commit().unwrap().kept_metadata());
        }
        for path in ["dir", "dir/inside", "dir/new", "dir/inside/new"] {
            let flags = sh(&format!("lsattr -d {path}"), &mnt);
            assert!(flags.split(' ').next().unwrap().contains('C'), "{path}: {flags}");
        }
        let flags = sh("lsattr -d plain", &mnt);
        assert!(!flags.split(' ').next().unwrap().contains('C'), "{flags}");
    });
}

#[test]
fn a_directory_whose_files_count_to_a_project_is_not_replaced() {
    if !can("mkfs.xfs") {
        return;
    }
    let script = "cd \"$DIR\"; mkdir mnt; truncate -s 320M image; mkfs.xfs -q image
        mount -o loop image mnt; cd /";
    in_private_mounts(&this_test!(), script, |home| {
        let mnt = home.join("mnt");
        sh(
            "mkdir -p project outer/inside; xfs_io -c 'chproj 7' -c 'chattr +P' project
            xfs_io -c 'chproj 7' -c 'chattr +P' outer/inside",
            &mnt,
        );
        refuses(&mnt.join("project"), true);
        refuses(&mnt.join("outer"), false);
    });
}
