//! Directories swapped as a whole, as ratios:
//!
//! 1. a commit of a thousand files of 4 KiB that are staged already, against `cp -r` of as many
//!    and one `syncfs`, which is durable and not atomic;
//! 2. an update that changes one file of a thousand and links the rest, against one that copies it;
//! 3. the cost of one file in a commit of 10 to 10,000.
//!
//! `cargo bench --bench dir` says what file system it ran on; `common` says how that is chosen.

mod common;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Ground, Outcome, median};
use durafile::{AtomicDir, Carry, DirOptions, SyncStrategy};

const CONTENT: [u8; 4096] = [b'x'; 4096];

fn main() -> Outcome {
    let ground = Ground::prepare_with(2, 400_000)?;
    let (files, rounds) = if ground.is_real() { (1000, 15) } else { (10, 1) };
    if ground.is_real() {
        println!("\nmeasured on {}", ground.describe()?);
    }
    commit_and_copy(&ground.subdir("commit")?, files, rounds)?;
    link_and_copy(&ground.subdir("update")?, files, rounds)?;
    growth(&ground.subdir("growth")?, if ground.is_real() { 10_000 } else { 10 })
}

/// The time of a job in each round, in turns with the others.
struct Entrant<'a> {
    name: String,
    job: Box<dyn FnMut() -> Outcome<Duration> + 'a>,
    times: Vec<Duration>,
}

fn entrant<'a>(name: impl Into<String>, job: impl FnMut() -> Outcome<Duration> + 'a) -> Entrant<'a> {
    Entrant { name: name.into(), job: Box::new(job), times: Vec::new() }
}

fn run(entrants: &mut [Entrant<'_>], rounds: usize) -> Outcome {
    for round in 0..rounds {
        for turn in 0..entrants.len() {
            let at = (round + turn) % entrants.len();
            let Some(entrant) = entrants.get_mut(at) else { continue };
            let taken = (entrant.job)()?;
            entrant.times.push(taken);
        }
    }
    Ok(())
}

/// Ratios to the first one.
fn report(title: &str, entrants: &mut [Entrant<'_>], goal: f64) {
    let mut base = None;
    for Entrant { name, times, .. } in entrants {
        let time = median(times).as_secs_f64() * 1e3;
        let base = *base.get_or_insert(time);
        let ratio = time / base;
        let verdict = if ratio <= goal { "met" } else { "MISSED" };
        println!("{title}, {name}: {ratio:.3} (goal: at most {goal}, {verdict}); {time:.2} ms");
    }
}

fn fill(dir: &mut AtomicDir, files: usize) -> Outcome {
    for n in 0..files {
        dir.write(n.to_string(), CONTENT)?;
    }
    Ok(())
}

/// Staged by another tool, so that everything is left to the commit.
fn commit_and_copy(home: &Path, files: usize, rounds: usize) -> Outcome {
    let source = home.join("source");
    std::fs::create_dir(&source)?;
    for n in 0..files {
        std::fs::write(source.join(n.to_string()), CONTENT)?;
    }
    sync_all(home)?;
    let made = Cell::new(0_u32);
    let fresh = |name: &str| {
        made.set(made.get() + 1);
        home.join(format!("{name} {}", made.get()))
    };
    let copied = || {
        let target = fresh("copy");
        let start = Instant::now();
        copy(&source, &target)?;
        sync_all(home)?;
        Ok(start.elapsed())
    };
    let by = |strategy, single| DirOptions::new().sync(strategy).single_flush(single);
    let ways = [
        ("Auto", by(SyncStrategy::Auto, false)),
        ("FileSystem", by(SyncStrategy::FileSystem, false)),
        ("single_flush", by(SyncStrategy::Auto, true)),
    ];
    let mut entrants = vec![entrant("cp -r and one syncfs", copied)];
    for (name, options) in &ways {
        for replaces in [false, true] {
            let same = fresh(name);
            let fresh = &fresh;
            let job = move || {
                let target = if replaces { same.clone() } else { fresh(name) };
                let start = Instant::now();
                let mut new = options.create(&target)?;
                fill(&mut new, files)?;
                new.commit()?;
                Ok(start.elapsed())
            };
            let what = if replaces { "replacing as many" } else { "new" };
            entrants.push(entrant(format!("create, write and commit, {name}, {what}"), job));
        }
    }
    run(&mut entrants, rounds)?;
    report(&format!("{files} files of 4 KiB"), &mut entrants, 2.0);
    Ok(())
}

fn copy(source: &Path, target: &Path) -> Outcome {
    let status = Command::new("cp").arg("-r").arg(source).arg(target).status()?;
    if status.success() { Ok(()) } else { Err("cp failed".into()) }
}

fn sync_all(dir: &Path) -> Outcome {
    Ok(rustix::fs::syncfs(std::fs::File::open(dir)?)?)
}

fn link_and_copy(home: &Path, files: usize, rounds: usize) -> Outcome {
    let mut entrants = Vec::new();
    for (name, carry) in [("Copy", Carry::Copy), ("HardLink", Carry::HardLink)] {
        let target = home.join(name);
        let mut first = AtomicDir::create(&target)?;
        fill(&mut first, files)?;
        first.commit()?;
        let options = DirOptions::new().carry(carry);
        let job = move || {
            let start = Instant::now();
            let mut next = options.update(&target)?;
            next.write("0", CONTENT)?;
            next.commit()?;
            Ok(start.elapsed())
        };
        entrants.push(entrant(format!("update of 1 of {files} files, {name}"), job));
    }
    run(&mut entrants, rounds)?;
    report("carrying over", &mut entrants, 0.2);
    Ok(())
}

fn growth(home: &Path, most: usize) -> Outcome {
    let mut files = 10;
    while files <= most {
        let target: PathBuf = home.join(files.to_string());
        let rounds = if most > 10 { 5 } else { 1 };
        let (mut create, mut update) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            let start = Instant::now();
            let mut new = AtomicDir::create(&target)?;
            fill(&mut new, files)?;
            new.commit()?;
            create.push(start.elapsed());
            let start = Instant::now();
            let mut next = DirOptions::new().carry(Carry::HardLink).update(&target)?;
            next.write("0", CONTENT)?;
            next.commit()?;
            update.push(start.elapsed());
        }
        let each = |times: &mut Vec<Duration>| median(times).as_secs_f64() * 1e6 / files as f64;
        println!(
            "growth: {files} files: create {:.1} us a file, update with links {:.1} us a file",
            each(&mut create),
            each(&mut update),
        );
        files *= 10;
    }
    Ok(())
}
