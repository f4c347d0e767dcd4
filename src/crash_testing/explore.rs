//! Trying states: write the disk out, recover, check; crash the recovery, and so on.

use std::any::Any;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::crash_testing::acked::Acked;
use crate::crash_testing::content::Choice;
use crate::crash_testing::disk::{Disk, Scratch, remove_tree};
use crate::crash_testing::recording::{Manner, is_complete, record};
use crate::crash_testing::recovery::{is_settled, recover};
use crate::crash_testing::report::{Chapter, Failure, Report};
use crate::crash_testing::settings::{Outcome, Recovery, SAVED, Settings};
use crate::crash_testing::states::States;
use crate::crash_testing::trace::Trace;

type Check<'t> = &'t dyn Fn(&Path, &Acked) -> Outcome;

/// Crashes of crashed recoveries are followed so far; by then nothing new turns up.
const DEEPEST: usize = 4;

/// The states that a check has found good: a trace that leads to one of them again does not have it
/// tried again. For `CrashTest::explore_new`.
///
/// ```
/// use durafile::crash_testing::{CrashTest, Known};
///
/// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
/// let recording = test.record()?;
/// let mut known = Known::default();
/// let first = test.explore_new(recording.trace(), &mut known, |_, _| Ok(()))?;
/// let again = test.explore_new(recording.trace(), &mut known, |_, _| Ok(()))?;
/// assert!(first.states > 0 && again.states == 0);
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[derive(Debug, Default)]
pub struct Known {
    /// Disks, with what had been acknowledged.
    tried: HashSet<(u64, Acked)>,
}

pub(crate) struct Explorer<'t> {
    settings: &'t Settings<'t>,
    check: Check<'t>,
    scratch: Scratch,
    known: &'t mut Known,
    report: Report,
    directories: usize,
}

/// How a state came about.
struct Past<'p> {
    before: Option<&'p Past<'p>>,
    states: &'p States<'p>,
    trace: &'p Trace,
    point: usize,
    choices: &'p [Choice],
    acked: &'p Acked,
}

