//! The proof has teeth: traces are altered, and the check must find it.

use durafile::crash_testing::{Model, Operation, Trace};

use crate::crash_case::{Case, Expected};

/// What became of the alterations of one trace.
#[derive(Default)]
pub(crate) struct Mutants {
    pub(crate) red: Vec<String>,
    pub(crate) survivors: Vec<Survivor>,
    /// Those in which a later operation could not have succeeded.
    pub(crate) impossible: usize,
}

pub(crate) struct Survivor {
    pub(crate) what: String,
    pub(crate) because: Option<&'static str>,
}

const SAME_DISKS: &str = "it leaves no other disks, so that nothing could find it";

impl Survivor {
    pub(crate) fn leaves_other_disks(&self) -> bool {
        self.because != Some(SAME_DISKS)
    }
}

impl Mutants {
    pub(crate) fn unexplained(&self, case: &str) -> Vec<String> {
        let unexplained = self.survivors.iter().filter(|survivor| survivor.because.is_none());
        unexplained.map(|survivor| format!("{case}: {}", survivor.what)).collect()
    }
}

/// Leaves out each operation, and swaps each with the next.
pub(crate) fn mutants(case: &Case, expected: &Expected, trace: &Trace) -> Mutants {
    let operations = trace.operations();
    let mut mutants = Mutants::default();
    for (number, operation) in operations.iter().enumerate() {
        if operation.errno().is_some() {
            continue;
        }
        if operation.name() != "acknowledged" {
            let what = format!("without {operation}");
            let because = explain(operation, None).filter(|_| !operation.is_sync());
            mutants.judge(case, expected, trace, trace.without(number), what, because);
            // Where the disk held the content from the start there is nothing to sync.
            if operation.is_sync() && case.new.is_some() {
                mutants.assert_last_is_red(case);
            }
        }
        if let Some(next) = operations.get(number + 1) {
            let what = format!("{next}, then {operation}");
            let because = explain(operation, Some(next));
            mutants.judge(case, expected, trace, trace.swapped(number), what, because);
        }
    }
    mutants
}

impl Mutants {
    /// A sync that can be left out is a missing check or a wasted flush.
    fn assert_last_is_red(&self, case: &Case) {
        let survivor = self.survivors.last().map(|survivor| &survivor.what);
        assert!(
            survivor.is_none_or(|what| !what.starts_with("without sync")),
            "{}: {survivor:?}",
            case.name()
        );
    }

    fn judge(
        &mut self,
        case: &Case,
        expected: &Expected,
        trace: &Trace,
        mutant: Option<Trace>,
        what: String,
        because: Option<&'static str>,
    ) {
        let Some(mutant) = mutant else {
            self.impossible += 1;
            return;
        };
        let models = [Model::Unordered, Model::ProcessDeath];
        let found = models.into_iter().any(|model| {
            let (test, _) = case.test();
            let test = test.model(model).second_crashes(false);
            test.explore(&mutant, |dir, acked| expected.check(case, model, dir, acked)).is_err()
        });
        if found {
            return self.red.push(what);
        }
        let same = models.into_iter().all(|model| case.test().0.model(model).adds_nothing(&mutant, trace));
        let because = if same { Some(SAME_DISKS) } else { because };
        self.survivors.push(Survivor { what, because });
    }
}

/// Some alterations leave other disks, and these are good, too.
fn explain(one: &Operation, other: Option<&Operation>) -> Option<&'static str> {
    let both = [Some(one), other];
    let mut all = both.iter().flatten();
    if all.clone().any(|operation| operation.name() == "unlink" && is_on_remnant(operation)) {
        return Some("recovery removes the remnant");
    }
    let unsynced = ["write", "set mode", "set owner", "set xattr", "remove xattr", "lock"];
    if all.all(|operation| unsynced.contains(&operation.name()) && is_on_remnant(operation)) {
        return Some("only the staged file differs, and recovery removes it");
    }
    None
}

/// Whether it changes a name of ours or the file behind it.
fn is_on_remnant(operation: &Operation) -> bool {
    let text = operation.to_string();
    let mut words = text.split([' ', '/']);
    words.any(durafile::is_remnant)
}
