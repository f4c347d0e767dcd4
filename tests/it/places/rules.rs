//! The rules of one process, and of some threads.

use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use durafile::{AtomicDir, Batch, ErrorKind, TargetState, Transaction, WriteOptions, recover};
use rustix::io::Errno;

use super::Site;
use super::suite::{Answer, Rule, Scene, Wrong, ensure, rule, violated};
use crate::support::mode;

pub(crate) const RULES: &[Rule] = &[
    rule("a new file", new_file),
    rule("replacing: the name is never missing, the content never torn", replacing),
    rule("replacing keeps mode and owner", metadata),
    rule("one of many wins create_new", create_new),
    rule("Batch", batch),
    rule("Transaction", transaction),
    rule("AtomicDir", directory),
    rule("health::check", health),
    rule("another test of this executable", another_test),
    Rule { name: "replacing another user's file", applies: has_theirs, check: theirs },
    Rule { name: "recover passes over a dead mount", applies: has_dead, check: dead_mount },
    Rule { name: "sets across branches", applies: has_branches, check: branches },
    Rule { name: "a refused name", applies: refuses_colons, check: refused_name },
];

/// Asked last: exfat-fuse does not survive one of them.
pub(crate) const FOLDING: &[Rule] = &[
    Rule { name: "saving under another case", applies: folds, check: other_case },
    Rule { name: "Transaction under another case", applies: folds, check: transaction_other_case },
    Rule { name: "AtomicDir under another case", applies: folds, check: directory_other_case },
];

/// A version is more than one block, and shows where it is torn.
pub(crate) fn text(version: u64) -> String {
    format!("{version}\n").repeat(2000)
}

pub(crate) fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// All remnants below.
pub(crate) fn remnants(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for name in names(dir)? {
        let path = dir.join(&name);
        if durafile::is_remnant(&name) {
            found.push(path);
        } else if std::fs::symlink_metadata(&path)?.is_dir() {
            found.extend(remnants(&path)?);
        }
    }
    Ok(found)
}

pub(crate) fn ensure_is(path: &Path, expected: &str) -> Result<(), Wrong> {
    let found = std::fs::read_to_string(path);
    ensure(
        found.as_ref().is_ok_and(|found| found == expected),
        "other content",
        (path, found.map(|f| f.len())),
    )
}

fn new_file(scene: &Scene<'_>) -> Answer {
    let committed = durafile::write(scene.first().join("new"), text(1))?;
    ensure_is(&scene.second().join("new"), &text(1))?;
    let found = names(&scene.second())?;
    ensure(found == ["new"], "a remnant is left", found)?;
    Ok(format!("{:?}", committed.durability()))
}

/// What a looker and a reader saw meanwhile; for a remark.
#[expect(dead_code, reason = "read by Debug")]
#[derive(Debug)]
struct Seen {
    looks: u64,
    missing: u64,
    reads: u64,
    torn: u64,
}

/// Of another length than the version before.
fn watched_text(version: u64) -> String {
    text(version) + &"more\n".repeat(1000 * (version as usize % 3))
}

/// Looks where the server sees it: a client hides much from its own programs. Reads by the second
/// client, whose open file is nothing to the first.
fn watched(scene: &Scene<'_>, save: impl Fn(&Path, String) -> Result<(), Wrong>) -> Result<Seen, Wrong> {
    const VERSIONS: u64 = 120;
    // More versions until something was seen, or enough reads to say that nothing is.
    const READS: u64 = 5_000;
    const LONGEST: Duration = Duration::from_secs(10);
    let (path, look_path, read_path) =
        (scene.first().join("doc"), scene.server().join("doc"), scene.second().join("doc"));
    save(&path, watched_text(0))?;
    let done = AtomicBool::new(false);
    let [looks, reads, torn] = [const { AtomicU64::new(0) }; 3];
    std::thread::scope(|scope| {
        let look = scope.spawn(|| {
            let mut missing = 0;
            while !done.load(Ordering::Relaxed) {
                looks.fetch_add(1, Ordering::Relaxed);
                missing += u64::from(std::fs::symlink_metadata(&look_path).is_err());
            }
            missing
        });
        let read = scope.spawn(|| -> Result<(), Wrong> {
            while !done.load(Ordering::Relaxed) {
                reads.fetch_add(1, Ordering::Relaxed);
                match std::fs::read_to_string(&read_path) {
                    Ok(seen) => {
                        let version = seen.lines().next().and_then(|line| line.parse().ok());
                        let is_torn = version.is_none_or(|version| seen != watched_text(version));
                        torn.fetch_add(is_torn.into(), Ordering::Relaxed);
                    }
                    // No server keeps a replaced file for a client's sake; the looker counts what is missing.
                    Err(e) if [Errno::STALE, Errno::NOENT].contains(&Errno::from_io_error(&e).unwrap()) => {}
                    Err(e) => return Err(violated("a reader got an error", e)),
                }
            }
            Ok(())
        });
        let start = Instant::now();
        let is_enough = |version| {
            let seen = looks.load(Ordering::Relaxed).min(reads.load(Ordering::Relaxed));
            let is_told = seen >= READS || torn.load(Ordering::Relaxed) > 0;
            version >= VERSIONS && (is_told || start.elapsed() > LONGEST)
        };
        let mut version = 0;
        let saved = loop {
            version += 1;
            match save(&path, watched_text(version)) {
                Ok(()) if !is_enough(version) => {}
                saved => break saved,
            }
        };
        done.store(true, Ordering::Relaxed);
        let (missing, read) = (look.join().unwrap(), read.join().unwrap());
        saved.and(read)?;
        ensure_is(&path, &watched_text(version))?;
        let [looks, reads, torn] = [&looks, &reads, &torn].map(|count| count.load(Ordering::Relaxed));
        Ok(Seen { looks, missing, reads, torn })
    })
}

