//! The report of a recovery.

use std::path::PathBuf;

/// What a recovery found and did. Each list of paths is sorted.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let recovery = durafile::recover(dir)?;
/// if !recovery.is_clean() {
///     eprintln!("{recovery:?}");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub(super) removed: Vec<PathBuf>,
    pub(super) completed: Vec<PathBuf>,
    pub(super) rolled_back: Vec<PathBuf>,
    pub(super) in_use: Vec<PathBuf>,
    pub(super) quarantined: Vec<PathBuf>,
    pub(super) unreadable: Vec<PathBuf>,
    pub(super) untrusted: Vec<PathBuf>,
    /// Something is left that has to be settled: a remnant and no folder is in `unreadable`.
    pub(super) is_unsettled: bool,
}

impl Recovery {
    /// Whether there was nothing to do, and no remnant or record is left that needs attention.
    ///
    /// Live writers don't count, nor do folders that can't be listed: those are in
    /// [`unreadable`](Recovery::unreadable). Something that is moved aside counts in the recovery that moves it, and not
    /// in later ones.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// assert!(durafile::recover(dir)?.is_clean());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn is_clean(&self) -> bool {
        let settled = [&self.removed, &self.completed, &self.rolled_back, &self.quarantined];
        let is_settled = !self.is_unsettled && self.untrusted.is_empty();
        is_settled && settled.iter().all(|list| list.is_empty())
    }

    /// Staged content of writers that have died, which was removed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// for path in durafile::recover(dir)?.removed() {
    ///     println!("removed the rest of an interrupted save: {}", path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn removed(&self) -> &[PathBuf] {
        &self.removed
    }

    /// Changes that were decided before the crash, and that this recovery finished.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// for path in durafile::recover(dir)?.completed() {
    ///     println!("finished an interrupted change: {}", path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn completed(&self) -> &[PathBuf] {
        &self.completed
    }

    /// Changes that were begun but not decided before the crash, and that this recovery undid. Files that were being
    /// [overwritten](crate::InPlace::Fallback) and have their old content back are among them.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// for path in durafile::recover(dir)?.rolled_back() {
    ///     println!("undid an interrupted change: {}", path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rolled_back(&self) -> &[PathBuf] {
        &self.rolled_back
    }

    /// Staged content that belongs, or may belong, to a live writer, and was left alone.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let file = durafile::AtomicFile::create(dir.join("a.txt"))?;
    /// for path in durafile::recover(dir)?.in_use() {
    ///     println!("somebody is saving: {}", path.display());
    /// }
    /// # drop(file);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn in_use(&self) -> &[PathBuf] {
        &self.in_use
    }

    /// Records that contradict what is there, and that were moved aside for a person to look at. A crash alone never
    /// leads to this. An undo copy of a file that was
    /// [overwritten](crate::InPlace::Fallback) is moved aside if something else was saved there since.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// for path in durafile::recover(dir)?.quarantined() {
    ///     eprintln!("moved aside, to be looked at: {}", path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn quarantined(&self) -> &[PathBuf] {
        &self.quarantined
    }

    /// Folders that could not be searched, and remnants that could not be opened or removed: because of missing
    /// permissions, because the disk or a mount answers with errors, because the path is too long,
    /// or because another version of this crate made them. Undo copies of a file that was mounted and isn't mounted now
    /// are listed here, too.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// for path in durafile::recover(dir)?.unreadable() {
    ///     eprintln!("could not look into {}", path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn unreadable(&self) -> &[PathBuf] {
        &self.unreadable
    }

    /// Records and remnants that somebody else may have made, changed or renamed, and that were left alone:
    /// see [`RecoveryOptions::trust_others`](crate::RecoveryOptions::trust_others).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// for path in durafile::recover(dir)?.untrusted() {
    ///     eprintln!("somebody else may have made {}", path.display());
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn untrusted(&self) -> &[PathBuf] {
        &self.untrusted
    }

    pub(super) fn sorted(mut self) -> Recovery {
        for list in [
            &mut self.removed,
            &mut self.completed,
            &mut self.rolled_back,
            &mut self.in_use,
            &mut self.quarantined,
            &mut self.unreadable,
            &mut self.untrusted,
        ] {
            list.sort_unstable();
            // What lacked room at first was looked at twice.
            list.dedup();
        }
        self
    }
}
