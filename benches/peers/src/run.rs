//! All measurements on one file system.

use std::path::Path;

use durafile::SyncStrategy;

use crate::Outcome;
use crate::calls::{self, Calls};
use crate::clock::{Shuffle, Times};
use crate::ground::{Ground, Kind};
use crate::saves::{self, Side};
use crate::sets::{self, Files, SaveSet};

/// How much is done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) image_gib: u64,
    save_rounds: u8,
    set_rounds: u8,
    set_len: usize,
    /// Sizes of a batch, and rounds with each.
    sizes: Vec<(usize, u8)>,
}

impl Plan {
    pub(crate) fn new(quick: bool) -> Self {
        if quick {
            let sizes = vec![(10, 3), (100, 3), (1_000, 1)];
            return Self { image_gib: 1, save_rounds: 15, set_rounds: 3, set_len: 100, sizes };
        }
        let sizes = vec![(10, 25), (100, 15), (1_000, 9), (10_000, 3), (100_000, 2)];
        Self { image_gib: 10, save_rounds: 250, set_rounds: 5, set_len: 1_000, sizes }
    }
}

/// One method in one scenario.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    pub(crate) all_or_none: bool,
    pub(crate) times: Times,
    pub(crate) calls: Option<Calls>,
}

/// What a file of a batch takes, by the size of the batch, in microseconds.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(usize, f64)>,
}

/// Everything measured on one file system.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) kind: Kind,
    pub(crate) label: String,
    pub(crate) facts: Vec<(&'static str, String)>,
    pub(crate) set_len: usize,
    pub(crate) saves: Vec<Row>,
    pub(crate) new_files: Vec<Row>,
    pub(crate) replaced: Vec<Row>,
    pub(crate) sizes: Vec<Series>,
}

pub(crate) fn everything(ground: &Ground, plan: &Plan) -> Outcome<Results> {
    println!("{}: one save", ground.label());
    let facts = ground.describe()?;
    let saves = one_save(ground, plan)?;
    println!("{}: {} new files", ground.label(), plan.set_len);
    let new_files = set_of_files(ground, plan, false)?;
    println!("{}: {} replaced files", ground.label(), plan.set_len);
    let replaced = set_of_files(ground, plan, true)?;
    println!("{}: batches of all sizes", ground.label());
    let sizes = batch_sizes(ground, plan)?;
    let (kind, label, set_len) = (ground.kind, ground.label(), plan.set_len);
    Ok(Results { kind, label, facts, set_len, saves, new_files, replaced, sizes })
}

/// 4 KiB, replacing a warm file.
fn one_save(ground: &Ground, plan: &Plan) -> Outcome<Vec<Row>> {
    let (mut rows, mut turns) = (Vec::new(), Vec::new());
    for (at, saver) in saves::ALL.iter().enumerate() {
        let target = ground.subdir(&format!("save-{at}"))?.join("target");
        std::fs::write(&target, [0; 4096])?;
        turns.push(((saver.prepare)(&target)?, target));
        let calls = calls::count("save", at, &ground.subdir(&format!("save-calls-{at}"))?);
        let (name, side) = (saver.name, saver.side);
        rows.push(Row { name, side, all_or_none: false, times: Times::default(), calls });
    }
    ground.settle()?;
    let mut shuffle = Shuffle::new();
    for round in 0..plan.save_rounds {
        let content = [round; 4096];
        for at in shuffle.order(rows.len()) {
            let (save, target) = &mut turns[at];
            rows[at].times.measure(ground, || save(&content))?;
            check(
                rows[at].name,
                (std::fs::read(target)? == content).then_some(()).ok_or("other content".into()),
            )?;
            // These leave changes in memory that the next one's sync would write.
            if rows[at].side == Side::Floor || rows[at].name == "fstx" {
                ground.settle()?;
            }
        }
    }
    Ok(rows)
}

/// Files of 1 KiB, all in one directory that nothing else uses. Nothing is removed until the end:
/// ext4 slows down where many files were deleted.
fn set_of_files(ground: &Ground, plan: &Plan, replace: bool) -> Outcome<Vec<Row>> {
    let scenario = if replace { "replace" } else { "new" };
    let (mut rows, mut turns) = (Vec::new(), Vec::new());
    for (at, saver) in sets::ALL.iter().enumerate() {
        turns.push((saver.prepare)()?);
        let calls = match replace {
            true => None,
            false => {
                let dir = ground.subdir(&format!("{scenario}-calls-{at}"))?;
                calls::count(&plan.set_len.to_string(), at, &dir)
            }
        };
        let sets::SetSaver { name, side, all_or_none, .. } = *saver;
        rows.push(Row { name, side, all_or_none, times: Times::default(), calls });
    }
    let mut shuffle = Shuffle::new();
    for round in 0..plan.set_rounds {
        let files = Files::new(plan.set_len, 1024, round + 1);
        for at in shuffle.order(rows.len()) {
            let dir = ground.subdir(&format!("{scenario}-{round}-{at}"))?;
            if replace {
                Files::new(plan.set_len, 1024, 0).write_plainly(&dir)?;
            }
            let row = &mut rows[at];
            timed_set(ground, &mut row.times, &mut turns[at], &dir, &files)
                .map_err(|error| format!("{}: {error}", row.name))?;
        }
    }
    Ok(rows)
}

fn timed_set(ground: &Ground, times: &mut Times, save: &mut SaveSet, dir: &Path, files: &Files) -> Outcome {
    ground.settle()?;
    times.measure(ground, || save(dir, files))?;
    files.check(dir)
}

const SIZED: [(&str, SyncStrategy, bool); 4] = [
    ("Auto", SyncStrategy::Auto, false),
    ("PerFile", SyncStrategy::PerFile, false),
    ("FileSystem", SyncStrategy::FileSystem, false),
    ("single_flush", SyncStrategy::Auto, true),
];

/// New files of 1 KiB in batches from ten to very many.
fn batch_sizes(ground: &Ground, plan: &Plan) -> Outcome<Vec<Series>> {
    let mut series: Vec<_> = SIZED.iter().map(|(name, ..)| Series { name, points: Vec::new() }).collect();
    let mut shuffle = Shuffle::new();
    for &(len, rounds) in &plan.sizes {
        let files = Files::new(len, 1024, 1);
        let mut times = vec![Times::default(); SIZED.len()];
        for round in 0..rounds {
            for at in shuffle.order(SIZED.len()) {
                let (_, strategy, single_flush) = SIZED[at];
                if strategy == SyncStrategy::PerFile && len > 1_000 {
                    continue;
                }
                let dir = ground.subdir(&format!("size-{len}-{round}-{at}"))?;
                let mut save: SaveSet =
                    Box::new(move |dir, files| sets::batch(strategy, single_flush, dir, files));
                timed_set(ground, &mut times[at], &mut save, &dir, &files)?;
            }
        }
        for (series, times) in series.iter_mut().zip(&times) {
            if !times.taken.is_empty() {
                series.points.push((len, times.median().as_secs_f64() * 1e6 / len as f64));
            }
        }
    }
    Ok(series)
}

fn check(name: &str, outcome: Outcome) -> Outcome {
    outcome.map_err(|error| format!("{name}: {error}").into())
}
