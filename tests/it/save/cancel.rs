//! Goal: a cancelled save stops soon, publishes nothing and leaves nothing; once the rename is done it
//! completes. Method: tokens cancelled from inside the content that is being saved, from other threads
//! while the kernel is held up. "Soon" is counted in bytes and calls, not in time.

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use durafile::{CancelToken, Durability, ErrorKind, WriteOptions};
use fs_err as fs;
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::support::strace;
use crate::support::{dir, expect_pass, job, names, refused, staged_yet, this_test};

const MIB: u64 = 1 << 20;

/// A directory with one file that must stay as it is.
pub(crate) fn prepared() -> tempfile::TempDir {
    let home = dir();
    fs::write(home.path().join("file"), "old").unwrap();
    home
}

#[track_caller]
pub(crate) fn untouched(home: &Path) {
    assert_eq!(names(home), ["file"]);
    assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "old");
}

pub(crate) fn with(token: &CancelToken) -> WriteOptions {
    WriteOptions::new().cancel(token)
}

#[test]
fn a_token_and_its_clones_are_one_switch() {
    let token = CancelToken::new();
    let clone = token.clone();
    assert!(!token.is_cancelled() && !clone.is_cancelled());
    std::thread::scope(|scope| scope.spawn(|| clone.cancel()).join().unwrap());
    assert!(token.is_cancelled() && token.clone().is_cancelled());
    assert!(!CancelToken::default().is_cancelled());
    fn shared<T: Send + Sync + Clone + std::fmt::Debug>() {}
    shared::<CancelToken>();
}

#[test]
fn a_cancelled_token_stops_every_way_to_save_before_anything_is_published() {
    let home = prepared();
    let token = CancelToken::new();
    token.cancel();
    let levels = [Durability::Full, Durability::Data, Durability::None];
    for options in levels.map(|level| with(&token).durability(level)) {
        let same = options.clone().skip_unchanged(true);
        let new = options.clone().create_new(true);
        for (options, name, content) in
            [(&options, "file", "new"), (&same, "file", "old"), (&new, "new", "new"), (&options, "new", "")]
        {
            let path = home.path().join(name);
            refused(options.write(&path, content), ErrorKind::Cancelled);
            refused(options.write_json(&path, &content), ErrorKind::Cancelled);
            refused(options.write_from(&path, content.as_bytes()), ErrorKind::Cancelled);
            let mut file = options.open(&path).unwrap();
            assert_eq!(file.write_all(content.as_bytes()).is_err(), !content.is_empty());
            let error = refused(file.commit(), ErrorKind::Cancelled);
            assert!(!error.is_transient());
            assert_eq!(error.path(), path);
            untouched(home.path());
        }
    }
}

#[test]
fn a_token_that_is_not_cancelled_changes_nothing() {
    let home = prepared();
    let path = home.path().join("file");
    let token = CancelToken::new();
    assert!(!with(&token).write(&path, "new").unwrap().is_unchanged());
    assert!(with(&token).skip_unchanged(true).write(&path, "new").unwrap().is_unchanged());
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
}

#[test]
fn a_stream_that_is_cancelled_before_its_commit_is_not_published() {
    let home = prepared();
    let path = home.path().join("file");
    for len in [1, 1000, 10 << 20] {
        let token = CancelToken::new();
        let mut file = with(&token).open(&path).unwrap();
        file.write_all(&vec![b'n'; len]).unwrap();
        token.cancel();
        let late = file.write(b"more").unwrap_err().downcast::<durafile::Error>().unwrap();
        assert_eq!(late.kind(), ErrorKind::Cancelled);
        refused(file.commit(), ErrorKind::Cancelled);
        untouched(home.path());

        let token = CancelToken::new();
        let mut file = with(&token).open(&path).unwrap();
        file.write_all(&vec![b'n'; len]).unwrap();
        token.cancel();
        refused(file.commit(), ErrorKind::Cancelled);
        untouched(home.path());
    }
}

/// Gives a GiB, and cancels after 64 MiB of it; counts how often it is asked after that.
struct Long<'a> {
    token: &'a CancelToken,
    given: u64,
    asked_after: &'a Cell<u32>,
    /// What it says then: no more data, or an error of its own.
    error: Option<io::ErrorKind>,
}

impl Read for Long<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.token.is_cancelled() {
            self.asked_after.set(self.asked_after.get() + 1);
        }
        if self.given >= 64 * MIB {
            self.token.cancel();
            if let Some(kind) = self.error {
                return Err(kind.into());
            }
        }
        let len = buffer.len().min((1024 * MIB - self.given) as usize);
        buffer[..len].fill(b'n');
        self.given += len as u64;
        Ok(len)
    }
}

#[test]
fn a_long_save_from_a_reader_asks_for_nothing_more_once_cancelled() {
    let home = prepared();
    // An interrupted read is tried again, but not for ever; any other error is the token's doing.
    for error in [None, Some(io::ErrorKind::Interrupted), Some(io::ErrorKind::BrokenPipe)] {
        let token = CancelToken::new();
        let asked_after = Cell::new(0);
        let reader = Long { token: &token, given: 0, asked_after: &asked_after, error };
        refused(with(&token).write_from(home.path().join("file"), reader), ErrorKind::Cancelled);
        assert_eq!(asked_after.get(), 0);
        untouched(home.path());
    }
}

