//! Many files made durable together, as ratios against the loop that saves them one by one:
//!
//! 1. a thousand new files of 1 KiB in a new directory: `Batch` and `Transaction`, each
//!    strategy, against eight system calls for each file;
//! 2. the cost of one file in a batch of 10 to 100,000;
//! 3. one 4 KiB replacement with `single_flush`.
//!
//! `cargo bench --bench sets` says what file system it ran on; `common` says how that is chosen.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::sets::{CONTENT, batch, raw_loop, raw_save, transaction};
use common::{Figure, Ground, Outcome, Pair};
use durafile::{SyncStrategy, WriteOptions};
use rustix::fs::{Mode, OFlags};

fn main() -> Outcome {
    let ground = Ground::prepare_with(4, 800_000)?;
    let (files, rounds) = if ground.is_real() { (1000, 11) } else { (10, 1) };
    let mut field = Field::new(&ground)?;
    field.enter("raw loop", None, raw_loop);
    field.enter("by hand: write all, one syncfs, rename all", None, by_hand);
    field.enter("Batch, Auto", Some(16.0), |dir, n| batch(dir, n, SyncStrategy::Auto, false));
    field.enter("Batch, FileSystem", Some(25.0), |dir, n| batch(dir, n, SyncStrategy::FileSystem, false));
    field.enter("Batch, single_flush", Some(25.0), |dir, n| batch(dir, n, SyncStrategy::Auto, true));
    field.enter("Batch, PerFile", None, |dir, n| batch(dir, n, SyncStrategy::PerFile, false));
    let all_or_none = |strategy, single| move |dir: &Path, n| transaction(dir, n, strategy, single);
    field.enter("Transaction, Auto", Some(13.6), all_or_none(SyncStrategy::Auto, false));
    field.enter("Transaction, FileSystem", None, all_or_none(SyncStrategy::FileSystem, false));
    field.enter("Transaction, single_flush", None, all_or_none(SyncStrategy::Auto, true));
    for round in 0..rounds {
        field.run(files, round)?;
    }
    if ground.is_real() {
        println!("\nmeasured on {}", ground.describe()?);
        field.report(files);
    }
    scale(&mut field, ground.is_real())?;
    one_save(&ground)
}

type Job<'a> = Box<dyn Fn(&Path, usize) -> Outcome + 'a>;

/// Ways of doing the same job, measured in turns, each time in a new directory.
struct Field<'a> {
    home: PathBuf,
    entrants: Vec<Entrant<'a>>,
    made: usize,
}

struct Entrant<'a> {
    name: &'static str,
    /// So many times as fast as the first one it should be.
    goal: Option<f64>,
    job: Job<'a>,
    times: Vec<Duration>,
    /// What of that all threads together spent on a processor.
    cpu: Vec<Duration>,
}

fn cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}

