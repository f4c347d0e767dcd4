//! A file system for which names that differ in case only are one: the mirror of `powercut`, which shows
//! a directory of the local disk.

use std::path::Path;
use std::process::Command;

use durafile::{AtomicDir, Batch, DirOptions, Transaction, WriteOptions};
use fs_err as fs;

use super::suite::every_rule;
use super::{Place, mounted, on, one};
use crate::portable::spelling;
use crate::support::{job, names, skip, this_test};

/// One that is mounted with these options.
macro_rules! folding_mirror {
    ($name:literal, $options:literal) => {
        mounted(
            one!($name),
            concat!(
                "mkdir source mnt
    # $0 is this executable.
    \"${0%/deps/*}/powercut\" mirror source mnt ",
                $options,
                " >started &
    until grep -q mounted started; do kill -0 $!; sleep 0.05; done"
            ),
        )
    };
}

const FOLDING: Place = folding_mirror!("folding mirror", "--fold");

/// Only below one directory, as ext4 does where one was told to fold.
const PARTLY: Place = folding_mirror!("partly folding mirror", "--fold --compose --below folding");

/// Case, composed letters, and letters that are two in another case.
const SPELLINGS: [(&str, &str); 5] = [
    ("notes", "Notes"),
    ("\u{e9}", "\u{c9}"),
    ("\u{e9}", "e\u{301}"),
    ("stra\u{df}e", "STRASSE"),
    ("k", "\u{212a}"),
];

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

#[test]
fn a_file_and_a_directory_never_have_one_name() {
    folded(&this_test!(), spelling::no_file_is_put_where_another_needs_a_directory);
}

#[test]
fn a_previous_version_can_not_keep_another_spelling_of_the_name() {
    folded(&this_test!(), spelling::a_previous_version_keeps_no_other_spelling);
}

#[test]
fn the_last_call_wins_in_a_directory_that_folds_by_itself() {
    let test = this_test!();
    in_a_directory_that_folds_by_itself(&test, |place, one, other| {
        the_last_call_wins(&place.join("root"), one, other);
    });
}

#[test]
fn a_previous_version_keeps_no_other_spelling_in_a_directory_that_folds_by_itself() {
    let test = this_test!();
    in_a_directory_that_folds_by_itself(&test, |place, one, other| {
        let folding = place.join("folding");
        let _ = fs::remove_dir_all(&folding);
        fs::create_dir(&folding).unwrap();
        assert!(spelling::keeps_no_other_spelling(&folding, one, other), "no hard links");
    });
}

fn in_a_directory_that_folds_by_itself(test: &str, body: fn(&Path, &str, &str)) {
    if job(test).is_some() || build_mirror() {
        on(test, &PARTLY, |site| {
            for (one, other) in SPELLINGS.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]) {
                body(&site.first, one, other);
            }
        });
    }
}

fn the_last_call_wins(root: &Path, one: &str, other: &str) {
    let folder = root.join("folding");
    let prepare = |exists: bool| {
        let _ = fs::remove_dir_all(root);
        fs::create_dir_all(&folder).unwrap();
        if exists {
            fs::write(folder.join(one), "old").unwrap();
        }
    };
    let expect = |what: &str, content: Option<&str>| {
        let found = names(&folder).into_iter().map(|name| fs::read_to_string(folder.join(name)).unwrap());
        assert_eq!(found.collect::<Vec<_>>(), content.as_slice(), "{what} {one} {other}");
    };
    let [inside, also] = [one, other].map(|name| Path::new("folding").join(name));
    for exists in [false, true] {
        prepare(exists);
        let mut change = Transaction::begin(root).unwrap();
        change.write("beside", "beside").unwrap();
        change.write(&inside, "first").unwrap();
        change.write(&also, "second").unwrap();
        change.commit().unwrap();
        expect("Transaction", Some("second"));

        prepare(exists);
        let mut batch = Batch::new();
        batch.write(root.join("beside"), "beside").unwrap();
        batch.write(root.join(&inside), "first").unwrap();
        batch.write(root.join(&also), "second").unwrap();
        batch.commit().unwrap();
        expect("Batch", Some("second"));
    }

    prepare(true);
    let mut change = Transaction::begin(root).unwrap();
    change.remove(&inside).unwrap();
    change.write(&also, "new").unwrap();
    change.write("beside", "beside").unwrap();
    change.commit().unwrap();
    expect("Transaction after remove", Some("new"));

    prepare(true);
    let mut batch = Batch::new().options(WriteOptions::new().skip_unchanged(true));
    batch.write(root.join(&inside), "changed").unwrap();
    batch.write(root.join(&also), "old").unwrap();
    batch.commit().unwrap();
    expect("Batch that skips", Some("old"));

    prepare(true);
    let options = DirOptions::new().files(WriteOptions::new().skip_unchanged(true));
    let mut next = options.update(root).unwrap();
    next.write(&inside, "old").unwrap();
    next.write(&also, "old").unwrap();
    next.commit().unwrap();
    expect("AtomicDir that skips", Some("old"));

    for (removed, content) in [(false, Some("new")), (true, None)] {
        prepare(true);
        let mut next = AtomicDir::update(root).unwrap();
        if removed {
            next.remove(&also).unwrap()
        } else {
            next.write(&also, "new").unwrap()
        }
        next.commit().unwrap();
        expect("AtomicDir", content);
    }
}

fn folded(test: &str, body: fn(&Path)) {
    if job(test).is_some() || build_mirror() {
        on(test, &FOLDING, |site| body(&site.first));
    }
}
