//! The rules of what a commit that is killed leaves. Method: strace kills the writer at each call that
//! gives, moves or takes a name; then another process recovers, through the first client.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use durafile::{AtomicDir, Transaction, recover};

use super::live::told_error;
use super::rules::{remnants, text};
use super::suite::{Answer, Rule, Scene, Wrong, ensure, rule, violated};

pub(crate) const RULES: &[Rule] = &[
    rule("a killed Transaction is all or nothing", |scene| killed(scene, "change-set")),
    rule("a killed AtomicDir is old or new", |scene| killed(scene, "change-directory")),
];

/// The last one last: there are many of it, and what it cuts short is only tidying.
const CALLS: [&str; 5] = ["rename", "renameat", "renameat2", "linkat", "unlinkat"];

/// Each path, what it holds before, and after.
const FILES: [(&str, Option<u64>, Option<u64>); 5] = [
    ("a", Some(0), Some(1)),
    ("d/b", Some(0), Some(1)),
    ("gone", Some(0), None),
    ("c", None, Some(1)),
    ("n/e", None, Some(1)),
];

fn prepare(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder.join("d"))?;
    for (path, old, _) in FILES {
        old.map_or(Ok(()), |old| std::fs::write(folder.join(path), text(old)))?;
    }
    Ok(())
}

/// The child's part.
pub(crate) fn change(role: &str, folder: &Path) -> durafile::Result<()> {
    if role == "change-set" {
        let mut change = Transaction::begin(folder.join("talk"))?;
        for (path, _, new) in FILES {
            match new {
                Some(new) => change.write(path, text(new))?,
                None => change.remove(path)?,
            }
        }
        return change.commit().map(drop);
    }
    let mut next = AtomicDir::update(folder.join("talk"))?;
    for (path, _, new) in FILES {
        match new {
            Some(new) => next.write(path, text(new))?,
            None => next.remove(path)?,
        }
    }
    next.commit().map(drop)
}

/// Whether it was killed there; if not, it has ended.
fn killed_at(scene: &Scene<'_>, role: &str, call: &str, nth: usize) -> Result<bool, Wrong> {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:signal=KILL:when={nth}"));
    let prefix = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "--"];
    let mut command = scene.site.child(&prefix, &format!("{role} {}", scene.folder.display()));
    let output = command.stderr(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines().try_for_each(told_error)?;
    Ok(!said.lines().any(|line| line == "DONE"))
}

/// What there is of the old files, and of the new ones.
fn state(folder: &Path) -> (usize, usize) {
    let is = |path: &str, version: Option<u64>| {
        let found = std::fs::read_to_string(folder.join(path)).ok();
        found == version.map(text)
    };
    let old = FILES.iter().filter(|(path, old, _)| is(path, *old)).count();
    let new = FILES.iter().filter(|(path, _, new)| is(path, *new)).count();
    (old, new)
}

fn settled(scene: &Scene<'_>, role: &str) -> Result<bool, Wrong> {
    let talk = scene.first().join("talk");
    let recovery = recover(scene.first())?;
    if !talk.exists() {
        return Err(violated("the directory stays missing", &recovery));
    }
    let (old, new) = state(&talk);
    ensure(old.max(new) == FILES.len(), "a mixture stays", ((old, new), &recovery))?;
    let stays = remnants(&scene.first())?;
    ensure(stays.is_empty(), "a remnant stays", (&stays, &recovery))?;
    let again = recover(scene.first())?;
    ensure(again.is_clean(), "recover is not clean", &again)?;
    if role == "change-set" {
        Transaction::begin(&talk)?.discard()?;
    } else {
        AtomicDir::update(&talk)?.discard()?;
    }
    Ok(new == FILES.len())
}

fn killed(scene: &Scene<'_>, role: &str) -> Answer {
    let (mut kills, mut wrong, mut new) = (0, BTreeMap::new(), 0);
    for call in &CALLS[..CALLS.len() - usize::from(scene.site.is_slow)] {
        for nth in 1.. {
            let inner = scene.inner(&format!("{call} {nth}"))?;
            prepare(&inner.first().join("talk"))?;
            if !killed_at(&inner, role, call, nth)? {
                let (_, changed) = state(&inner.first().join("talk"));
                ensure(changed == FILES.len(), "Ok, but it is not there", changed)?;
                break;
            }
            kills += 1;
            match settled(&inner, role) {
                Ok(is_new) => new += usize::from(is_new),
                Err(e) => drop(wrong.entry(e.what().to_owned()).or_insert(format!("{call} {nth}: {e:?}"))),
            }
        }
    }
    // The worst that was seen, of all calls: names missing before mixtures before what only stays.
    const WORST_FIRST: [&str; 2] = ["violated: the directory stays missing", "violated: a mixture stays"];
    let worst = WORST_FIRST.iter().find(|what| wrong.contains_key(**what)).map(|what| (*what).to_owned());
    match worst.or_else(|| wrong.keys().next().cloned()) {
        Some(what) => Err(Wrong::new(what, wrong)),
        None if kills == 0 => Err(violated("strace did not kill it", kills)),
        None => Ok(format!("killed at {kills} calls, new after {new}")),
    }
}