impl<'t> Explorer<'t> {
    pub(crate) fn new(
        settings: &'t Settings<'t>,
        check: Check<'t>,
        known: &'t mut Known,
    ) -> Result<Explorer<'t>, String> {
        let scratch = Scratch::new().map_err(|e| format!("no place to work in: {e}"))?;
        Ok(Explorer { settings, check, scratch, known, report: Report::default(), directories: 0 })
    }

    pub(crate) fn explore(mut self, trace: &Trace) -> Result<Report, Failure> {
        self.report.operations = trace.log.len();
        match &self.settings.only {
            Some(names) => self.only(trace, None, names)?,
            None => self.all(trace, None)?,
        }
        Ok(self.report)
    }

    /// Every crash of this trace; `before` is the crash that it recovers from.
    fn all(&mut self, trace: &Trace, before: Option<&Past<'_>>) -> Result<(), Failure> {
        let states = States::new(trace, self.settings.model, self.settings.limit, self.settings.seed);
        for at in states.points() {
            let point = states.at(at);
            if point.sampled {
                self.report.seed = Some(self.settings.seed);
            }
            let acked = acked(trace, at, before);
            for choices in &point.all {
                let past = Past { before, states: &states, trace, point: at, choices, acked: &acked };
                self.once(&past)?;
            }
        }
        Ok(())
    }

    /// One state, by its name.
    fn only(&mut self, trace: &Trace, before: Option<&Past<'_>>, names: &str) -> Result<(), Failure> {
        let (name, further) = names.split_once('/').map_or((names, None), |(name, rest)| (name, Some(rest)));
        let states = States::new(trace, self.settings.model, self.settings.limit, self.settings.seed);
        let Some((point, choices)) = states.named(name) else {
            return Err(Failure::early(format!("DURAFILE_STATE: this save has no state {name}\n{trace}")));
        };
        let acked = acked(trace, point, before);
        let past = Past { before, states: &states, trace, point, choices: &choices, acked: &acked };
        let recovery = self.attempt(&past, &states.disk(&choices))?;
        match (further, recovery) {
            (Some(further), Some(recovery)) => self.only(&recovery, Some(&past), further),
            _ => Ok(()),
        }
    }

    fn once(&mut self, past: &Past<'_>) -> Result<(), Failure> {
        let disk = past.states.disk(past.choices);
        if past.before.is_some() && disk.digest() != past.trace.initial.digest() {
            self.report.second_crashes += 1;
        }
        let state = (disk.digest(), past.acked.clone());
        if self.known.tried.contains(&state) {
            return Ok(());
        }
        let recovery = self.attempt(past, &disk)?;
        self.known.tried.insert(state);
        match recovery.filter(|_| self.settings.second_crashes && past.depth() < DEEPEST) {
            Some(recovery) => self.all(&recovery, Some(past)),
            None => Ok(()),
        }
    }

    /// Tries a state; gives what the recovery did.
    fn attempt(&mut self, past: &Past<'_>, disk: &Disk) -> Result<Option<Trace>, Failure> {
        match past.before {
            None => self.report.states += 1,
            Some(_) => self.report.further_states += 1,
        }
        self.directories += 1;
        let root = self.scratch.path().join(self.directories.to_string());
        let judged = self.judge(&root, disk, past.acked);
        remove_tree(&root);
        judged.map_err(|what| Failure { what, story: past.story(), report: self.report.clone() })
    }

    fn judge(&self, root: &Path, disk: &Disk, acked: &Acked) -> Result<Option<Trace>, String> {
        disk.write(root).map_err(|e| format!("the state could not be written out: {e}"))?;
        let recovery = match &self.settings.recovery {
            Recovery::None => None,
            Recovery::Ours => Some(self.recover(root, &recover)?),
            Recovery::Own(recover) => Some(self.recover(root, recover)?),
        };
        guarded(|| (self.check)(root, acked)).map_err(|e| format!("the check failed: {e}"))?;
        if let Recovery::Ours = self.settings.recovery {
            is_settled(root)?;
        }
        Ok(recovery)
    }

    fn recover(&self, root: &Path, recover: &dyn Fn(&Path) -> Outcome) -> Result<Trace, String> {
        let (trace, result) = record(&Manner::default(), root, |root| guarded(|| recover(root)))?;
        result.map_err(|e| format!("the recovery failed: {e}\n{trace}"))?;
        is_complete(&trace, root)?;
        Ok(trace)
    }
}

fn acked(trace: &Trace, point: usize, before: Option<&Past<'_>>) -> Acked {
    if let Some(before) = before {
        return before.acked.clone();
    }
    let mut labels = trace.acked(point);
    let saved = labels.iter().any(|label| label == SAVED);
    labels.retain(|label| label != SAVED);
    Acked { labels, saved }
}

/// A panic is how assertions complain.
fn guarded(act: impl FnOnce() -> Outcome) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(act)) {
        Ok(outcome) => outcome.map_err(|e| e.to_string()),
        Err(panic) => Err(panic_text(panic.as_ref())),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".to_owned())
}

impl Past<'_> {
    fn depth(&self) -> usize {
        1 + self.before.map_or(0, Past::depth)
    }

    fn story(&self) -> Vec<Chapter> {
        let mut story = self.before.map_or_else(Vec::new, Past::story);
        let title = match self.before {
            None => format!("the save, which crashed after {} of its operations:", self.point),
            Some(_) => format!("the recovery, which crashed after {} of its operations:", self.point),
        };
        story.push(Chapter {
            title,
            operations: self.states.annotate(self.trace, self.point, self.choices),
            disk: self.states.disk(self.choices).to_string(),
            state: self.states.name(self.point, self.choices),
        });
        story
    }
}