/// The measure is a plain rename: a file system by a program may say that a name is missing, or show the new content
/// cut at the old length, when the file is replaced between two questions of the kernel's, whoever replaces it. On
/// NFS the share of looks that find nothing is above a tenth, or nothing.
fn replacing(scene: &Scene<'_>) -> Answer {
    let ours = watched(scene, |path, text| Ok(durafile::write(path, text).map(drop)?))?;
    if ours.missing == 0 && ours.torn == 0 {
        return Ok(format!("{ours:?}"));
    }
    let plain = watched(scene, |path, text| {
        let beside = path.with_extension("plain");
        std::fs::write(&beside, text)?;
        Ok(std::fs::rename(beside, path)?)
    })?;
    let seen = format!("{ours:?}; by plain renames {plain:?}");
    let rare = ours.missing * 200 < ours.looks;
    ensure(rare || plain.missing > 0, "the name was missing", &seen)?;
    ensure(ours.torn == 0 || plain.torn > 0, "a reader saw a torn file", &seen)?;
    Ok(seen)
}

fn metadata(scene: &Scene<'_>) -> Answer {
    let path = scene.first().join("doc");
    std::fs::write(&path, "old")?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640))?;
    let told = |path: &Path| std::fs::metadata(path).map(|found| (found.mode(), found.uid(), found.gid()));
    let before = told(&path)?;
    durafile::write(&path, "new")?;
    let after = told(&path)?;
    ensure(before == after, "mode or owner changed", (before, after))?;
    Ok(format!("{:o}, owner {}", after.0 & 0o7777, after.1))
}

