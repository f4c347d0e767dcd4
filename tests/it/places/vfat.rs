//! FAT: it folds case, has no links, owners or modes, and refuses some names. In a kernel that has it.

use super::suite::every_rule;
use super::{Host, Place, mounted, one};
use crate::support::this_test;

const VFAT: Place = Place {
    tools: &["mkfs.vfat", "strace"],
    kernel: Host::UserMode {
        disk: 128,
        modules: &["nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859-1", "vfat"],
    },
    ..mounted(one!("vfat"), "mkdir mnt; mkfs.vfat $DISK >/dev/null; mount -t vfat $DISK mnt")
};

#[test]
fn vfat() {
    every_rule(&this_test!(), &VFAT);
}
