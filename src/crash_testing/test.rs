//! The test of one save function.

use std::fmt;
use std::io;
use std::path::Path;

use crate::crash_testing::acked::Acked;
use crate::crash_testing::explore::{Explorer, Known};
use crate::crash_testing::model::Model;
use crate::crash_testing::recording::{Manner, Recording, is_complete, record_new, record_there};
use crate::crash_testing::report::{Failure, Report};
use crate::crash_testing::settings::{Act, Outcome, Prepare, Recovery, SAVED, Settings};
use crate::crash_testing::states::States;
use crate::crash_testing::trace::Trace;
use crate::sys::recorder::Fault;

/// A crash test of one save function. See [the module](super) for an example.
///
/// ```
/// use durafile::crash_testing::CrashTest;
///
/// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("state"), "new")?)))
///     .initial(|dir| std::fs::write(dir.join("state"), "old"))
///     .run(|dir, acked| {
///         let state = std::fs::read_to_string(dir.join("state"))?;
///         assert!(state == "new" || state == "old" && !acked.saved(), "{state}");
///         Ok(())
///     })?;
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[must_use = "nothing is tried before `run`"]
pub struct CrashTest<'a> {
    prepare: Prepare<'a>,
    save: Act<'a>,
    settings: Settings<'a>,
    manner: Manner,
}

