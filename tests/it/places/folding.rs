//! A file system for which names that differ in case only are one: the mirror of `powercut`, which shows
//! a directory of the local disk.

use std::path::Path;
use std::process::Command;

use super::suite::every_rule;
use super::{Place, mounted, on, one};
use crate::portable::spelling;
use crate::support::{job, skip, this_test};

const FOLDING: Place = mounted(
    one!("folding mirror"),
    "mkdir source mnt
    # $0 is this executable.
    \"${0%/deps/*}/powercut\" mirror source mnt --fold >started &
    until grep -q mounted started; do kill -0 $!; sleep 0.05; done",
);

/// The mirror is another package of the workspace; whoever runs the tests of this one alone has not built
/// it. False, and a skip, where it can't be built.
fn build_mirror() -> bool {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().nth(3).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "-p", "powercut", "--target-dir"]).arg(target);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let works = built.as_ref().is_ok_and(|built| built.status.success());
    if !works {
        skip(&format!("powercut can't be built: {built:?}"));
    }
    works
}

#[test]
fn a_file_system_that_folds_case() {
    let test = this_test!();
    if job(&test).is_some() || build_mirror() {
        every_rule(&test, &FOLDING);
    }
}

#[test]
fn the_last_call_for_a_name_wins_in_any_spelling() {
    folded(&this_test!(), spelling::the_last_call_for_a_name_wins);
}

#[test]
fn a_directory_has_one_writer_in_all_spellings() {
    folded(&this_test!(), spelling::a_directory_has_one_writer);
}

fn folded(test: &str, body: fn(&Path)) {
    if job(test).is_some() || build_mirror() {
        on(test, &FOLDING, |site| body(&site.first));
    }
}
