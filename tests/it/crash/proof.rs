//! Goal: no crash and no fault, at any operation of any save, breaks a promise; and these tests
//! would notice if one did.
//!
//! Method: each case is recorded once. Every disk that a crash may leave is recovered and
//! compared; so is every disk that a crash of the recovery may leave. Then each operation fails
//! with each errno. Then the record is altered, operation by operation, and the comparison must
//! find the alterations. A table of all that is printed at the end. `DURAFILE_CASE` restricts all
//! this to the cases with such a name.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use durafile::ErrorKind;
use durafile::crash_testing::{CrashTest, Model, Outcome, Recording, Report, Trace};

use crate::crash::case::{Case, Expected, error_of};
use crate::crash::cases_files::cases;
use crate::crash::faults::faults;
use crate::crash::mutants::{Mutants, mutants};
use crate::support::long;

const MODELS: [Model; 3] = [Model::Unordered, Model::OrderedJournal, Model::ProcessDeath];

#[derive(Default)]
struct Row {
    name: String,
    report: Report,
    faults: usize,
    /// Kills of the process, after which it ran again before the power failed.
    kills: usize,
    mutants: Mutants,
    changes_nothing: bool,
    /// Something failed, and was printed.
    broken: bool,
}

#[test]
fn every_operation_survives_every_crash_and_fault_and_no_mutant_of_a_sync_does() {
    let only = std::env::var("DURAFILE_CASE").unwrap_or_default();
    let mut cases: Vec<Case> = cases().into_iter().filter(|case| case.name().contains(&only)).collect();
    if only.is_empty() {
        cases = long::each(6, cases, "operations");
    }
    let rows = Mutex::new(BTreeMap::new());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some((number, case)) = pull(&next, &cases) {
            let row = prove(case);
            rows.lock().unwrap().insert(number, row);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(work);
        }
    });
    let rows: Vec<Row> = rows.into_inner().unwrap().into_values().collect();
    print(&rows);
    let broken: Vec<&str> = rows.iter().filter(|row| row.broken).map(|row| row.name.as_str()).collect();
    assert!(broken.is_empty(), "these break a promise, see above: {broken:#?}");
    for row in &rows {
        assert!(row.report.states > 0 && row.faults > 0, "{}: an empty cell", row.name);
        assert!(!row.mutants.red.is_empty() || row.changes_nothing, "{}: no mutant was found", row.name);
    }
    let survivors: Vec<String> = rows.iter().flat_map(|row| row.mutants.unexplained(&row.name)).collect();
    assert!(survivors.is_empty(), "mutants survive without an explanation:\n{}", survivors.join("\n"));
}

/// The last first: they take the longest, and nobody should wait for them alone.
fn pull<'c>(next: &AtomicUsize, cases: &'c [Case]) -> Option<(usize, &'c Case)> {
    let number = cases.len().checked_sub(next.fetch_add(1, Ordering::Relaxed) + 1)?;
    Some((number, cases.get(number)?))
}

/// All that is tried on one case. One kind of trial that fails does not keep the others from running.
fn prove(case: &Case) -> Row {
    let (expected, recording) = case.learn();
    let trace = recording.trace();
    let mut row = Row { name: case.name(), changes_nothing: case.changes_nothing_at_all(), ..Row::default() };
    row.trial(|row| row.report = explore(case, &expected, trace));
    row.trial(|row| row.faults = faults(case, &expected, trace));
    row.trial(|row| row.kills = kills(case, &expected, trace));
    row.trial(|row| row.mutants = mutants(case, &expected, trace));
    row
}

impl Row {
    fn trial(&mut self, trial: impl FnOnce(&mut Row)) {
        self.broken |= catch_unwind(AssertUnwindSafe(|| trial(self))).is_err();
    }
}

