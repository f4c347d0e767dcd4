//! Goal: no sequence of transactions breaks a promise in a crash. Method: random programs of
//! transactions and single saves, with crashes in between and recoveries crashed again, compared with
//! a model that is a map.

use std::collections::BTreeMap;
use std::path::Path;

use durafile::crash_testing::{Acked, CrashTest, Model, Outcome, Report, ack};
use durafile::{ErrorKind, SyncStrategy, Transaction, TransactionOptions};
use fs_err as fs;
use proptest::prelude::*;

use crate::crash::random::try_programs;

const PATHS: [&str; 6] = ["a", "b", "d/c", "d/e", "n/f", "n/m/g"];
const PROGRAMS: u32 = 40;

/// A path, and its new content; none to remove it.
type Change = (usize, Option<u8>);

#[derive(Clone, Debug)]
enum Step {
    Transaction(Vec<Change>, bool),
    /// A plain save, where the directory is there.
    Save(usize, u8),
}

#[derive(Clone, Debug)]
struct Program {
    strategy: SyncStrategy,
    single_flush: bool,
    ordered: bool,
    steps: Vec<Step>,
}

type Files = BTreeMap<&'static str, Vec<u8>>;

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec((0..PATHS.len(), prop::option::weighted(0.7, any::<u8>())), 1..6)
}

fn program() -> impl Strategy<Value = Program> {
    let strategy =
        prop_oneof![Just(SyncStrategy::PerFile), Just(SyncStrategy::FileSystem), Just(SyncStrategy::Auto)];
    let step = prop_oneof![
        4 => (changes(), prop::bool::weighted(0.85)).prop_map(|(changes, commit)| Step::Transaction(changes, commit)),
        1 => (0..PATHS.len(), any::<u8>()).prop_map(|(path, byte)| Step::Save(path, byte)),
    ];
    let order = (prop::bool::weighted(0.3), any::<bool>());
    (strategy, order, prop::collection::vec(step, 1..4)).prop_map(
        |(strategy, (single_flush, ordered), steps)| {
            let ordered = single_flush || ordered;
            Program { strategy, single_flush, ordered, steps }
        },
    )
}

fn content(byte: u8) -> Vec<u8> {
    vec![byte; usize::from(byte) * 40]
}

fn initial() -> Files {
    Files::from([("a", b"old a".to_vec()), ("d/c", b"old c".to_vec())])
}

impl Step {
    /// What it makes of the files.
    fn apply(&self, files: &mut Files, dir: &Path) {
        match self {
            Step::Transaction(changes, true) => {
                for (path, byte) in changes {
                    match byte {
                        Some(byte) => files.insert(PATHS[*path], content(*byte)),
                        None => files.remove(PATHS[*path]),
                    };
                }
            }
            Step::Transaction(_, false) => {}
            Step::Save(path, byte) if dir.join(PATHS[*path]).parent().unwrap().exists() => {
                files.insert(PATHS[*path], content(*byte));
            }
            Step::Save(..) => {}
        }
    }

    fn run(&self, program: &Program, dir: &Path) -> durafile::Result<()> {
        match self {
            Step::Save(path, byte) => match durafile::write(dir.join(PATHS[*path]), content(*byte)) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
                saved => saved.map(drop),
            },
            Step::Transaction(changes, commit) => {
                let options =
                    TransactionOptions::new().sync(program.strategy).single_flush(program.single_flush);
                let mut change: Transaction = options.begin(dir)?;
                for (path, byte) in changes {
                    let changed = match byte {
                        Some(byte) => change.write(PATHS[*path], content(*byte)),
                        None => change.remove(PATHS[*path]),
                    };
                    match changed {
                        Err(e) if e.kind() == ErrorKind::NotFound && byte.is_none() => {}
                        changed => changed?,
                    }
                }
                if *commit { change.commit().map(drop) } else { change.discard() }
            }
        }
    }
}

impl Program {
    fn run(&self, dir: &Path) -> Outcome {
        for (number, step) in self.steps.iter().enumerate() {
            step.run(self, dir)?;
            ack(&number.to_string());
        }
        Ok(())
    }

    /// The files before the first step, and after each.
    fn states(&self, dir: &Path) -> Vec<Files> {
        let mut states = vec![initial()];
        for step in &self.steps {
            let mut files = states.last().unwrap().clone();
            step.apply(&mut files, dir);
            step.run(self, dir).unwrap();
            assert_eq!(read(dir), files, "{self:?}");
            states.push(files);
        }
        states
    }

    fn try_it(&self) -> Result<Report, String> {
        let home = crate::support::dir();
        prepare(home.path()).unwrap();
        let states = self.states(home.path());
        let model = if self.ordered { Model::OrderedJournal } else { Model::Unordered };
        let test = CrashTest::new(|dir| self.run(dir)).initial(prepare).max_states(12).model(model);
        let test = if self.ordered { test.journaled(true) } else { test.btrfs(true) };
        let check = |dir: &Path, acked: &Acked| {
            let (found, done) = (read(dir), acked.labels().len());
            match states.iter().skip(done).take(2).any(|files| *files == found) {
                true => Ok(()),
                false => Err(format!("after {done} steps: {found:?}").into()),
            }
        };
        test.run(check).map_err(|failure| failure.to_string())
    }
}

fn prepare(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir.join("d"))?;
    initial().into_iter().try_for_each(|(path, content)| std::fs::write(dir.join(path), content))
}

/// All files; what else there may be is a directory that a transaction made.
fn read(dir: &Path) -> Files {
    let known = PATHS.iter().filter_map(|path| Some((*path, std::fs::read(dir.join(path)).ok()?)));
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    for name in names {
        assert!(["a", "b", "d", "n"].iter().any(|known| name == *known), "left behind: {name:?}");
    }
    known.collect()
}

#[test]
fn no_program_of_transactions_breaks_a_promise() {
    try_programs("transactions", PROGRAMS, program, 0, Program::try_it);
}
