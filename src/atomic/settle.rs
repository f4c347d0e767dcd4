//! What a recovery makes of the transactions that it finds in a directory.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::names::{self, Role};
use super::plan::Plan;
use super::record::Unusable;
use super::redo;
use super::remove::remove_own_tree;
use super::ruling::{Ruling, absent, is_only_ours, rule};
use super::sweep::{Judge, Verdict};
use super::writer_lock::WriterLock;
use crate::ErrorKind;
use crate::sys::{Dir, File, Kind};

/// What became of the remnants of transactions, relative to their root.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Targets whose change was carried out.
    pub(crate) completed: Vec<PathBuf>,
    /// Targets whose change was never decided.
    pub(crate) rolled_back: Vec<PathBuf>,
    pub(crate) removed: Vec<PathBuf>,
    pub(crate) in_use: Vec<PathBuf>,
    /// Under the names that they have now.
    pub(crate) quarantined: Vec<PathBuf>,
    /// Records of an unknown version, left as they are.
    pub(crate) unreadable: Vec<PathBuf>,
}

impl Settled {
    /// Takes down what became of one remnant.
    pub(crate) fn add(&mut self, verdict: Verdict, name: &OsStr) {
        match verdict {
            Verdict::Ignored => {}
            Verdict::InUse => self.in_use.push(name.into()),
            Verdict::Removed => self.removed.push(name.into()),
            Verdict::Unreadable => self.unreadable.push(name.into()),
            Verdict::SetAside(aside) => self.quarantined.push(aside.into()),
        }
    }
}

/// Settles transactions of dead writers. `journals` and `staged` are what the directory has. After an
/// error `settled` has what was done before it.
pub(crate) fn settle(
    root: &Arc<Dir>,
    journals: &[OsString],
    staged: &[OsString],
    judge: Judge,
    settled: &mut Settled,
) -> io::Result<()> {
    let in_use = |settled: &mut Settled| {
        settled.in_use.extend(journals.iter().chain(staged).map(PathBuf::from));
        Ok(())
    };
    if judge.dry_run {
        // Nothing is done, so that nobody has to be kept out.
        let held = WriterLock::is_held(root, OsStr::new(""))?;
        return if held { in_use(settled) } else { settle_locked(root, journals, staged, judge, settled) };
    }
    let lock = match WriterLock::take(root, OsStr::new(""), Duration::ZERO) {
        // Only age can tell whether the writer lives.
        Err(e) if e.kind() == io::ErrorKind::Unsupported && !judge.min_age.is_zero() => None,
        Err(e) if e.kind() == io::ErrorKind::Unsupported => return in_use(settled),
        Ok(None) => return in_use(settled),
        taken => taken?,
    };
    // A writer that died meanwhile may have decided after the listing.
    let (journals, staged) = list(root)?;
    let done = settle_locked(root, &journals, &staged, judge, settled);
    drop(lock);
    done
}

/// The records and the private directories of transactions that a directory has.
pub(crate) fn list(root: &Dir) -> io::Result<(Vec<OsString>, Vec<OsString>)> {
    let (mut journals, mut staged) = (Vec::new(), Vec::new());
    for entry in root.entries()? {
        let (name, _) = entry?;
        match names::role_of(&name) {
            Some(Role::Journal) => journals.push(name),
            Some(Role::Change) => staged.push(name),
            _ => {}
        }
    }
    Ok((journals, staged))
}

/// The same for a caller that is the only writer.
pub(crate) fn settle_locked(
    root: &Arc<Dir>,
    journals: &[OsString],
    staged: &[OsString],
    judge: Judge,
    settled: &mut Settled,
) -> io::Result<()> {
    let mut desk =
        Desk { root, judge, settled, keep_staged: false, dirty: false, settled_stages: Vec::new() };
    let records = journals.iter().try_for_each(|journal| desk.settle_record(journal, staged));
    let done = records.and_then(|()| desk.remove_orphans(staged));
    if desk.dirty {
        // Not before the record's removal is durable can its targets be changed freely: a record that
        // comes back would be carried out again.
        root.sync()?;
    }
    done
}

struct Desk<'a> {
    root: &'a Arc<Dir>,
    judge: Judge,
    settled: &'a mut Settled,
    /// A record that can't be read now may need them later.
    keep_staged: bool,
    /// A record was removed or moved, or what is left of one whose removal may not be durable.
    dirty: bool,
    /// They went with their records.
    settled_stages: Vec<OsString>,
}

