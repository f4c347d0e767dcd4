//! Goal: the house rules hold. Method: reading the sources as text; each finding names its line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

use crate::house::shipped::shipped;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the project, with its path relative to the root.
pub(crate) fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "tests", "examples", "benches"].map(|folder| root().join(folder)).to_vec();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(found.len() > 10, "the sources were not found");
    found
}

/// The lines of code that ship, numbered, without lines that are only a comment.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    shipped(text).into_iter().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[track_caller]
pub(crate) fn none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

#[test]
fn only_sys_talks_to_the_operating_system() {
    // The types carry no system calls of ours; `File::open` and the like would.
    let harmless = |rest: &str| {
        let name = rest.trim_start_matches("::");
        let is = |ty| name.strip_prefix(ty).is_some_and(|rest| !rest.starts_with("::"));
        ["Permissions", "Metadata", "File"].into_iter().any(is)
    };
    let doors = ["rustix::", "libc::", "tempfile::", "fs_err::", "std::os::unix::fs::symlink"];
    let mut findings = Vec::new();
    for (path, text) in sources() {
        // `crash_testing` is for tests: it builds disk states for them to read.
        let allowed = ["src/sys", "src/crash_testing"];
        if !path.starts_with("src") || allowed.iter().any(|door| path.starts_with(door)) {
            continue;
        }
        for (number, line) in code(&text) {
            let grouped = line.contains("std::{") && line.contains("fs");
            let reaches = !line.split("std::fs").skip(1).all(harmless);
            if grouped || reaches || doors.iter().any(|door| line.contains(door)) {
                findings.push(format!("{}:{number}: {line}", path.display()));
            }
        }
    }
    none(&findings, "system calls outside src/sys");
}

#[test]
fn no_file_is_longer_than_500_lines() {
    let long: Vec<_> = sources()
        .iter()
        .filter(|(_, text)| text.lines().count() > 500)
        .map(|(path, text)| format!("{}: {} lines", path.display(), text.lines().count()))
        .collect();
    none(&long, "split these");
}

/// More would be a drawer, not a room.
const FILES_OF_A_FOLDER: usize = 18;

fn crowded<'p>(files: impl Iterator<Item = &'p Path>) -> Vec<String> {
    let mut counts = BTreeMap::<&Path, usize>::new();
    for folder in files.filter_map(Path::parent).filter(|folder| folder.starts_with("src")) {
        *counts.entry(folder).or_default() += 1;
    }
    let crowded = counts.into_iter().filter(|(_, count)| *count > FILES_OF_A_FOLDER);
    crowded.map(|(folder, count)| format!("{}: {count} files", folder.display())).collect()
}

/// Words that this project once had for itself, where everybody else says it otherwise.
const RETIRED: [&str; 25] = [
    "basket",
    "beneath",
    "desk",
    "facts",
    "fallback",
    "hand",
    "harvest",
    "how",
    "judge",
    "note",
    "place",
    "places",
    "plan",
    "porter",
    "ruling",
    "scene",
    "seal",
    "settle",
    "shelf",
    "site",
    "stage",
    "stream",
    "sweep",
    "unordered",
    "verdict",
];

fn retired<'p>(files: impl Iterator<Item = &'p Path>) -> Vec<String> {
    let is_retired = |file: &&Path| {
        let names = file.with_extension("");
        let words: Vec<_> = names.iter().flat_map(|name| name.to_str().unwrap().split('_')).collect();
        file.starts_with("src") && RETIRED.iter().any(|word| words.contains(word))
    };
    files.filter(is_retired).map(|file| file.display().to_string()).collect()
}

#[test]
fn no_folder_of_the_library_is_crowded() {
    none(&crowded(sources().iter().map(|(path, _)| path.as_path())), "split these");
}

#[test]
fn no_file_of_the_library_is_named_by_a_retired_word() {
    none(&retired(sources().iter().map(|(path, _)| path.as_path())), "say it with the words of the field");
}

#[test]
fn a_crowded_folder_and_a_retired_word_are_found() {
    let mut files: Vec<PathBuf> = (0..18).map(|n| format!("src/sys/a{n}.rs").into()).collect();
    files.extend(["src/set/staged.rs", "src/dir/stage_dir.rs", "examples/stage.rs"].map(PathBuf::from));
    let found = |files: &[PathBuf]| {
        let paths = || files.iter().map(PathBuf::as_path);
        [crowded(paths()), retired(paths())].concat()
    };
    assert_eq!(found(&files), ["src/dir/stage_dir.rs"]);
    files.push("src/sys/mod.rs".into());
    assert_eq!(found(&files), ["src/sys: 19 files", "src/dir/stage_dir.rs"]);
}

