//! Goal: after a crash anywhere and a recovery, itself crashed anywhere, all changes of a transaction
//! are there or none; and each sync of the protocol is needed for that.
//!
//! Method: each program is recorded once, and every disk that a crash may leave of it is
//! recovered and compared with the whole tree before and after. Then each operation fails in turn.
//! Then each sync is left out, and the comparison must find it.

use std::path::Path;
use std::sync::Mutex;

use durafile::crash_testing::{Acked, CrashTest, Fault, Model, Outcome, ack};
use durafile::{SyncStrategy, TargetState, Transaction, TransactionOptions};
use fs_err as fs;
use rustix::io::Errno;

use crate::crash::case::{Setup, Tree, error_of, look};
use crate::support::{dir, long};

type Step = fn(&Path, &TransactionOptions) -> durafile::Result<()>;

/// Steps, each of which is acknowledged.
type Program = &'static [Step];

struct Story {
    program: Program,
    options: TransactionOptions,
    setup: Setup,
    /// The tree before the program, and after each of its steps.
    trees: Vec<Tree>,
}

fn some_old(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir.join("d"))?;
    std::fs::write(dir.join("a"), "old a")?;
    std::fs::write(dir.join("gone"), "old")?;
    std::fs::write(dir.join("d/c"), "old c")?;
    std::fs::write(dir.join("d/gone"), "old")?;
    std::fs::write(dir.join("d/other"), "untouched")
}

/// New, replaced, removed; in the root, below it, and in directories that don't exist.
fn everything(dir: &Path, options: &TransactionOptions) -> durafile::Result<()> {
    let mut change = options.begin(dir)?;
    change.write("a", vec![b'a'; 5000])?;
    change.write("b", "new b")?;
    change.remove("gone")?;
    change.write("d/c", vec![b'c'; 5000])?;
    change.write("d/new", "new")?;
    change.remove("d/gone")?;
    change.write("e/f/deep", "deep")?;
    change.commit().map(drop)
}

fn in_the_root(dir: &Path, options: &TransactionOptions) -> durafile::Result<()> {
    let mut change = options.begin(dir)?;
    change.write("a", vec![b'a'; 5000])?;
    change.write("b", "new b")?;
    change.commit().map(drop)
}

fn only_removals(dir: &Path, options: &TransactionOptions) -> durafile::Result<()> {
    let mut change = options.begin(dir)?;
    change.remove("gone")?;
    change.remove("d/gone")?;
    change.commit().map(drop)
}

fn a_single_file(dir: &Path, options: &TransactionOptions) -> durafile::Result<()> {
    let mut change = options.begin(dir)?;
    change.write("d/c", vec![b'c'; 5000])?;
    change.commit().map(drop)
}

fn a_single_removal(dir: &Path, options: &TransactionOptions) -> durafile::Result<()> {
    let mut change = options.begin(dir)?;
    change.remove("gone")?;
    change.commit().map(drop)
}

/// With another root, whose lock and syncs are none of the first.
fn delete(dir: &Path, _: &TransactionOptions) -> durafile::Result<()> {
    let mut change = Transaction::begin(dir.join("d"))?;
    change.remove("new")?;
    change.commit().map(drop)
}

fn save(dir: &Path, _: &TransactionOptions) -> durafile::Result<()> {
    durafile::write(dir.join("d/c"), "later").map(drop)
}

const EVERYTHING: Program = &[everything];
const IN_THE_ROOT: Program = &[in_the_root];
const ONLY_REMOVALS: Program = &[only_removals];
const SINGLE_CHANGES: Program = &[a_single_file, a_single_removal];
/// What is deleted after a commit stays deleted, whatever comes back of the transaction.
const DELETED_LATER: Program = &[everything, delete];
/// What is saved after a commit stays.
const SAVED_LATER: Program = &[everything, save];

const PROGRAMS: [(&str, Program); 6] = [
    ("everything", EVERYTHING),
    ("in the root", IN_THE_ROOT),
    ("only removals", ONLY_REMOVALS),
    ("single changes", SINGLE_CHANGES),
    ("deleted later", DELETED_LATER),
    ("saved later", SAVED_LATER),
];

impl Story {
    fn new(program: Program, options: TransactionOptions) -> Story {
        let mut story = Story { program, options, setup: |test| test, trees: Vec::new() };
        let home = dir();
        some_old(home.path()).unwrap();
        story.trees.push(look(home.path()));
        for step in program {
            step(home.path(), &story.options).unwrap();
            story.trees.push(look(home.path()));
        }
        story
    }

    fn set_up(mut self, setup: Setup) -> Story {
        self.setup = setup;
        self
    }

    fn run(&self, dir: &Path) -> Outcome {
        for (number, step) in self.program.iter().enumerate() {
            step(dir, &self.options)?;
            ack(&number.to_string());
        }
        Ok(())
    }

