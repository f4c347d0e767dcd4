//! Goal: `ingest process` makes a whole result or none, and its exit code says which. Method: it is
//! run as a user would run it, and stopped in the middle.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{PROGRAM, dir, names, no_remnants, run, sparse_wav, until, wav};

fn process(recording: &Path, output: &Path) -> std::process::Output {
    run(&["process", recording.to_str().unwrap(), "--output", output.to_str().unwrap()])
}

#[test]
fn a_recording_becomes_a_directory() {
    let home = dir();
    let (recording, output) = (home.path().join("a.wav"), home.path().join("result"));
    fs::write(&recording, wav(2.0, 1)).unwrap();
    assert!(process(&recording, &output).status.success());
    assert_eq!(names(&output), ["result.json", "waveform.png"]);
    assert!(process(&recording, &output).status.success(), "again");
    no_remnants(home.path());
}

#[test]
fn each_failure_has_its_exit_code_and_leaves_the_output_as_it_was() {
    let home = dir();
    let (recording, output) = (home.path().join("a.wav"), home.path().join("result"));
    fs::create_dir(&output).unwrap();
    fs::write(output.join("old"), "old").unwrap();
    let fails = |recording: &Path, output: &Path, code| {
        let done = process(recording, output);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.lines().any(|line| line.starts_with("ingest: ") && line.ends_with('.')), "{said}");
    };
    fails(&recording, &output, 5);
    fs::write(&recording, wav(0.5, 1)).unwrap();
    fails(&recording, &output, 3);
    fs::write(&recording, wav(1.5, 1)).unwrap();
    fails(&recording, &home.path().join("nowhere/result"), 6);
    fails(&recording, &recording, 6);
    assert_eq!(run(&["process"]).status.code(), Some(2));
    assert_eq!(names(&output), ["old"]);
    no_remnants(home.path());
}

fn start(recording: &Path, output: &Path, log: &Path) -> Child {
    let errors = fs::File::create(log).unwrap().into_file();
    let mut command = Command::new(PROGRAM);
    command.arg("process").arg(recording).arg("--output").arg(output).stderr(errors).stdin(Stdio::null());
    command.spawn().unwrap()
}

#[test]
fn cancelled_it_exits_with_14_and_leaves_the_output_as_it_was() {
    let home = dir();
    let (recording, output, log) =
        (home.path().join("a.wav"), home.path().join("result"), home.path().join("log"));
    // Seconds of work in either build.
    sparse_wav(&recording, 48000, if cfg!(debug_assertions) { 900 } else { 7000 });
    fs::create_dir(&output).unwrap();
    fs::write(output.join("old"), "old").unwrap();
    for (signal, stage) in [(Signal::TERM, "identify"), (Signal::INT, "decode")] {
        let mut child = start(&recording, &output, &log);
        until("it is at work", || fs::read_to_string(&log).unwrap().contains(stage).then_some(()));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = until("it ends", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(14), "{}", fs::read_to_string(&log).unwrap());
        assert_eq!(names(&output), ["old"]);
        no_remnants(home.path());
    }
}
