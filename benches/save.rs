//! One save, as ratios against a baseline that runs in turns with it:
//!
//! 1. a 4 KiB replacement of a warm file, against the eight system calls that the same promise
//!    needs at least;
//! 2. a long stream through `AtomicFile`, against `File`, `write_all` and `sync_all`, which may
//!    leave a torn file behind;
//! 3. `write_json` of a long document, against `serde_json::to_vec` and `write`; and the memory
//!    that 2 and 3 take.
//!
//! `cargo bench --bench save` says what file system it ran on; `common` says how that is chosen.

mod common;

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use common::{Figure, Ground, Outcome, Pair, peak_growth};
use criterion::{BenchmarkGroup, Criterion, SamplingMode, measurement::WallTime};
use durafile::AtomicFile;
use rustix::fs::{Mode, OFlags};
use serde::{Serialize, Serializer};

const MIB: u64 = 1 << 20;

fn main() -> Outcome {
    let ground = Ground::prepare(6)?;
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("save");
    let mut small = Pair::new("4 KiB replacement, against the raw sequence");
    let mut stream = Pair::new("1 GiB stream, against File + write_all + sync_all");
    let mut json = Pair::new("100 MB write_json, against to_vec + write");
    let (stream_len, records) = match ground.is_real() {
        true => (1024 * MIB, 1_000_000),
        false => (8 * MIB, 1_000),
    };
    let document = Document { records };
    let memory = memory_report(&ground, stream_len, &document)?;
    replace_small(&ground, &mut group, &mut small)?;
    stream_long(&ground, &mut group, &mut stream, stream_len)?;
    save_json(&ground, &mut group, &mut json, &document)?;
    group.finish();
    criterion.final_summary();

    if !ground.is_real() {
        return Ok(());
    }
    println!("\nmeasured on {}", ground.describe()?);
    small.report(Figure::Time { at_most: 1.05 });
    stream.report(Figure::Speed { at_least: 0.95 });
    json.report(Figure::Plain);
    println!("{memory}");
    Ok(())
}

fn replace_small(ground: &Ground, group: &mut BenchmarkGroup<'_, WallTime>, pair: &mut Pair) -> Outcome {
    let (ours, raw) = (ground.subdir("ours")?, ground.subdir("raw")?);
    let (ours_target, raw_target) = (ours.join("target"), raw.join("target"));
    let content = [b'x'; 4096];
    std::fs::write(&ours_target, content)?;
    std::fs::write(&raw_target, content)?;
    let count = Cell::new(0_u64);
    group.measurement_time(Duration::from_secs(8));
    group.bench_function("4 KiB replacement", |bencher| {
        bencher.iter_custom(|rounds| {
            pair.run(
                rounds,
                || Ok(durafile::write(&ours_target, content).map(drop)?),
                || {
                    // A fresh name each time, as any safe writer needs.
                    count.set(count.get() + 1);
                    raw_replace(&raw, &raw_target, &format!("temp-{}", count.get()), &content)
                },
            )
        });
    });
    Ok(())
}

/// The least that the same promise takes by hand: eight system calls, two of them syncs.
fn raw_replace(dir: &Path, target: &Path, temp: &str, content: &[u8]) -> Outcome {
    let temp = dir.join(temp);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::open(&temp, flags, Mode::from_raw_mode(0o666))?;
    let written = rustix::io::write(&file, content)?;
    assert_eq!(written, content.len(), "a regular file takes it in one go");
    rustix::fs::fsync(&file)?;
    drop(file);
    rustix::fs::rename(&temp, target)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(dir, flags, Mode::empty())?;
    rustix::fs::fsync(&parent)?;
    Ok(())
}

fn stream_long(
    ground: &Ground,
    group: &mut BenchmarkGroup<'_, WallTime>,
    pair: &mut Pair,
    len: u64,
) -> Outcome {
    let dir = ground.subdir("stream")?;
    let (ours, plain) = (dir.join("ours"), dir.join("plain"));
    group.sample_size(15).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1));
    group.measurement_time(Duration::from_secs(1));
    group.bench_function("1 GiB stream", |bencher| {
        bencher.iter_custom(|rounds| {
            pair.run(
                rounds,
                || stream_atomic(&ours, len),
                || {
                    let mut file = File::create(&plain)?;
                    fill(&mut file, len)?;
                    Ok(file.sync_all()?)
                },
            )
        });
    });
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn stream_atomic(path: &Path, len: u64) -> Outcome {
    let mut file = AtomicFile::create(path)?;
    fill(&mut file, len)?;
    Ok(file.commit().map(drop)?)
}

/// Writes `len` bytes in pieces of 64 KiB.
fn fill(out: &mut impl io::Write, len: u64) -> io::Result<()> {
    static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    for _ in 0..len / PIECE.len() as u64 {
        out.write_all(&PIECE)?;
    }
    Ok(())
}

fn save_json(
    ground: &Ground,
    group: &mut BenchmarkGroup<'_, WallTime>,
    pair: &mut Pair,
    document: &Document,
) -> Outcome {
    let dir = ground.subdir("json")?;
    let (streamed, whole) = (dir.join("streamed"), dir.join("whole"));
    group.bench_function("100 MB write_json", |bencher| {
        bencher.iter_custom(|rounds| {
            pair.run(
                rounds,
                || Ok(durafile::write_json(&streamed, document).map(drop)?),
                || {
                    let text = serde_json::to_vec(document)?;
                    Ok(durafile::write(&whole, text).map(drop)?)
                },
            )
        });
    });
    Ok(())
}

/// The peak of resident memory in each case. It goes before everything else, because memory
/// that was freed, but is still held by the allocator, would hide later growth.
fn memory_report(ground: &Ground, stream_len: u64, document: &Document) -> Outcome<String> {
    let dir = ground.subdir("memory")?;
    let kib = |bytes: u64| bytes / 1024;
    let target = dir.join("target");
    let short = peak_growth(|| stream_atomic(&target, stream_len / 64))?;
    let long = peak_growth(|| stream_atomic(&target, stream_len))?;
    let streamed = peak_growth(|| Ok(durafile::write_json(&target, document).map(drop)?))?;
    let text_len = std::fs::metadata(&target)?.len();
    let whole = peak_growth(|| {
        let text = serde_json::to_vec(document)?;
        Ok(durafile::write(&target, text).map(drop)?)
    })?;
    std::fs::remove_dir_all(dir)?;
    Ok(format!(
        "peak memory, stream: {} KiB more for {} MiB, {} KiB more for {} MiB\n\
         peak memory, JSON text of {} KiB: write_json {} KiB more, to_vec + write {} KiB more",
        kib(short),
        stream_len / 64 / MIB,
        kib(long),
        stream_len / MIB,
        kib(text_len),
        kib(streamed),
        kib(whole),
    ))
}

/// A document that takes no memory itself: its records are made while it is serialised.
#[derive(Debug)]
struct Document {
    records: u32,
}

#[derive(Serialize)]
struct Record {
    id: u32,
    name: &'static str,
    position: [f64; 3],
    tags: [&'static str; 2],
    note: &'static str,
}

impl Serialize for Document {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..self.records).map(|id| Record {
            id,
            name: "a record like many others",
            position: [f64::from(id), 0.5, -1.25],
            tags: ["first", "second"],
            note: "with \"quotes\"",
        }))
    }
}
