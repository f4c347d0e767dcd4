//! The rules of two processes: one lives, or was killed, while the other looks, recovers or asks for
//! the lock. The one that lives works through the second client.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use durafile::{
    AtomicDir, AtomicFile, Batch, DirSnapshot, ErrorKind, LockFile, Recovery, Transaction, recover,
};

use super::Site;
use super::killed::change;
use super::rules::{remnants, text};
use super::suite::{Answer, Rule, Scene, Wrong, ensure, refused, rule, violated};

pub(crate) const RULES: &[Rule] = &[
    rule("recover leaves a live AtomicFile alone", |scene| live(scene, "stream")),
    rule("recover leaves a live Batch alone", |scene| live(scene, "batch")),
    rule("recover leaves a live Transaction alone", |scene| live(scene, "transaction")),
    rule("recover leaves a live AtomicDir alone", |scene| live(scene, "directory")),
    rule("recover leaves an AtomicDir alone that commits", committing),
    rule("two Transactions exclude each other", excluded_transaction),
    rule("two AtomicDirs exclude each other", excluded_directory),
    rule("recover removes what a killed AtomicFile left", |scene| orphan(scene, "stream")),
    rule("recover removes what a killed Batch left", |scene| orphan(scene, "batch")),
    rule("recover removes what a killed Transaction left", |scene| orphan(scene, "transaction")),
    rule("recover removes what a killed AtomicDir left", |scene| orphan(scene, "directory")),
    rule("DirSnapshot keeps its version", snapshot),
    rule("LockFile excludes", lock),
    rule("the LockFile of a killed holder is free", killed_lock),
];

/// The part of a child: `role folder`.
pub(crate) fn play(site: &Site) {
    let (role, folder) = site.role.split_once(' ').unwrap();
    let folder = site.second.join(folder);
    let played = match role {
        "change-set" | "change-directory" => change(role, &folder),
        "lock" => LockFile::try_lock(folder.join("lock")).and_then(|lock| {
            pause();
            lock.unlock()
        }),
        _ => write(role, &folder),
    };
    match played {
        Ok(()) => println!("\nDONE"),
        Err(e) => println!("\nERROR {} {e}: {:?}", e.kind().as_str(), e.io_error()),
    }
}

