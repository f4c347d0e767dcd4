//! The demands on [`recover`](crate::recover) after a mere crash.

use std::path::{Path, PathBuf};

use crate::crash_testing::settings::Outcome;

/// Runs it; nobody has tampered with anything, so there is nothing that it can't judge.
pub(crate) fn recover(root: &Path) -> Outcome {
    let recovery = crate::recover(root)?;
    let odd: [(&str, &[PathBuf]); 3] = [
        ("quarantined", recovery.quarantined()),
        ("found in use", recovery.in_use()),
        ("could not read", recovery.unreadable()),
    ];
    match odd.into_iter().find(|(_, paths)| !paths.is_empty()) {
        Some((what, paths)) => Err(format!("recover {what}: {paths:?}").into()),
        None => Ok(()),
    }
}

/// A second run finds nothing to do.
pub(crate) fn is_settled(root: &Path) -> Result<(), String> {
    match crate::recover(root) {
        Ok(recovery) if recovery.is_clean() => Ok(()),
        Ok(recovery) => Err(format!("a second recovery still found something to do: {recovery:?}")),
        Err(e) => Err(format!("a second recovery failed: {e}")),
    }
}
