//! How long a cancelled save takes to give up: from `CancelToken::cancel` until the save returns,
//! with nothing left behind.
//!
//! 1. Cancelled while a GiB streams: what is bounded is the piece that is being written.
//! 2. Cancelled right when the commit begins to sync: what is bounded is the data that is not on the
//!    device yet. A plain file of the same length, synced at the end, shows what the wait would be without
//!    that bound.
//!
//! `cargo bench --bench cancel` says what file system it ran on.

mod common;

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{Ground, Outcome};
use durafile::{CancelToken, ErrorKind, WriteOptions};

const MIB: usize = 1 << 20;

fn main() -> Outcome {
    let ground = Ground::prepare(4)?;
    let (len, rounds) = match ground.is_real() {
        true => (1024 * MIB, 20),
        false => (32 * MIB, 1),
    };
    let dir = ground.subdir("cancel")?;
    let target = dir.join("target");
    // Not zeros: those would all be one page of memory.
    let content = vec![b'x'; len];

    let start = Instant::now();
    let _ = durafile::write(&target, &content)?;
    let whole = start.elapsed();
    let mut streaming = Times::default();
    let mut syncing = Times::default();
    let mut plain = Times::default();
    for round in 0..rounds {
        let after = len / (rounds + 1) * (round + 1);
        streaming.0.push(cancel_stream(&target, &content, after)?);
        syncing.0.push(cancel_sync(&target, &content)?);
        plain.0.push(sync_plain(&dir.join("plain"), &content)?);
        assert_eq!(std::fs::read_dir(&dir)?.count(), 1, "nothing is left");
    }
    if ground.is_real() {
        println!("\nmeasured on {}", ground.describe()?);
        println!("1 GiB, not cancelled: {:.0} ms", whole.as_secs_f64() * 1e3);
        println!("cancelled in mid-stream: {}", streaming.text());
        println!("cancelled as the final sync begins: {}", syncing.text());
        println!("for comparison, the sync of a plain file that was just written: {}", plain.text());
    }
    Ok(())
}

/// Cancels once so much is written.
fn cancel_stream(target: &Path, content: &[u8], after: usize) -> Outcome<Duration> {
    let token = CancelToken::new();
    let mut file = WriteOptions::new().cancel(&token).open(target)?;
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let saving = scope.spawn(|| {
            // The commit says why a write failed.
            for piece in content.chunks(MIB).take_while(|piece| file.write_all(piece).is_ok()) {
                written.fetch_add(piece.len(), Ordering::Relaxed);
            }
            (file.commit(), Instant::now())
        });
        while written.load(Ordering::Relaxed) < after && !saving.is_finished() {
            std::thread::sleep(Duration::from_micros(100));
        }
        let cancelled = Instant::now();
        token.cancel();
        judge(saving.join(), cancelled)
    })
}

fn cancel_sync(target: &Path, content: &[u8]) -> Outcome<Duration> {
    let token = CancelToken::new();
    let mut file = WriteOptions::new().cancel(&token).open(target)?;
    for piece in content.chunks(MIB) {
        file.write_all(piece)?;
    }
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::channel();
        let saving = scope.spawn(move || {
            send.send(()).ok();
            (file.commit(), Instant::now())
        });
        receive.recv()?;
        // The commit has nothing left to write: it is at its sync in microseconds.
        std::thread::sleep(Duration::from_micros(200));
        let cancelled = Instant::now();
        token.cancel();
        judge(saving.join(), cancelled)
    })
}

type Saved = (durafile::Result<durafile::Committed>, Instant);

/// A save that was quicker than the cancellation is no figure, but no failure either.
fn judge(joined: std::thread::Result<Saved>, cancelled: Instant) -> Outcome<Duration> {
    let (saved, ended) = joined.map_err(|_| "the save panicked")?;
    match saved {
        Err(e) if e.kind() == ErrorKind::Cancelled => Ok(ended.saturating_duration_since(cancelled)),
        Ok(_) => Ok(Duration::ZERO),
        Err(e) => Err(e.into()),
    }
}

fn sync_plain(path: &Path, content: &[u8]) -> Outcome<Duration> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    let start = Instant::now();
    file.sync_all()?;
    let taken = start.elapsed();
    std::fs::remove_file(path)?;
    Ok(taken)
}

#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn text(&mut self) -> String {
        self.0.retain(|time| !time.is_zero());
        self.0.sort_unstable();
        let at = |part: f64| self.0.get((self.0.len() as f64 * part) as usize).copied().unwrap_or_default();
        let longest = self.0.last().copied().unwrap_or_default();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, longest) = (ms(at(0.5)), ms(longest));
        format!("median {median:.1} ms, longest {longest:.1} ms, {} rounds", self.0.len())
    }
}
