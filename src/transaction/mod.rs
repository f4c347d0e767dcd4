//! Many changes under one root, all or none.

mod commit;
mod options;
mod site;

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::names::Role;
use crate::atomic::stage_dir::{StageDir, name_of};
use crate::atomic::stream::Stream;
use crate::atomic::sync_set::How;
use crate::atomic::writer_lock::WriterLock;
use crate::atomic::{creation_mode_of, link_or_drop};
use crate::options::{Committed, WriteOptions};
use crate::staged_file::{Collected, Collector, StagedFile};
use crate::sys::{Dir, File, FsKind, Kind, Stat};
use crate::{Error, ErrorKind, Result};
pub use options::TransactionOptions;
use site::Checked;

/// Many changes under one root directory: all of them happen or none, across crashes.
///
/// Changes are staged in a private directory in the root. `commit` makes them durable and then
/// writes one checksummed record: that is the point where the transaction is decided. After it the
/// changes are applied one by one. If a crash comes between, [`recover`](crate::recover()) (or the next
/// `begin` on the root) finishes them; if it comes before, it removes what was staged. A single change
/// is one rename and needs no record.
///
/// Paths are relative to the root, and links are not followed: a link on the way is refused, and so
/// is one at the name of a file to write. Missing directories are created with the change. Replaced
/// files keep their metadata, as with [`write`](crate::write()). Dropped, the transaction is discarded.
///
/// # What readers see
///
/// While `commit` applies the changes, a reader may see some of them and not yet others; each file
/// is complete, old or new. To read several files of one state, share a
/// [`LockFile`](crate::LockFile) between readers ([`lock_shared`](crate::LockFile::lock_shared)) and
/// writers, held around `commit`. Readers see all or nothing without a lock of theirs only where the
/// whole directory is swapped.
///
/// # Limits
///
/// * One writer at a time for a root, in all processes together; `begin` is
///   [`Locked`](ErrorKind::Locked) for the second. Roots within each other don't exclude each other.
/// * Everything is on one file system; a target on another mount is `CrossDevice`.
/// * A file system without locks is `Unsupported`.
/// * Recovery knows files by their inode numbers. vfat, exFAT and some FUSE file systems number them
///   anew at each mount: there it is all or none only as long as the file system stays mounted.
/// * What is saved to a target between a crash and the recovery wins over the record. A target that
///   is *deleted* in that time comes back.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::fs::write(dir.path().join("old.idx"), "")?;
/// let mut change = durafile::Transaction::begin(dir.path())?;
/// change.write("data/a.bin", [1, 2, 3])?;
/// change.write("new.idx", "a: data/a.bin")?;
/// change.remove("old.idx")?;
/// change.commit()?;
/// # assert!(!dir.path().join("old.idx").exists());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a transaction that is not committed changes nothing"]
pub struct Transaction {
    path: PathBuf,
    root: Arc<Dir>,
    stat: Stat,
    kind: FsKind,
    how: How,
    options: WriteOptions,
    entries: BTreeMap<PathBuf, Entry>,
    /// The target of each staged file, in the order of staging.
    tags: Vec<PathBuf>,
    /// How many changes there were.
    changes: usize,
    collector: Collector,
    checked: Checked,
    /// Holds the staged files; gone, with them, when this is dropped.
    stage: Option<StageDir>,
    /// Dropped last, so that the names above are gone before the next writer begins.
    _lock: WriterLock,
}

#[derive(Debug)]
struct Entry {
    /// The number of the staged file; none if the target is to be removed.
    put: Option<u64>,
    tag: usize,
    /// Directories that this change needs and that don't exist.
    missing: Vec<PathBuf>,
    /// Which change it was.
    order: usize,
}

impl Transaction {
    /// Begins a transaction in an existing directory, after finishing or undoing what a crash left of
    /// the last one there.
    ///
    /// # Errors
    ///
    /// [`Locked`](ErrorKind::Locked) if another writer is at work;
    /// [`Corrupt`](ErrorKind::Corrupt), once, if a record doesn't match its checksum: it has been moved
    /// aside with what it was about; `Unsupported` if a record was written by another version of this
    /// crate, which is left alone.
    pub fn begin(root: impl AsRef<Path>) -> Result<Transaction> {
        TransactionOptions::new().begin(root)
    }

    fn new(
        path: &Path,
        root: Arc<Dir>,
        (stat, kind): (Stat, FsKind),
        how: How,
        options: &TransactionOptions,
        lock: WriterLock,
    ) -> Transaction {
        Transaction {
            path: path.to_owned(),
            stat,
            kind,
            how,
            options: WriteOptions { cancel: options.cancel.clone(), ..WriteOptions::new() },
            entries: BTreeMap::new(),
            tags: Vec::new(),
            changes: 0,
            collector: Collected::with_facts(),
            checked: Transaction::unchecked(&root, stat),
            stage: None,
            root,
            _lock: lock,
        }
    }

