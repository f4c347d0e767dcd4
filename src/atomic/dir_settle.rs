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
use super::dir_record::SwapRecord;
use super::dir_target::DirTarget;
use super::names::{self, Role};
use super::record::Unusable;
use super::redo::is_trusted;
use super::remove::remove_tree;
use super::settle::{Settled, is_contradiction};
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

/// Settles the swaps of dead writers, and what they left without a record. After an error `settled` has
/// what was done before it.
pub(crate) fn settle_swaps(
    dir: &Arc<Dir>,
    found: &Found,
    judge: Judge,
    settled: &mut Settled,
) -> io::Result<()> {
    let mut desk = Desk { dir, judge, settled, spoken_for: Vec::new(), keeps_trees: false };
    for record in &found.records {
        desk.settle_record(record, found)?;
    }
    let Desk { settled, spoken_for, keeps_trees, .. } = desk;
    let is_orphan = |name: &&OsString| !keeps_trees && !spoken_for.contains(name);
    for kept in found.kept.iter().filter(is_orphan) {
        if found.lacks_a_record(dir)? {
            settled.in_use.push(kept.into());
            continue;
        }
        // No crash leaves it without its record.
        settled.add(judge.set_aside(dir, kept)?, kept);
    }
    for tree in found.trees.iter().filter(is_orphan) {
        settled.add(judge.settle_tree(dir, tree, || found.lacks_a_record(dir))?, tree);
    }
    Ok(())
}

/// The same for one target, by its only writer and before it does anything.
pub(crate) fn settle_pending(target: &DirTarget) -> Result<()> {
    let (dir, name) = (&target.parent, SwapRecord::name_for(&target.name));
    let fail = |e| Error::io("complete the interrupted save of", &target.path, e);
    let refuse = |kind| Err(Error::new(kind, "complete the interrupted save of", &target.path));
    if dir.stat_at(&name).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    // Looked at first: what somebody planted there may not be to open.
    if !is_trusted(dir, &name).map_err(fail)? {
        return refuse(ErrorKind::PermissionDenied);
    }
    let file = match dir.open_file(&name) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(fail)?,
    };
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
    settled: &'a mut Settled,
    /// What records have named.
    spoken_for: Vec<OsString>,
    /// A record that can't be read now may need them later.
    keeps_trees: bool,
}

impl Desk<'_> {
    fn settle_record(&mut self, name: &OsStr, found: &Found) -> io::Result<()> {
        if !is_trusted(self.dir, name)? {
            // Not ours; but it may be what somebody made of ours.
            self.keeps_trees = true;
            return Ok(());
        }
        let file = match self.dir.open_file(name) {
            Err(e) if sys::is_gone(&e) => return Ok(()),
            opened => opened?,
        };
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
            // Somebody else has put something where the lock belongs.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                self.settled.unreadable.push(name.into());
                return Ok(());
            }
            Err(e) if e.kind() != io::ErrorKind::Unsupported => return Err(e),
            Ok(Some(lock)) => Some(lock),
            Ok(None) | Err(_) => {
                self.settled.in_use.push(name.into());
                return Ok(());
            }
        };
        // Its writer may have ended between finding and locking.
        let still_there =
            self.dir.stat_at(name).is_ok_and(|now| file.stat().is_ok_and(|read| read.id == now.id));
        if !still_there {
            return Ok(());
        }
        let ruling = match carry_out(self.dir, &record, self.judge.dry_run) {
            Err(e) if is_contradiction(&e) => Ruling::Undecidable,
            ruling => ruling?,
        };
        let target = PathBuf::from(&record.target);
        match ruling {
            Ruling::Completed => self.settled.completed.push(target),
            Ruling::RolledBack => self.settled.rolled_back.push(target),
            Ruling::Removed => self.settled.removed.push(name.into()),
            Ruling::InUse => self.settled.in_use.push(target),
            Ruling::Undecidable => {
                let trees = [&record.stage, &record.kept, &record.spent];
                self.quarantine(trees.map(OsString::as_os_str).into_iter(), name)?;
            }
        }
        drop(lock);
        Ok(())
    }

    /// The record last: without it the trees would be taken for orphans.
    fn quarantine<'n>(
        &mut self,
        trees: impl Iterator<Item = &'n OsStr>,
        record: &'n OsStr,
    ) -> io::Result<()> {
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
    let spent = there(&record.spent)?;
    let is_sound = |kind: &Option<Kind>| kind.is_none_or(|kind| kind == Kind::Dir);
    let ruling = match (stage, target, kept) {
        // The old version is at one of these names, and goes to the last.
        (_, _, Some(_)) | (Some(_), Some(_), _) if spent.is_some() => Ruling::Undecidable,
        _ if !(is_sound(&stage) && is_sound(&kept)) => Ruling::Undecidable,
        (Some(_), Some(found), _) if found != Kind::Dir => Ruling::Undecidable,
        (Some(_), Some(_), Some(_)) => Ruling::Undecidable,
        (Some(_), _, _) | (None, Some(_), Some(_)) => Ruling::Completed,
        (None, None, Some(_)) => Ruling::RolledBack,
        (None, _, None) => Ruling::Removed,
    };
    if dry_run || ruling == Ruling::Undecidable {
        return Ok(ruling);
    }
    // Neither the record nor what it led to need be durable: its writer may have been killed.
    dir.sync()?;
    if stage.is_some() && target.is_some() {
        match dir.rename(&record.target, &record.kept) {
            // It can't be renamed at all; some of it may be gone already.
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
    if dir.stat_at(&record.kept).is_ok() {
        dir.rename(&record.kept, &record.spent)?;
    }
    dir.sync()?;
    dir.unlink(&SwapRecord::name_for(&record.target))?;
    let judge = Judge { min_age: Duration::ZERO, dry_run: false };
    judge.settle_tree(dir, &record.spent, || Ok(false)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::atomic::names::{self, Role};
    use crate::options::Durability;
    use crate::{AtomicDir, Recovery, RecoveryOptions, recover};

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
            let record = SwapRecord::new(OsStr::new("talk"), &names::fresh(Role::Tree));
            let _ = record.publish(&dir, &home.path().join("talk"), Durability::None).unwrap();
            let scene = Scene { home, record };
            scene.put("talk", OLD);
            scene.put(&scene.record.stage, NEW);
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

    /// What becomes of the scene, and with the next writer in the place of a recovery.
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
        // Behind the mark and the kind; the sum is at the end.
        bytes[9] += 1;
        let body = bytes.len() - 8;
        let mut sum = crate::atomic::record::Checksum::new();
        sum.add(&bytes[..body]);
        bytes[body..].copy_from_slice(&sum.value().to_le_bytes());
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
        assert!(recover(scene.home.path()).unwrap().is_clean());
        assert_eq!(scene.names(), before);
        let refused = AtomicDir::update(scene.at("talk")).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    }
}
