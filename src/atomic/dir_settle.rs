//! Settling what a crash left of swaps that take more than one step.
//!
//! What a record means follows from which of its names exist, for any of its renames may have been
//! lost in a power cut. Each step can be repeated.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::dir_fallback::rename_new;
use super::dir_record::{SwapRecord, Way};
use super::dir_target::DirTarget;
use super::record::Unusable;
use super::redo::is_trusted;
use super::remove::remove_tree;
use super::settle::Settled;
use super::sweep::Judge;
use super::writer_lock::WriterLock;
use crate::sys::{self, Dir, Kind, Lock};
use crate::{Error, ErrorKind, Result};

/// The remnants in one directory that may belong together.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<OsString>,
    pub(crate) kept: Vec<OsString>,
    pub(crate) trees: Vec<OsString>,
}

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &OsString> {
        self.records.iter().chain(&self.kept).chain(&self.trees)
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ruling {
    Completed,
    RolledBack,
    /// Nothing was left of it but itself.
    Removed,
    InUse,
    /// Somebody has done something since that can't be squared with it.
    Undecidable,
}

/// Settles the swaps of dead writers, and what they left without a record.
pub(crate) fn settle_swaps(dir: &Arc<Dir>, found: &Found, judge: Judge) -> io::Result<Settled> {
    let (settled, spoken_for) = (Settled::default(), Vec::new());
    let mut desk = Desk { dir, judge, settled, spoken_for, keeps_trees: false };
    for record in &found.records {
        desk.settle_record(record, found)?;
    }
    let Desk { mut settled, spoken_for, keeps_trees, .. } = desk;
    let is_orphan = |name: &&OsString| !keeps_trees && !spoken_for.contains(name);
    for kept in found.kept.iter().filter(is_orphan) {
        // No crash leaves it without its record.
        settled.add(judge.set_aside(dir, kept)?, kept);
    }
    for tree in found.trees.iter().filter(is_orphan) {
        settled.add(judge.settle_tree(dir, tree)?, tree);
    }
    Ok(settled)
}

/// The same for one target, by its only writer and before it does anything.
pub(crate) fn settle_pending(target: &DirTarget) -> Result<()> {
    let (dir, name) = (&target.parent, SwapRecord::name_for(&target.name));
    let fail = |e| Error::io("complete the interrupted save of", &target.path, e);
    let refuse = |kind| Err(Error::new(kind, "complete the interrupted save of", &target.path));
    let file = match dir.open_file(&name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(fail)?,
    };
    if !is_trusted(dir, &name).map_err(fail)? {
        return refuse(ErrorKind::PermissionDenied);
    }
    match SwapRecord::read(&name, &file).map_err(fail)? {
        Err(Unusable::Corrupt) => refuse(ErrorKind::Corrupt),
        Err(Unusable::Unknown) => refuse(ErrorKind::Unsupported),
        Ok(record) => match carry_out(dir, &record, false).map_err(fail)? {
            Ruling::InUse => refuse(ErrorKind::Locked),
            Ruling::Undecidable => refuse(ErrorKind::Corrupt),
            Ruling::Completed | Ruling::RolledBack | Ruling::Removed => Ok(()),
        },
    }
}

struct Desk<'a> {
    dir: &'a Arc<Dir>,
    judge: Judge,
    settled: Settled,
    /// What records have named.
    spoken_for: Vec<OsString>,
    /// A record that can't be read now may need them later.
    keeps_trees: bool,
}

