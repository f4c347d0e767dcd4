//! Recovery of the transactions that are found in a directory.
//!
//! [`analysis`](crate::transaction::analysis) says what is to be done about a record, [`apply`] does it; here
//! is who may do it, in which order, and what is reported. The record is removed first and its stage
//! after it: without its staged files it would mean nothing. In a quarantine the stage goes first: without
//! its record it would be taken for an orphan.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::atomic::parent_sync::sync_parent;
use crate::journal::encoding::{self, Unusable};
use crate::names::{self, Role};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::remove_tree::remove_opened;
use crate::remnant::report::{RecoveryReport, RemnantState};
use crate::remnant::trust::{Found, Level, Removal, Trust, is_contradiction};
use crate::set::writer_lock::{RecoveryLock, WriterLock};
use crate::sys::{self, Dir, absent};
use crate::transaction::analysis::{RecoveryAction, Rest, analyse};
use crate::transaction::apply;
use crate::transaction::record::TransactionRecord;

/// Completes or rolls back transactions of dead writers. `journals` and `staged` are what the directory has. After an
/// error `settled` has what was done before it.
pub(crate) fn recover_transactions(
    root: &Arc<Dir>,
    journals: &[OsString],
    staged: &[OsString],
    policy: RemnantPolicy,
    report: &mut RecoveryReport,
) -> io::Result<()> {
    let in_use = |report: &mut RecoveryReport| {
        report.in_use.extend(journals.iter().chain(staged).map(PathBuf::from));
        Ok(())
    };
    if policy.dry_run {
        // Nothing is done, so that nobody has to be kept out.
        let held = WriterLock::is_held(root, OsStr::new(""))?;
        return if held { in_use(report) } else { recover_locked(root, journals, staged, policy, report) };
    }
    if WriterLock::is_held(root, OsStr::new(""))? {
        // Looked at first, so that no lock file is made beside a writer at work.
        return in_use(report);
    }
    let lock = match RecoveryLock::try_take(root, OsStr::new("")) {
        // Only age can tell whether the writer lives.
        Err(e) if sys::is_unsupported(&e) && !policy.min_age.is_zero() => None,
        Err(e) if sys::is_unsupported(&e) => return in_use(report),
        Ok(None) => return in_use(report),
        taken => taken?,
    };
    // A writer that died meanwhile may have decided after the listing.
    let (journals, staged) = list(root)?;
    let done = recover_locked(root, &journals, &staged, policy, report);
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

/// Completes or rolls back transactions of dead writers, for a caller that is the only writer.
pub(crate) fn recover_locked(
    root: &Arc<Dir>,
    journals: &[OsString],
    staged: &[OsString],
    policy: RemnantPolicy,
    report: &mut RecoveryReport,
) -> io::Result<()> {
    let trust = policy.trust(root);
    let mut recovery = TransactionRecovery {
        root,
        policy,
        trust: &trust,
        report,
        keep_staged: false,
        distrusts: false,
        needs_sync: false,
        settled_stages: HashSet::new(),
    };
    let records = journals.iter().try_for_each(|journal| recovery.recover_record(journal, staged));
    let done = records.and_then(|()| recovery.remove_orphans(staged));
    if recovery.needs_sync {
        // Not before the record's removal is durable can its targets be changed freely: a record that
        // comes back would be carried out again.
        sync_parent(root)?;
    }
    done
}

struct TransactionRecovery<'a> {
    root: &'a Arc<Dir>,
    policy: RemnantPolicy,
    trust: &'a Trust<'a>,
    report: &'a mut RecoveryReport,
    /// A record that can't be read now may need them later.
    keep_staged: bool,
    /// A record is left alone with whatever it may be about.
    distrusts: bool,
    /// A record was removed or moved, or what is left of one whose removal may not be durable.
    needs_sync: bool,
    /// The private directories of records that were found. Each goes with its record, and is no orphan.
    settled_stages: HashSet<OsString>,
}