    fn plain(&self) -> CrashTest<'_> {
        CrashTest::new(|dir| self.run(dir)).initial(some_old)
    }

    fn test(&self) -> CrashTest<'_> {
        (self.setup)(self.plain().max_states(16))
    }

    fn check(&self, dir: &Path, acked: &Acked) -> Outcome {
        let (found, done) = (look(dir), acked.labels().len());
        let possible: Vec<&Tree> = self.trees.iter().skip(done).take(2).collect();
        if possible.contains(&&found) {
            return Ok(());
        }
        Err(format!("after {done} steps, none of\n{possible:#?}\nfound\n{found:#?}").into())
    }
}

fn by(strategy: SyncStrategy) -> TransactionOptions {
    TransactionOptions::new().sync(strategy)
}

fn journaled(test: CrashTest<'_>) -> CrashTest<'_> {
    test.journaled(true).model(Model::OrderedJournal)
}

fn btrfs(test: CrashTest<'_>) -> CrashTest<'_> {
    test.btrfs(true)
}

fn named(test: CrashTest<'_>) -> CrashTest<'_> {
    test.fault(Fault::Refuse { name: "create unnamed", errno: Errno::NOTSUP.raw_os_error() })
}

fn unlinkable(test: CrashTest<'_>) -> CrashTest<'_> {
    named(test).fault(Fault::Refuse { name: "link", errno: Errno::PERM.raw_os_error() })
}

#[test]
fn after_any_crash_all_changes_are_there_or_none() {
    let mut total = durafile::crash_testing::Report::default();
    for (name, program) in long::each(3, PROGRAMS, "programs") {
        for (how, story) in [
            ("Auto", Story::new(program, by(SyncStrategy::Auto))),
            ("PerFile", Story::new(program, by(SyncStrategy::PerFile))),
            ("FileSystem", Story::new(program, by(SyncStrategy::FileSystem)).set_up(btrfs)),
            ("named", Story::new(program, by(SyncStrategy::PerFile)).set_up(named)),
        ] {
            for model in [Model::Unordered, Model::OrderedJournal, Model::ProcessDeath] {
                let test = story.test().model(model);
                let report = test.run(|dir, acked| story.check(dir, acked));
                total += &report.unwrap_or_else(|failure| panic!("{name}, {how}, {model:?}:\n{failure}"));
            }
        }
    }
    println!("transactions: {total}");
}

/// What a transaction does on an ordered journal: with `single_flush`, by default, and with one `syncfs`.
#[test]
fn few_flushes_hold_on_an_ordered_journal_and_nowhere_else() {
    for (how, options, program_that_holds) in [
        ("single_flush", TransactionOptions::new().single_flush(true), &["only removals"][..]),
        // One change has no record, and so nothing that could sync it along.
        ("Auto", by(SyncStrategy::Auto), &["only removals", "single changes"]),
        ("FileSystem", by(SyncStrategy::FileSystem), &PROGRAMS.map(|(name, _)| name)),
    ] {
        for (name, program) in PROGRAMS {
            let story = Story::new(program, options.clone()).set_up(journaled);
            for model in [Model::OrderedJournal, Model::ProcessDeath] {
                let tried = story.test().model(model).run(|dir, acked| story.check(dir, acked));
                tried.unwrap_or_else(|failure| panic!("{name}, {how}, {model:?}:\n{failure}"));
            }
            if !program_that_holds.contains(&name) {
                let tried = story.test().model(Model::Unordered).run(|dir, acked| story.check(dir, acked));
                assert!(tried.is_err(), "{name}, {how}: torn content was not found in the weaker model");
            }
        }
    }
}

#[test]
fn without_hard_links_each_file_is_still_old_or_new() {
    let story = Story::new(EVERYTHING, by(SyncStrategy::PerFile)).set_up(unlinkable);
    let tried = story.test().model(Model::OrderedJournal).run(|dir, acked| story.check(dir, acked));
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Every sync, left out of the record, is missed by the check, where nothing is ordered.
#[test]
fn no_sync_of_a_transaction_can_be_left_out() {
    let mut red = Vec::new();
    let all = [
        // What a transaction forgets in the end matters only for what comes later.
        ("deleted later", DELETED_LATER, SyncStrategy::PerFile),
        ("deleted later", DELETED_LATER, SyncStrategy::FileSystem),
        ("in the root", IN_THE_ROOT, SyncStrategy::PerFile),
        ("only removals", ONLY_REMOVALS, SyncStrategy::PerFile),
        ("single changes", SINGLE_CHANGES, SyncStrategy::PerFile),
    ];
    for (name, program, strategy) in long::each(3, all, "programs") {
        let story = Story::new(program, by(strategy)).set_up(btrfs);
        let recording = story.test().record().unwrap();
        let trace = recording.trace();
        let syncs = trace.operations().into_iter().enumerate().filter(|(_, operation)| operation.is_sync());
        for (number, operation) in syncs {
            let mutant = trace.without(number).unwrap();
            let test = story.test().second_crashes(false).max_states(400);
            let missed = test.explore(&mutant, |dir, acked| story.check(dir, acked)).is_err();
            assert!(missed, "{name}, {strategy:?}: not needed: {operation}\n{trace}");
            red.push(format!("{name}, {strategy:?}: {operation}"));
        }
    }
    println!("missed: {red:#?}");
}

#[test]
fn an_error_anywhere_tells_the_truth_and_recovery_completes_what_it_calls_pending() {
    let mut tried = 0;
    for (name, program) in [
        ("everything", EVERYTHING),
        ("in the root", IN_THE_ROOT),
        ("only removals", ONLY_REMOVALS),
        ("a single file", &[a_single_file]),
    ] {
        for (how, options, setup) in [
            ("PerFile", by(SyncStrategy::PerFile), (|test| test) as Setup),
            ("FileSystem", by(SyncStrategy::FileSystem), journaled),
            ("single", TransactionOptions::new().single_flush(true), journaled),
            ("by record", by(SyncStrategy::Auto), journaled),
            ("named", by(SyncStrategy::PerFile), named),
        ] {
            let story = Story::new(program, options).set_up(setup);
            let recording = story.test().record().unwrap();
            for (number, operation) in recording.trace().operations().iter().enumerate() {
                if operation.name() == "acknowledged" || operation.errno().is_some() {
                    continue;
                }
                for fault in faults(number, operation.name()) {
                    let context = format!("{name}, {how}, {fault:?} at {operation}");
                    judge(&story, fault, &context);
                    tried += 1;
                }
            }
        }
    }
    println!("{tried} faults");
}

fn faults(operation: usize, name: &str) -> Vec<Fault> {
    let errnos = [Errno::IO, Errno::NOSPC, Errno::ACCESS];
    let mut all: Vec<Fault> =
        errnos.map(|errno| Fault::Fail { operation, errno: errno.raw_os_error() }).into();
    if ["link", "link unnamed", "rename"].contains(&name) {
        all.push(Fault::LoseReply { operation, errno: Errno::IO.raw_os_error() });
    }
    all
}

/// The recovery runs in the same recording, which knows the files by numbers of its own.
fn judge(story: &Story, fault: Fault, context: &str) {
    let after = Mutex::new(None);
    let save = |dir: &Path| {
        let done = story.run(dir);
        let _ = durafile::recover(dir)?;
        let is_clean = durafile::recover(dir)?.is_clean();
        *after.lock().unwrap() = Some((look(dir), is_clean));
        done
    };
    let test = (story.setup)(CrashTest::new(save).initial(some_old)).fault(fault);
    let recording = test.record().unwrap_or_else(|f| panic!("{context}:\n{f}"));
    let (found, is_clean) = after.lock().unwrap().take().expect("the recovery failed");
    let says = recording.result().as_ref().err().map(|_| {
        error_of(recording.result()).unwrap_or_else(|| panic!("{context}: {:?}", recording.result()))
    });
    let (is_old, is_new) = (found == story.trees[0], found == story.trees[1]);
    let agrees = match says.map(durafile::Error::target) {
        None | Some(TargetState::Replaced | TargetState::Pending) => is_new,
        Some(TargetState::Unchanged) => is_old,
        Some(TargetState::Unknown) => is_old || is_new,
        Some(_) => false,
    };
    assert!(agrees && is_clean, "{context}: {says:?}\n{found:#?}\n{}", recording.trace());
    let files = says.map_or(&[][..], durafile::Error::files);
    assert!(files.iter().all(|(_, state)| Some(*state) == says.map(durafile::Error::target)), "{context}");
}

#[test]
fn a_record_that_a_crash_left_is_finished_by_the_next_begin() {
    let story = Story::new(EVERYTHING, by(SyncStrategy::PerFile));
    let test = story.test().recover_with(|dir| {
        Transaction::begin(dir)?.discard()?;
        Ok(())
    });
    let tried = test.run(|dir, acked| {
        // A begin looks at its own root only; what was on its way elsewhere is left to `recover`.
        let _ = durafile::recover(dir)?;
        story.check(dir, acked)
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn killed_at_any_operation_and_run_again_nothing_is_mixed() {
    let story = Story::new(EVERYTHING, by(SyncStrategy::PerFile));
    let operations = story.test().record().unwrap().trace().operations().len();
    for operation in 0..operations {
        let test = story.test().second_crashes(false).max_states(20).killed_before(operation);
        let recording = test.record().unwrap_or_else(|failure| panic!("{operation}:\n{failure}"));
        // The second run may find the first one's changes made: then there is nothing to remove.
        let found = look(recording.dir());
        assert!(found == story.trees[1] || found == story.trees[0], "{operation}: {found:#?}");
        fs::metadata(recording.dir().join("d/other")).unwrap();
    }
}
