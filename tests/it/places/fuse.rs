//! File systems by programs (FUSE): they show other owners, join directories, encrypt, or are dead.

use super::suite::every_rule;
use super::{Place, mounted, one};
use crate::support::this_test;

/// Everything seems to belong to somebody who is not the caller.
const BINDFS: Place = Place {
    tools: &["bindfs", "strace"],
    ..mounted(
        one!("bindfs, forced owner"),
        "mkdir source mnt; bindfs --force-user=nobody --force-group=nogroup source mnt",
    )
};

/// One mode for everything, no links, no owners.
const EXFAT: Place = Place {
    tools: &["mkfs.exfat", "mount.exfat-fuse", "losetup", "strace"],
    ..mounted(
        one!("exfat-fuse"),
        "truncate -s 64M image; mkfs.exfat image >/dev/null; mkdir mnt
        device=$(losetup --find --show image)
        mount.exfat-fuse -o umask=0 $device mnt >/dev/null || { losetup -d $device; false; }
        # It is in use: this detaches it when the mount ends.
        losetup -d $device",
    )
};

/// Two directories shown as one: what looks like one file system can't move files within it.
const MERGERFS: Place = Place {
    tools: &["mergerfs", "strace"],
    ..mounted(
        one!("mergerfs"),
        "mkdir mnt; mkdir -p one/branches/x two/branches/y
        mergerfs -o category.create=epmfs one:two mnt",
    )
};

const GOCRYPTFS: Place = Place {
    tools: &["gocryptfs", "strace"],
    ..mounted(
        one!("gocryptfs"),
        "mkdir source mnt; gocryptfs -q -init -scryptn 10 -extpass 'echo word' source 2>/dev/null
        gocryptfs -q -extpass 'echo word' source mnt 2>/dev/null",
    )
};

const FUSE_OVERLAYFS: Place = Place {
    tools: &["fuse-overlayfs", "strace"],
    ..mounted(
        one!("fuse-overlayfs"),
        "mkdir mnt lower upper work
        fuse-overlayfs -o lowerdir=lower,upperdir=upper,workdir=work mnt 2>/dev/null",
    )
};

/// A mount below whose program has died answers `ENOTCONN`.
const DEAD: Place = Place {
    tools: &["bindfs", "strace"],
    ..mounted(
        one!("a dead mount below"),
        "mkdir -p source mnt/dead; bindfs -f source mnt/dead &
        until grep -q mnt/dead /proc/mounts; do kill -0 $!; sleep 0.05; done
        kill -KILL $!; until ! kill -0 $! 2>/dev/null; do sleep 0.05; done",
    )
};

#[test]
fn bindfs_with_a_forced_owner() {
    every_rule(&this_test!(), &BINDFS);
}

#[test]
fn exfat_fuse() {
    every_rule(&this_test!(), &EXFAT);
}

#[test]
fn mergerfs() {
    every_rule(&this_test!(), &MERGERFS);
}

#[test]
fn gocryptfs() {
    every_rule(&this_test!(), &GOCRYPTFS);
}

#[test]
fn fuse_overlayfs() {
    every_rule(&this_test!(), &FUSE_OVERLAYFS);
}

#[test]
fn a_dead_mount_below() {
    every_rule(&this_test!(), &DEAD);
}