impl Desk<'_> {
    fn settle_record(&mut self, name: &OsStr, found: &Found) -> io::Result<()> {
        let file = match self.dir.open_file(name) {
            Err(e) if sys::is_gone(&e) => return Ok(()),
            opened => opened?,
        };
        if !is_trusted(self.dir, name)? {
            // Not ours; but it may be what somebody made of ours.
            self.keeps_trees = true;
            return Ok(());
        }
        if self.judge.is_young(self.dir, name)? {
            self.keeps_trees = true;
            self.settled.in_use.push(name.into());
            return Ok(());
        }
        let record = match SwapRecord::read(name, &file)? {
            Ok(record) => record,
            // Nobody knows what it was about: any of these.
            Err(Unusable::Corrupt) => {
                let trees = found.trees.iter().chain(&found.kept);
                return self.quarantine(trees.map(OsString::as_os_str), name);
            }
            Err(Unusable::Unknown) => {
                self.keeps_trees = true;
                self.settled.unreadable.push(name.into());
                return Ok(());
            }
        };
        self.spoken_for.extend([record.stage.clone(), record.kept.clone(), record.spent.clone()]);
        let lock = match WriterLock::take(self.dir, &record.target, Duration::ZERO) {
            // Only age can tell whether the writer lives, and has told.
            Err(e) if e.kind() == io::ErrorKind::Unsupported && !self.judge.min_age.is_zero() => None,
            Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(e),
            Ok(Some(lock)) => Some(lock),
            Ok(None) | Err(_) => {
                self.settled.in_use.push(name.into());
                return Ok(());
            }
        };
        // Its writer may have ended between finding and locking.
        let still_there = self.dir.stat_at(name).is_ok_and(|now| file.stat().is_ok_and(|read| read.id == now.id));
        if !still_there {
            return Ok(());
        }
        let ruling = carry_out(self.dir, &record, self.judge.dry_run)?;
        let target = PathBuf::from(&record.target);
        match ruling {
            Ruling::Completed => self.settled.completed.push(target),
            Ruling::RolledBack => self.settled.rolled_back.push(target),
            Ruling::Removed => self.settled.removed.push(name.into()),
            Ruling::InUse => self.settled.in_use.push(target),
            Ruling::Undecidable => {
                let trees = [&record.stage, &record.kept];
                self.quarantine(trees.map(OsString::as_os_str).into_iter(), name)?;
            }
        }
        drop(lock);
        Ok(())
    }

    /// The record last: without it the trees would be taken for orphans.
    fn quarantine<'n>(&mut self, trees: impl Iterator<Item = &'n OsStr>, record: &'n OsStr) -> io::Result<()> {
        for name in trees.chain(std::iter::once(record)) {
            self.spoken_for.push(name.to_owned());
            self.settled.add(self.judge.set_aside(self.dir, name)?, name);
        }
        Ok(())
    }
}

/// Carries out what is left of a swap. Each step is durable before the next one relies on it.
fn carry_out(dir: &Dir, record: &SwapRecord, dry_run: bool) -> io::Result<Ruling> {
    let there = |name: &OsStr| match dir.stat_at(name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(|found| Some(found.kind)),
    };
    let (target, stage, kept) = (there(&record.target)?, there(&record.stage)?, there(&record.kept)?);
    let ruling = match (record.way, stage, target, kept) {
        (_, Some(_), Some(found), _) if found != Kind::Dir => Ruling::Undecidable,
        (Way::Renames, Some(_), Some(_), Some(_)) => Ruling::Undecidable,
        (_, Some(_), _, _) => Ruling::Completed,
        (Way::Renames, None, None, Some(_)) => Ruling::RolledBack,
        (Way::Renames, None, Some(_), Some(_)) => Ruling::Completed,
        (Way::Replace, None, Some(_), _) => Ruling::Completed,
        (_, None, _, _) => Ruling::Removed,
    };
    if dry_run || ruling == Ruling::Undecidable {
        return Ok(ruling);
    }
    // Neither the record nor what it led to need be durable: its writer may have been killed.
    dir.sync()?;
    if stage.is_some() && target.is_some() {
        let moved = match record.way {
            Way::Renames => dir.rename(&record.target, &record.kept),
            Way::Replace => Err(io::ErrorKind::CrossesDevices.into()),
        };
        match moved {
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                let old = dir.open_child(&record.target)?;
                if old.try_lock()? == Lock::Elsewhere {
                    return Ok(Ruling::InUse);
                }
                remove_tree(dir, &record.target)?;
            }
            moved => moved?,
        }
    }
    if stage.is_some() {
        rename_new(dir, &record.stage, &record.target)?;
    } else if ruling == Ruling::RolledBack {
        rename_new(dir, &record.kept, &record.target)?;
    }
    finish(dir, record)?;
    Ok(ruling)
}

/// The target is what it should be: the old version can go, and the record.
fn finish(dir: &Dir, record: &SwapRecord) -> io::Result<()> {
    match dir.rename(&record.kept, &record.spent) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        renamed => renamed?,
    }
    dir.sync()?;
    dir.unlink(&SwapRecord::name_for(&record.target))?;
    let judge = Judge { min_age: Duration::ZERO, dry_run: false };
    judge.settle_tree(dir, &record.spent).map(|_| ())
}
