//! Goal: a set of files whose names have letters beyond ASCII, or differ in case, costs what any other set costs.
//! Method: the system calls are counted, of names that differ in nothing else, and of other names.

use std::path::Path;

use durafile::{Batch, DirOptions, Transaction, WriteOptions};
use fs_err as fs;

use super::syscalls::run;
use crate::support::strace::{self, marked};
use crate::support::{as_user, chmod, chown, is_root, job, public_dir, skip, this_test};

const FILES: u32 = 60;

/// How many calls it may cost to find out how a directory compares names.
const QUESTION: usize = 24;

/// Names of one kind: with letters from one on, or pairs that differ in case.
fn name(kind: &str, n: u32) -> String {
    if kind == "Aa" {
        let name = name("a", n / 2);
        return if n % 2 == 0 { name } else { name.to_uppercase() };
    }
    let first = u32::from(kind.chars().next().unwrap());
    let letter = |n: u32| char::from_u32(first + n).unwrap();
    format!("{}{}.txt", letter(n / 8), letter(n % 8))
}

/// Half of the files are there before, or all of them if they are removed.
fn save(home: &Path, kind: &str, names: &str) {
    let root = home.join("root");
    fs::create_dir(&root).unwrap();
    let step = if kind == "removals" { 1 } else { 2 };
    for n in (0..2 * FILES).step_by(step) {
        fs::write(root.join(name(names, n)), "old").unwrap();
    }
    let changed = (0..FILES).map(|n| name(names, n));
    marked(|| match kind {
        "batch" => {
            let mut batch = Batch::new();
            changed.for_each(|name| {
                batch.write(root.join(name), "new").unwrap();
            });
            batch.commit().map(drop)
        }
        "transaction" => {
            let mut change = Transaction::begin(&root).unwrap();
            changed.for_each(|name| change.write(name, "new").unwrap());
            change.commit().map(drop)
        }
        "removals" => {
            let mut change = Transaction::begin(&root).unwrap();
            changed.for_each(|name| change.remove(name).unwrap());
            change.commit().map(drop)
        }
        _ => {
            let unchanged = kind == "unchanged";
            let options = DirOptions::new().files(WriteOptions::new().skip_unchanged(unchanged));
            let mut version = options.update(&root).unwrap();
            let content = if unchanged { "old" } else { "new" };
            changed.for_each(|name| version.write(name, content).unwrap());
            version.commit().map(drop)
        }
    })
    .unwrap();
    let left = if kind == "removals" { FILES } else { FILES + FILES / 2 };
    assert_eq!(fs::read_dir(&root).unwrap().count() as u32, left);
}

#[test]
fn names_beyond_ascii_cost_no_more_calls_than_others() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    for kind in ["batch", "transaction", "removals", "dir", "unchanged"] {
        let mut ascii = None;
        for names in ["a", "\u{430}", "\u{4e00}", "Aa"] {
            let case = format!("{kind} {names}");
            let work = |home: &Path, case: &str| {
                let (kind, names) = case.split_once(' ').unwrap();
                save(home, kind, names);
            };
            let Some((calls, _home)) = run(&test, &case, &[], &work) else { return };
            // The number of waits for locks varies; these calls show what is looked at or listed.
            let names_of_calls = ["statx", "openat", "unlinkat", "getdents64", "mkdirat"];
            let count: usize = names_of_calls.iter().map(|name| calls.count(name)).sum();
            let least = *ascii.get_or_insert(count);
            assert!(count <= least + QUESTION, "{kind} {names}: {count} calls, {least} for names of ASCII");
        }
    }
}

/// How a directory compares names is asked in that directory, whoever those above it belong to.
#[test]
fn a_directory_above_that_others_own_is_not_asked() {
    if !is_root() {
        return skip("only root can give directories away");
    }
    let home = public_dir();
    let at = |path: &str| home.path().join(path);
    fs::create_dir_all(at("root/vendor/cache")).unwrap();
    [at("root"), at("root/vendor/cache")].iter().for_each(|dir| chown(dir, 1001, 1001));
    chmod(at("root/vendor"), 0o711);
    as_user(1001, 1001, || {
        let names = ["\u{430}.txt", "\u{431}.txt", "a", "A"].map(|name| format!("vendor/cache/{name}"));
        let mut change = Transaction::begin(at("root")).unwrap();
        names.iter().for_each(|name| change.write(name, "new").unwrap());
        change.commit().unwrap();
        assert_eq!(fs::read_dir(at("root/vendor/cache")).unwrap().count(), names.len());
    });
}
