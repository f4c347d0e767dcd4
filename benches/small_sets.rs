//! Sets of 2, 3, 5, 8 and 16 files, new and replaced, as ratios against the loop of eight system calls that saves them
//! one by one: `Batch` and `Transaction` with each strategy.
//!
//! `cargo bench --bench small_sets` says what file system it ran on; `DURAFILE_BENCH_FS=xfs` or `btrfs` chooses one.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::sets::{batch, raw_loop, transaction};
use common::{Ground, Outcome};
use durafile::SyncStrategy;

const SIZES: [usize; 5] = [2, 3, 5, 8, 16];
const STRATEGIES: [(&str, SyncStrategy, bool); 4] = [
    ("Auto", SyncStrategy::Auto, false),
    ("PerFile", SyncStrategy::PerFile, false),
    ("FileSystem", SyncStrategy::FileSystem, false),
    ("single_flush", SyncStrategy::Auto, true),
];

type Job = Box<dyn Fn(&Path, usize) -> Outcome>;

fn main() -> Outcome {
    let ground = Ground::prepare(1)?;
    let rounds = if ground.is_real() { 101 } else { 1 };
    let mut jobs: Vec<(String, Job)> = vec![("raw loop".to_owned(), Box::new(raw_loop))];
    for (name, strategy, single) in STRATEGIES {
        jobs.push((format!("Batch, {name}"), Box::new(move |dir, n| batch(dir, n, strategy, single))));
        jobs.push((
            format!("Transaction, {name}"),
            Box::new(move |dir, n| transaction(dir, n, strategy, single)),
        ));
    }
    let mut table = vec![Vec::new(); jobs.len()];
    for replaced in [false, true] {
        for files in SIZES {
            let home = ground.subdir(&format!("{files}-{replaced}"))?;
            for (column, ratio) in table.iter_mut().zip(measure(&home, &jobs, files, replaced, rounds)?) {
                column.push(ratio);
            }
        }
    }
    if ground.is_real() {
        println!("measured on {}; median of {rounds} rounds", ground.describe()?);
        println!(
            "time, as a multiple of the raw loop's: 2, 3, 5, 8, 16 files new; 2, 3, 5, 8, 16 files replaced"
        );
        for ((name, _), ratios) in jobs.iter().zip(&table) {
            let text: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
            println!("{name}: {}", text.join(" "));
        }
    }
    Ok(())
}

/// Everybody's time against that of the first, by the median of the rounds; nobody always comes after the same one.
fn measure(
    home: &Path,
    jobs: &[(String, Job)],
    files: usize,
    replaced: bool,
    rounds: usize,
) -> Outcome<Vec<f64>> {
    let mut times = vec![Vec::new(); jobs.len()];
    for round in 0..rounds {
        let step = if round % 2 == 0 { 1 } else { jobs.len() - 1 };
        for turn in 0..jobs.len() {
            let at = (round + turn * step) % jobs.len();
            let dir = home.join(if replaced { at.to_string() } else { format!("{at}-{round}") });
            if round == 0 || !replaced {
                std::fs::create_dir(&dir)?;
                raw_loop(&dir, if replaced { files } else { 0 })?;
                std::fs::File::open(home)?.sync_all()?;
            }
            let start = Instant::now();
            jobs[at].1(&dir, files)?;
            times[at].push(start.elapsed());
        }
    }
    let medians: Vec<Duration> = times.iter_mut().map(|times| common::median(times)).collect();
    Ok(medians.iter().map(|median| median.div_duration_f64(medians[0])).collect())
}