impl<'a> CrashTest<'a> {
    /// A test of this save function. It is called with an empty directory of its own and works
    /// only there, with any operations of durafile in any order.
    ///
    /// ```
    /// use durafile::crash_testing::CrashTest;
    ///
    /// let test = CrashTest::new(|dir| {
    ///     durafile::write(dir.join("a"), "1")?;
    ///     Ok(())
    /// });
    /// test.run(|_, _| Ok(()))?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn new(save: impl Fn(&Path) -> Outcome + 'a) -> CrashTest<'a> {
        CrashTest {
            prepare: Box::new(|_| Ok(())),
            save: Box::new(save),
            settings: Settings::default(),
            manner: Manner::default(),
        }
    }

    /// Fills the directory before the save, by any means: all that is there then is durable.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// CrashTest::new(|dir| Ok(drop(durafile::remove_file(dir.join("old"))?)))
    ///     .initial(|dir| std::fs::write(dir.join("old"), ""))
    ///     .run(|dir, acked| {
    ///         assert!(!acked.saved() || !dir.join("old").exists());
    ///         Ok(())
    ///     })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn initial(mut self, prepare: impl Fn(&Path) -> io::Result<()> + 'a) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// What the application runs when it starts, instead of [`recover`](crate::recover). Crashes are tried in the
    /// middle of this, too.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    ///     .recover_with(|dir| {
    ///         durafile::recover(dir)?;
    ///         durafile::write(dir.join("started"), "")?;
    ///         Ok(())
    ///     })
    ///     .run(|dir, _| {
    ///         assert!(dir.join("started").exists());
    ///         Ok(())
    ///     })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn recover_with(mut self, recover: impl Fn(&Path) -> Outcome + 'a) -> Self {
        self.settings.recovery = Recovery::Own(Box::new(recover));
        self
    }

    /// Checks what a crash leaves, without any recovery.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// // What a program would find that reads the file before anything was recovered.
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "new")?)))
    ///     .initial(|dir| std::fs::write(dir.join("a"), "old"))
    ///     .without_recovery()
    ///     .run(|dir, _| {
    ///         assert!(["old", "new"].contains(&&*std::fs::read_to_string(dir.join("a"))?));
    ///         Ok(())
    ///     })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn without_recovery(mut self) -> Self {
        self.settings.recovery = Recovery::None;
        self
    }

    /// What the file system may do. Default: [`Model::Unordered`].
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// use durafile::crash_testing::Model;
    ///
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    ///     .model(Model::ProcessDeath)
    ///     .run(|_, _| Ok(()))?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn model(mut self, model: Model) -> Self {
        self.settings.model = model;
        self
    }

    /// If one crash point has more states than this, a sample of this size is tried. Default: 1000.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// let report = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    ///     .max_states(10_000)
    ///     .run(|_, _| Ok(()))?;
    /// assert_eq!(report.seed, None); // no sample: all were tried
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn max_states(mut self, limit: usize) -> Self {
        self.settings.limit = limit;
        self
    }

    /// Chooses which sample is tried. Default: the environment variable `DURAFILE_SEED`, or else always the same sample.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    ///     .max_states(2)
    ///     .seed(42)
    ///     .run(|_, _| Ok(()))?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Whether crashes in the middle of the recovery are tried as well. Default: true.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// let report = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    ///     .second_crashes(false)
    ///     .run(|_, _| Ok(()))?;
    /// assert_eq!(report.second_crashes, 0);
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn second_crashes(mut self, yes: bool) -> Self {
        self.settings.second_crashes = yes;
        self
    }

    /// Adds a fault, injected while the save is recorded. The save may then fail; the crash
    /// states of what it did are tried all the same.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// use durafile::crash_testing::Fault;
    ///
    /// const EIO: i32 = 5;
    ///
    /// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.fault(Fault::Refuse { name: "sync file", errno: EIO }).record()?;
    /// assert!(recording.result().is_err());
    /// assert!(!recording.dir().join("a").exists());
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn fault(mut self, fault: Fault) -> Self {
        self.manner.faults.push(fault);
        self
    }

    /// Pretends that a file that is open can't be given a name, as in a sandbox without `/proc`
    /// on an old kernel.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    ///     .no_links_by_descriptor(true)
    ///     .run(|_, _| Ok(()))?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn no_links_by_descriptor(mut self, yes: bool) -> Self {
        self.manner.no_links_by_descriptor = yes;
        self
    }

    /// Pretends to be on a network file system, where an answer can be lost.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?))).remote(true).run(|_, _| Ok(()))?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn remote(mut self, yes: bool) -> Self {
        self.manner.remote = yes;
        self
    }

    /// Pretends to be on ext4 with an ordinary journal: `single_flush` and
    /// [`SyncStrategy::FileSystem`](crate::SyncStrategy::FileSystem) do there what they are for, and a
    /// [`Transaction`](crate::Transaction) relies on the order of that journal. A single flush and a transaction there
    /// hold in [`Model::OrderedJournal`] only.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// use durafile::WriteOptions;
    /// use durafile::crash_testing::Model;
    ///
    /// let options = WriteOptions::new().single_flush(true);
    /// CrashTest::new(|dir| Ok(drop(options.write(dir.join("a"), "1")?)))
    ///     .journaled(true)
    ///     .model(Model::OrderedJournal)
    ///     .run(|dir, acked| {
    ///         assert!(dir.join("a").exists() || !acked.saved());
    ///         Ok(())
    ///     })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn journaled(mut self, yes: bool) -> Self {
        self.manner.journaled = yes;
        self
    }

    /// Pretends to be on btrfs: [`SyncStrategy::FileSystem`](crate::SyncStrategy::FileSystem) does there what it is for,
    /// and nothing is ordered. It has no effect together with [`journaled`](CrashTest::journaled).
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?))).btrfs(true).run(|_, _| Ok(()))?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn btrfs(mut self, yes: bool) -> Self {
        self.manner.btrfs = yes;
        self
    }

    /// Pretends that the process had been killed before the crash, right before this operation of the save, and that
    /// a new process then started, ran [`recover`](crate::recover), and saved again. What the first process did and did
    /// not sync is still only in memory.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    ///     .killed_before(2)
    ///     .run(|dir, acked| {
    ///         assert!(dir.join("a").exists() || !acked.saved());
    ///         Ok(())
    ///     })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn killed_before(mut self, operation: usize) -> Self {
        self.manner.killed_before = Some(operation);
        self
    }

    /// Whether syncs are really performed while recording; the model does not need them. Default: false.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?))).real_syncs(true).record()?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn real_syncs(mut self, yes: bool) -> Self {
        self.manner.real_syncs = yes;
        self
    }

    /// Records the save, tries each state that a crash may leave, and stops at the first that
    /// the check finds bad. A check complains by returning an error or by a panic.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// let report = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)))
    ///     .run(|dir, acked| {
    ///         let is_there = dir.join("a").exists();
    ///         if acked.saved() && !is_there { Err("what was saved is lost".into()) } else { Ok(()) }
    ///     })?;
    /// println!("{report}");
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
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
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// println!("{}", test.record()?.trace());
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The directory could not be prepared, or the save changed things in a way that can't be
    /// recorded. That the save itself fails is part of the recording.
    pub fn record(&self) -> Result<Recording<Outcome>, Failure> {
        self.finish(record_new(&self.manner, &self.prepare, &self.save))
    }

    /// As [`record`](CrashTest::record), in a directory that exists, on whatever file system it is. The directory is not
    /// removed.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let there = tempfile::tempdir().unwrap();
    /// # let there = there.path();
    /// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.record_in(there)?;
    /// assert_eq!(recording.dir(), there);
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
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
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.record()?;
    /// test.explore(recording.trace(), |dir, acked| {
    ///     assert!(dir.join("a").exists() || !acked.saved());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
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

    /// As [`explore`](CrashTest::explore), but skips states that are [`Known`] from other traces of this save, tried with
    /// the same model and the same check.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// use durafile::crash_testing::Known;
    ///
    /// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let (recording, mut known) = (test.record()?, Known::default());
    /// test.explore_new(recording.trace(), &mut known, |_, _| Ok(()))?;
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
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
        Explorer::new(&self.settings, &check, known).map_err(Failure::early)?.explore(trace)
    }

    /// Whether a crash of an altered trace leaves no disk that a crash of the original does not
    /// leave, too, with as much acknowledged: then no check can tell them apart.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.record()?;
    /// assert!(test.adds_nothing(recording.trace(), recording.trace()));
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn adds_nothing(&self, altered: &Trace, original: &Trace) -> bool {
        let disks =
            |trace| States::new(trace, self.settings.model, self.settings.limit, self.settings.seed).disks();
        disks(altered).is_subset(&disks(original))
    }
}

impl fmt::Debug for CrashTest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrashTest")
            .field("model", &self.settings.model)
            .field("limit", &self.settings.limit)
            .field("seed", &self.settings.seed)
            .field("manner", &self.manner)
            .finish_non_exhaustive()
    }
}
