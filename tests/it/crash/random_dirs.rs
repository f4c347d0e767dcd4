//! Goal: no sequence of versions of a directory breaks a promise in a crash.
//!
//! Method: random programs of versions, committed or given up, with every kind of edit and option,
//! on file systems that can swap directories and on such that can't, with snapshots held open
//! meanwhile. Each goes through the whole enumeration. What a crash may leave is what was there between two
//! steps while the program was recorded, which agrees with a model that is a map.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use durafile::crash_testing::{Acked, CrashTest, Fault, Model, Outcome, Report, ack};
use durafile::{Carry, DirOptions, DirSnapshot, Durability, ErrorKind, SyncStrategy, TargetState};
use proptest::prelude::*;
use rustix::io::Errno;

use crate::crash::case::{look, without_remnants};
use crate::crash::proof::record_unlocked;
use crate::crash::random::try_programs;
use crate::dir::model::{Edit, Node, Tree, apply, build, perform, read, tree, umasked};
use crate::support::{chmod, dir, mode};

const PROGRAMS: u32 = 40;
/// Of one crash point.
const MOST_STATES: usize = 12;
/// What all programs together must have left at least.
const STATES: usize = 1_000;

/// Each version has it from the one before.
const ROOT_MODE: u32 = 0o710;

const PATHS: [&str; 7] = ["a", "b", "d", "d/c", "d/e", "d/f/g", "h/i"];

/// What the file system can't do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    Nothing,
    Exchange,
    /// Nor a rename to a new name only.
    RenameFlags,
    /// A lower layer of an overlay.
    RenameOfTarget,
    /// The exchange refuses for one reason, and the rename after it for the other.
    AnyRename,
}

#[derive(Clone, Debug)]
enum End {
    Commit,
    Discard,
    Drop,
}

#[derive(Clone, Debug)]
struct Version {
    keeps: bool,
    carry: Carry,
    edits: Vec<Edit>,
    strategy: SyncStrategy,
    durability: Durability,
    single_flush: bool,
    allow_fallback: bool,
    /// Where a link leads to the target.
    through_link: bool,
    end: End,
}

#[derive(Clone, Debug)]
enum Step {
    Version(Version),
    /// A reader comes.
    Open,
    /// The one that came first goes.
    Close,
}

#[derive(Clone, Debug)]
struct Program {
    model: Model,
    lacks: Lacks,
    named_staging: bool,
    linked: bool,
    /// The process is killed so far on its way, in 256ths; another one recovers and begins again.
    killed_at: Option<u8>,
    /// What is there before; none if nothing is.
    start: Option<Tree>,
    steps: Vec<Step>,
}

fn path() -> impl Strategy<Value = PathBuf> {
    prop::sample::select(&PATHS[..]).prop_map(PathBuf::from)
}

/// More than one block, so that it can be torn, or less.
fn content() -> impl Strategy<Value = Vec<u8>> {
    (any::<u8>(), prop::sample::select(vec![3, 200, 5000])).prop_map(|(byte, len)| vec![byte; len])
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        5 => (path(), content()).prop_map(|(path, content)| Edit::Write(path, content)),
        2 => (path(), content()).prop_map(|(path, content)| Edit::Stream(path, content)),
        2 => (path(), content()).prop_map(|(path, content)| Edit::Tool(path, content)),
        1 => path().prop_map(Edit::Dir),
        2 => path().prop_map(Edit::Remove),
        1 => Just(Edit::Expose),
    ]
}

