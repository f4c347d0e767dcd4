//! Directories that can't be replaced by a new one, because it would not be what they are.
//!
//! Encryption, the quota of a project and snapshots belong to an inode. A copy that went without them would be plain
//! text on the disk, or use space that nobody counts, and nobody would be told.

use std::path::Path;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::sys::{Dir, DirNature};

/// Fails if a directory that is made in `parent` would not be what `old` is.
pub(crate) fn refuse_if_lost(old: &Dir, parent: &Dir, path: &Path) -> Result<()> {
    let inspect = |dir: &Dir| dir.nature().map_err(|e| Error::io("inspect", path, e));
    let old = inspect(old)?;
    if old == DirNature::default() {
        return Ok(());
    }
    let refuse =
        |reason| Err(Error::new(ErrorKind::Unsupported, "replace the directory", path).because(reason));
    loss(old, inspect(parent)?).map_or(Ok(()), refuse)
}

/// A new directory is encrypted as its parent is. Which project that is for, nobody says.
fn loss(old: DirNature, parent: DirNature) -> Option<&'static str> {
    match (old, parent) {
        (DirNature { is_subvolume: true, .. }, _) => {
            Some("it is a subvolume, and a new directory would be none")
        }
        (DirNature { inherits_project: true, .. }, _) => {
            Some("it belongs to the project of a quota, and a new directory might not")
        }
        (DirNature { is_encrypted: true, .. }, DirNature { is_encrypted: false, .. }) => {
            Some("it is encrypted, and a new directory beside it would not be")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_parent_hands_on_is_kept() {
        let plain = DirNature::default();
        let encrypted = DirNature { is_encrypted: true, ..plain };
        let project = DirNature { inherits_project: true, ..plain };
        let subvolume = DirNature { is_subvolume: true, ..plain };
        for parent in [plain, encrypted, project, subvolume] {
            assert_eq!(loss(plain, parent), None);
            assert_eq!(loss(encrypted, parent).is_none(), parent.is_encrypted);
            assert!(loss(project, parent).is_some_and(|reason| reason.contains("project")));
            assert!(loss(subvolume, parent).is_some_and(|reason| reason.contains("subvolume")));
        }
    }
}
