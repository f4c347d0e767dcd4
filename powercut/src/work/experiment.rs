//! Records an operation, cuts the power in many places, and looks at what is left.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use durafile::{Durability, recover};
use rustix::fs::syncfs;

use crate::device::file_system::Column;
use crate::device::recording::{Cut, Fate};
use crate::device::rig::{Mounted, Overlay, Rig};
use crate::random::Random;
use crate::work::noise;
use crate::work::operation::{Kind, Operation, Outcome, Report, Setting, Story, What};
use crate::work::refuse::{refuse_exchange, refuse_renames};

/// Slots of the daemon that hold whole disks.
const FORMATTED: usize = 0;
const SPOILED: usize = 1;
/// So many states of one recording are tried, then another is made.
const OF_ONE_RECORDING: usize = 250;
/// A broken protocol is caught when it was found out so often; tried are at most so many states.
const CAUGHT: usize = 5;
const PATIENCE: usize = 1_000;
/// So many disks are recovered under the recorder.
const SPOILED_DISKS: usize = 8;

pub struct Experiment<'a> {
    pub rig: &'a Rig,
    pub column: Column,
    /// Recordings with a violation go here.
    pub keep: PathBuf,
    pub random: Random,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub states: usize,
    /// The file system could not be mounted: not the library's fault, but no evidence either.
    pub unmountable: usize,
    /// States with a finding of each kind.
    pub found: BTreeMap<Kind, usize>,
    pub violations: usize,
    pub examples: Vec<String>,
}

/// What a state was found to be.
enum Verdict {
    Unmountable(String),
    Mounted { report: Report, was_clean: bool },
}

struct Marks(Vec<(usize, String)>);

impl Marks {
    fn before(&self, cut: usize) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(at, _)| *at < cut).map(|(_, text)| text.as_str())
    }
}