fn version() -> impl Strategy<Value = Version> {
    let strategy =
        prop_oneof![Just(SyncStrategy::Auto), Just(SyncStrategy::PerFile), Just(SyncStrategy::FileSystem)];
    let durability = prop_oneof![
        4 => Just(Durability::Full),
        2 => Just(Durability::Data),
        1 => Just(Durability::None),
    ];
    let end = prop_oneof![6 => Just(End::Commit), 1 => Just(End::Discard), 1 => Just(End::Drop)];
    let carry = prop_oneof![Just(Carry::Copy), Just(Carry::HardLink)];
    let likely = prop::bool::weighted(0.8);
    let edits = prop::collection::vec(edit(), 0..5);
    ((likely, carry, edits, strategy, durability), (any::<bool>(), likely, any::<bool>(), end)).prop_map(
        |((keeps, carry, edits, strategy, durability), (single_flush, allow_fallback, through_link, end))| {
            Version {
                keeps,
                carry,
                edits,
                strategy,
                durability,
                single_flush,
                allow_fallback,
                through_link,
                end,
            }
        },
    )
}

fn program() -> impl Strategy<Value = Program> {
    let model = prop_oneof![
        5 => Just(Model::Unordered),
        2 => Just(Model::OrderedJournal),
        1 => Just(Model::ProcessDeath),
    ];
    let lacks = prop_oneof![
        3 => Just(Lacks::Nothing),
        2 => Just(Lacks::Exchange),
        1 => Just(Lacks::RenameFlags),
        2 => Just(Lacks::RenameOfTarget),
        1 => Just(Lacks::AnyRename),
    ];
    let mode = prop::sample::select(vec![0o644, 0o600, 0o755, 0o440]);
    let file = (path(), (content(), mode).prop_map(|(content, mode)| Node::File(content, mode)));
    let start = prop::option::weighted(0.8, prop::collection::vec(file, 0..6)).prop_map(|files| {
        let link = (PathBuf::from("link"), Node::Link("a".to_owned()));
        files.map(|files| tree(files.into_iter().chain([link]).collect()))
    });
    let step =
        prop_oneof![6 => version().prop_map(Step::Version), 1 => Just(Step::Open), 1 => Just(Step::Close)];
    let steps = prop::collection::vec(step, 1..5);
    let rare = || prop::bool::weighted(0.3);
    let killed_at = prop::option::weighted(0.3, any::<u8>());
    (model, lacks, (rare(), rare(), killed_at), start, steps).prop_map(
        |(model, lacks, (named_staging, linked, killed_at), start, steps)| {
            Program { model, lacks, named_staging, linked, killed_at, start, steps }.within_promises()
        },
    )
}

/// What there is between two steps.
struct Moment {
    tree: crate::crash::case::Tree,
    /// What the step before it came to.
    came: Came,
}

/// What came of a step.
enum Came {
    Nothing,
    Committed(Durability),
    /// The version that could not be committed.
    Refused(Tree),
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

impl Program {
    /// `None` promises nothing for power cuts.
    fn within_promises(mut self) -> Program {
        if self.lacks == Lacks::AnyRename {
            // Single files can be renamed on an overlay, too, and records without the other way must be.
            self.named_staging = false;
            // A commit that was being taken back when it was killed may be completed.
            self.killed_at = None;
        }
        for step in &mut self.steps {
            if let (Step::Version(version), false) = (step, self.model == Model::ProcessDeath) {
                version.durability = version.durability.max(Durability::Data);
            }
        }
        self
    }

    /// A single flush is taken for enough where the journal is ordered, and only there.
    fn test<'t>(&'t self, seen: &'t RefCell<Vec<Moment>>) -> CrashTest<'t> {
        let wants = |step: &Step| matches!(step, Step::Version(version) if version.single_flush);
        let journaled = self.model != Model::Unordered || !self.steps.iter().any(wants);
        let test = CrashTest::new(|dir| self.run(dir, seen)).initial(|dir| {
            seen.borrow_mut().clear();
            self.prepare(dir)
        });
        let test = test.model(self.model).journaled(journaled).max_states(MOST_STATES);
        let refused: &[(&str, Errno)] = match self.lacks {
            Lacks::Nothing => &[],
            Lacks::Exchange => &[("exchange", Errno::INVAL)],
            Lacks::RenameFlags => &[("exchange", Errno::NOSYS), ("rename new", Errno::INVAL)],
            Lacks::RenameOfTarget => &[("exchange", Errno::XDEV)],
            Lacks::AnyRename => &[("exchange", Errno::INVAL), ("rename", Errno::XDEV)],
        };
        let unnamed = self.named_staging.then_some(("create unnamed", Errno::NOTSUP));
        refused
            .iter()
            .copied()
            .chain(unnamed)
            .fold(test, |test, (name, errno)| test.fault(Fault::Refuse { name, errno: errno.raw_os_error() }))
    }

