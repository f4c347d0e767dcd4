//! The test of one save function.

use std::env;
use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;

use super::acked::Acked;
use super::explore::{Explorer, Known};
use super::model::Model;
use super::recording::{Manner, Recording, is_complete, record_new, record_there};
use super::report::{Failure, Report};
use super::states::States;
use super::trace::Trace;
use crate::sys::record::Fault;

/// What save functions, checks and recoveries return, so that `?` works on any error in them.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

type Act<'a> = Box<dyn Fn(&Path) -> Outcome + 'a>;
type Prepare<'a> = Box<dyn Fn(&Path) -> io::Result<()> + 'a>;

/// What puts things right after a crash.
pub(super) enum Recovery<'a> {
    Ours,
    None,
    Own(Act<'a>),
}

/// A crash test of one save function. See [the module](super) for an example.
#[must_use = "nothing is tried before `run`"]
pub struct CrashTest<'a> {
    prepare: Prepare<'a>,
    save: Act<'a>,
    pub(super) recovery: Recovery<'a>,
    pub(super) model: Model,
    pub(super) limit: usize,
    pub(super) seed: u64,
    pub(super) second_crashes: bool,
    pub(super) only: Option<String>,
    manner: Manner,
}

impl<'a> CrashTest<'a> {
    /// A test of this save function. It is called with an empty directory of its own and works
    /// only there, with any operations of durafile in any order.
    pub fn new(save: impl Fn(&Path) -> Outcome + 'a) -> CrashTest<'a> {
        CrashTest {
            prepare: Box::new(|_| Ok(())),
            save: Box::new(save),
            recovery: Recovery::Ours,
            model: Model::default(),
            limit: 1000,
            seed: env::var("DURAFILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1),
            second_crashes: true,
            only: env::var("DURAFILE_STATE").ok(),
            manner: Manner::default(),
        }
    }

    /// Fills the directory before the save, by any means: all that is there then is durable.
    pub fn initial(mut self, prepare: impl Fn(&Path) -> io::Result<()> + 'a) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// What the application runs when it starts, in place of [`recover`](crate::recover). It is
    /// crashed, too.
    pub fn recover_with(mut self, recover: impl Fn(&Path) -> Outcome + 'a) -> Self {
        self.recovery = Recovery::Own(Box::new(recover));
        self
    }

    /// Checks what a crash leaves, without any recovery.
    pub fn without_recovery(mut self) -> Self {
        self.recovery = Recovery::None;
        self
    }

    /// What the file system may do. Default: [`Model::Unordered`].
    pub fn model(mut self, model: Model) -> Self {
        self.model = model;
        self
    }

    /// Beyond so many states of one crash point a sample of that size is taken. Default: 1000.
    pub fn max_states(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Which sample. Default: the environment's `DURAFILE_SEED`, or always the same.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Whether the recovery is crashed as well. Default: true.
    pub fn second_crashes(mut self, yes: bool) -> Self {
        self.second_crashes = yes;
        self
    }

    /// Adds a fault, injected while the save is recorded. The save may then fail; the crash
    /// states of what it did are tried all the same.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.manner.faults.push(fault);
        self
    }

    /// Pretends that a file that is open can't be given a name, as in a sandbox without `/proc`
    /// on an old kernel.
    pub fn no_links_by_descriptor(mut self, yes: bool) -> Self {
        self.manner.no_links_by_descriptor = yes;
        self
    }

    /// Pretends to be on a network file system, where an answer can be lost.
    pub fn remote(mut self, yes: bool) -> Self {
        self.manner.remote = yes;
        self
    }

    /// Pretends to be on ext4 with an ordinary journal: `single_flush` and
    /// [`SyncStrategy::FileSystem`](crate::SyncStrategy::FileSystem) do there what they are for. A
    /// single flush holds in [`Model::OrderedJournal`] only.
    pub fn journaled(mut self, yes: bool) -> Self {
        self.manner.journaled = yes;
        self
    }

    /// Before the crash the process was killed, too: right before this operation of the save.
    /// Then a new one started, ran [`recover`](crate::recover), and saved again. What the first one
    /// did is still in memory only, as far as it was not synced.
    pub fn killed_before(mut self, operation: usize) -> Self {
        self.manner.killed_before = Some(operation);
        self
    }

    /// Whether syncs are performed while recording; the model does not need them. Default: false.
    pub fn real_syncs(mut self, yes: bool) -> Self {
        self.manner.real_syncs = yes;
        self
    }

    /// Records the save, tries each state that a crash may leave, and stops at the first that
    /// the check finds bad. A check complains by returning an error or by a panic.
    ///
    /// # Errors
    ///
    /// The first bad state; or the save itself failed, without any crash.
    pub fn run(&self, check: impl Fn(&Path, &Acked) -> Outcome) -> Result<Report, Failure> {
        let recording = self.record()?;
        if let (Err(e), true) = (recording.result(), self.manner.faults.is_empty()) {
            return Err(Failure::early(format!(
                "the save failed without a crash: {e}\n{}",
                recording.trace()
            )));
        }
        self.explore(recording.trace(), check)
    }

    /// Runs the save once and records it.
    ///
    /// # Errors
    ///
    /// The directory could not be prepared, or the save changed things in a way that can't be
    /// recorded. That the save itself fails is part of the recording.
    pub fn record(&self) -> Result<Recording<Outcome>, Failure> {
        self.finish(record_new(&self.manner, &self.prepare, &self.save))
    }

    /// The same in a directory that exists, on whatever file system it is. It is not removed.
    ///
    /// # Errors
    ///
    /// As [`record`](CrashTest::record).
    pub fn record_in(&self, dir: impl AsRef<Path>) -> Result<Recording<Outcome>, Failure> {
        self.finish(record_there(&self.manner, dir.as_ref(), &self.prepare, &self.save))
    }

    fn finish(&self, recorded: Result<Recording<Outcome>, String>) -> Result<Recording<Outcome>, Failure> {
        let mut recording = recorded.map_err(Failure::early)?;
        if recording.result.is_ok() {
            recording.trace.push_ack(SAVED);
        }
        is_complete(&recording.trace, recording.dir()).map_err(Failure::early)?;
        Ok(recording)
    }

    /// Tries each state that a crash may leave of a trace, which may have been altered.
    ///
    /// # Errors
    ///
    /// The first bad state.
    pub fn explore(
        &self,
        trace: &Trace,
        check: impl Fn(&Path, &Acked) -> Outcome,
    ) -> Result<Report, Failure> {
        self.explore_new(trace, &mut Known::default(), check)
    }

    /// The same, less the states that are known from other traces of this save, with this model
    /// and this check.
    ///
    /// # Errors
    ///
    /// The first bad state.
    pub fn explore_new(
        &self,
        trace: &Trace,
        known: &mut Known,
        check: impl Fn(&Path, &Acked) -> Outcome,
    ) -> Result<Report, Failure> {
        Explorer::new(self, &check, known).map_err(Failure::early)?.explore(trace)
    }

    /// Whether a crash of an altered trace leaves no disk that a crash of the original does not
    /// leave, too, with as much acknowledged: then no check can tell them apart.
    pub fn adds_nothing(&self, altered: &Trace, original: &Trace) -> bool {
        let disks = |trace| States::new(trace, self.model, self.limit, self.seed).disks();
        disks(altered).is_subset(&disks(original))
    }
}

/// The acknowledgment that the save function gives by returning `Ok`.
pub(super) const SAVED: &str = "the save returned Ok";

impl fmt::Debug for CrashTest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashTest")
            .field("model", &self.model)
            .field("limit", &self.limit)
            .field("seed", &self.seed)
            .field("manner", &self.manner)
            .finish_non_exhaustive()
    }
}
