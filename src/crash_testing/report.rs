//! The result of a test.

use std::fmt;
use std::ops::AddAssign;

/// How much a test has tried, and found good.
///
/// ```
/// use durafile::crash_testing::CrashTest;
///
/// let report = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?))).run(|_, _| Ok(()))?;
/// assert!(report.states > 1 && report.seed.is_none());
/// println!("{report}");
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Different disks that a crash of the save may leave.
    pub states: usize,
    /// Disks that a crash in the middle of the recovery from one of these may leave, counted for each of them.
    pub second_crashes: usize,
    /// How many of the disks after a second crash are none that a crash of the save leaves.
    pub further_states: usize,
    /// Operations of the save; crashes before and after each of them were tried.
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

/// The first bad state, or the reason why no state could be tried.
///
/// [`Display`](fmt::Display) and [`Debug`] both give the whole report, so that `unwrap` and `?`
/// in a test show it: what went wrong, the operations, which of them survived, the disk.
///
/// ```
/// use durafile::crash_testing::CrashTest;
///
/// // Two files, one after the other: a crash can come between.
/// let failure = CrashTest::new(|dir| {
///     durafile::write(dir.join("entries"), "40")?;
///     durafile::write(dir.join("total"), "40")?;
///     Ok(())
/// })
/// .run(|dir, _| {
///     let is_whole = dir.join("entries").exists() == dir.join("total").exists();
///     if is_whole { Ok(()) } else { Err("one file is missing".into()) }
/// })
/// .unwrap_err();
/// println!("{failure}");
/// ```
#[derive(Clone)]
pub struct Failure {
    pub(crate) what: String,
    pub(crate) story: Vec<Chapter>,
    pub(crate) report: Report,
}

/// One crash on the way to the bad state.
#[derive(Clone, Debug)]
pub(crate) struct Chapter {
    pub(crate) title: String,
    /// The operations, each with a mark for what became of it.
    pub(crate) operations: String,
    pub(crate) disk: String,
    pub(crate) state: String,
}

impl Failure {
    /// What the check, the recovery or the test itself said.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let failure = test.run(|_, _| Err("never content".into())).unwrap_err();
    /// assert!(failure.message().contains("never content"));
    /// ```
    pub fn message(&self) -> &str {
        &self.what
    }

    /// The name of the bad state, for `DURAFILE_STATE`; none if no state is to blame.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let failure = test.run(|_, _| Err("never content".into())).unwrap_err();
    /// println!("DURAFILE_STATE={}", failure.state().expect("a state was to blame"));
    /// ```
    pub fn state(&self) -> Option<String> {
        let names: Vec<&str> = self.story.iter().map(|chapter| chapter.state.as_str()).collect();
        (!names.is_empty()).then(|| names.join("/"))
    }

    /// How much had been tried when the bad state was found.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let failure = test.run(|_, _| Err("never content".into())).unwrap_err();
    /// println!("{} states were tried", failure.report().states);
    /// ```
    pub fn report(&self) -> &Report {
        &self.report
    }

    pub(crate) fn early(what: String) -> Failure {
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