    fn target(&self) -> &'static str {
        if self.linked { "far/talk" } else { "talk" }
    }

    fn prepare(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::write(dir.join("neighbour"), "untouched")?;
        if self.linked {
            std::fs::create_dir(dir.join("far"))?;
            std::os::unix::fs::symlink("far/talk", dir.join("link"))?;
        }
        let Some(tree) = &self.start else { return Ok(()) };
        let target = dir.join(self.target());
        build(&target, tree);
        chmod(&target, ROOT_MODE);
        let dirs = tree.iter().filter(|(_, node)| **node == Node::Dir);
        dirs.for_each(|(path, _)| chmod(target.join(path), 0o750));
        Ok(())
    }

    /// Also a second time, after it was killed. What is acknowledged is the number of the moment.
    fn run(&self, dir: &Path, seen: &RefCell<Vec<Moment>>) -> Outcome {
        let pause = |came| {
            // A remnant is here only what a snapshot reads.
            let moment = Moment { tree: without_remnants(&look(dir)), came };
            seen.borrow_mut().push(moment);
            ack(&(seen.borrow().len() - 1).to_string());
        };
        let present = read_if_there(&dir.join(self.target()));
        let mut scene = Scene { program: self, dir, present, commits: 0, held: vec![] };
        pause(Came::Nothing);
        for step in &self.steps {
            let came = scene.perform(step)?;
            scene.agrees();
            pause(came);
        }
        Ok(())
    }

    fn check(&self, seen: &[Moment], dir: &Path, acked: &Acked) -> Outcome {
        let found = look(dir);
        let done: usize = acked.labels().last().map_or(Ok(0), |label| label.parse())?;
        let is_kept = |moment: &usize| matches!(seen[*moment].came, Came::Committed(Durability::Full));
        let kept = (0..=done).rev().find(is_kept).unwrap_or(0);
        let oldest = if self.model == Model::ProcessDeath { done } else { kept };
        let mut possible = seen[oldest..].iter().take(done + 2 - oldest);
        if possible.any(|moment| moment.tree == found) {
            return Ok(());
        }
        // It was decided, and then found that a reader is in the way: until that is taken back, it may happen.
        let undecided = seen.get(done + 1).filter(|_| self.lacks == Lacks::AnyRename);
        if let Some(Moment { came: Came::Refused(version), .. }) = undecided {
            if read(&dir.join(self.target())) == *version && without_remnants(&found) == found {
                return Ok(());
            }
        }
        let is = seen.iter().position(|moment| moment.tree == found);
        Err(format!("after moment {done}, {oldest} must be kept, and it is {is:?}: {found:#?}").into())
    }

    fn explore(&self) -> std::result::Result<Report, String> {
        let seen = RefCell::default();
        let mut test = self.test(&seen);
        let mut recording = record_unlocked("a program", &test);
        if let Some(part) = self.killed_at {
            test = test.killed_before(recording.trace().operations().len() * usize::from(part) / 256);
            recording = record_unlocked("a killed program", &test);
        }
        if let Err(e) = recording.result() {
            return Err(format!("without a crash: {e}\n{}", recording.trace()));
        }
        let explored = test.explore(recording.trace(), |dir, acked| self.check(&seen.borrow(), dir, acked));
        explored.map_err(|failure| failure.to_string())
    }
}

/// The program, running.
struct Scene<'p> {
    program: &'p Program,
    dir: &'p Path,
    /// What the target should hold.
    present: Option<Tree>,
    commits: usize,
    /// Each with what it should read, and the number of commits before.
    held: Vec<(DirSnapshot, Tree, usize)>,
}

