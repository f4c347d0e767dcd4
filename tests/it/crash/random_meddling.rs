//! Goal: whatever is done to a tree between a crash and the recovery, nothing saved later is undone, and no
//! transaction is carried out by halves. Method: a child that runs a random transaction is killed at a random
//! call. Then backups are restored, files edited, modes changed, names added, and the tree copied, at
//! random; then a recovery runs, and all is compared with a model that is a map.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use durafile::crash_testing::Report;
use durafile::{SyncStrategy, TransactionOptions, recover};
use fs_err as fs;
use proptest::prelude::*;

use crate::crash::random::try_programs;
use crate::support::strace;
use crate::support::{chmod, dir, job, this_test};

const PATHS: [&str; 5] = ["a", "b", "d/c", "d/e", "n/f"];
const CALLS: [&str; 4] = ["linkat", "renameat", "unlinkat", "mkdirat"];
const PROGRAMS: u32 = 40;
/// So many of them are killed before they end, at least.
const KILLED: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Meddling {
    /// With an old time, in the same inode or in another.
    RestoreInPlace(usize),
    RestoreAnew(usize),
    Edit(usize),
    Chmod(usize),
    /// Another name, outside of the tree.
    Link(usize),
    /// The copy is what goes on.
    CopyTree,
}

#[derive(Clone, Debug)]
struct Program {
    /// For each path: left alone, written, or removed.
    changes: Vec<u8>,
    call: usize,
    nth: usize,
    meddling: Vec<Meddling>,
}

fn meddling() -> impl Strategy<Value = Meddling> {
    let path = 0..PATHS.len();
    prop_oneof![
        path.clone().prop_map(Meddling::RestoreInPlace),
        path.clone().prop_map(Meddling::RestoreAnew),
        path.clone().prop_map(Meddling::Edit),
        path.clone().prop_map(Meddling::Chmod),
        path.prop_map(Meddling::Link),
        Just(Meddling::CopyTree),
    ]
}

fn program() -> impl Strategy<Value = Program> {
    let changes = prop::collection::vec(prop_oneof![1 => Just(0u8), 3 => Just(1), 1 => Just(2)], PATHS.len());
    (changes, 0..CALLS.len(), 1..9usize, prop::collection::vec(meddling(), 0..3))
        .prop_map(|(changes, call, nth, meddling)| Program { changes, call, nth, meddling })
}

type Files = BTreeMap<&'static str, String>;

fn read(home: &Path) -> Files {
    let found = PATHS.iter().filter_map(|path| Some((*path, std::fs::read_to_string(home.join(path)).ok()?)));
    found.collect()
}

/// In the child.
fn run(home: &Path, changes: &str) {
    let mut change = TransactionOptions::new().sync(SyncStrategy::PerFile).begin(home).unwrap();
    for (path, what) in PATHS.iter().zip(changes.bytes()) {
        match what {
            b'1' => change.write(path, format!("new {path}")).unwrap(),
            b'2' if home.join(path).exists() => change.remove(path).unwrap(),
            _ => {}
        }
    }
    let _ = change.commit().unwrap();
}

impl Meddling {
    /// What it makes of the tree; a copy is another one. The path whose content it changes.
    fn apply(self, home: &mut tempfile::TempDir) -> Option<usize> {
        let at = |path: usize| home.path().join(PATHS[path]);
        let later = |path: usize| {
            (at(path).parent().unwrap().exists()).then(|| fs::write(at(path), "later").unwrap())
        };
        let age = |path: PathBuf| {
            let time = SystemTime::now() - Duration::from_secs(1_000_000);
            std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        match self {
            Meddling::RestoreInPlace(path) => later(path).map(|()| age(at(path))).map(|()| path),
            Meddling::RestoreAnew(path) => {
                let _ = std::fs::remove_file(at(path));
                later(path).map(|()| age(at(path))).map(|()| path)
            }
            Meddling::Edit(path) => later(path).map(|()| path),
            Meddling::Chmod(path) => {
                if at(path).exists() {
                    chmod(at(path), 0o640);
                }
                None
            }
            Meddling::Link(path) => {
                let beside = home.path().with_extension(format!("link{path}"));
                let _ = std::fs::remove_file(&beside);
                if std::fs::hard_link(at(path), &beside).is_ok() {
                    fs::remove_file(beside).unwrap();
                }
                None
            }
            Meddling::CopyTree => {
                let copy = dir();
                let from = home.path().join(".");
                let done = Command::new("cp")
                    .args(["-a".as_ref(), from.as_os_str(), copy.path().as_os_str()])
                    .status();
                assert!(done.unwrap().success());
                *home = copy;
                None
            }
        }
    }
}

impl Program {
    fn try_it(&self, test: &str) -> Result<Report, String> {
        let mut home = dir();
        fs::create_dir(home.path().join("d")).unwrap();
        for path in &PATHS[..4] {
            fs::write(home.path().join(path), format!("old {path}")).unwrap();
        }
        let before = read(home.path());
        let mut after = before.clone();
        for (path, what) in PATHS.iter().zip(&self.changes) {
            match what {
                1 => drop(after.insert(path, format!("new {path}"))),
                2 => drop(after.remove(path)),
                _ => {}
            }
        }
        let kill = format!("inject={}:signal=KILL:when={}", CALLS[self.call], self.nth);
        let changes: String = self.changes.iter().map(|what| char::from(b'0' + what)).collect();
        let ended = strace::faulty(&[&kill], test, home.path(), &changes).output().unwrap();
        let touched: Vec<usize> =
            self.meddling.iter().filter_map(|meddling| meddling.apply(&mut home)).collect();
        let found = read(home.path());
        let recovery = recover(home.path()).map_err(|e| e.to_string())?;
        let settled = read(home.path());
        let is_like = |files: &Files| {
            let others = PATHS.iter().enumerate().filter(|(number, _)| !touched.contains(number));
            others.into_iter().all(|(_, path)| settled.get(path) == files.get(path))
        };
        let keeps_later =
            touched.iter().all(|path| settled.get(PATHS[*path]).is_some_and(|text| text == "later"));
        let is_set_aside = !recovery.quarantined().is_empty();
        let may_be_set_aside = self.meddling.contains(&Meddling::CopyTree) && !touched.is_empty();
        let is_sound = match is_set_aside {
            true => settled == found && may_be_set_aside,
            false => is_like(&before) || is_like(&after),
        };
        let is_clean = recover(home.path()).map_err(|e| e.to_string())?.is_clean();
        match keeps_later && is_sound && is_clean {
            true => {
                // Each kill is a state.
                let mut report = Report::default();
                (report.operations, report.states) = (1, usize::from(!ended.status.success()));
                Ok(report)
            }
            false => Err(format!("{recovery:?}, from {found:#?} to {settled:#?}")),
        }
    }
}

#[test]
fn nothing_that_was_saved_before_the_recovery_is_undone() {
    let test = this_test!();
    match job(&test) {
        Some((home, changes)) => run(&home, &changes),
        None if strace::works() => {
            try_programs("meddling", PROGRAMS, program, KILLED, |program: &Program| program.try_it(&test));
        }
        None => {}
    }
}
