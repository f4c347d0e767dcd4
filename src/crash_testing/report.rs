//! What came of a test.

use std::fmt;
use std::ops::AddAssign;

/// How much was tried, and found good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Different disks that a crash of the save may leave.
    pub states: usize,
    /// Disks that a crash of the recovery from one of these may leave, counted for each.
    pub second_crashes: usize,
    /// Those among them that no crash of the save leaves.
    pub further_states: usize,
    /// Operations, before and after each of which the crash came.
    pub operations: usize,
    /// The seed, if there were too many states and a sample was taken.
    pub seed: Option<u64>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { states, second_crashes, further_states, operations, seed } = self;
        write!(f, "{operations} operations, {states} states after a crash, ")?;
        write!(f, "{second_crashes} after a second one ({further_states} of them new); ")?;
        match seed {
            Some(seed) => write!(f, "a sample (DURAFILE_SEED={seed})"),
            None => f.write_str("these are all"),
        }
    }
}

impl AddAssign<&Report> for Report {
    fn add_assign(&mut self, other: &Report) {
        self.states += other.states;
        self.second_crashes += other.second_crashes;
        self.further_states += other.further_states;
        self.operations += other.operations;
        self.seed = self.seed.or(other.seed);
    }
}

/// The first bad state, or why none could be tried.
///
/// [`Display`](fmt::Display) and [`Debug`] both give the whole report, so that `unwrap` and `?`
/// in a test show it: what went wrong, the operations, which of them survived, the disk.
#[derive(Clone)]
pub struct Failure {
    pub(super) what: String,
    pub(super) story: Vec<Chapter>,
    pub(super) report: Report,
}

/// One crash on the way to the bad state.
#[derive(Clone, Debug)]
pub(super) struct Chapter {
    pub(super) title: String,
    /// The operations, each with a mark for what became of it.
    pub(super) operations: String,
    pub(super) disk: String,
    pub(super) state: String,
}

impl Failure {
    /// What the check, the recovery or the test itself said.
    pub fn message(&self) -> &str {
        &self.what
    }

    /// The name of the bad state, for `DURAFILE_STATE`; none if no state is to blame.
    pub fn state(&self) -> Option<String> {
        let names: Vec<&str> = self.story.iter().map(|chapter| chapter.state.as_str()).collect();
        (!names.is_empty()).then(|| names.join("/"))
    }

    /// What had been tried when it was found.
    pub fn report(&self) -> &Report {
        &self.report
    }

    pub(super) fn early(what: String) -> Failure {
        Failure { what, story: Vec::new(), report: Report::default() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        for Chapter { title, operations, disk, .. } in &self.story {
            writeln!(f, "\n{title}\n  (+ survived, - lost, ~ torn, no sign: not done before the crash)")?;
            write!(f, "{operations}  the disk after the crash:\n{disk}")?;
        }
        if let Some(state) = self.state() {
            writeln!(f, "\nto try this state alone: DURAFILE_STATE={state}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{self}")
    }
}

impl std::error::Error for Failure {}
