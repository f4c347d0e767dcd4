//! Goal: SIGTERM and SIGINT stop a program's saves cleanly, once it has asked for that; a second one stops
//! the program. Method: real signals to real processes, the program `save` among them.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use durafile::{AtomicFile, CancelToken, EXIT_CANCELLED, ErrorKind};
use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};

use crate::house::save_program::program;
use crate::save::cancel::{prepared, untouched, with};
use crate::support::{dir, job, rerun, this_test};

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
            assert!(again.is_cancelled());
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

/// Waits for its end, but not for ever: what ignores its signals is killed.
#[track_caller]
fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it goes on in spite of the signal");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
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
        assert_eq!(ended(&mut child).code(), Some(14));
        untouched(home.path());
    }
}

#[test]
fn a_second_signal_ends_the_program_at_once_and_leaves_the_target() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        std::process::exit(saves_until_told(&dir, true).into());
    }
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)]
    {
        let home = prepared();
        let (mut child, mut wait_for) = started(&test, home.path(), "save");
        wait_for("READY");
        send(&child, first);
        wait_for("CANCELLED");
        assert!(child.try_wait().unwrap().is_none(), "one signal does not end it");
        send(&child, second);
        assert_eq!(ended(&mut child).signal(), Some(second.as_raw()));
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
        assert!(CancelToken::on_termination().unwrap().is_cancelled(), "it is one token");
        println!("READY");
        let mut nothing = String::new();
        let _ = io::stdin().read_line(&mut nothing);
        std::process::exit(7);
    }
    let home = dir();
    let mut child =
        rerun(&[], &test, home.path(), "wait").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("READY") {
        line.clear();
        assert!(io::BufRead::read_line(&mut lines, &mut line).unwrap() > 0);
    }
    send(&child, Signal::TERM);
    drop(child.stdin.take());
    assert_eq!(ended(&mut child).code(), Some(7));
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
    assert_eq!(ended(&mut child).signal(), Some(Signal::TERM.as_raw()));
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
                let status = ended(&mut child);
                drop(open_end);
                let said = io::read_to_string(child.stderr.take().unwrap()).unwrap();
                assert_eq!(status.code(), Some(14), "{said}");
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
    assert!(ended(&mut child).success());
    assert_eq!(fs::read_to_string(home.path().join("file")).unwrap(), "new");
}