impl TransactionRecovery<'_> {
    fn recover_record(&mut self, journal: &OsStr, staged: &[OsString]) -> io::Result<()> {
        let file = match self.trust.open_file(journal, Level::Obeyed)? {
            Found::Absent => return Ok(()),
            Found::Untrusted => {
                self.distrust(journal);
                return Ok(());
            }
            Found::Trusted(file) => file,
        };
        if self.policy.is_young(self.root, journal)? {
            self.keep_staged = true;
            self.report.in_use.push(journal.into());
            return Ok(());
        }
        let own = sys::lasting_id(&file)?;
        let (action, stage) = match TransactionRecord::decode(&encoding::read(&file)?) {
            Ok((record, recorded)) => analyse(self.root, self.trust, record, (own, recorded))?,
            Err(Unusable::Unknown) if !self.policy.abandon => {
                self.keep_staged = true;
                self.report.unreadable.push(journal.into());
                return Ok(());
            }
            Err(_) => (RecoveryAction::Quarantine, None),
        };
        if action == RecoveryAction::Distrust {
            self.distrust(journal);
            return Ok(());
        }
        self.needs_sync |= !self.policy.dry_run;
        match action {
            RecoveryAction::Redo(record, rest) => match self.redo(journal, &record, stage.as_ref(), &rest) {
                Err(e) if is_contradiction(&e) || self.policy.gives_up(&e) => {
                    self.quarantine(journal, staged)
                }
                redone => redone,
            },
            RecoveryAction::RollBack(record) => {
                self.report.rolled_back.extend(record.changes.iter().map(|change| change.path.clone()));
                self.remove_record(journal, &record, stage.as_ref())
            }
            RecoveryAction::Quarantine | RecoveryAction::Distrust => self.quarantine(journal, staged),
        }
    }

    /// Somebody else can have made the record, or what it is about; but it may be what somebody made of
    /// ours.
    fn distrust(&mut self, journal: &OsStr) {
        self.keep_staged = true;
        self.distrusts = true;
        self.report.untrusted.push(journal.into());
    }

    fn redo(
        &mut self,
        journal: &OsStr,
        record: &TransactionRecord,
        stage: Option<&Dir>,
        rest: &[Rest],
    ) -> io::Result<()> {
        if !self.policy.dry_run {
            // Its writer may have died before the record's name was durable.
            sync_parent(self.root)?;
            apply::redo(self.root, record, stage, rest)?;
        }
        let left = record.changes.iter().zip(rest).filter(|(_, rest)| **rest != Rest::Nothing);
        let completed: Vec<PathBuf> = left.map(|(change, _)| change.path.clone()).collect();
        if completed.is_empty() {
            // All was done; only the record was left.
            self.report.removed.push(journal.into());
        }
        self.report.completed.extend(completed);
        self.remove_record(journal, record, stage)
    }

    /// The record goes first: without its staged files it would mean nothing.
    fn remove_record(
        &mut self,
        journal: &OsStr,
        record: &TransactionRecord,
        stage: Option<&Dir>,
    ) -> io::Result<()> {
        self.settled_stages.insert(record.stage.clone());
        if self.policy.dry_run {
            return Ok(());
        }
        absent(self.root.unlink(journal))?;
        let Some(stage) = stage else { return Ok(()) };
        if self.trust.removal(&record.stage, stage)? == Removal::Whole {
            return remove_opened(self.root, &record.stage, stage);
        }
        self.report.untrusted.push(PathBuf::from(&record.stage));
        Ok(())
    }

    /// Moves a record, and the staged files that it may be about, out of the way of everything. The record
    /// last: without it they would be taken for orphans.
    fn quarantine(&mut self, journal: &OsStr, staged: &[OsString]) -> io::Result<()> {
        self.keep_staged = true;
        let mut is_in_use = false;
        for name in staged.iter().filter(|_| !self.distrusts) {
            // What is not ours can't be what the record is about.
            let state = self.policy.quarantine(self.trust, name)?;
            is_in_use |= state == RemnantState::InUse;
            self.report.add(state, name);
        }
        if is_in_use {
            // The record waits for it: without its record the next recovery would take it for an orphan.
            self.report.in_use.push(journal.into());
            return Ok(());
        }
        self.report.add(self.policy.quarantine(self.trust, journal)?, journal);
        Ok(())
    }

    fn remove_orphans(&mut self, staged: &[OsString]) -> io::Result<()> {
        for name in staged.iter().filter(|_| !self.keep_staged) {
            if self.settled_stages.contains(name) {
                continue;
            }
            let state = self.policy.remove_staging_dir(self.trust, name)?;
            self.needs_sync |= state == RemnantState::Removed && !self.policy.dry_run;
            self.report.add(state, name);
        }
        Ok(())
    }
}