#[test]
fn a_slow_reader_is_not_waited_for_until_the_buffer_is_full() {
    let home = prepared();
    let token = CancelToken::new();
    struct Slow<'a>(&'a CancelToken, u32);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 += 1;
            assert!(self.1 <= 2, "asked again after the token was cancelled");
            if self.1 == 2 {
                self.0.cancel();
            }
            buffer[0] = b'n';
            Ok(1)
        }
    }
    refused(with(&token).write_from(home.path().join("file"), Slow(&token, 0)), ErrorKind::Cancelled);
    untouched(home.path());
}

#[test]
fn a_long_document_is_serialised_no_further_once_cancelled() {
    struct Rows<'a>(&'a CancelToken, &'a Cell<u32>);
    impl Serialize for Rows<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut rows = serializer.serialize_seq(None)?;
            for number in 0..10_000_000 {
                if number == 100_000 {
                    self.0.cancel();
                }
                rows.serialize_element(&number)?;
                self.1.set(number);
            }
            rows.end()
        }
    }
    let home = prepared();
    let token = CancelToken::new();
    let last = Cell::new(0);
    refused(with(&token).write_json(home.path().join("file"), &Rows(&token, &last)), ErrorKind::Cancelled);
    // At most what fits into a buffer of 64 KiB.
    assert!(last.get() < 110_000, "{}", last.get());
    untouched(home.path());
}

/// Bytes that this thread has passed to write calls.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn a_long_save_writes_at_most_one_more_piece_once_cancelled() {
    let home = prepared();
    let content = vec![0; 1 << 30];
    for level in [Durability::Full, Durability::None] {
        let token = CancelToken::new();
        let options = with(&token).durability(level);
        std::thread::scope(|scope| {
            let saving = scope.spawn(|| {
                let before = written();
                let saved = options.write(home.path().join("file"), &content);
                (saved, written() - before)
            });
            let size = || staged_size(home.path());
            while size().unwrap_or(0) < 32 * MIB {
                assert!(!saving.is_finished());
                std::thread::yield_now();
            }
            token.cancel();
            // Gone already, if the save was quick to stop: then the least that it can have been.
            let at_most = size().unwrap_or(content.len() as u64 / 2) + MIB;
            let (saved, written) = saving.join().unwrap();
            refused(saved, ErrorKind::Cancelled);
            assert!(written >= 32 * MIB, "it was under way");
            assert!(written <= at_most, "{written} bytes, at most {at_most} expected");
        });
        untouched(home.path());
    }
}

/// How much is in the staged file; none while there is no such file.
fn staged_size(home: &Path) -> Option<u64> {
    staged_yet(home).map(|found| found.len())
}

/// What the job does in a child whose calls strace holds up: saves, and cancels meanwhile.
fn cancel_during_sync(dir: &Path, wait: impl Fn() -> bool + Sync) -> durafile::Result<durafile::Committed> {
    let token = CancelToken::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(60);
            while !wait() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
            }
            token.cancel();
        });
        with(&token).write(dir.join("file"), "new")
    })
}

/// Strace holds these calls up for five seconds, in which the other thread surely gets its turn.
#[track_caller]
fn held_up(test: &str, home: &Path, calls: &str) {
    let (only, _) = calls.split_once(':').unwrap();
    let (only, inject) = (format!("trace={only}"), format!("inject={calls}"));
    expect_pass(&strace::faulty(&[&only, &inject], test, home, "save").output().unwrap());
}

#[test]
fn a_save_that_is_cancelled_while_its_content_is_synced_is_not_published() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        let written = || staged_size(&dir) == Some(3);
        refused(cancel_during_sync(&dir, written), ErrorKind::Cancelled);
        return untouched(&dir);
    }
    let home = prepared();
    if strace::works() {
        held_up(&test, home.path(), "fsync:delay_enter=5000000:when=1");
        untouched(home.path());
    }
}

#[test]
fn a_save_that_is_cancelled_after_the_rename_completes() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        let seen = AtomicBool::new(false);
        let renamed = || {
            seen.store(fs::read(dir.join("file")).unwrap() == b"new", Ordering::SeqCst);
            seen.load(Ordering::SeqCst)
        };
        let saved = cancel_during_sync(&dir, renamed).unwrap();
        assert!(seen.load(Ordering::SeqCst), "it was cancelled after the rename");
        assert_eq!(saved.durability(), crate::support::best(&dir));
        return;
    }
    // Before the rename has returned, and before the directory is synced.
    for calls in ["renameat,renameat2:delay_exit=5000000", "fsync:delay_enter=5000000:when=2"] {
        let home = prepared();
        if strace::works() {
            held_up(&test, home.path(), calls);
            assert_eq!(fs::read_to_string(home.path().join("file")).unwrap(), "new");
            assert_eq!(names(&home), ["file"]);
        }
    }
}