    /// Will create or replace the file `rel`.
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()); `InvalidPath` for a path that is absolute, contains `..` or
    /// leads over a link. After an error in the middle of the content, `commit` fails.
    pub fn write(&mut self, rel: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let mut file = self.create_file(rel)?;
        file.write_whole(contents.as_ref())?;
        file.finish()
    }

    /// Will create or replace the file `rel` with `value` as JSON.
    ///
    /// # Errors
    ///
    /// As [`write`](Transaction::write) and [`write_json`](crate::write_json).
    #[cfg(feature = "json")]
    pub fn write_json<T: serde::Serialize + ?Sized>(
        &mut self,
        rel: impl AsRef<Path>,
        value: &T,
    ) -> Result<()> {
        let mut file = self.create_file(rel)?;
        file.write_json(value)?;
        file.finish()
    }

    /// Will create or replace the file `rel` with what is written to the stream, which has to be
    /// ended by [`StagedFile::finish`] before `commit`.
    ///
    /// # Errors
    ///
    /// As [`write`](Transaction::write).
    pub fn create_file(&mut self, rel: impl AsRef<Path>) -> Result<StagedFile> {
        let rel = rel.as_ref();
        let site = self.site(rel, false)?;
        self.refuse_as_parent(rel)?;
        let existing = site.existing.filter(|old| old.stat.kind == Kind::File);
        let mode = creation_mode_of(existing.as_ref(), &self.options);
        let path = self.path.join(rel);
        let created = self.stage_file(&site.parent, mode);
        let (number, file) = created.map_err(|e| Error::io("create a file to be put at", &path, e))?;
        let stream = Stream::new(file, &path, (&self.options).into()).summed();
        let tag = self.tags.len();
        let file = StagedFile::new(stream, existing, &self.options, self.how, tag, &self.collector);
        self.tags.push(rel.to_owned());
        self.set(rel, Some(number), tag, site.missing);
        Ok(file)
    }

    /// Will remove the file or link `rel`.
    ///
    /// # Errors
    ///
    /// `NotFound` if it isn't there; `IsADirectory` for a directory.
    pub fn remove(&mut self, rel: impl AsRef<Path>) -> Result<()> {
        let rel = rel.as_ref();
        let site = self.site(rel, true)?;
        if site.existing.is_some() {
            self.set(rel, None, 0, Vec::new());
            return Ok(());
        }
        if !self.forget(rel) {
            return Err(Error::new(ErrorKind::NotFound, "remove", &self.path.join(rel)));
        }
        Ok(())
    }

    /// Decides and applies the changes. When this returns, all of them are durable.
    ///
    /// # Errors
    ///
    /// Before the decision nothing has changed. After it, [`Error::target`] is
    /// [`Pending`](crate::TargetState::Pending): [`recover`](crate::recover()) or the next `begin`
    /// finishes it. A single change that is in place and not known to be durable is
    /// [`Replaced`](crate::TargetState::Replaced).
    pub fn commit(mut self) -> Result<Committed> {
        match self.try_commit() {
            Ok(durability) => Ok(Committed { durability, unchanged: false }),
            Err(e) => {
                let state = e.target();
                let mut entries: Vec<_> = self.entries.iter().collect();
                entries.sort_by_key(|(_, entry)| entry.order);
                Err(e.with_files(entries.iter().map(|(rel, _)| (self.path.join(rel), state)).collect()))
            }
        }
    }

    /// Ends the transaction; nothing changes, and nothing is left behind.
    pub fn discard(self) {
        drop(self);
    }

    fn set(&mut self, rel: &Path, put: Option<u64>, tag: usize, missing: Vec<PathBuf>) {
        self.forget(rel);
        self.changes += 1;
        self.entries.insert(rel.to_owned(), Entry { put, tag, missing, order: self.changes });
    }

    /// Takes back what was planned for a path. False if there was nothing.
    fn forget(&mut self, rel: &Path) -> bool {
        let Some(entry) = self.entries.remove(rel) else { return false };
        if let (Some(number), Some(stage)) = (entry.put, &self.stage) {
            // If this fails, it goes with the others.
            let _ = stage.dir().unlink(&name_of(number));
        }
        true
    }

    /// A file can't be put where another change needs a directory.
    fn refuse_as_parent(&self, rel: &Path) -> Result<()> {
        let next = self.entries.range::<Path, _>((Bound::Excluded(rel), Bound::Unbounded)).next();
        if next.is_some_and(|(next, _)| next.starts_with(rel)) {
            return Err(Error::new(ErrorKind::IsADirectory, "change", &self.path.join(rel)));
        }
        Ok(())
    }

    /// Creates a staged file as if it were created in `parent`, from which it inherits group and
    /// default ACL.
    fn stage_file(&mut self, parent: &Arc<Dir>, mode: u32) -> io::Result<(u64, File)> {
        let is_root = Arc::ptr_eq(&self.root, parent);
        let stage = self.stage()?;
        if !is_root {
            if let Some(file) = parent.create_unnamed(mode)?.filter(|file| file.can_be_linked(parent)) {
                let number = stage.fresh_number();
                if let Some(file) = link_or_drop(file, stage.dir(), &name_of(number))? {
                    return Ok((number, file));
                }
            }
        }
        stage.create_file(mode)
    }

    /// The directory for staged files, created with the first of them.
    fn stage(&mut self) -> io::Result<&mut StageDir> {
        let stage = match self.stage.take() {
            Some(stage) => stage,
            None => StageDir::create(&self.root, Role::Change)?,
        };
        Ok(self.stage.insert(stage))
    }

    /// Whether the staged files stay when this is dropped: the decision may stand.
    fn leave(&mut self, yes: bool) {
        if let Some(stage) = &mut self.stage {
            stage.leave(yes);
        }
    }
}