/// The process is killed before each operation; a new one recovers and saves again; then the power
/// fails. What the first process did may still not be durable.
fn kills(case: &Case, expected: &Expected, trace: &Trace) -> usize {
    for operation in 0..trace.operations().len() {
        let (test, _) = case.test();
        let test = test.second_crashes(false).max_states(case.few()).killed_before(operation);
        let recording = record_unlocked(&case.name(), &test);
        let refused = !case.changes_nothing_at_all() && error_of(recording.result()).is_some();
        // A save that must create the file finds that the dead process has.
        if refused && case.look(recording.dir()) == expected.new {
            continue;
        }
        assert!(recording.result().is_ok(), "{}: {:?}", case.name(), recording.result());
        let explored =
            test.explore(recording.trace(), |dir, acked| expected.check(case, Model::Unordered, dir, acked));
        explored.unwrap_or_else(|failure| {
            panic!("{}, killed before operation {operation} and run again:\n{failure}", case.name())
        });
    }
    trace.operations().len()
}

/// The dead process is only pretended: a child that another test of this process is just starting
/// may for a moment hold a copy of its locks.
pub(crate) fn record_unlocked(name: &str, test: &CrashTest<'_>) -> Recording<Outcome> {
    for _ in 0..100 {
        let recording = test.record().unwrap_or_else(|failure| panic!("{name}:\n{failure}"));
        if error_of(recording.result()).is_none_or(|e| e.kind() != ErrorKind::Locked) {
            return recording;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{name}: the lock of a dead process is not given up");
}

/// Every crash of one trace, under every model.
fn explore(case: &Case, expected: &Expected, trace: &Trace) -> Report {
    let mut total = Report::default();
    for model in MODELS {
        let (test, _) = case.test();
        let explored = test
            .model(model)
            .max_states(150)
            .explore(trace, |dir, acked| expected.check(case, model, dir, acked));
        match explored {
            // What the other models allow, this one allows, too.
            Ok(report) if model == Model::Unordered => total += &report,
            Ok(_) => {}
            Err(failure) => panic!("{}, {model:?}:\n{failure}", case.name()),
        }
    }
    total
}

/// Written past the capture of libtest, so that every run shows it.
fn print(rows: &[Row]) {
    let mut text = String::from(
        "\ncrash proof: after any crash, recovered, the disk is as before or as after the save\n",
    );
    let heads = ["disks", "second", "kills", "faults", "mutants"];
    let _ = writeln!(text, "{:<36} {}", "operation, option", heads.map(|head| format!("{head:>9}")).join(""));
    let mut total = [0; 6];
    for row in rows {
        let numbers = row.numbers();
        total = std::array::from_fn(|column| total[column] + numbers[column]);
        let _ = writeln!(text, "{:<36} {}", row.name, line(numbers));
    }
    let _ = writeln!(text, "{:<36} {}", "all", line(total));
    text.push_str(
        "  disks: different disks after a crash; second: after a crash of the recovery from one of \
         these;\n  kills: the process dies, another one saves again, and then the power fails;\n  \
         mutants: found by the check, of those that leave other disks\n",
    );
    for (because, count) in explanations(rows) {
        let _ = writeln!(text, "  {count} mutants more: {because}");
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

impl Row {
    fn numbers(&self) -> [usize; 6] {
        let Report { states, second_crashes, .. } = self.report;
        let red = self.mutants.red.len();
        let alive = self.mutants.survivors.iter().filter(|survivor| survivor.leaves_other_disks());
        [states, second_crashes, self.kills, self.faults, red, red + alive.count()]
    }
}

fn line([states, second, kills, faults, red, possible]: [usize; 6]) -> String {
    let mutants = format!("{red}/{possible}");
    format!("{states:>9}{second:>9}{kills:>9}{faults:>9}{mutants:>9}")
}

fn explanations(rows: &[Row]) -> BTreeMap<&'static str, usize> {
    let mut explained = BTreeMap::new();
    for mutants in rows.iter().map(|row| &row.mutants) {
        for survivor in &mutants.survivors {
            *explained.entry(survivor.because.unwrap_or("unexplained")).or_default() += 1;
        }
        *explained.entry("impossible, a later call would fail").or_default() += mutants.impossible;
    }
    explained
}
