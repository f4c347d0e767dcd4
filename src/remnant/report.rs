//! The report on remnants.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use crate::error_kind::ErrorKind;

/// The outcome for a remnant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RemnantState {
    /// The remnant is gone meanwhile, or nothing is to be said of it.
    Ignored,
    /// Its writer lives, or may live.
    InUse,
    /// The remnant was an orphan, and was removed.
    Removed,
    /// The remnant can't be opened or removed.
    Unreadable,
    /// Somebody else can have made it, or have given it its name. It was left alone.
    Untrusted,
    /// Nobody can tell what the remnant is for; it was left as it is.
    Undecided,
    /// The remnant is an orphan that may be somebody's last copy, and has this name now.
    Quarantined(OsString),
}

/// The outcome for the remnants in one directory, relative to it.
#[derive(Debug, Default)]
pub(crate) struct RecoveryReport {
    /// Targets whose change was carried out.
    pub(crate) completed: Vec<PathBuf>,
    /// Targets whose change was never decided.
    pub(crate) rolled_back: Vec<PathBuf>,
    pub(crate) removed: Vec<PathBuf>,
    pub(crate) in_use: Vec<PathBuf>,
    /// Under the names that they have now.
    pub(crate) quarantined: Vec<PathBuf>,
    /// Records of an unknown version, and what can't be opened or removed; left as they are.
    pub(crate) unreadable: Vec<PathBuf>,
    /// Remnants that contradict what is there, left for a recovery to move aside.
    pub(crate) undecided: Vec<PathBuf>,
    /// Left as they are, too, for whoever may decide about them.
    pub(crate) untrusted: Vec<PathBuf>,
}

impl RecoveryReport {
    /// Takes down what became of one remnant.
    pub(crate) fn add(&mut self, state: RemnantState, name: &OsStr) {
        match state {
            RemnantState::Ignored => {}
            RemnantState::InUse => self.in_use.push(name.into()),
            RemnantState::Removed => self.removed.push(name.into()),
            RemnantState::Unreadable => self.unreadable.push(name.into()),
            RemnantState::Undecided => self.undecided.push(name.into()),
            RemnantState::Untrusted => self.untrusted.push(name.into()),
            RemnantState::Quarantined(aside) => self.quarantined.push(aside.into()),
        }
    }

    /// The first of these remnants that a writer must not go over, and the kind of error that it ends with.
    pub(crate) fn stopper(&self, is_one: &dyn Fn(&OsStr) -> bool) -> Option<(ErrorKind, &Path)> {
        let lists = [
            (&self.untrusted, ErrorKind::Untrusted),
            (&self.undecided, ErrorKind::Corrupt),
            (&self.unreadable, ErrorKind::Unsupported),
        ];
        lists.into_iter().find_map(|(list, kind)| {
            let found = list.iter().find(|name| is_one(name.as_os_str()));
            found.map(|name| (kind, name.as_path()))
        })
    }
}
