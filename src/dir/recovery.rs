//! Recovery of the swaps in steps that are found in a directory, and of the versions that no record
//! speaks of.
//!
//! [`redo`](crate::dir::redo) says what is to be done about a record and does it; here is who may do it,
//! and what is reported.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::dir::record::SwapRecord;
use crate::dir::redo::{Redone, SwapAction, analyse, redo};
use crate::dir::target::DirTarget;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::journal::encoding::Unusable;
use crate::names::{self, Role};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::report::{RecoveryReport, RemnantState};
use crate::remnant::trust::{self, Level, Trust, is_contradiction};
use crate::set::writer_lock::{RecoveryLock, WriterLock};
use crate::sys::{self, Dir};

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

    /// A writer has made one since the listing. If it is dead by now, what looks like an orphan may be
    /// the only complete version: the next recovery tells.
    fn lacks_a_record(&self, dir: &Dir) -> io::Result<bool> {
        for entry in dir.entries()? {
            let (name, _) = entry?;
            if names::role_of(&name) == Some(Role::Swap) && !self.records.contains(&name) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &OsString> {
        self.records.iter().chain(&self.kept).chain(&self.trees)
    }
}

/// Completes or rolls back the swaps of dead writers, and removes what they left without a record. After an error
/// `report` has what was done before it.
pub(crate) fn recover_swaps(
    dir: &Arc<Dir>,
    found: &Found,
    policy: RemnantPolicy,
    report: &mut RecoveryReport,
) -> io::Result<()> {
    let knows_no_writer = !sys::shares_locks_of_dirs(dir) && has_no_writer(dir)?;
    let policy = RemnantPolicy { knows_no_writer, ..policy };
    let trust = &policy.trust(dir);
    let (spoken_for, keeps_trees) = (HashSet::new(), false);
    let mut recovery = SwapRecovery { dir, policy, trust, report, spoken_for, keeps_trees };
    for record in &found.records {
        recovery.recover_record(record, found)?;
    }
    if recovery.keeps_trees {
        return Ok(());
    }
    let SwapRecovery { report, spoken_for, .. } = recovery;
    let is_orphan = |name: &&OsString| !spoken_for.contains(*name);
    let (kept, trees) = (found.kept.iter().filter(is_orphan), found.trees.iter().filter(is_orphan));
    // A writer may have made a record since the listing, and died. So all are looked at, then the directory is
    // listed once more: of those whose writers were dead by then no record can have been missed.
    let mut abandoned = Vec::new();
    for name in kept.chain(trees) {
        match policy.is_abandoned(trust, name)? {
            true => abandoned.push(name),
            // Once more for what is to be said of it.
            false => report.add(policy.remove_tree(trust, name)?, name),
        }
    }
    if abandoned.is_empty() {
        return Ok(());
    }
    if found.lacks_a_record(dir)? {
        report.in_use.extend(abandoned.into_iter().map(PathBuf::from));
        return Ok(());
    }
    for name in abandoned {
        let state = match names::role_of(name) {
            // No crash leaves it without its record.
            Some(Role::Kept) => policy.quarantine(trust, name)?,
            _ => policy.remove_tree(trust, name)?,
        };
        report.add(state, name);
    }
    Ok(())
}

/// Whether no writer is at work in a directory where locks of directories are seen by nobody else. A writer takes the
/// lock of its target before it makes a version, and has it until the version is the target or gone: so
/// of those that were listed before, none is a writer's. What `remove_dir_all` is deleting has no such lock; it is
/// deleted by both then.
fn has_no_writer(dir: &Dir) -> io::Result<bool> {
    for entry in dir.entries()? {
        let (name, _) = entry?;
        // What can't be asked counts as held.
        if names::role_of(&name) == Some(Role::Lock) && WriterLock::is_file_held(dir, &name).unwrap_or(true) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Completes or rolls back the interrupted swap of one target, for its only writer and before that does anything.
pub(crate) fn recover_pending(target: &DirTarget) -> Result<()> {
    let (dir, name) = (&target.parent, SwapRecord::name_for(&target.name));
    let fail = |e| Error::io("complete the interrupted save of", &target.path, e);
    let refuse = |kind| Err(Error::new(kind, "complete the interrupted save of", &target.path));
    if dir.stat_at(&name).is_err_and(|e| sys::is_not_found(&e)) {
        return Ok(());
    }
    let policy = RemnantPolicy::of_writer();
    let trust = policy.trust(dir);
    // Where it is: a link may have led from the target's path to there.
    let record_path = target.place.join(&name);
    let untrusted =
        || Err(Error::new(ErrorKind::Untrusted, "recover the interrupted save of the record", &record_path));
    let file = match trust.open_file(&name, Level::Obeyed).map_err(fail)? {
        trust::Found::Absent => return Ok(()),
        trust::Found::Untrusted => return untrusted(),
        trust::Found::Trusted(file) => file,
    };
    // Not the target is corrupt, but what is in its way.
    let corrupt =
        || Err(Error::new(ErrorKind::Corrupt, "complete the interrupted save of the record", &record_path));
    let (record, is_copy) = match SwapRecord::read(&name, &file).map_err(fail)? {
        Err(Unusable::Corrupt) => return corrupt(),
        Err(Unusable::Unknown) => return refuse(ErrorKind::Unsupported),
        Ok(read) => read,
    };
    match analyse(dir, &trust, &record, is_copy).map_err(fail)? {
        SwapAction::Quarantine => corrupt(),
        SwapAction::Distrust => untrusted(),
        action => match redo(dir, &trust, &record, action).map_err(fail)? {
            Redone::Done(_) => Ok(()),
            Redone::InUse => refuse(ErrorKind::Locked),
            Redone::Contradicted => corrupt(),
        },
    }
}

struct SwapRecovery<'a> {
    dir: &'a Arc<Dir>,
    policy: RemnantPolicy,
    trust: &'a Trust<'a>,
    report: &'a mut RecoveryReport,
    /// The names that records speak of.
    spoken_for: HashSet<OsString>,
    /// A record that can't be read now may need them later.
    keeps_trees: bool,
}

impl SwapRecovery<'_> {
    fn recover_record(&mut self, name: &OsStr, found: &Found) -> io::Result<()> {
        let file = match self.trust.open_file(name, Level::Obeyed)? {
            trust::Found::Absent => return Ok(()),
            trust::Found::Trusted(file) => file,
            // Not ours; but it may be what somebody made of ours.
            trust::Found::Untrusted => {
                self.keeps_trees = true;
                self.report.untrusted.push(name.into());
                return Ok(());
            }
        };
        if self.policy.is_young(self.dir, name)? {
            self.keeps_trees = true;
            self.report.in_use.push(name.into());
            return Ok(());
        }
        let (record, is_copy) = match SwapRecord::read(name, &file)? {
            Ok(read) => read,
            Err(Unusable::Unknown) if !self.policy.abandon => {
                self.keeps_trees = true;
                self.report.unreadable.push(name.into());
                return Ok(());
            }
            // Nobody knows what it was about: any of these.
            Err(_) => {
                let trees = found.trees.iter().chain(&found.kept);
                return self.quarantine(trees.map(OsString::as_os_str), name);
            }
        };
        self.spoken_for.extend([&record.stage, &record.kept, &record.spent].map(OsString::clone));
        let lock = match self.lock(&record.target) {
            // Only age can tell whether the writer lives, and has told.
            Err(e) if crate::sys::is_unsupported(&e) && !self.policy.min_age.is_zero() => None,
            // Somebody else has put something where the lock belongs.
            Err(e) if crate::sys::is_denied(&e) => {
                self.report.unreadable.push(name.into());
                return Ok(());
            }
            Err(e) if !crate::sys::is_unsupported(&e) => return Err(e),
            Ok(Some(lock)) => lock,
            Ok(None) | Err(_) => {
                self.report.in_use.push(name.into());
                return Ok(());
            }
        };
        // Its writer may have ended between finding and locking.
        let is_there = file.stat().and_then(|read| self.dir.leads_to(name, read.id)).unwrap_or(false);
        let done = if is_there { self.recover_read(name, &record, is_copy) } else { Ok(()) };
        drop(lock);
        done
    }

    /// Returns `None` if a writer or another recovery is at work.
    fn lock(&self, target: &OsStr) -> io::Result<Option<Option<RecoveryLock>>> {
        if self.policy.dry_run {
            // Nothing is done, so that nobody has to be kept out.
            return Ok((!WriterLock::is_held(self.dir, target)?).then_some(None));
        }
        RecoveryLock::try_take(self.dir, target).map(|lock| lock.map(Some))
    }

    fn recover_read(&mut self, name: &OsStr, record: &SwapRecord, is_copy: bool) -> io::Result<()> {
        let mut action = analyse(self.dir, self.trust, record, is_copy)?;
        let is_idle = self.policy.dry_run || matches!(action, SwapAction::Quarantine | SwapAction::Distrust);
        let redone = if is_idle {
            Ok(Redone::Done(RemnantState::Ignored))
        } else {
            redo(self.dir, self.trust, record, action)
        };
        let (mut is_in_use, mut left) = (false, RemnantState::Ignored);
        match redone {
            Ok(Redone::Done(state)) => left = state,
            Ok(Redone::InUse) => is_in_use = true,
            Ok(Redone::Contradicted) => action = SwapAction::Quarantine,
            Err(e) if is_contradiction(&e) || self.policy.gives_up(&e) => action = SwapAction::Quarantine,
            Err(e) => return Err(e),
        }
        // That it was removed belongs to what is reported of the target.
        if left != RemnantState::Removed {
            self.report.add(left, &record.spent);
        }
        let target = PathBuf::from(&record.target);
        match action {
            _ if is_in_use => self.report.in_use.push(target),
            SwapAction::Complete | SwapAction::Prove => self.report.completed.push(target),
            SwapAction::RollBack => self.report.rolled_back.push(target),
            SwapAction::Forget => self.report.removed.push(name.into()),
            SwapAction::Distrust => self.report.untrusted.push(name.into()),
            SwapAction::Quarantine => {
                let trees = [&record.stage, &record.kept, &record.spent];
                self.quarantine(trees.map(OsString::as_os_str).into_iter(), name)?;
            }
        }
        Ok(())
    }

    /// The record last: without it the trees would be taken for orphans.
    fn quarantine<'n>(
        &mut self,
        trees: impl Iterator<Item = &'n OsStr>,
        record: &'n OsStr,
    ) -> io::Result<()> {
        for name in trees.chain(std::iter::once(record)) {
            self.spoken_for.insert(name.to_owned());
            self.report.add(self.policy.quarantine(self.trust, name)?, name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::dir::AtomicDir;
    use crate::dir::record::OldVersion;
    use crate::names::{self, Role};
    use crate::options::durability::Durability;
    use crate::recover::report::Recovery;
    use crate::recover::{RecoveryOptions, recover};
    use crate::sys;

    /// A target with the old version, a new one beside it, and the record that says so.
    struct Scene {
        home: tempfile::TempDir,
        record: SwapRecord,
    }

    const OLD: &str = "old";
    const NEW: &str = "new";

    impl Scene {
        fn new() -> Scene {
            let home = tempfile::tempdir().unwrap();
            let dir = Arc::new(Dir::open(home.path()).unwrap());
            let (talk, stage) = (OsStr::new("talk"), names::fresh(Role::Tree));
            let unknown = OldVersion::Deleted(sys::LastingId::default());
            let mut scene = Scene { home, record: SwapRecord::new(talk, &stage, unknown) };
            scene.put("talk", OLD);
            scene.put(&stage, NEW);
            scene.record.old = OldVersion::Renamed(sys::fingerprint(&dir, talk).unwrap());
            let _ = scene.record.publish(&dir, &scene.at("talk"), Durability::None).unwrap();
            scene
        }

        fn at(&self, name: impl AsRef<Path>) -> PathBuf {
            self.home.path().join(name)
        }

        fn put(&self, name: impl AsRef<Path>, version: &str) {
            fs::create_dir(self.at(&name)).unwrap();
            fs::write(self.at(&name).join("f"), version).unwrap();
        }

        fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
            fs::rename(self.at(from), self.at(to)).unwrap();
        }

        fn record_path(&self) -> PathBuf {
            self.at(SwapRecord::name_for(&self.record.target))
        }

        fn holds(&self, version: &str) {
            assert_eq!(fs::read_to_string(self.at("talk/f")).unwrap(), version);
            assert_eq!(self.names(), ["talk"]);
        }

        fn names(&self) -> Vec<OsString> {
            let entries = fs::read_dir(self.home.path()).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        }

        fn recover(&self) -> Recovery {
            let dry = RecoveryOptions::new().dry_run(true).run(self.home.path()).unwrap();
            let done = recover(self.home.path()).unwrap();
            assert_eq!(dry.completed(), done.completed());
            assert_eq!(dry.rolled_back(), done.rolled_back());
            assert_eq!(dry.quarantined().len(), done.quarantined().len());
            assert!(recover(self.home.path()).unwrap().is_clean());
            done
        }
    }

    /// Recovers the scene; then once more, with the next writer in the place of a recovery.
    fn becomes(version: &str, prepare: impl Fn(&Scene)) -> Recovery {
        let scene = Scene::new();
        prepare(&scene);
        AtomicDir::update(scene.at("talk")).unwrap().commit().unwrap();
        scene.holds(version);
        let scene = Scene::new();
        prepare(&scene);
        let recovery = scene.recover();
        scene.holds(version);
        recovery
    }

    #[test]
    fn a_decided_swap_is_completed_from_wherever_it_was_interrupted() {
        let undone = becomes(NEW, |_| {});
        assert_eq!(undone.completed().len(), 1);
        assert!(undone.completed()[0].ends_with("talk"));
        let renamed_away = becomes(NEW, |scene| scene.rename("talk", &scene.record.kept));
        assert_eq!(renamed_away.completed().len(), 1);
        let renamed_in = becomes(NEW, |scene| {
            scene.rename("talk", &scene.record.kept);
            scene.rename(&scene.record.stage, "talk");
        });
        assert_eq!(renamed_in.completed().len(), 1);
        let spent = becomes(NEW, |scene| {
            scene.rename("talk", &scene.record.spent);
            scene.rename(&scene.record.stage, "talk");
        });
        assert_eq!((spent.completed().len(), spent.removed().len()), (0, 1));
        let partly_deleted = becomes(NEW, |scene| fs::remove_file(scene.at("talk/f")).unwrap());
        assert_eq!(partly_deleted.completed().len(), 1);
        let deleted = becomes(NEW, |scene| fs::remove_dir_all(scene.at("talk")).unwrap());
        assert_eq!(deleted.completed().len(), 1);
    }

    #[test]
    fn without_the_new_version_the_old_one_stays_or_comes_back() {
        let gone = |scene: &Scene| fs::remove_dir_all(scene.at(&scene.record.stage)).unwrap();
        assert_eq!(becomes(OLD, gone).removed().len(), 1);
        let back = becomes(OLD, |scene| {
            gone(scene);
            scene.rename("talk", &scene.record.kept);
        });
        assert_eq!(back.rolled_back().len(), 1);
    }

    #[test]
    fn a_damaged_record_is_moved_aside_with_all_that_it_may_be_about() {
        let scene = Scene::new();
        let mut bytes = fs::read(scene.record_path()).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(scene.record_path(), bytes).unwrap();
        scene.rename("talk", &scene.record.kept);
        let refused = AtomicDir::update(scene.at("talk")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Corrupt);
        let recovery = scene.recover();
        assert_eq!(recovery.quarantined().len(), 3);
        assert_eq!(scene.names().len(), 3, "nothing is deleted");
        assert!(scene.names().iter().all(crate::is_remnant));
    }

    #[test]
    fn a_record_of_another_version_is_left_alone_with_all_that_it_may_be_about() {
        let scene = Scene::new();
        let mut bytes = fs::read(scene.record_path()).unwrap();
        // The version stands behind the magic, and is looked at before the checksum.
        bytes[8] += 1;
        fs::write(scene.record_path(), bytes).unwrap();
        let before = scene.names();
        let refused = AtomicDir::update(scene.at("talk")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
        assert_eq!(recover(scene.home.path()).unwrap().unreadable(), [scene.record_path()]);
        assert_eq!(scene.names(), before);
    }

    #[test]
    fn what_was_saved_in_between_by_other_means_is_never_touched() {
        let scene = Scene::new();
        scene.rename("talk", &scene.record.kept);
        scene.put("talk", "later");
        let recovery = scene.recover();
        assert_eq!(recovery.quarantined().len(), 3);
        assert_eq!(fs::read_to_string(scene.at("talk/f")).unwrap(), "later");
        assert_eq!(scene.names().len(), 4, "nothing is deleted");
    }

    #[test]
    fn a_kept_version_without_its_record_is_moved_aside() {
        let scene = Scene::new();
        scene.rename("talk", &scene.record.kept);
        fs::remove_file(scene.record_path()).unwrap();
        let recovery = scene.recover();
        assert_eq!((recovery.quarantined().len(), recovery.removed().len()), (1, 1));
        assert_eq!(scene.names().len(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_record_that_others_may_write_is_not_believed() {
        use std::os::unix::fs::PermissionsExt;
        let scene = Scene::new();
        fs::set_permissions(scene.record_path(), fs::Permissions::from_mode(0o620)).unwrap();
        let before = scene.names();
        let recovery = recover(scene.home.path()).unwrap();
        assert_eq!(recovery.untrusted(), [scene.record_path()]);
        assert!(!recovery.is_clean());
        assert_eq!(scene.names(), before);
        let refused = AtomicDir::update(scene.at("talk")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Untrusted);
        assert_eq!(refused.path(), scene.record_path());
    }
}