fn create_new(scene: &Scene<'_>) -> Answer {
    for round in 0..10 {
        let paths = [scene.first(), scene.second(), scene.first(), scene.second()];
        let start = Barrier::new(paths.len());
        let results: Vec<_> = std::thread::scope(|scope| {
            let racers = (0..).zip(paths).map(|(racer, folder)| {
                let (path, start) = (folder.join(format!("new {round}")), &start);
                scope.spawn(move || {
                    start.wait();
                    WriteOptions::new().create_new(true).write(path, text(racer)).map(drop)
                })
            });
            racers.collect::<Vec<_>>().into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        let winners: Vec<_> = (0..).zip(&results).filter(|(_, result)| result.is_ok()).collect();
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            if error.kind() == ErrorKind::Unsupported {
                let known = error.target() == TargetState::Unchanged;
                ensure(known, "Unsupported, but it may have been done", error)?;
                return Err(Wrong::new("refused: unsupported".into(), error));
            }
            let fair = error.kind() == ErrorKind::AlreadyExists;
            ensure(fair, "a loser is not told AlreadyExists", format!("{:?}: {error}", error.kind()))?;
        }
        ensure(winners.len() == 1, "not exactly one wins", winners.len())?;
        ensure_is(&scene.second().join(format!("new {round}")), &text(winners[0].0))?;
    }
    let left = remnants(&scene.second())?;
    ensure(left.is_empty(), "a remnant is left", left)?;
    Ok(String::new())
}

fn batch(scene: &Scene<'_>) -> Answer {
    let paths: Vec<_> = (0..10).map(|n| format!("{}/{n}", n % 2)).collect();
    for path in ["0", "1"] {
        std::fs::create_dir(scene.first().join(path))?;
    }
    for path in &paths[..5] {
        std::fs::write(scene.first().join(path), "old")?;
    }
    let mut batch = Batch::new();
    paths.iter().try_for_each(|path| batch.write(scene.first().join(path), text(7)))?;
    let committed = batch.commit()?;
    paths.iter().try_for_each(|path| ensure_is(&scene.second().join(path), &text(7)))?;
    let left = remnants(&scene.second())?;
    ensure(left.is_empty() && committed.len() == 10, "a remnant is left", left)?;
    Ok(format!("{:?}", committed[0].durability()))
}

fn transaction(scene: &Scene<'_>) -> Answer {
    std::fs::create_dir(scene.first().join("d"))?;
    for old in ["a", "d/b", "gone"] {
        std::fs::write(scene.first().join(old), "old")?;
    }
    let mut change = Transaction::begin(scene.first())?;
    ["a", "d/b", "c", "n/e"].iter().try_for_each(|path| change.write(path, text(3)))?;
    change.remove("gone")?;
    let committed = change.commit()?;
    ["a", "d/b", "c", "n/e"].iter().try_for_each(|path| ensure_is(&scene.second().join(path), &text(3)))?;
    let found = names(&scene.second())?;
    ensure(found == ["a", "c", "d", "n"], "something else is there", found)?;
    Ok(format!("{:?}", committed.durability()))
}

fn directory(scene: &Scene<'_>) -> Answer {
    let (target, seen) = (scene.first().join("talk"), scene.second().join("talk"));
    let mut new = AtomicDir::create(&target)?;
    new.write("a", text(1))?;
    new.write("sub/b", text(1))?;
    new.commit()?;
    std::fs::write(target.join("other"), "of another program")?;
    let mut next = AtomicDir::update(&target)?;
    next.write("a", text(2))?;
    next.remove("sub/b")?;
    let committed = next.commit()?;
    ensure_is(&seen.join("a"), &text(2))?;
    ensure_is(&seen.join("other"), "of another program")?;
    let found = (names(&scene.second())?, names(&seen)?, names(&seen.join("sub"))?);
    ensure(found.0 == ["talk"] && found.2.is_empty(), "something else is there", found)?;
    Ok(format!("{:?}", committed.durability()))
}

fn health(scene: &Scene<'_>) -> Answer {
    let health = durafile::health::HealthOptions::new().min_free_bytes(0).check([scene.first()]);
    let dir = &health.dirs[0];
    ensure(dir.exists && dir.writable && dir.error.is_none(), "not healthy", &health)?;
    let left = names(&scene.first())?;
    ensure(left.is_empty(), "a remnant is left", left)?;
    let private = scene.first().join("private");
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&private)?;
    let found = std::fs::symlink_metadata(&private)?;
    let is_other = found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0;
    ensure(dir.fixed_owners == is_other, "it says the opposite of owners and modes", &health)?;
    Ok(format!("{dir:?}"))
}

/// How to run what was written for local disks.
fn another_test(scene: &Scene<'_>) -> Answer {
    let output = scene.site.run_tests(&["the_last_to_commit_wins_whoever_opened_first"]);
    let said = String::from_utf8_lossy(&output.stdout);
    ensure(output.status.success() && said.contains("test result: ok. 1 passed"), "it failed", &said)?;
    Ok(String::new())
}

fn has(site: &Site, name: &str) -> bool {
    names(&site.first).is_ok_and(|names| names.iter().any(|found| found == name))
}

fn has_theirs(site: &Site) -> bool {
    has(site, "theirs")
}

/// It is writable for the caller, as the shell's `>` shows.
fn theirs(scene: &Scene<'_>) -> Answer {
    let path = scene.site.first.join("theirs/file");
    let owner = |path: &Path| std::fs::metadata(path).map(|found| (found.uid(), found.gid()));
    let before = (owner(&path)?, mode(&path));
    drop(std::fs::OpenOptions::new().append(true).open(&path)?);
    durafile::write(&path, text(5))?;
    ensure_is(&path, &text(5))?;
    let after = (owner(&path)?, mode(&path));
    let wider = after.1 & !before.1;
    ensure(wider == 0, "more may read it than before", (before, after))?;
    let left = remnants(&scene.site.first.join("theirs"))?;
    ensure(left.is_empty(), "a remnant is left", left)?;
    Ok(format!("{before:?} became {after:?}"))
}

fn has_dead(site: &Site) -> bool {
    has(site, "dead")
}

fn dead_mount(scene: &Scene<'_>) -> Answer {
    let dead = scene.site.first.join("dead");
    let error = std::fs::read_dir(&dead).err().and_then(|e| e.raw_os_error());
    assert_eq!(error, Some(Errno::NOTCONN.raw_os_error()), "it is not dead");
    let recovery = recover(&scene.site.first)?;
    ensure(recovery.unreadable() == [dead], "it is not told", &recovery)?;
    Ok(String::new())
}

fn has_branches(site: &Site) -> bool {
    has(site, "branches")
}

