//! Goal: a cancelled save stops soon, publishes nothing and leaves nothing; once the rename is done it
//! completes. Method: tokens cancelled from inside the content that is being saved, from other threads
//! while the kernel is held up in a sync, and by real signals to real processes. "Soon" is counted in bytes
//! and calls, not in time.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use durafile::{AtomicFile, CancelToken, Durability, EXIT_CANCELLED, ErrorKind, WriteOptions};
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use serde::ser::{Serialize, SerializeSeq, Serializer};

use crate::save_program::program;
use crate::strace;
use crate::support::{dir, expect_pass, job, names, refused, rerun, staged_in, this_test};

const MIB: u64 = 1 << 20;

/// A directory with one file that must stay as it is.
fn prepared() -> tempfile::TempDir {
    let home = dir();
    fs::write(home.path().join("file"), "old").unwrap();
    home
}

#[track_caller]
fn untouched(home: &Path) {
    assert_eq!(names(home), ["file"]);
    assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "old");
}

fn with(token: &CancelToken) -> WriteOptions {
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
    assert_eq!(last.get(), 99_999);
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
    std::panic::catch_unwind(|| staged_in(home)).ok().map(|found| found.len())
}

/// What the job does in a child whose nth fsync strace holds up: saves, and cancels meanwhile.
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

#[track_caller]
fn with_a_slow_sync(test: &str, home: &Path, nth: u32) {
    // Two seconds, in which the other thread surely gets its turn.
    let inject = format!("inject=fsync:delay_enter=2000000:when={nth}");
    let prefix = ["strace", "-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", &inject, "--"];
    expect_pass(&rerun(&prefix.map(OsStr::new), test, home, "save").output().unwrap());
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
        with_a_slow_sync(&test, home.path(), 1);
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
    let home = prepared();
    if strace::works() {
        with_a_slow_sync(&test, home.path(), 2);
        assert_eq!(fs::read_to_string(home.path().join("file")).unwrap(), "new");
        assert_eq!(names(&home), ["file"]);
    }
}

/// A reader that waits for ever, and says when it starts to.
struct Endless<'a> {
    token: &'a CancelToken,
    heedless: bool,
    said: bool,
}

impl Read for Endless<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !std::mem::replace(&mut self.said, true) {
            println!("READY");
        }
        while self.heedless || !self.token.is_cancelled() {
            std::thread::sleep(Duration::from_millis(1));
            if self.token.is_cancelled() && std::mem::take(&mut self.heedless) {
                println!("CANCELLED");
                self.heedless = true;
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        }
        buffer[0] = b'n';
        Ok(1)
    }
}

/// The program that the tests of signals run: it saves until it is told to stop.
fn saves_until_told(dir: &Path, heedless: bool) -> u8 {
    let before = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&before)).unwrap();
    }
    let token = CancelToken::on_termination().unwrap();
    let again = CancelToken::on_termination().unwrap();
    let reader = Endless { token: &token, heedless, said: false };
    match with(&token).write_from(dir.join("file"), reader) {
        Err(e) if e.kind() == ErrorKind::Cancelled => {
            assert!(again.is_cancelled(), "it is one token");
            assert!(before.load(Ordering::SeqCst), "the handler that was there before is called");
            EXIT_CANCELLED
        }
        other => panic!("{other:?}"),
    }
}

fn started(test: &str, home: &Path, job: &str) -> (Child, impl FnMut(&str) + use<>) {
    let mut child = rerun(&[], test, home, job).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = io::BufReader::new(child.stdout.take().unwrap());
    let wait_for = move |word: &str| {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            assert!(io::BufRead::read_line(&mut lines, &mut line).unwrap() > 0, "the child ended");
        }
    };
    (child, wait_for)
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn sigterm_and_sigint_end_a_program_cleanly_with_status_14() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        std::process::exit(saves_until_told(&dir, false).into());
    }
    assert_eq!(EXIT_CANCELLED, 14);
    for signal in [Signal::TERM, Signal::INT] {
        let home = prepared();
        let (mut child, mut wait_for) = started(&test, home.path(), "save");
        wait_for("READY");
        send(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(14));
        untouched(home.path());
    }
}