impl Experiment<'_> {
    pub fn prepare(&self) -> io::Result<()> {
        self.rig.format(&self.column.format())?;
        self.rig.order(&format!("keep {FORMATTED}"))?;
        Ok(())
    }

    pub fn run(&mut self, operation: &Operation, states: usize) -> Outcome<Tally> {
        let mut tally = Tally::default();
        if operation.what == What::Broken {
            while tally.states < PATIENCE && (tally.violations < CAUGHT || tally.states < states) {
                let marks = self.record(operation)?;
                self.try_states(operation, &marks, 50, &mut tally)?;
            }
            return Ok(tally);
        }
        // An operation that writes little may have fewer different states than were asked for.
        for _ in 0..states.div_ceil(OF_ONE_RECORDING) * 2 {
            let wanted = states.saturating_sub(tally.states).min(OF_ONE_RECORDING);
            if wanted == 0 {
                break;
            }
            let marks = self.record(operation)?;
            match operation.what {
                What::Recovery => self.try_recoveries(operation, &marks, wanted, &mut tally)?,
                _ => self.try_states(operation, &marks, wanted, &mut tally)?,
            }
        }
        Ok(tally)
    }

    /// One state of a recording that was kept.
    pub fn replay(&mut self, operation: &Operation, cut: Cut) -> Outcome<Vec<String>> {
        let marks = self.marks()?;
        self.rig.cut(cut)?;
        let story = Story::of(marks.before(cut.after));
        Ok(match self.look(operation, &story)? {
            Verdict::Unmountable(why) => vec![format!("can't be mounted: {why}")],
            Verdict::Mounted { report, .. } => {
                report.findings.iter().map(|(kind, text)| format!("{} {text}", kind.letter())).collect()
            }
        })
    }

    fn marks(&self) -> Outcome<Marks> {
        let listed = self.rig.order("marks")?;
        let marks = listed.split_terminator(';').map(|mark| {
            let (at, text) = mark.split_once(' ').ok_or("a mark has no place")?;
            Ok((at.trim().parse()?, text.to_owned()))
        });
        Ok(Marks(marks.collect::<Outcome<Vec<_>>>()?))
    }

    /// The operation on a fresh file system, again and again, while somebody else syncs.
    fn record(&mut self, operation: &Operation) -> Outcome<Marks> {
        let (rig, options) = (self.rig, self.column.mount_options());
        rig.order(&format!("load {FORMATTED}"))?;
        let mounted = rig.mount(self.column.kind, &options)?;
        for dir in ["work", "lower", "upper", "inner"] {
            std::fs::create_dir(mounted.path().join(dir))?;
        }
        let below = if operation.setting == Setting::Overlay { "lower" } else { "work" };
        (operation.prepare)(&mounted.path().join(below))?;
        // Version 0 must be there whatever happens, or "missing" would mean only that.
        syncfs(File::open(mounted.path())?)?;
        mounted.unmount()?;
        rig.order(&format!("record {}", self.column.kind.tear_unit()))?;
        let mounted = rig.mount(self.column.kind, &options)?;
        let overlay = enter(&mounted, operation.setting)?;
        let root = mounted.path().join("work");
        let mut random = Random::new(self.random.next());
        // Commits in the middle of saves show what is not atomic, and hide what is not durable.
        let pause = Duration::from_millis(if random.chance(70) { 2 } else { 20 });
        self.beside_noise(mounted.path(), pause, operation.setting, || {
            for version in 1..=operation.rounds {
                std::thread::sleep(Duration::from_micros(random.below(1500)));
                rig.order(&format!("mark begin {version}"))?;
                let reached = (operation.save)(&root, version)?;
                let level = match reached {
                    Durability::Full => "full",
                    Durability::Data => "data",
                    _ => "none",
                };
                rig.order(&format!("mark {level} {version}"))?;
            }
            Ok(())
        })?;
        rig.order("stop")?;
        drop(overlay);
        mounted.unmount()?;
        self.marks()
    }

    fn try_states(
        &mut self,
        operation: &Operation,
        marks: &Marks,
        wanted: usize,
        tally: &mut Tally,
    ) -> Outcome<()> {
        let entries: usize = self.rig.order("stop")?.parse()?;
        let mut tried = HashSet::new();
        for _ in 0..4 {
            let mut cuts = self.draw(entries, marks, wanted - tried.len());
            // The daemon builds each disk from the one before.
            cuts.sort_by_key(|cut| cut.after);
            for cut in cuts {
                let disk = self.rig.cut(cut)?;
                let story = Story::of(marks.before(cut.after));
                if tried.insert((disk, story.began, story.acknowledged)) {
                    let verdict = self.look(operation, &story)?;
                    self.count(operation, cut, verdict, tally)?;
                }
            }
            if tried.len() >= wanted {
                break;
            }
        }
        Ok(())
    }

    fn draw(&mut self, entries: usize, marks: &Marks, count: usize) -> Vec<Cut> {
        let acknowledged: Vec<usize> =
            marks.0.iter().filter(|(_, text)| !text.starts_with("begin")).map(|(at, _)| at + 1).collect();
        let random = &mut self.random;
        let mut draw = |_| {
            let after = if random.chance(30) && !acknowledged.is_empty() {
                acknowledged[random.below(acknowledged.len() as u64) as usize]
            } else {
                1 + random.below(entries.max(1) as u64) as usize
            };
            let fate = match random.below(20) {
                0..3 => Fate::All,
                3..6 => Fate::None,
                6..13 => Fate::Some,
                _ => Fate::Torn,
            };
            Cut { after, fate, seed: random.next() >> 32 }
        };
        (0..count).map(&mut draw).collect()
    }

    fn count(&self, operation: &Operation, cut: Cut, verdict: Verdict, tally: &mut Tally) -> Outcome<()> {
        tally.states += 1;
        let (kinds, example): (Vec<Kind>, String) = match verdict {
            Verdict::Unmountable(why) => {
                tally.unmountable += 1;
                if tally.unmountable == 1 {
                    tally.examples.push(format!("{}: can't be mounted: {why}", operation.name));
                }
                return Ok(());
            }
            Verdict::Mounted { report, .. } if report.findings.is_empty() => return Ok(()),
            Verdict::Mounted { report, .. } => {
                let mut kinds: Vec<Kind> = report.findings.iter().map(|(kind, _)| *kind).collect();
                kinds.sort();
                kinds.dedup();
                if kinds == [Kind::Back] {
                    *tally.found.entry(Kind::Back).or_default() += 1;
                    return Ok(());
                }
                tally.violations += 1;
                let texts = report.findings.iter().map(|(kind, text)| format!("{} {text}", kind.letter()));
                (kinds, texts.collect::<Vec<_>>().join("; "))
            }
        };
        for kind in kinds {
            *tally.found.entry(kind).or_default() += 1;
        }
        let is_news = matches!(operation.what, What::Library | What::Recovery | What::Control);
        if is_news && tally.examples.len() < 3 {
            let number = std::fs::read_dir(&self.keep)?.count();
            let name = format!("{}-{number}.recording", self.column.kind.name());
            let path = self.keep.join(name);
            let about = format!("{};{};{}", self.column.kind.name(), self.column.options, operation.name);
            self.rig.order(&format!("save {}\t{about}", path.display()))?;
            tally.examples.push(format!(
                "{}, {}: {example}\n  again: cargo run --release -p powercut -- --replay {} --state {cut}",
                operation.name,
                self.column.title(),
                path.display()
            ));
        }
        Ok(())
    }

    /// Mounts what the cut has left, recovers, and looks.
    fn look(&self, operation: &Operation, story: &Story) -> Outcome<Verdict> {
        let mounted = match self.rig.mount(self.column.kind, &self.column.mount_options()) {
            Ok(mounted) => mounted,
            Err(e) => return Ok(Verdict::Unmountable(e.to_string())),
        };
        let overlay = match enter(&mounted, operation.setting) {
            Ok(overlay) => overlay,
            Err(e) => return Ok(Verdict::Unmountable(format!("the overlay: {e}"))),
        };
        let root = mounted.path().join("work");
        let mut report = Report::default();
        let is_ours = matches!(operation.what, What::Library | What::Recovery);
        let was_clean = if is_ours {
            let recovered = in_thread(operation.setting, || recover_twice(&root, &mut report));
            (operation.check)(&root, story, &mut report);
            report.look_for_leftovers(&root);
            recovered?
        } else {
            (operation.check)(&root, story, &mut report);
            true
        };
        drop(overlay);
        mounted.unmount()?;
        Ok(Verdict::Mounted { report, was_clean })
    }

    /// Cuts the power, then again while `recover` settles what the first cut has left.
    fn try_recoveries(
        &mut self,
        operation: &Operation,
        marks: &Marks,
        wanted: usize,
        tally: &mut Tally,
    ) -> Outcome<()> {
        let entries: usize = self.rig.order("stop")?.parse()?;
        let mut spoiled = Vec::new();
        let mut seen = HashSet::new();
        let cuts = self.draw(entries, marks, 40 * SPOILED_DISKS);
        for cut in cuts {
            if spoiled.len() == SPOILED_DISKS {
                break;
            }
            if !seen.insert(self.rig.cut(cut)?) {
                continue;
            }
            self.rig.order(&format!("keep {}", SPOILED + spoiled.len()))?;
            let story = Story::of(marks.before(cut.after));
            let verdict = self.look(operation, &story)?;
            if let Verdict::Mounted { was_clean: false, .. } = &verdict {
                spoiled.push(story);
            }
            self.count(operation, cut, verdict, tally)?;
        }
        let wanted = wanted.saturating_sub(seen.len());
        let count = spoiled.len().max(1);
        for (number, story) in spoiled.into_iter().enumerate() {
            let marks = self.record_recovery(operation, number, &story)?;
            self.try_states(operation, &marks, wanted.div_ceil(count), tally)?;
        }
        Ok(())
    }

    fn record_recovery(&mut self, operation: &Operation, number: usize, story: &Story) -> Outcome<Marks> {
        let rig = self.rig;
        rig.order(&format!("load {}", SPOILED + number))?;
        rig.order(&format!("record {}", self.column.kind.tear_unit()))?;
        let Story { began, full, acknowledged } = story;
        for mark in [format!("begin {began}"), format!("full {full}"), format!("data {acknowledged}")] {
            rig.order(&format!("mark {mark}"))?;
        }
        let mounted = rig.mount(self.column.kind, &self.column.mount_options())?;
        let overlay = enter(&mounted, operation.setting)?;
        let pause = Duration::from_millis(2);
        self.beside_noise(mounted.path(), pause, operation.setting, || {
            std::thread::sleep(Duration::from_millis(3));
            recover(mounted.path().join("work"))?;
            rig.order("mark recovered")?;
            std::thread::sleep(Duration::from_millis(3));
            Ok(())
        })?;
        rig.order("stop")?;
        drop(overlay);
        mounted.unmount()?;
        self.marks()
    }

    fn beside_noise(
        &self,
        root: &Path,
        pause: Duration,
        setting: Setting,
        work: impl FnOnce() -> Outcome<()> + Send,
    ) -> Outcome<()> {
        let (stop, kind, dir) = (AtomicBool::new(false), self.column.kind, root.join("noise"));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| noise::make(kind, &dir, pause, &stop));
            let done = {
                let _stop = noise::Stop(&stop);
                in_thread(setting, work)
            };
            other.join().unwrap_or_else(|_| Err(io::Error::other("the noise panicked")))?;
            done
        })
    }
}