impl Desk<'_> {
    fn settle_record(&mut self, journal: &OsStr, staged: &[OsString]) -> io::Result<()> {
        let Some(file) = trusted(self.root, journal)? else {
            // Not ours; but it may be what somebody made of ours.
            self.keep_staged = true;
            return Ok(());
        };
        if self.judge.is_young(self.root, journal)? {
            self.keep_staged = true;
            self.settled.in_use.push(journal.into());
            return Ok(());
        }
        let ruling = match Plan::decode(&read(&file)?) {
            Ok(plan) => rule(self.root, plan)?,
            Err(Unusable::Corrupt) => Ruling::Quarantine,
            Err(Unusable::Unknown) => {
                self.keep_staged = true;
                self.settled.unreadable.push(journal.into());
                return Ok(());
            }
        };
        self.dirty |= !self.judge.dry_run;
        match ruling {
            Ruling::Complete(plan, ready) => match self.complete(journal, &plan, &ready) {
                Err(e) if is_contradiction(&e) => self.quarantine(journal, staged),
                completed => completed,
            },
            Ruling::RollBack(plan) => {
                self.settled.rolled_back.extend(plan.changes.iter().map(|change| change.path.clone()));
                self.remove_record(journal, &plan)
            }
            Ruling::Quarantine => self.quarantine(journal, staged),
        }
    }

    fn complete(&mut self, journal: &OsStr, plan: &Plan, ready: &[bool]) -> io::Result<()> {
        let marked = plan.changes.iter().zip(ready).filter(|(_, ready)| **ready);
        self.settled.completed.extend(marked.map(|(change, _)| change.path.clone()));
        if !self.judge.dry_run {
            redo::carry_out_rest(self.root, plan, ready)?;
        }
        if !ready.contains(&true) {
            // All was done; only the record was left.
            self.settled.removed.push(journal.into());
        }
        self.remove_record(journal, plan)
    }

    /// The record goes first: without its staged files it would mean nothing.
    fn remove_record(&mut self, journal: &OsStr, plan: &Plan) -> io::Result<()> {
        self.settled_stages.push(plan.stage.clone());
        if self.judge.dry_run {
            return Ok(());
        }
        absent(self.root.unlink(journal))?;
        redo::remove_staged(self.root, plan)
    }

    /// Moves a record, and the staged files that it may be about, out of the way of everything. The record
    /// last: without it they would be taken for orphans.
    fn quarantine(&mut self, journal: &OsStr, staged: &[OsString]) -> io::Result<()> {
        self.keep_staged = true;
        for name in staged.iter().map(OsString::as_os_str).chain(std::iter::once(journal)) {
            // What is not ours can't be what the record is about.
            if name != journal && !self.is_orphan(name)? {
                continue;
            }
            if self.judge.dry_run {
                self.settled.quarantined.push(name.into());
                continue;
            }
            let aside = names::fresh(Role::Quarantined);
            match self.root.rename(name, &aside) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                renamed => {
                    renamed?;
                    self.settled.quarantined.push(aside.into());
                }
            }
        }
        Ok(())
    }

    fn remove_orphans(&mut self, staged: &[OsString]) -> io::Result<()> {
        for name in staged.iter().filter(|_| !self.keep_staged) {
            if self.settled_stages.contains(name) || !self.is_orphan(name)? {
                continue;
            }
            if self.judge.is_young(self.root, name)? {
                self.settled.in_use.push(name.into());
                continue;
            }
            if !self.judge.dry_run {
                self.dirty = true;
                if absent(remove_own_tree(self.root, name))? == Some(false) {
                    continue;
                }
            }
            self.settled.removed.push(name.into());
        }
        Ok(())
    }

    /// Is it ours, beyond doubt? Its writer is known to be dead.
    fn is_orphan(&self, name: &OsStr) -> io::Result<bool> {
        let Some(stat) = absent(self.root.stat_at(name))? else { return Ok(false) };
        Ok(stat.kind == Kind::Dir && is_only_ours(&stat))
    }
}

/// What is there can't be squared with a record: a file where a directory should be, or the like.
pub(super) fn is_contradiction(e: &io::Error) -> bool {
    use ErrorKind::{AlreadyExists, InvalidPath, IsADirectory, NotADirectory};
    matches!(ErrorKind::of(e), AlreadyExists | InvalidPath | IsADirectory | NotADirectory)
}

/// Opens a record if it is as only a writer of ours makes it.
fn trusted(root: &Dir, name: &OsStr) -> io::Result<Option<File>> {
    if !redo::is_trusted(root, name)? {
        return Ok(None);
    }
    let Some(file) = absent(root.open_file(name))? else { return Ok(None) };
    let same =
        absent(root.stat_at(name))?.is_some_and(|found| file.stat().is_ok_and(|own| own.id == found.id));
    Ok(same.then_some(file))
}

fn read(file: &File) -> io::Result<Vec<u8>> {
    let (mut record, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match file.read_at(&mut chunk, record.len() as u64)? {
            0 => return Ok(record),
            read => record.extend_from_slice(chunk.get(..read).unwrap_or_default()),
        }
    }
}
