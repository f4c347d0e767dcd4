//! Goal: the example program `save` never takes a missing input for an empty one, and reads sizes as
//! people write them. Method: the built program is started by a shell, which can close descriptors.

use std::path::Path;
use std::process::{Command, Output};

use fs_err as fs;

use super::save_program::{fails, program, save, succeeds};
use crate::support::{dir, in_private_mounts, names, this_test};

/// `save TARGET OPTIONS`, with `input` as a shell redirects it.
fn shell(program: &Path, target: &Path, options: &str, input: &str) -> Output {
    let script = format!("exec \"$0\" \"$1\" {options} {input}");
    Command::new("sh").args(["-c", &script]).arg(program).arg(target).output().unwrap()
}

#[test]
fn a_closed_standard_input_is_an_error_and_no_empty_file() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "precious").unwrap();
    for options in ["", "--json", "--not-empty", "--skip-unchanged"] {
        let said = fails(&shell(&program, &path, options, "<&-"), 5);
        assert!(said.contains("standard input is closed"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(names(&dir), ["file"]);
    }
    // Asked for in so many words, an empty file is what it takes.
    succeeds(&shell(&program, &path, "", "</dev/null"));
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn an_empty_input_is_refused_when_something_has_to_come() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "precious").unwrap();
    for options in [&["--not-empty"][..], &["--not-empty", "--json"], &["--not-empty", "--pretty"]] {
        let said = fails(&save(&program, &path, options, b""), 12);
        assert!(said.contains("The input is empty; nothing was saved."), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert_eq!(names(&dir), ["file"]);
    }
    fails(&shell(&program, &path, "--not-empty", "</dev/null"), 12);
    succeeds(&save(&program, &path, &["--not-empty"], b"1"));
    assert_eq!(fs::read(&path).unwrap(), b"1");
}

#[test]
fn a_size_limit_has_units() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    for (limit, bytes) in [
        ("2kB", 2000),
        ("2KiB", 2048),
        ("2k", 2048),
        ("0.5 kb", 500),
        ("3MB", 3_000_000),
        ("7", 7),
        ("7B", 7),
    ] {
        succeeds(&save(&program, &path, &["--size-limit", limit], &vec![7; bytes]));
        fails(&save(&program, &path, &["--size-limit", limit], &vec![7; bytes + 1]), 4);
        assert_eq!(fs::metadata(&path).unwrap().len(), bytes as u64, "{limit}");
    }
    for nonsense in ["", "MB", "3 apples", "-3", "1.5.5MB", "99999999999TB", "1.MB"] {
        let output = save(&program, &path, &[&format!("--size-limit={nonsense}")], b"x");
        assert_eq!(output.status.code(), Some(2), "{nonsense}");
    }
}

#[test]
fn what_memory_alone_keeps_is_said_in_plain_words() {
    let Some(program) = program() else { return };
    in_private_mounts(&this_test!(), "mount -t tmpfs tmpfs \"$DIR\"", |dir| {
        let output = save(&program, &dir.join("file"), &[], b"x");
        succeeds(&output);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("will not survive a restart"), "{said}");
        let output = save(&program, &dir.join("file"), &["--durability", "none"], b"y");
        succeeds(&output);
        assert!(output.stderr.is_empty(), "it is what was asked for");
    });
}
