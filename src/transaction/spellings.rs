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
use crate::transaction::entry::Site;

impl Transaction {
    /// What is planned for the same file under other spellings: of two changes the later counts. `nearest` is the nearest
    /// directory that exists; those that are yet to be made will be like it.
    pub(super) fn other_spellings(&mut self, rel: &Path, nearest: &Arc<Dir>) -> Result<Vec<PathBuf>> {
        if !self.spellings.may_have_others(rel) {
            return Ok(Vec::new());
        }
        let comparison = self.comparison_for(rel, nearest)?;
        let planned =
            self.spellings.others(rel, comparison).filter(|other| self.entries.contains_key(*other));
        self.same_as(rel, planned, nearest)
    }

    /// Refuses a file where another change needs a directory under another spelling, and the other way round. A directory that
    /// exists need not be asked about: the file system has found it under both spellings.
    pub(super) fn refuse_other_spellings_as_parents(&mut self, rel: &Path, site: &Site) -> Result<()> {
        for dir in &site.missing {
            if self.spellings.may_have_others(dir) {
                let comparison = self.comparison_for(dir, &site.parent)?;
                for file in self.same_as(dir, self.spellings.others(dir, comparison), &site.parent)? {
                    self.refuse_below_file(rel, &file)?;
                }
            }
        }
        if self.new_dirs.may_have_others(rel) {
            let comparison = self.comparison_for(rel, &site.parent)?;
            for dir in self.same_as(rel, self.new_dirs.others(rel, comparison), &site.parent)? {
                self.refuse_as_parent(rel, &dir)?;
            }
        }
        Ok(())
    }

    /// Those that lead to what `path` leads to, or would.
    fn same_as<'a>(
        &self,
        path: &Path,
        others: impl Iterator<Item = &'a Path>,
        nearest: &Arc<Dir>,
    ) -> Result<Vec<PathBuf>> {
        let mut same = Vec::new();
        for other in others {
            if self.is_one_file(path, other, nearest).map_err(|e| self.not_compared(path, e))? {
                same.push(other.to_owned());
            }
        }
        Ok(same)
    }

    fn not_compared(&self, path: &Path, e: io::Error) -> Error {
        Error::io("compare the spelling of", &self.path.join(path), e)
    }

    fn comparison_for(&mut self, path: &Path, nearest: &Arc<Dir>) -> Result<Comparison> {
        let comparison = self.comparison_in(path.parent().unwrap_or(Path::new("")), nearest);
        comparison.map_err(|e| self.not_compared(path, e))
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
