//! Goal: no sequence of saves, with any options, breaks a promise in a crash.
//!
//! Method: random programs of saves and batches to a few paths, each through the whole enumeration, compared
//! with a model of what each path may hold.

use std::collections::BTreeSet;
use std::path::Path;

use durafile::crash_testing::{Acked, CrashTest, Fault, Outcome, Report, ack};
use durafile::{Batch, Durability, ErrorKind, SyncStrategy, WriteOptions};
use fs_err as fs;
use proptest::prelude::*;

use crate::crash::random::try_programs;
use crate::dir::model::write_backwards;

const PATHS: [&str; 3] = ["a", "b", "folder/c"];
const SIZES: [usize; 4] = [1, 100, 5_000, 14_000];
const PROGRAMS: u32 = 100;
/// What the proof as a whole must have tried at least.
const STATES: usize = 10_000;

#[derive(Clone, Debug)]
struct Step {
    path: usize,
    /// Saved together with it, as a batch.
    others: Vec<usize>,
    strategy: SyncStrategy,
    size: usize,
    durability: Durability,
    streamed: bool,
    create_new: bool,
    skip_unchanged: bool,
    /// The same content as the path has, if it has any.
    same: bool,
}

#[derive(Clone, Debug)]
struct Program {
    /// Which of the paths exist before.
    initial: [bool; 3],
    named_staging: bool,
    steps: Vec<Step>,
}

fn step() -> impl Strategy<Value = Step> {
    let durability = prop_oneof![
        4 => Just(Durability::Full),
        2 => Just(Durability::Data),
        1 => Just(Durability::None),
    ];
    let rare = || prop::bool::weighted(0.2);
    let strategy = prop_oneof![Just(SyncStrategy::PerFile), Just(SyncStrategy::FileSystem)];
    let others = prop_oneof![
        3 => Just(Vec::new()),
        1 => prop::collection::vec(0..PATHS.len(), 1..4),
    ];
    let what = (0..PATHS.len(), others, 0..SIZES.len());
    let how = (strategy, durability, any::<bool>(), rare(), rare(), rare());
    (what, how).prop_map(
        |((path, others, size), (strategy, durability, streamed, create_new, skip_unchanged, same))| Step {
            path,
            // Such a batch ends at the first that exists: another program.
            create_new: create_new && others.is_empty(),
            others,
            strategy,
            size: SIZES[size],
            durability,
            streamed,
            skip_unchanged,
            same,
        },
    )
}

fn program() -> impl Strategy<Value = Program> {
    (any::<[bool; 3]>(), prop::bool::weighted(0.6), prop::collection::vec(step(), 1..6))
        .prop_map(|(initial, named_staging, steps)| Program { initial, named_staging, steps })
}

/// What one path holds after each step that concerned it.
struct Version {
    /// Which step it came with; 0 is the initial state, 1 the first step.
    step: usize,
    content: Option<Vec<u8>>,
    durability: Durability,
}

impl Program {
    fn content(&self, step: usize) -> Vec<u8> {
        let letter = b'A' + u8::try_from(step).unwrap();
        vec![letter; self.steps[step].size]
    }

    /// All versions of each path.
    fn versions(&self) -> [Vec<Version>; 3] {
        let initial = |path: usize| Version {
            step: 0,
            content: self.initial[path].then(|| b"initial".to_vec()),
            durability: Durability::Full,
        };
        let mut versions = [vec![initial(0)], vec![initial(1)], vec![initial(2)]];
        for (number, step) in self.steps.iter().enumerate() {
            for path in step.paths() {
                let now = versions[path].last().unwrap().content.clone();
                if step.create_new && now.is_some() {
                    continue;
                }
                let content = Some(now.filter(|_| step.same).unwrap_or_else(|| self.content(number)));
                versions[path].push(Version { step: number + 1, content, durability: step.durability });
            }
        }
        versions
    }

    fn run(&self, dir: &Path) -> Outcome {
        let versions = self.versions();
        for (number, step) in self.steps.iter().enumerate() {
            let content = |path: usize| {
                let version = versions[path].iter().find(|version| version.step == number + 1);
                let content = version.and_then(|version| version.content.clone());
                content.unwrap_or_else(|| self.content(number))
            };
            let saved = match step.others.is_empty() {
                true => step.save(&dir.join(PATHS[step.path]), &content(step.path)),
                false => step.save_all(dir, content),
            };
            match saved {
                Err(e) if step.create_new && e.kind() == ErrorKind::AlreadyExists => {}
                saved => saved?,
            }
            ack(&number.to_string());
        }
        Ok(())
    }

    fn check(&self, dir: &Path, acked: &Acked) -> Outcome {
        let done = acked.labels().len();
        for (path, versions) in PATHS.iter().zip(self.versions()) {
            let found = fs::read(dir.join(path)).ok();
            let kept = |version: &&Version| version.step <= done && version.durability == Durability::Full;
            let oldest = versions.iter().filter(kept).map(|version| version.step).max().unwrap_or(0);
            let mut possible =
                versions.iter().filter(|version| version.step >= oldest && version.step <= done + 1);
            let torn = possible.clone().any(|version| version.durability == Durability::None);
            if !torn && !possible.any(|version| version.content == found) {
                let found = found.map(|found| (found.first().copied(), found.len()));
                return Err(format!("{path} after {done} steps: {found:?}").into());
            }
        }
        let mut names: Vec<_> = fs::read_dir(dir)?.map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| !["a", "b", "folder"].iter().any(|known| name == known));
        if names.is_empty() { Ok(()) } else { Err(format!("left behind: {names:?}").into()) }
    }
}

impl Step {
    /// Each once.
    fn paths(&self) -> BTreeSet<usize> {
        self.others.iter().copied().chain([self.path]).collect()
    }

    fn options(&self) -> WriteOptions {
        WriteOptions::new()
            .durability(self.durability)
            .create_new(self.create_new)
            .skip_unchanged(self.skip_unchanged)
    }

    fn save_all(&self, dir: &Path, content: impl Fn(usize) -> Vec<u8>) -> durafile::Result<()> {
        let mut batch = Batch::new().options(self.options()).sync(self.strategy);
        for path in self.paths() {
            batch.write(dir.join(PATHS[path]), content(path))?;
        }
        batch.commit().map(drop)
    }

    fn save(&self, path: &Path, content: &[u8]) -> durafile::Result<()> {
        let options = self.options();
        if !self.streamed {
            return options.write(path, content).map(drop);
        }
        let mut file = options.open(path)?;
        write_backwards(&mut file, content)?;
        file.commit().map(drop)
    }
}

fn explore(program: &Program) -> Result<Report, String> {
    let prepare = |dir: &Path| {
        std::fs::create_dir(dir.join("folder"))?;
        for (path, _) in PATHS.iter().zip(program.initial).filter(|(_, exists)| *exists) {
            std::fs::write(dir.join(path), "initial")?;
        }
        Ok(())
    };
    let mut test = CrashTest::new(|dir| program.run(dir)).initial(prepare).max_states(150).journaled(true);
    if program.named_staging {
        let errno = rustix::io::Errno::NOTSUP.raw_os_error();
        test = test.fault(Fault::Refuse { name: "create unnamed", errno });
    }
    let explored = test.run(|dir, acked| program.check(dir, acked));
    explored.map_err(|failure| failure.to_string())
}

#[test]
fn no_program_of_saves_loses_or_tears_anything_in_a_crash() {
    try_programs("saves", PROGRAMS, program, STATES, explore);
}