#[test]
fn a_second_signal_ends_the_program_at_once_and_leaves_the_target() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        std::process::exit(saves_until_told(&dir, true).into());
    }
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let home = prepared();
        let (mut child, mut wait_for) = started(&test, home.path(), "save");
        wait_for("READY");
        send(&child, first);
        wait_for("CANCELLED");
        assert!(child.try_wait().unwrap().is_none(), "one signal does not end it");
        send(&child, second);
        assert_eq!(child.wait().unwrap().signal(), Some(second.as_raw()));
        assert_eq!(fs::read_to_string(home.path().join("file")).unwrap(), "old");
        let _ = durafile::recover(&home).unwrap();
        untouched(home.path());
    }
}

#[test]
fn a_token_that_the_program_cancelled_itself_leaves_the_first_signal_harmless() {
    let test = this_test!();
    if job(&test).is_some() {
        let token = CancelToken::on_termination().unwrap();
        token.cancel();
        println!("READY");
        let mut nothing = String::new();
        let _ = io::stdin().read_line(&mut nothing);
        std::process::exit(7);
    }
    let home = dir();
    let mut child = rerun(&[], &test, home.path(), "wait")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("READY") {
        line.clear();
        assert!(io::BufRead::read_line(&mut lines, &mut line).unwrap() > 0);
    }
    send(&child, Signal::TERM);
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn without_on_termination_the_library_handles_no_signal() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        let token = CancelToken::new();
        let _ = with(&token).write(dir.join("file"), "old").unwrap();
        let mut endless = Endless { token: &token, heedless: false, said: false };
        let _ = AtomicFile::create(dir.join("other")).unwrap();
        let _ = endless.read(&mut [0]);
    }
    let home = prepared();
    let (mut child, mut wait_for) = started(&test, home.path(), "save");
    wait_for("READY");
    send(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
    untouched(home.path());
}

/// Has the program opened its target, so that it is in the middle of its work?
fn is_streaming(child: &Child, home: &Path) -> bool {
    let home = fs::canonicalize(home).unwrap();
    let fds = std::fs::read_dir(format!("/proc/{}/fd", child.id()));
    let links = fds.into_iter().flatten().flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.into_iter().any(|target| target != home && target.starts_with(&home))
}

#[test]
fn save_that_is_stopped_in_mid_stream_exits_14_and_leaves_everything_as_it_was() {
    let Some(program) = program() else { return };
    for signal in [Signal::TERM, Signal::INT] {
        for options in [&[][..], &["--json"], &["--pretty"], &["--skip-unchanged"]] {
            for endless in [false, true] {
                let home = prepared();
                let mut child = Command::new(&program)
                    .arg(home.path().join("file"))
                    .args(options)
                    .stdin(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                let mut input = child.stdin.take().unwrap();
                input.write_all(b"[0").unwrap();
                // One producer goes on until it is cut off, the other one says nothing more.
                let producer = std::thread::spawn(move || {
                    while endless && input.write_all(&b",1".repeat(10_000)).is_ok() {}
                    input
                });
                while !is_streaming(&child, home.path()) {
                    assert!(child.try_wait().unwrap().is_none());
                    std::thread::yield_now();
                }
                send(&child, signal);
                let open_end = (!endless).then(|| producer.join().unwrap());
                let output = child.wait_with_output().unwrap();
                drop(open_end);
                let said = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(14), "{said}");
                assert!(said.starts_with("save: The save was cancelled; nothing was changed.\n"), "{said}");
                untouched(home.path());
            }
        }
    }
}

#[test]
fn save_is_not_disturbed_by_other_signals_while_it_waits_for_input() {
    let Some(program) = program() else { return };
    let home = prepared();
    let mut child =
        Command::new(&program).arg(home.path().join("file")).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    for piece in ["ne", "w"] {
        input.write_all(piece.as_bytes()).unwrap();
        while !is_streaming(&child, home.path()) {
            std::thread::yield_now();
        }
        send(&child, Signal::STOP);
        send(&child, Signal::CONT);
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(home.path().join("file")).unwrap(), "new");
}