impl<'a> Field<'a> {
    fn new(ground: &Ground) -> Outcome<Field<'a>> {
        Ok(Field { home: ground.subdir("sets")?, entrants: Vec::new(), made: 0 })
    }

    fn enter(&mut self, name: &'static str, goal: Option<f64>, job: impl Fn(&Path, usize) -> Outcome + 'a) {
        self.entrants.push(Entrant { name, goal, job: Box::new(job), times: Vec::new(), cpu: Vec::new() });
    }

    /// One turn of everybody; nobody always comes after the same one.
    fn run(&mut self, files: usize, round: usize) -> Outcome {
        let count = self.entrants.len();
        let step = if round % 2 == 0 { 1 } else { count - 1 };
        for turn in 0..count {
            let at = (round + turn * step) % count;
            let dir = self.fresh()?;
            let Some(entrant) = self.entrants.get_mut(at) else { continue };
            let (start, cpu) = (Instant::now(), cpu_time());
            (entrant.job)(&dir, files)?;
            entrant.times.push(start.elapsed());
            entrant.cpu.push(cpu_time() - cpu);
        }
        Ok(())
    }

    /// Nothing is ever deleted in between: ext4 passes over inodes that were freed recently.
    fn fresh(&mut self) -> Outcome<PathBuf> {
        self.made += 1;
        let dir = self.home.join(self.made.to_string());
        std::fs::create_dir(&dir)?;
        std::fs::File::open(&self.home)?.sync_all()?;
        Ok(dir)
    }

    fn report(&mut self, files: usize) {
        let base = self.entrants.first_mut().map(|raw| common::median(&mut raw.times)).unwrap_or_default();
        for entrant in &mut self.entrants {
            let rounds = entrant.times.len();
            let median = common::median(&mut entrant.times);
            let best = entrant.times.first().copied().unwrap_or_default();
            let speed = base.div_duration_f64(median);
            let goal = entrant.goal.map_or(String::new(), |goal| {
                format!(" (goal: {goal}, {})", if speed >= goal { "met" } else { "MISSED" })
            });
            println!(
                "{}, {files} files: {speed:.2} times the raw loop{goal}; median of {rounds}: {:.2} ms, best {:.2} ms, \
                 processors {:.2} ms",
                entrant.name,
                median.as_secs_f64() * 1e3,
                best.as_secs_f64() * 1e3,
                common::median(&mut entrant.cpu).as_secs_f64() * 1e3,
            );
        }
    }
}

fn by_hand(dir: &Path, files: usize) -> Outcome {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(dir, flags, Mode::empty())?;
    let temp = |n: usize| format!("temp-{n}");
    for n in 0..files {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&opened, temp(n), flags, Mode::from_raw_mode(0o666))?;
        rustix::io::write(&file, &CONTENT)?;
    }
    rustix::fs::syncfs(&opened)?;
    for n in 0..files {
        rustix::fs::renameat(&opened, temp(n), &opened, n.to_string())?;
    }
    Ok(rustix::fs::fsync(&opened)?)
}

/// The cost of one file should not grow with their number.
fn scale(field: &mut Field<'_>, is_real: bool) -> Outcome {
    let sizes: &[usize] = if is_real { &[10, 100, 1000, 10_000, 100_000] } else { &[10, 20] };
    for (name, strategy, single) in [
        ("Auto", SyncStrategy::Auto, false),
        ("FileSystem", SyncStrategy::FileSystem, false),
        ("single_flush", SyncStrategy::Auto, true),
    ] {
        let mut line = format!("Batch, {name}, microseconds a file:");
        for &files in sizes {
            let rounds = (10_000 / files).clamp(1, 9);
            let mut times = Vec::new();
            for _ in 0..rounds {
                let dir = field.fresh()?;
                let start = Instant::now();
                batch(&dir, files, strategy, single)?;
                times.push(start.elapsed() / u32::try_from(files)?);
            }
            line.push_str(&format!(" {:.1} ({files})", common::median(&mut times).as_secs_f64() * 1e6));
        }
        if is_real {
            println!("{line}");
        }
    }
    Ok(())
}

fn one_save(ground: &Ground) -> Outcome {
    let (ours, raw) = (ground.subdir("ours")?, ground.subdir("raw")?);
    let (ours_target, raw_target) = (ours.join("target"), raw.join("target"));
    let content = [b'x'; 4096];
    std::fs::write(&ours_target, content)?;
    std::fs::write(&raw_target, content)?;
    let mut pair = Pair::new("4 KiB replacement with single_flush, against the raw sequence");
    let count = std::cell::Cell::new(0_u64);
    pair.run(
        if ground.is_real() { 1000 } else { 2 },
        || Ok(WriteOptions::new().single_flush(true).write(&ours_target, content).map(drop)?),
        || {
            count.set(count.get() + 1);
            raw_save(&raw, &raw_target, &raw.join(format!("temp-{}", count.get())), &content)
        },
    );
    if ground.is_real() {
        pair.report(Figure::Time { at_most: 0.55 });
    }
    Ok(())
}