/// Whether there was nothing to do.
fn recover_twice(root: &Path, report: &mut Report) -> Outcome<bool> {
    let first = match recover(root) {
        Ok(first) => first,
        Err(e) => {
            report.add(Kind::Recovery, format_args!("recover: {e}: {:?}", e.io_error()));
            return Ok(false);
        }
    };
    let undecided = [first.quarantined(), first.in_use(), first.unreadable()].concat();
    if !undecided.is_empty() {
        report.add(Kind::Recovery, format_args!("recover could not decide on {undecided:?}"));
    }
    match recover(root) {
        Ok(second) if second.is_clean() => {}
        Ok(second) => report.add(Kind::Left, format_args!("a second recover finds {second:?}")),
        Err(e) => report.add(Kind::Recovery, format_args!("a second recover: {e}: {:?}", e.io_error())),
    }
    Ok(first.is_clean())
}

fn enter<'a>(mounted: &'a Mounted<'_>, setting: Setting) -> io::Result<Option<Overlay<'a>>> {
    (setting == Setting::Overlay).then(|| mounted.overlay("lower", "upper", "inner", "work")).transpose()
}

/// In a thread where the kernel refuses what the setting says.
fn in_thread<T: Send>(setting: Setting, work: impl FnOnce() -> Outcome<T> + Send) -> Outcome<T> {
    let refuse = match setting {
        Setting::NoExchange => refuse_exchange,
        Setting::NoRename => refuse_renames,
        Setting::Plain | Setting::Overlay => return work(),
    };
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            refuse()?;
            work()
        });
        worker.join().unwrap_or_else(|_| Err("the workload panicked".into()))
    })
}
