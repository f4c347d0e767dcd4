//! Changes whose paths are spelled differently and mean one file, on file systems where that is so.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::spelling::is_one_entry;
use crate::error::{Error, Result};
use crate::set::spelling::{Comparison, ask_in, may_differ, would_be_one};
use crate::set::staging_dir::StagingDir;
use crate::sys::{self, Dir, absent};
use crate::transaction::Transaction;

impl Transaction {
    /// What is planned for the same file under other spellings: of two changes the later counts. `nearest` is the nearest
    /// directory that exists; those that are yet to be made will be like it.
    pub(super) fn other_spellings(&mut self, rel: &Path, nearest: &Arc<Dir>) -> Result<Vec<PathBuf>> {
        if !self.spellings.may_have_others(rel) {
            return Ok(Vec::new());
        }
        let fail = |path: &Path, e| Error::io("compare the spelling of", &path.join(rel), e);
        let comparison = self.comparison_in(rel.parent().unwrap_or(Path::new("")), nearest);
        let comparison = comparison.map_err(|e| fail(&self.path, e))?;
        let mut same = Vec::new();
        for other in self.spellings.others(rel, comparison) {
            let is_planned = self.entries.contains_key(other);
            if is_planned && self.is_one_file(rel, other, nearest).map_err(|e| fail(&self.path, e))? {
                same.push(other.to_owned());
            }
        }
        Ok(same)
    }

    /// Each directory is asked once.
    fn comparison_in(&mut self, parent: &Path, nearest: &Arc<Dir>) -> io::Result<Comparison> {
        if let Some(asked) = self.comparisons.get(parent) {
            return Ok(*asked);
        }
        let asked = self.ask_in(nearest, Comparison::ask)?.unwrap_or(Comparison::Loose);
        let asked = asked.below(&self.root, parent);
        self.comparisons.insert(parent.to_owned(), asked);
        Ok(asked)
    }

    /// The root answers for the directories below it if they are like it: then nothing is made in them.
    fn ask_in<T>(
        &self,
        dir: &Arc<Dir>,
        question: impl FnOnce(&Dir) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let stage = self.stage.as_ref().map(StagingDir::dir);
        match !Arc::ptr_eq(dir, &self.root) && may_differ(dir, &self.root, self.kind) {
            true => ask_in(dir, None, question),
            false => ask_in(&self.root, stage, question),
        }
    }

    fn is_one_file(&self, one: &Path, other: &Path, nearest: &Arc<Dir>) -> io::Result<bool> {
        for (at, (name, also)) in one.iter().zip(other.iter()).enumerate() {
            if name == also {
                continue;
            }
            let dir = match absent(self.open_dir(&one.iter().take(at).collect::<PathBuf>())) {
                // What can't be listed can't be asked.
                Err(e) if sys::is_denied(&e) => return Ok(false),
                opened => opened?,
            };
            let there = dir.as_ref().map_or(Ok(None), |dir| is_one_entry(dir, name, also))?;
            let would_be = || self.would_be_one(dir.as_ref().unwrap_or(nearest), name, also);
            if !there.map_or_else(would_be, Ok)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where no private directory can be made, that in the root has to do.
    fn would_be_one(&self, dir: &Arc<Dir>, one: &OsStr, other: &OsStr) -> io::Result<bool> {
        let question = |private: &Dir| would_be_one(private, one, other);
        match (self.ask_in(dir, question)?, &self.stage) {
            (Some(is_one), _) => Ok(is_one),
            (None, Some(stage)) => question(stage.dir()),
            (None, None) => Ok(false),
        }
    }
}
