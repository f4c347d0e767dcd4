//! Goal: the shipped example program `save` does what its page says: the bytes of its standard
//! input reach the target, options do what they say, and each failure has its exit code and one
//! clear sentence. Method: the built program is run as a user would run it.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fs_err as fs;

use crate::support::{chmod, dir, in_private_mounts, is_root, mode, names, skip, this_test};

/// Where cargo puts it, seen from this test.
pub(crate) fn program() -> Option<PathBuf> {
    let exe = std::env::current_exe().unwrap();
    let path = exe.parent()?.parent()?.join("examples/save");
    if !path.exists() {
        skip("the example `save` is not built; `cargo test` without a target builds it");
        return None;
    }
    Some(path)
}

fn feed(command: &mut Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The program may refuse before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub(super) fn save(program: &Path, target: &Path, options: &[&str], input: &[u8]) -> Output {
    feed(Command::new(program).arg(target).args(options), input)
}

#[track_caller]
pub(super) fn succeeds(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(output.stdout.is_empty());
}

/// The exit code, with one sentence for people on standard error.
#[track_caller]
pub(super) fn fails(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(output.stdout.is_empty());
    let first = stderr.lines().next().unwrap();
    assert!(first.starts_with("save: ") && first.ends_with('.'), "{first}");
    stderr
}

#[test]
fn standard_input_reaches_the_target_byte_for_byte() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    let long: Vec<u8> = (0..2_000_003u32).map(|n| (n.wrapping_mul(n) / 7) as u8).collect();
    for input in [&b""[..], b"x", b"no newline\0\xff", &long] {
        succeeds(&save(&program, &path, &[], input));
        assert!(fs::read(&path).unwrap() == input);
        assert_eq!(names(&dir), ["file"]);
    }
    succeeds(&feed(Command::new(&program).arg("bare").current_dir(&dir), b"here"));
    assert_eq!(fs::read(dir.path().join("bare")).unwrap(), b"here");
}

#[test]
fn json_is_checked_and_saved_unchanged() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file.json");
    let good = b"  {\"b\": [1, 2.50, 1e400, \"\\u00e9\"],\n\"a\":null}\n";
    succeeds(&save(&program, &path, &["--json"], good));
    assert_eq!(fs::read(&path).unwrap(), good);
    for bad in [&b""[..], b"{", b"{\"a\":1", b"[1,]", b"{} {}", b"{}x", b"nope", b"\"\xff\"", b"\"cut \xc3"] {
        for option in ["--json", "--pretty"] {
            let said = fails(&save(&program, &path, &[option], bad), 3);
            assert!(said.contains("JSON"), "{said}");
            assert_eq!(fs::read(&path).unwrap(), good);
            assert_eq!(names(&dir), ["file.json"]);
        }
    }
}

#[test]
fn pretty_lays_a_document_out_as_serde_json_does() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file.json");
    for text in [
        r#"{"a":[1,2,{"b":"x, y: {z} [\"\\"}],"c":{},"d":[],"e":[[]],"f":-1.5e3}"#,
        "[]",
        "\"just a \\\" string\"",
        " [ 1 ,\t2\n]\r\n",
    ] {
        succeeds(&save(&program, &path, &["--pretty"], text.as_bytes()));
        let saved = fs::read_to_string(&path).unwrap();
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let again: serde_json::Value = serde_json::from_str(&saved).unwrap();
        assert_eq!(again, value);
        if !text.contains('e') || !text.contains("1.5") {
            assert_eq!(saved, serde_json::to_string_pretty(&value).unwrap());
        }
    }
}

#[test]
fn create_new_refuses_an_existing_target() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    succeeds(&save(&program, &path, &["--create-new"], b"first"));
    fails(&save(&program, &path, &["--create-new"], b"second"), 7);
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(names(&dir), ["file"]);
}

#[test]
fn parents_are_made_only_when_asked_for() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("a/b/file");
    fails(&save(&program, &path, &[], b"x"), 6);
    assert!(names(&dir).is_empty());
    succeeds(&save(&program, &path, &["--parents"], b"x"));
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

#[test]
fn mode_is_exact_and_nonsense_is_wrong_usage() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    for (option, expected) in [("600", 0o600), ("0666", 0o666), ("4755", 0o4755)] {
        succeeds(&save(&program, &path, &["--mode", option], b"x"));
        assert_eq!(mode(&path), expected);
    }
    for wrong in ["9", "rw", "10000", "-1", ""] {
        let mode = format!("--mode={wrong}");
        let output = save(&program, &path, &[&mode], b"y");
        assert_eq!(output.status.code(), Some(2));
    }
    assert_eq!(save(&program, &path, &["--bogus"], b"y").status.code(), Some(2));
    assert_eq!(Command::new(&program).output().unwrap().status.code(), Some(2));
    assert_eq!(fs::read(&path).unwrap(), b"x");
}