impl Scene<'_> {
    fn perform(&mut self, step: &Step) -> Result<Came> {
        match step {
            Step::Version(version) => return self.replace(version),
            Step::Open => {
                if let Some(present) = &self.present {
                    let snapshot = DirSnapshot::open(self.target(false))?;
                    self.held.push((snapshot, present.clone(), self.commits));
                }
            }
            Step::Close if !self.held.is_empty() => drop(self.held.remove(0)),
            Step::Close => {}
        }
        Ok(Came::Nothing)
    }

    fn target(&self, through_link: bool) -> PathBuf {
        let link = through_link && self.program.linked;
        self.dir.join(if link { "link" } else { self.program.target() })
    }

    fn replace(&mut self, version: &Version) -> Result<Came> {
        let options = DirOptions::new().durability(version.durability).sync(version.strategy);
        let options = options.single_flush(version.single_flush).carry(version.carry);
        let options = options.allow_fallback(version.allow_fallback);
        let target = self.target(version.through_link);
        let mut next = if version.keeps { options.update(target) } else { options.create(target) }?;
        let mut model = self.present.clone().filter(|_| version.keeps).unwrap_or_default();
        for edit in &version.edits {
            let before = model.clone();
            match (perform(&mut next, edit), apply(&mut model, edit, umask())) {
                // Tools can't rename there either.
                (Err(ErrorKind::CrossDevice), Ok(())) if self.program.lacks == Lacks::AnyRename => {
                    model = before;
                }
                // It was killed.
                (Err(ErrorKind::Io), _) => return Err("nothing happens any more".into()),
                (done, expected) => assert_eq!(done, expected, "{edit:?}"),
            }
        }
        match version.end {
            End::Commit => {}
            End::Discard => return Ok(next.discard().map(|()| Came::Nothing)?),
            End::Drop => return Ok(Came::Nothing),
        }
        match (next.commit(), self.refusal(version)) {
            (Ok(committed), None) => {
                assert_eq!(committed.durability(), version.durability);
                self.present = Some(model);
                self.commits += 1;
                Ok(Came::Committed(version.durability))
            }
            (Err(e), Some(kind)) if (e.kind(), e.target()) == (kind, TargetState::Unchanged) => {
                Ok(Came::Refused(model))
            }
            (done, expected) => Err(format!("{done:?}, and not {expected:?}").into()),
        }
    }

    /// Why a version can't be committed.
    fn refusal(&self, version: &Version) -> Option<ErrorKind> {
        let is_read = || self.held.iter().any(|(_, _, commits)| *commits == self.commits);
        match self.program.lacks {
            Lacks::Nothing => None,
            _ if self.present.is_none() => None,
            _ if !version.allow_fallback => Some(ErrorKind::Unsupported),
            // The old version would have to be deleted first.
            Lacks::RenameOfTarget | Lacks::AnyRename => is_read().then_some(ErrorKind::Locked),
            Lacks::Exchange | Lacks::RenameFlags => None,
        }
    }

    /// Target and snapshots hold what they should.
    fn agrees(&self) {
        let target = self.target(false);
        assert_eq!(read_if_there(&target), self.present);
        assert!(self.program.start.is_none() || mode(&target) == ROOT_MODE);
        for (snapshot, version, _) in &self.held {
            assert_eq!(snapshot.entries().unwrap(), version.keys().cloned().collect::<Vec<_>>());
            for (path, node) in version {
                if let Node::File(content, _) = node {
                    assert_eq!(snapshot.read(path).unwrap(), *content);
                }
            }
        }
    }
}

fn read_if_there(target: &Path) -> Option<Tree> {
    target.exists().then(|| read(target))
}

fn umask() -> u32 {
    static MODE: OnceLock<u32> = OnceLock::new();
    *MODE.get_or_init(|| umasked(dir().path()))
}

#[test]
fn no_program_of_directories_breaks_a_promise() {
    try_programs("directories", PROGRAMS, program, STATES, Program::explore);
}
