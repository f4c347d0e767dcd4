//! The proof has teeth: traces are altered, and the check must find it.

use durafile::crash_testing::{Known, Model, Operation, Trace};

use crate::crash::case::{Case, Expected};
use crate::crash::faults::guards_nothing;

/// So many states of a crash point at most; the extremes are among them, which find most.
const MOST: usize = 150;

/// What an alteration is judged by. No other model finds more.
const MODELS: [Model; 2] = [Model::Unordered, Model::ProcessDeath];

/// What became of the alterations of one trace.
#[derive(Default)]
pub(crate) struct Mutants {
    /// Most states of an altered trace are states of the others, too.
    known: [Known; MODELS.len()],
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

const NO_NAME: &str = "links are refused, which is found out once for each mount: the file never gets a name";

const REFUSED_NEXT: &str = "the rename that it comes before is refused, which nobody can know";

const ONLY_READ: &str = "the staged file is refused the target's name: it is read back, and no disk keeps it";

/// Whether this concerns a staged file whose rename is refused.
fn is_only_read(all: &[Operation], operation: &Operation) -> bool {
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    let linked = |text: &&String| text.starts_with("link unnamed") && unnamed(operation) == unnamed_in(text);
    let name = texts.iter().find(linked).and_then(|text| text.split(" as ").nth(1));
    let refused = |name: &str| {
        let mut renames =
            texts.iter().filter(|text| text.starts_with("rename") && text.contains(name)).peekable();
        renames.peek().is_some() && renames.all(|text| text.contains("FAILED"))
    };
    unnamed(operation).is_some() && name.is_some_and(refused)
}

fn unnamed(operation: &Operation) -> Option<String> {
    unnamed_in(&operation.to_string())
}

/// The number of the unnamed file that the text of an operation speaks of.
fn unnamed_in(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("(unnamed ")?;
    rest.split_once(')').map(|(number, _)| number.to_owned())
}

/// Whether this concerns a file without a name that is never given one.
fn is_of_no_name(all: &[Operation], operation: &Operation) -> bool {
    let is_linked = |other: &Operation| other.name() == "link unnamed" && other.errno().is_none();
    unnamed(operation)
        .is_some_and(|of| !all.iter().any(|other| is_linked(other) && unnamed(other).as_ref() == Some(&of)))
}

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
            let because = explain(case, operation, None).filter(|_| !operation.is_sync());
            let because = because.or_else(|| is_of_no_name(&operations, operation).then_some(NO_NAME));
            let because = because.or_else(|| guards_nothing(&operations, number).then_some(REFUSED_NEXT));
            let because = because.or_else(|| is_only_read(&operations, operation).then_some(ONLY_READ));
            mutants.judge(case, expected, trace, trace.without(number), what, because);
            // Where the disk held the content from the start there is nothing to sync.
            let may_go = [NO_NAME, REFUSED_NEXT, ONLY_READ].map(Some).contains(&because);
            if operation.is_sync() && case.new.is_some() && !may_go {
                mutants.assert_last_is_red(case);
            }
        }
        if let Some(next) = operations.get(number + 1) {
            let what = format!("{next}, then {operation}");
            let because = explain(case, operation, Some(next));
            let because = because.or_else(|| is_of_no_name(&operations, operation).then_some(NO_NAME));
            let because = because.or_else(|| guards_nothing(&operations, number).then_some(REFUSED_NEXT));
            let because = because.or_else(|| is_only_read(&operations, operation).then_some(ONLY_READ));
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
        let found = MODELS.into_iter().zip(&mut self.known).any(|(model, known)| {
            let (test, _) = case.test();
            let test = test.model(model).second_crashes(false).max_states(MOST);
            test.explore_new(&mutant, known, |dir, acked| expected.check(case, model, dir, acked)).is_err()
        });
        if found {
            return self.red.push(what);
        }
        let same = MODELS
            .into_iter()
            .all(|model| case.test().0.model(model).max_states(MOST).adds_nothing(&mutant, trace));
        let because = if same { Some(SAME_DISKS) } else { because };
        self.survivors.push(Survivor { what, because });
    }
}

/// Some alterations leave other disks, and these are good, too.
fn explain(case: &Case, one: &Operation, other: Option<&Operation>) -> Option<&'static str> {
    let both = [Some(one), other].into_iter().flatten();
    let removes = |operation: &Operation| ["unlink", "rmdir"].contains(&operation.name());
    if both.clone().any(|operation| removes(operation) && is_on_remnant(operation)) {
        return Some("recovery removes the remnant");
    }
    if both.clone().all(|operation| operation.name() == "lock") {
        return Some("a lock keeps off those who live, which no disk shows");
    }
    let deletes = |operation: &Operation| removes(operation) || operation.name() == "lock";
    if case.swaps && both.clone().all(deletes) {
        return Some("recovery deletes what is left of an old version");
    }
    if case.swaps && both.clone().all(|operation| operation.name().starts_with("rename")) {
        return Some("the record says what is meant, in whatever order it is done");
    }
    let published = |operation: &Operation| {
        let text = operation.to_string();
        let to = text.rsplit([' ', '/']).next().unwrap_or_default();
        ["rename", "rename new"].contains(&operation.name()) && !durafile::is_remnant(to)
    };
    if both.clone().all(is_on_remnant) && !both.clone().any(published) {
        return Some("only what is staged differs, and recovery removes it");
    }
    let contents = |operation: &Operation| ["write", "truncate"].contains(&operation.name());
    if case.overwrites && other.is_some() && both.clone().all(contents) {
        return Some("the undo copy covers both, in whatever order they are done");
    }
    let swapped = other.is_some_and(|other| other.name() != "acknowledged");
    (case.each && swapped).then_some("the files of a batch are independent")
}

/// Whether it changes a name of ours or the file behind it.
fn is_on_remnant(operation: &Operation) -> bool {
    let text = operation.to_string();
    let mut words = text.split([' ', '/']);
    words.any(durafile::is_remnant)
}