#[test]
fn links_are_followed_replaced_or_refused_as_asked() {
    let Some(program) = program() else { return };
    let dir = dir();
    let (path, link) = (dir.path().join("file"), dir.path().join("link"));
    fs::write(&path, "old").unwrap();
    symlink("file", &link).unwrap();
    succeeds(&save(&program, &link, &[], b"followed"));
    assert_eq!(fs::read(&path).unwrap(), b"followed");
    fails(&save(&program, &link, &["--symlinks", "refuse"], b"x"), 6);
    succeeds(&save(&program, &link, &["--symlinks", "replace"], b"replaced"));
    assert!(!fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&path).unwrap(), b"followed");
    assert_eq!(fs::read(&link).unwrap(), b"replaced");
}

#[test]
fn unchanged_content_is_left_alone_when_asked() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    succeeds(&save(&program, &path, &[], b"same"));
    let before = inode();
    succeeds(&save(&program, &path, &["--skip-unchanged"], b"same"));
    assert_eq!(inode(), before);
    succeeds(&save(&program, &path, &["--skip-unchanged"], b"other"));
    assert_eq!(fs::read(&path).unwrap(), b"other");
    for level in ["full", "data", "none"] {
        succeeds(&save(&program, &path, &["--durability", level], level.as_bytes()));
        assert_eq!(fs::read(&path).unwrap(), level.as_bytes());
    }
}

#[test]
fn a_size_limit_is_the_largest_size_that_is_saved() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    succeeds(&save(&program, &path, &["--size-limit", "5"], b"12345"));
    for options in [&["--size-limit", "5"][..], &["--size-limit", "5", "--json"]] {
        fails(&save(&program, &path, options, b"123456"), 4);
        assert_eq!(fs::read(&path).unwrap(), b"12345");
        assert_eq!(names(&dir), ["file"]);
    }
}

#[test]
fn a_target_that_can_be_no_file_is_refused_before_any_input_is_read() {
    let Some(program) = program() else { return };
    let dir = dir();
    fs::create_dir(dir.path().join("folder")).unwrap();
    for name in ["folder", "folder/", "missing/file", "new/", "."] {
        let output = Command::new(&program)
            .arg(dir.path().join(name))
            // Held open and silent: a program that waited for input would wait for ever.
            .stdin(
                std::io::pipe()
                    .map(|(reader, writer)| {
                        std::mem::forget(writer);
                        reader
                    })
                    .unwrap(),
            )
            .output()
            .unwrap();
        fails(&output, 6);
    }
    assert_eq!(names(&dir), ["folder"]);
}

#[test]
fn a_directory_that_may_not_be_written_is_exit_8() {
    let Some(program) = program() else { return };
    if !is_root() {
        return skip("only root can become another user");
    }
    let dir = dir();
    chmod(dir.path(), 0o755);
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    // Its own copy: the build directory may be closed to other users.
    let copy = crate::support::dir();
    let program = {
        let to = copy.path().join("save");
        fs::copy(program, &to).unwrap();
        to
    };
    let mut command = Command::new("setpriv");
    command.args(["--reuid=1001", "--regid=1001", "--clear-groups", "--"]);
    fails(&feed(command.arg(program).arg(&path), b"x"), 8);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(names(&dir), ["file"]);
}

#[test]
fn a_full_disk_is_exit_9_and_memory_alone_is_said_not_to_be_durable() {
    let Some(program) = program() else { return };
    in_private_mounts(&this_test!(), "mount -t tmpfs -o size=1m tmpfs \"$DIR\"", |dir| {
        let path = dir.join("file");
        let output = save(&program, &path, &[], b"old");
        succeeds(&output);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("keeps files in memory only"), "{said}");
        fails(&save(&program, &path, &[], &vec![0; 3 << 20]), 9);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir), ["file"]);
    });
}

#[test]
fn killed_while_it_reads_it_leaves_the_target_as_it_was() {
    let Some(program) = program() else { return };
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let mut child = Command::new(program).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // More than a pipe and a buffer hold: it has read and written some when this returns.
    input.write_all(&vec![b'n'; 1 << 20]).unwrap();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    drop(input);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    let left = names(&dir);
    assert!(left.iter().all(|name| name == "file" || durafile::is_remnant(name)), "{left:?}");
}