/// Its two folders lie on different disks, though they look as if they were of one.
fn branches(scene: &Scene<'_>) -> Answer {
    let folder = scene.site.first.join("branches");
    let mut batch = Batch::new();
    ["x/1", "y/1"].iter().try_for_each(|path| batch.write(folder.join(path), text(1)))?;
    batch.commit()?;
    let mut change = Transaction::begin(&folder)?;
    ["x/2", "y/2"].iter().try_for_each(|path| change.write(path, text(2)))?;
    change.commit()?;
    for (path, version) in [("x/1", 1), ("y/1", 1), ("x/2", 2), ("y/2", 2)] {
        ensure_is(&folder.join(path), &text(version))?;
    }
    Ok(String::new())
}

const REFUSED_NAME: &str = "12:30.md";

fn refuses_colons(site: &Site) -> bool {
    let path = site.first.join(REFUSED_NAME);
    let refused = std::fs::write(&path, "").is_err();
    if !refused {
        std::fs::remove_file(path).unwrap();
    }
    refused
}

/// It is told as what it is by everything that gives names, and known before the commit point: nothing changes, and
/// the next transaction is not kept from beginning.
fn refused_name(scene: &Scene<'_>) -> Answer {
    let root = scene.first();
    std::fs::write(root.join("a"), "old")?;
    std::fs::create_dir(root.join("tree"))?;
    let bad = root.join(REFUSED_NAME);
    let in_a_batch = || {
        let mut batch = Batch::new();
        batch.write(&bad, "new")?;
        batch.commit().map(drop)
    };
    let in_a_transaction = || {
        let mut change = Transaction::begin(&root)?;
        change.write("a", "new")?;
        change.write(REFUSED_NAME, "new")?;
        change.commit().map(drop)
    };
    let in_a_directory = || AtomicDir::update(root.join("tree"))?.write(REFUSED_NAME, "new");
    type Way<'a> = (&'a str, &'a dyn Fn() -> durafile::Result<()>);
    let ways: [Way<'_>; 8] = [
        ("Transaction", &in_a_transaction),
        ("Batch", &in_a_batch),
        ("AtomicDir", &in_a_directory),
        ("write", &|| durafile::write(&bad, "new").map(drop)),
        ("create_new", &|| WriteOptions::new().create_new(true).write(&bad, "new").map(drop)),
        ("create_dir_all", &|| durafile::create_dir_all(&bad).map(drop)),
        ("rename", &|| durafile::rename(root.join("a"), &bad).map(drop)),
        ("rename of a directory", &|| durafile::rename(root.join("tree"), &bad).map(drop)),
    ];
    let has_create_new = WriteOptions::new().create_new(true).write(root.join("fine"), "").is_ok();
    for (way, save) in ways.into_iter().filter(|(way, _)| has_create_new || *way != "create_new") {
        let Err(e) = save() else { return Err(violated("Ok", way)) };
        ensure(e.kind() == ErrorKind::InvalidName, "another kind", (way, e.kind(), &e))?;
        ensure(e.target() == TargetState::Unchanged, "refused after the commit point", (way, &e))?;
        ensure_is(&root.join("a"), "old")?;
    }
    let left = remnants(&root)?;
    ensure(left.is_empty(), "a remnant stays", left)?;
    let mut next = Transaction::begin(&root)?;
    next.write("a", "next")?;
    next.commit()?;
    Ok("InvalidName".into())
}

fn folds(site: &Site) -> bool {
    let path = site.first.join("Case");
    std::fs::write(&path, "").unwrap();
    let folds = site.first.join("cASE").exists();
    std::fs::remove_file(path).unwrap();
    folds
}

fn other_case(scene: &Scene<'_>) -> Answer {
    std::fs::write(scene.first().join("README.md"), "old")?;
    durafile::write(scene.first().join("readme.md"), "new")?;
    ensure_is(&scene.second().join("README.md"), "new")?;
    let found = names(&scene.second())?;
    ensure(found.len() == 1, "two files", found)?;
    Ok(String::new())
}

fn transaction_other_case(scene: &Scene<'_>) -> Answer {
    std::fs::write(scene.first().join("notes"), "old")?;
    let mut change = Transaction::begin(scene.first())?;
    change.remove("notes")?;
    change.write("Notes", "new")?;
    change.commit()?;
    ensure_is(&scene.second().join("Notes"), "new")?;
    Ok(String::new())
}

fn directory_other_case(scene: &Scene<'_>) -> Answer {
    let target = scene.first().join("site");
    let mut new = AtomicDir::create(&target)?;
    new.write("README.md", "old")?;
    new.commit()?;
    let mut next = AtomicDir::update(scene.first().join("Site"))?;
    next.remove("readme.md")?;
    next.write("index", "1")?;
    next.write("INDEX", "2")?;
    next.commit()?;
    let found = names(&scene.second().join("site"))?;
    ensure(found.len() == 1, "the removed name or both others are there", found)?;
    ensure_is(&scene.second().join("site/index"), "2")?;
    Ok(String::new())
}
