//! Changes whose paths are spelled differently and mean one file, on file systems where that is so.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::set::spelling::{is_one_entry, loose_key, would_be_one};
use crate::sys::{self, Dir};
use crate::transaction::Transaction;

impl Transaction {
    /// Takes back what was planned for the same file under another spelling: of two changes the later counts.
    /// False if there was nothing.
    pub(super) fn forget_other_spellings(&mut self, rel: &Path) -> Result<bool> {
        let known = self.spellings.entry(loose_key(rel)).or_default();
        if !known.iter().any(|known| known == rel) {
            known.push(rel.to_owned());
        }
        let others: Vec<_> = known.iter().filter(|known| *known != rel).cloned().collect();
        let mut was_planned = false;
        for other in others.iter().filter(|other| self.entries.contains_key(*other)).collect::<Vec<_>>() {
            let is_one = self.is_one_file(rel, other);
            if is_one.map_err(|e| Error::io("compare the spelling of", &self.path.join(rel), e))? {
                was_planned |= self.forget(other);
            }
        }
        Ok(was_planned)
    }

    fn is_one_file(&self, one: &Path, other: &Path) -> io::Result<bool> {
        let mut dir = Some(Arc::clone(&self.root));
        for (name, also) in one.iter().zip(other.iter()) {
            if name != also {
                let there = dir.as_deref().map_or(Ok(None), |dir| is_one_entry(dir, name, also))?;
                let is_one = match (there, &self.stage) {
                    (Some(is_one), _) => is_one,
                    (None, Some(stage)) => would_be_one(stage.dir(), name, also)?,
                    (None, None) => false,
                };
                if !is_one {
                    return Ok(false);
                }
            }
            dir = dir.map_or(Ok(None), |dir| open_if_any(&dir, name))?;
        }
        Ok(true)
    }
}

fn open_if_any(dir: &Dir, name: &std::ffi::OsStr) -> io::Result<Option<Arc<Dir>>> {
    match dir.open_child(name) {
        Err(e) if sys::is_gone(&e) => Ok(None),
        opened => opened.map(|dir| Some(Arc::new(dir))),
    }
}