/// Lets the other process act.
fn pause() {
    println!("\nREADY");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Stages version 1 of `doc` (or of what else the role saves), pauses, and commits.
fn write(role: &str, folder: &Path) -> durafile::Result<()> {
    let half = text(1).len() / 2;
    let (head, tail) = (text(1)[..half].to_owned(), text(1)[half..].to_owned());
    let put = |file: &mut dyn Write, part: &str| file.write_all(part.as_bytes()).and_then(|()| file.flush());
    match role {
        "stream" => {
            let mut file = AtomicFile::create(folder.join("doc"))?;
            put(&mut file, &head).unwrap();
            pause();
            put(&mut file, &tail).unwrap();
            file.commit().map(drop)
        }
        "batch" => {
            let mut batch = Batch::new();
            batch.write(folder.join("doc"), text(1))?;
            batch.write(folder.join("second"), text(1))?;
            pause();
            batch.commit().map(drop)
        }
        "transaction" => {
            let mut change = Transaction::begin(folder)?;
            change.write("doc", text(1))?;
            pause();
            change.commit().map(drop)
        }
        _ => {
            let mut next = AtomicDir::update(folder)?;
            next.write("doc", text(1))?;
            pause();
            next.commit().map(drop)
        }
    }
}

/// A child that has come to its pause.
pub(crate) struct Other {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Other {
    fn start(scene: &Scene<'_>, role: &str) -> Result<Other, Wrong> {
        Other::start_behind(&[], scene, role)
    }

    fn start_behind(prefix: &[&str], scene: &Scene<'_>, role: &str) -> Result<Other, Wrong> {
        let mut command = scene.site.child(prefix, &format!("{role} {}", scene.folder.display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut other = Other { child, lines };
        other.wait_for("READY")?;
        Ok(other)
    }

    fn wait_for(&mut self, word: &str) -> Result<(), Wrong> {
        for line in &mut self.lines {
            let line = line?;
            if line == word {
                return Ok(());
            }
            told_error(&line)?;
        }
        Err(violated("the other process ended", word))
    }

    fn finish(mut self) -> Result<(), Wrong> {
        writeln!(self.child.stdin.as_mut().unwrap())?;
        self.wait_for("DONE")
    }

    fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// An error that a child has printed.
pub(crate) fn told_error(line: &str) -> Result<(), Wrong> {
    match line.strip_prefix("ERROR ") {
        Some(error) => Err(refused(error.split(' ').next().unwrap_or(error))),
        None => Ok(()),
    }
}

/// The folder that the roles save in, with version 0.
fn prepare<'a>(scene: &'a Scene<'_>) -> std::io::Result<Scene<'a>> {
    let inner = scene.inner("talk")?;
    std::fs::write(inner.first().join("doc"), text(0))?;
    Ok(inner)
}

fn doc(scene: &Scene<'_>) -> Result<u64, Wrong> {
    let seen = std::fs::read_to_string(scene.first().join("doc"))
        .map_err(|e| violated("the file is gone", e.kind()))?;
    let version = seen.lines().next().and_then(|line| line.parse().ok());
    let whole = version.is_some_and(|version| seen == text(version));
    ensure(whole, "a torn file", seen.len())?;
    Ok(version.unwrap_or_default())
}

fn touched_nothing(recovery: &Recovery) -> Result<(), Wrong> {
    let touched = [recovery.removed(), recovery.completed(), recovery.rolled_back(), recovery.quarantined()];
    ensure(touched.iter().all(|paths| paths.is_empty()), "recover touched what is in use", recovery)
}

/// First the save must not be hurt; then nothing may be reported.
fn live(scene: &Scene<'_>, role: &str) -> Answer {
    let talk = prepare(scene)?;
    let other = Other::start(&talk, role)?;
    let recovery = recover(scene.first())?;
    let untouched = touched_nothing(&recovery);
    other.finish().map_err(|wrong| match &untouched {
        Ok(()) => wrong,
        Err(_) => violated("a live writer was hurt", (wrong, &recovery)),
    })?;
    ensure(doc(&talk)? == 1, "Ok, but it is not there", &recovery)?;
    untouched?;
    Ok(format!("in use: {}", recovery.in_use().len()))
}

/// Once a version is complete, nothing in it says any more that its writer lives. Each sync takes so long that many
/// recoveries see it then.
fn committing(scene: &Scene<'_>) -> Answer {
    const SYNCS: &str = "fsync,fdatasync,syncfs";
    let (trace, slowly) = (format!("trace={SYNCS}"), format!("inject={SYNCS}:delay_enter=100000"));
    let prefix = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &slowly, "--"];
    let talk = prepare(scene)?;
    let mut other = Other::start_behind(&prefix, &talk, "directory")?;
    writeln!(other.child.stdin.as_mut().unwrap())?;
    let mut recoveries = 0;
    while other.child.try_wait()?.is_none() {
        recover(scene.first())?;
        recoveries += 1;
    }
    other.wait_for("DONE").map_err(|wrong| violated("a live writer was hurt", wrong))?;
    ensure(doc(&talk)? == 1, "Ok, but it is not there", recoveries)?;
    ensure(recoveries > 3, "too few recoveries to tell", recoveries)?;
    Ok(format!("{recoveries} recoveries"))
}

fn locked<T>(other: Other, second: durafile::Result<T>) -> Answer {
    match second {
        Ok(_) => Err(violated("both begin", "")),
        Err(e) if e.kind() == ErrorKind::Locked => other.finish().map(|()| String::new()),
        Err(e) => Err(e.into()),
    }
}

fn excluded_transaction(scene: &Scene<'_>) -> Answer {
    let talk = prepare(scene)?;
    let other = Other::start(&talk, "transaction")?;
    locked(other, Transaction::begin(talk.first()))
}

fn excluded_directory(scene: &Scene<'_>) -> Answer {
    let talk = prepare(scene)?;
    let other = Other::start(&talk, "directory")?;
    locked(other, AtomicDir::update(talk.first()))
}

fn orphan(scene: &Scene<'_>, role: &str) -> Answer {
    let talk = prepare(scene)?;
    Other::start(&talk, role)?.kill()?;
    let left = remnants(&scene.first())?;
    let recovery = recover(scene.first())?;
    ensure(doc(&talk)? == 0, "the file has changed", &recovery)?;
    let stays = remnants(&scene.first())?;
    ensure(stays.is_empty(), "a remnant stays", (&stays, &recovery))?;
    let again = recover(scene.first())?;
    ensure(again.is_clean(), "recover is not clean", &again)?;
    // What was killed is no obstacle.
    write_again(role, &talk.first())?;
    Ok(format!("{} were left", left.len()))
}

fn write_again(role: &str, folder: &Path) -> Result<(), Wrong> {
    match role {
        "transaction" => Transaction::begin(folder)?.discard()?,
        "directory" => AtomicDir::update(folder)?.discard()?,
        _ => {
            durafile::write(folder.join("doc"), "next")?;
        }
    }
    Ok(())
}

/// Two versions are committed through the other client while one is held.
fn snapshot(scene: &Scene<'_>) -> Answer {
    let talk = prepare(scene)?;
    let reader = DirSnapshot::open(talk.first())?;
    for _ in 0..2 {
        Other::start(&talk, "directory")?.finish()?;
    }
    let kept = reader.read("doc");
    let kept = kept.map_err(|e| violated("the version that is held is gone", e))?;
    ensure(kept == text(0).as_bytes(), "the version that is held has changed", kept.len())?;
    drop(reader);
    let now = DirSnapshot::open(talk.first())?.read("doc")?;
    ensure(now == text(1).as_bytes(), "the new version is not seen", now.len())?;
    Ok(String::new())
}

fn lock(scene: &Scene<'_>) -> Answer {
    let other = Other::start(scene, "lock")?;
    let path = scene.first().join("lock");
    match LockFile::try_lock(&path) {
        Ok(_) => return Err(violated("both hold it", "")),
        Err(e) if e.kind() == ErrorKind::Locked => {}
        Err(e) => return Err(e.into()),
    }
    other.finish()?;
    LockFile::try_lock(&path)?.unlock()?;
    Ok(String::new())
}

fn killed_lock(scene: &Scene<'_>) -> Answer {
    let mut other = Other::start(scene, "lock")?;
    other.kill()?;
    LockFile::try_lock(scene.first().join("lock"))?.unlock()?;
    Ok(String::new())
}