#[test]
fn nothing_is_left_to_do_and_nothing_debugs() {
    // Split, so that this file does not find itself.
    let words = [
        concat!("todo", "!"),
        concat!("unimplemented", "!"),
        concat!("dbg", "!"),
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("#[ig", "nore"),
    ];
    let mut findings = Vec::new();
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                findings.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    none(&findings, "finish these");
}

/// Panics without a comment on the same line or the one above.
fn unexplained_panics(path: &str, text: &str) -> Vec<String> {
    let panics = [".unwrap()", ".expect(", "panic!(", "unreachable!(", "process::exit", "abort("];
    let lines: Vec<&str> = text.lines().collect();
    let is_unexplained = |(number, line): &(usize, &str)| {
        let is_above = *number >= 2 && lines[number - 2].trim_start().starts_with("//");
        panics.iter().any(|word| line.contains(word)) && !line.contains("//") && !is_above
    };
    let found = code(text).filter(is_unexplained);
    found.map(|(number, line)| format!("{path}:{number}: {}", line.trim())).collect()
}

#[test]
fn the_library_panics_nowhere_without_a_reason() {
    let library = sources().into_iter().filter(|(path, _)| path.starts_with("src"));
    let findings: Vec<_> =
        library.flat_map(|(path, text)| unexplained_panics(&path.display().to_string(), &text)).collect();
    none(&findings, "panics without a comment that says why it can't");
}

#[test]
fn a_panic_is_found_before_and_after_what_is_only_for_tests() {
    let text = "\
fn before() { x.unwrap() }
fn explained() { y.unwrap() } // It is set above.
match job {
    #[cfg(test)]
    Job::Panic => panic!(),
    // It is set above.
    Job::Explained => z.unwrap(),
    Job::After => z.expect(\"z\"),
}
#[cfg(test)]
mod tests {
    fn only_a_test() { x.unwrap() }
}
";
    let found = ["a.rs:1: fn before() { x.unwrap() }", "a.rs:8: Job::After => z.expect(\"z\"),"];
    assert_eq!(unexplained_panics("a.rs", text), found);
}

#[test]
fn nothing_mentions_the_machine_it_was_written_on() {
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut texts = sources();
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml"] {
        if let Ok(text) = std::fs::read_to_string(root().join(name)) {
            texts.push((name.into(), text));
        }
    }
    let mut findings = Vec::new();
    for (path, text) in texts {
        for (number, line) in text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                findings.push(format!("{}:{}: {line}", path.display(), number + 1));
            }
        }
    }
    none(&findings, "paths of one machine");
}

#[test]
fn the_changelog_has_an_entry_for_what_is_here() {
    let text = fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let version = concat!("## [", env!("CARGO_PKG_VERSION"));
    let heading = text.lines().find(|line| line.starts_with("## ")).expect("CHANGELOG.md has no entry");
    let plain = version.replace('[', "");
    assert!(
        heading.contains("Unreleased") || heading.starts_with(version) || heading.starts_with(&plain),
        "the newest entry is {heading}"
    );
}

/// A filter that finds nothing runs nothing, or leaves out nothing, and nobody notices.
#[cfg(target_os = "linux")]
#[test]
fn every_filter_in_a_script_finds_a_test() {
    let list = std::process::Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let tests = String::from_utf8(list.stdout).unwrap();
    let script = fs::read_to_string(root().join("ci/test")).unwrap();
    let words: Vec<&str> = script.split_whitespace().collect();
    let skipped = words.windows(2).filter(|pair| pair[0] == "--skip").map(|pair| pair[1]);
    let run = words.iter().copied().filter(|word| word.ends_with("::"));
    let matrix = fs::read_to_string(root().join("tests/it/disks/filesystems.rs")).unwrap();
    let is_filter =
        |text: &&str| text.contains("::") && text.chars().all(|c| c.is_ascii_lowercase() || "_:".contains(c));
    let quoted = matrix.split('"').filter(is_filter);
    let filters: Vec<&str> = skipped.chain(run).chain(quoted).collect();
    assert!(filters.len() > 10, "{filters:?}");
    let idle: Vec<_> = filters.iter().filter(|filter| !tests.contains(**filter)).collect();
    assert!(idle.is_empty(), "these find no test: {idle:?}");
}

#[test]
fn names_are_made_durable_by_one_verb() {
    let may = ["src/sys", "src/remnant", "src/atomic/parent_sync.rs"];
    let mut findings = Vec::new();
    for (path, text) in sources().iter().filter(|(path, _)| !may.iter().any(|may| path.starts_with(may))) {
        let synced = code(text).filter(|(_, line)| line.contains(".sync_names()"));
        findings.extend(synced.map(|(number, line)| format!("{}:{number}: {line}", path.display())));
    }
    findings.retain(|finding| finding.starts_with("src"));
    none(&findings, "these call `sync_parent`");
}
