//! NTFS by ntfs-3g, which shows one owner and one mode for everything.

use super::suite::every_rule;
use super::{Place, mounted, one};
use crate::support::this_test;

const DEFAULT: Place = Place {
    tools: &["mkntfs", "ntfs-3g", "strace"],
    ..mounted(
        one!("ntfs-3g"),
        "truncate -s 64M image; mkntfs -q -F image >/dev/null 2>&1; mkdir mnt; ntfs-3g image mnt",
    )
};

/// Group-writable, and without names that Windows refuses.
const UMASK: Place = Place {
    tools: &["mkntfs", "ntfs-3g", "strace"],
    ..mounted(
        one!("ntfs-3g, umask=002"),
        "truncate -s 64M image; mkntfs -q -F image >/dev/null 2>&1; mkdir mnt
        ntfs-3g -o umask=002,windows_names image mnt",
    )
};

#[test]
fn ntfs_3g_by_default() {
    every_rule(&this_test!(), &DEFAULT);
}

#[test]
fn ntfs_3g_with_group_writable_modes() {
    every_rule(&this_test!(), &UMASK);
}
