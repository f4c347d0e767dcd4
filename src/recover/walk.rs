//! The walk through the folders below the root of a recovery.
//!
//! One bad folder or remnant never ends it: what it found there, and what it did elsewhere, is in the report.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dir::recovery::{Found, recover_swaps};
use crate::error::{Error, Result};
use crate::names::{self, Role};
use crate::overwrite::recovery::{Root, Undone, recover_undo};
use crate::recover::report::Recovery;
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::report::{RecoveryReport, RemnantState};
use crate::remnant::trust::Trust;
use crate::sys::{self, Dir, Kind};
use crate::transaction::recovery::recover_transactions;

pub(crate) struct Walk<'a> {
    pub(crate) root: &'a Path,
    pub(crate) dir: Dir,
    pub(crate) policy: RemnantPolicy,
    /// Folders on which something else is mounted are not entered.
    pub(crate) one_file_system: bool,
    /// Folders to look into, relative to the root.
    pub(crate) pending: Vec<PathBuf>,
    /// Folders in which something could not be settled for want of room.
    pub(crate) without_room: Vec<(PathBuf, Error)>,
    pub(crate) found: Recovery,
}

impl Walk<'_> {
    /// Only an error of the root itself is an error.
    pub(crate) fn enter(&mut self, folder: &Path) -> Result<()> {
        if folder.as_os_str().is_empty() {
            let top = self.dir.open_at(folder).map_err(|e| Error::io("open", self.root, e))?;
            return self.visit(&Arc::new(top), folder);
        }
        let opened = match self.one_file_system {
            true => self.dir.open_on_this_mount(folder),
            false => self.dir.open_beneath(folder),
        };
        match opened {
            Ok(dir) => self.visit(&Arc::new(dir), folder),
            // Removed, or replaced by a link, since it was listed.
            Err(e) if sys::is_gone(&e) => Ok(()),
            Err(e) if self.one_file_system && sys::crosses_devices(&e) => Ok(()),
            Err(_) => {
                self.pass_over(folder);
                Ok(())
            }
        }
    }

    fn pass_over(&mut self, folder: &Path) {
        self.found.unreadable.push(self.root.join(folder));
    }

    fn visit(&mut self, dir: &Arc<Dir>, folder: &Path) -> Result<()> {
        match self.list(dir, folder) {
            // After the listing: removing entries while listing may make the system skip some.
            Ok(remnants) => self.recover_all(dir, folder, remnants),
            Err(e) if folder.as_os_str().is_empty() => return Err(Error::io("list", self.root, e)),
            // Removed since it was opened, where that doesn't hold it.
            Err(e) if sys::is_gone(&e) => {}
            // By halves, it may lack the record that one of its remnants belongs to.
            Err(_) => self.pass_over(folder),
        }
        Ok(())
    }

    /// The remnants of a folder. Folders in it are to be looked into.
    fn list(&mut self, dir: &Dir, folder: &Path) -> io::Result<Vec<(Role, OsString)>> {
        let mut remnants = Vec::new();
        for entry in dir.entries()? {
            let (name, kind) = entry?;
            match names::role_of(&name) {
                Some(role) => remnants.push((role, name)),
                None if dir.kind_of(&name, kind).is_ok_and(|kind| kind == Kind::Dir) => {
                    self.pending.push(folder.join(name));
                }
                None => {}
            }
        }
        Ok(remnants)
    }

    fn recover_all(&mut self, dir: &Arc<Dir>, folder: &Path, remnants: Vec<(Role, OsString)>) {
        let of = |wanted: Role| {
            let names = remnants.iter().filter(move |(role, _)| *role == wanted);
            names.map(|(_, name)| name.clone()).collect::<Vec<_>>()
        };
        let (journals, staged) = (of(Role::Journal), of(Role::Change));
        if !journals.is_empty() || !staged.is_empty() {
            let mut report = RecoveryReport::default();
            let done = recover_transactions(dir, &journals, &staged, self.policy, &mut report);
            let mut names = journals.iter().chain(&staged);
            self.take_down((report, done), folder, &mut names, "recover the transaction in");
        }
        let swaps = Found { records: of(Role::Swap), kept: of(Role::Kept), trees: of(Role::Tree) };
        if !swaps.is_empty() {
            let mut report = RecoveryReport::default();
            let done = recover_swaps(dir, &swaps, self.policy, &mut report);
            self.take_down((report, done), folder, &mut swaps.names(), "recover the directories in");
        }
        for name in of(Role::Undo) {
            self.undo(dir, folder, &name);
        }
        let (policy, trust) = (self.policy, self.policy.trust(dir));
        for (role, name) in &remnants {
            self.recover_one(folder, name, recover_alone(policy, &trust, *role, name));
        }
    }

    /// Settles what saves left in a directory for undo copies, given by its absolute path.
    pub(crate) fn enter_undo_dir(&mut self, path: &Path) {
        let listed = Dir::open(path).and_then(|dir| {
            let names = dir.entries()?.map(|entry| entry.map(|(name, _)| name));
            let names = names.collect::<io::Result<Vec<_>>>()?;
            Ok((Arc::new(dir), names))
        });
        let (dir, remnants) = match listed {
            Ok(listed) => listed,
            Err(e) if sys::is_not_found(&e) => return,
            // What was done below the root is to be told all the same.
            Err(_) => return self.pass_over(path),
        };
        let (policy, trust) = (self.policy, self.policy.trust(&dir));
        for name in remnants {
            match names::role_of(&name) {
                Some(Role::Undo) => self.undo(&dir, path, &name),
                // New content on its way; the lock tells whether its writer lives.
                Some(Role::Stage) => self.recover_one(path, &name, policy.remove_file(&trust, &name)),
                _ => {}
            }
        }
    }

    fn undo(&mut self, dir: &Arc<Dir>, folder: &Path, name: &OsString) {
        let root = Root { dir: &self.dir, path: self.root };
        let mut report = RecoveryReport::default();
        let done = recover_undo(dir, name, self.policy, root).map(|undone| match undone {
            Undone::Left(state) => report.add(state, name),
            Undone::RestoredBeside(target) => report.rolled_back.push(target),
            Undone::RestoredBelow(target) => self.found.rolled_back.push(self.root.join(target)),
        });
        self.take_down((report, done), folder, &mut std::iter::once(name), "restore the old content in");
    }

    fn recover_one(&mut self, folder: &Path, name: &OsString, settled: io::Result<RemnantState>) {
        let mut report = RecoveryReport::default();
        let done = settled.map(|state| report.add(state, name));
        self.take_down((report, done), folder, &mut std::iter::once(name), "recover the remnant in");
    }

    fn take_down(
        &mut self,
        (report, done): (RecoveryReport, io::Result<()>),
        folder: &Path,
        names: &mut dyn Iterator<Item = &OsString>,
        operation: &'static str,
    ) {
        let base = self.root.join(folder);
        match done {
            Ok(()) => {}
            // Then the rest comes first: there may be something to remove.
            Err(e) if sys::is_out_of_space(&e) => {
                if self.without_room.last().is_none_or(|(last, _)| last != folder) {
                    self.without_room.push((folder.to_owned(), Error::io(operation, &base, e)));
                }
            }
            Err(_) => {
                let told = [&report.removed, &report.quarantined, &report.in_use, &report.untrusted];
                let mut told: Vec<&Path> = told.into_iter().flatten().map(PathBuf::as_path).collect();
                told.sort_unstable();
                let left = names.filter(|name| told.binary_search(&Path::new(name)).is_err());
                self.found.unreadable.extend(left.map(|name| base.join(name)));
                self.found.is_unsettled = true;
            }
        }
        self.found.is_unsettled |= !report.unreadable.is_empty();
        for (all, of_folder) in [
            (&mut self.found.completed, report.completed),
            (&mut self.found.rolled_back, report.rolled_back),
            (&mut self.found.removed, report.removed),
            (&mut self.found.in_use, report.in_use),
            (&mut self.found.quarantined, report.quarantined),
            (&mut self.found.unreadable, report.unreadable),
            (&mut self.found.untrusted, report.untrusted),
        ] {
            all.extend(of_folder.into_iter().map(|path| base.join(path)));
        }
    }
}

/// Settles a remnant that has nothing to do with any other one.
fn recover_alone(
    policy: RemnantPolicy,
    trust: &Trust<'_>,
    role: Role,
    name: &OsStr,
) -> io::Result<RemnantState> {
    match role {
        // The lock of a dead writer is an orphan like any other.
        Role::Passing => policy.remove_passing(trust, name),
        Role::Stage | Role::Lock => policy.remove_file(trust, name),
        Role::StagingDir => policy.remove_staging_dir(trust, name),
        // Together with others of the folder, or left for a person to look at.
        Role::Change | Role::Journal | Role::Quarantined => Ok(RemnantState::Ignored),
        Role::Swap | Role::Kept | Role::Tree | Role::Undo => Ok(RemnantState::Ignored),
    }
}
