//! Local disks, and a process that may not do everything there: sandboxes, and administrators without
//! all of an administrator's rights.

use std::collections::BTreeMap;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
};
use rustix::io::Errno;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

use super::suite::every_rule;
use super::{Place, mounted, one};
use crate::support::this_test;

/// A folder of root's, with a file of somebody else in a folder of root's.
macro_rules! with_theirs {
    ($mode:literal, $wrap:literal) => {
        concat!(
            "mkdir -p mnt/theirs; echo old >mnt/theirs/file; chown 1234:1234 mnt/theirs/file\n",
            "chmod ",
            $mode,
            " mnt/theirs/file\nWRAP='",
            $wrap,
            "'"
        )
    };
}

const LOCAL: Place = mounted(one!("a local disk"), with_theirs!("640", ""));

const LANDLOCK: Place = Place { enter: forbid_moves, ..mounted(one!("Landlock without REFER"), "mkdir mnt") };

/// The first version of Landlock: everything is allowed everywhere, but no name may move to another
/// directory (`EXDEV`), which that version could not allow.
pub(crate) fn forbid_moves(_: &Path) {
    let access = AccessFs::from_all(ABI::V1);
    let ruleset = Ruleset::default().handle_access(access).unwrap().create().unwrap();
    let ruled = ruleset.add_rules(path_beneath_rules(["/"], access)).unwrap().restrict_self().unwrap();
    assert_ne!(ruled.ruleset, RulesetStatus::NotEnforced, "this kernel has no Landlock");
}

const NO_RENAMEAT2: Place = Place {
    enter: |_| refuse((316, 276), Errno::PERM),
    ..mounted(one!("seccomp: no renameat2"), "mkdir mnt")
};
const NO_FLOCK: Place =
    Place { enter: |_| refuse((73, 32), Errno::ACCESS), ..mounted(one!("seccomp: no flock"), "mkdir mnt") };
/// As for the programs of Android.
const NO_LINKS: Place =
    Place { enter: |_| refuse((265, 37), Errno::ACCESS), ..mounted(one!("seccomp: no links"), "mkdir mnt") };
const NO_SYNCFS: Place =
    Place { enter: |_| refuse((306, 267), Errno::PERM), ..mounted(one!("seccomp: no syncfs"), "mkdir mnt") };

/// A system call by its numbers on x86_64 and on other machines. A filter instead of strace's
/// injections, because the rules use strace, and a process is traced by one only.
fn refuse(call: (i64, i64), errno: Errno) {
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let number = if arch == TargetArch::x86_64 { call.0 } else { call.1 };
    let refused = SeccompAction::Errno(errno.raw_os_error() as u32);
    let rules = BTreeMap::from([(number, Vec::new())]);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

const NO_FOWNER: Place = mounted(
    one!("root without CAP_FOWNER"),
    with_theirs!("640", "setpriv --bounding-set=-fowner --inh-caps=-fowner"),
);
const NO_CHOWN: Place = mounted(
    one!("root without CAP_CHOWN"),
    with_theirs!("640", "setpriv --bounding-set=-chown --inh-caps=-chown"),
);

/// User 1234 has no name in there; everybody may write to the file.
const USER_NAME_SPACE: Place =
    mounted(one!("user name space, unmapped owner"), with_theirs!("666", "unshare -U --map-root-user"));

/// The suite itself: what fails here is no matter of the place.
#[test]
fn a_local_disk() {
    every_rule(&this_test!(), &LOCAL);
}

#[test]
fn landlock_without_refer() {
    every_rule(&this_test!(), &LANDLOCK);
}

#[test]
fn seccomp_without_renameat2() {
    every_rule(&this_test!(), &NO_RENAMEAT2);
}

#[test]
fn seccomp_without_flock() {
    every_rule(&this_test!(), &NO_FLOCK);
}

#[test]
fn seccomp_without_links() {
    every_rule(&this_test!(), &NO_LINKS);
}

#[test]
fn seccomp_without_syncfs() {
    every_rule(&this_test!(), &NO_SYNCFS);
}

#[test]
fn root_without_cap_fowner() {
    every_rule(&this_test!(), &NO_FOWNER);
}

#[test]
fn root_without_cap_chown() {
    every_rule(&this_test!(), &NO_CHOWN);
}

#[test]
fn a_user_name_space_with_an_unmapped_owner() {
    every_rule(&this_test!(), &USER_NAME_SPACE);
}
