//! Many changes under one root, all or none.

pub(crate) mod analysis;
pub(crate) mod apply;
mod begin;
mod check;
mod commit;
pub(crate) mod dirs_below;
mod entry;
pub(crate) mod options;
pub(crate) mod record;
pub(crate) mod recovery;
mod spellings;
mod try_out;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::content::ContentWriter;
use crate::atomic::staged::{creation_mode_of, link_or_drop};
use crate::atomic::target::Target;
use crate::atomic::target::refuse_hard_links;
use crate::error::{Error, Result, TargetState};
use crate::error_kind::ErrorKind;
use crate::names::{Role, name_of};
use crate::options::WriteOptions;
use crate::options::durability::Committed;
use crate::set::collector::{Collected, Collector, lock};
use crate::set::spelling::{Comparison, Spellings};
use crate::set::staged_file::StagedFile;
use crate::set::staging_dir::StagingDir;
use crate::set::sync_request::GroupSync;
use crate::set::writer_lock::WriterLock;
use crate::sys::{self, Dir, File, FsKind, Kind, Stat};
use crate::transaction::entry::{Checked, Entry};
use crate::transaction::options::TransactionOptions;

/// Many changes under one root directory: all of them happen or none, across crashes.
///
/// Changes are staged in a private directory in the root. `commit` makes them durable and then
/// writes one checksummed record: with that record the transaction is decided. After that, the
/// changes are applied one by one. If a crash happens after the decision, [`recover`](crate::recover()) (or the next
/// `begin` on the root) finishes the changes; if it happens before, the staged files are removed. A single change
/// is one rename and needs no record.
///
/// Paths are relative to the root, and links are not followed: a link on the way is refused, and so
/// is one at the name of a file to write. Missing directories are created with the change. Replaced
/// files keep their metadata, as with [`write`](crate::write()). A transaction that is dropped is discarded.
///
/// # What readers see
///
/// While `commit` applies the changes, a reader may see some of them and not yet others; each file
/// is complete, old or new. To read several files of one state, share a
/// [`LockFile`](crate::LockFile) between readers ([`lock_shared`](crate::LockFile::lock_shared)) and
/// writers, held around `commit`. Without such a lock, readers see all or nothing only
/// where the whole directory is swapped: see [`AtomicDir`](crate::AtomicDir).
///
/// # Limits
///
/// * A root has one writer at a time, in all processes together; for a second one `begin` fails with
///   [`Locked`](ErrorKind::Locked). Roots that lie within each other don't exclude each other.
/// * Everything must be on one file system; a target on another mount is
///   [`CrossDevice`](ErrorKind::CrossDevice).
/// * Some four million changes are the most; with more, `commit` is [`TooLarge`](ErrorKind::TooLarge) and changes nothing.
/// * The file system must have locks; without them, `begin` is [`Unsupported`](ErrorKind::Unsupported).
/// * Content that is saved to a target between a crash and the recovery, or restored from a backup, wins over the
///   record: recovery notices it by its inode, size or time. A target that is *deleted* in that time comes back.
///   Content that another program wrote to a target *in place*, without a sync and shortly before the transaction, may
///   be lost in a power cut that the record survives; the target then looks as if it had been saved later.
/// * In a copy of the whole tree, and where inodes are numbered anew at each mount (vfat, exFAT, some FUSE
///   file systems), recovery knows files by size, time and checksum. It completes a pending transaction there if
///   each target is in its old state or its new one, and otherwise moves the record aside.
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
    /// As the caller gave it, for messages.
    path: PathBuf,
    /// The root's absolute path, which holds whatever the current directory is by then.
    place: PathBuf,
    root: Arc<Dir>,
    stat: Stat,
    kind: FsKind,
    sync: GroupSync,
    /// How the files that the caller gives are written.
    options: WriteOptions,
    /// How the record is written.
    of_internal_files: WriteOptions,
    entries: BTreeMap<PathBuf, Entry>,
    /// The paths that were changed.
    spellings: Spellings,
    /// The directories that changes have needed and that don't exist.
    new_dirs: Spellings,
    /// How directories with changed entries compare names, as far as they were asked.
    comparisons: HashMap<PathBuf, Comparison>,
    /// The target of each staged file, in the order of staging.
    tags: Vec<PathBuf>,
    /// How many changes there were.
    changes: usize,
    collector: Collector,
    checked: Checked,
    /// Holds the staged files; gone, with them, when this is dropped.
    stage: Option<StagingDir>,
    /// Dropped last, so that the names above are gone before the next writer begins.
    _lock: WriterLock,
}

impl Transaction {
    /// Begins a transaction in an existing directory, after finishing or undoing what a crash left of
    /// the last one there.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::{ErrorKind, Transaction};
    ///
    /// let first = Transaction::begin(dir)?;
    /// assert_eq!(Transaction::begin(dir).unwrap_err().kind(), ErrorKind::Locked);
    /// # drop(first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Locked`](ErrorKind::Locked) if another writer is at work;
    /// [`Corrupt`](ErrorKind::Corrupt), naming the record of an earlier transaction, if that record is damaged or
    /// contradicts what is there: nothing is changed, and `begin` keeps failing until [`recover`](crate::recover()) has
    /// moved the record and its staged files aside; [`Unsupported`](ErrorKind::Unsupported) if a record was written by
    /// another version of this crate, which is left alone.
    pub fn begin(root: impl AsRef<Path>) -> Result<Transaction> {
        TransactionOptions::new().begin(root)
    }

    fn new(
        path: &Path,
        root: Arc<Dir>,
        (stat, kind): (Stat, FsKind),
        sync: GroupSync,
        options: &TransactionOptions,
        lock: WriterLock,
    ) -> Transaction {
        Transaction {
            path: path.to_owned(),
            place: sys::absolute(path),
            stat,
            kind,
            sync,
            options: options.set.of_files(),
            of_internal_files: options.set.of_internal_files(),
            entries: BTreeMap::new(),
            spellings: Spellings::default(),
            new_dirs: Spellings::default(),
            comparisons: HashMap::new(),
            tags: Vec::new(),
            changes: 0,
            collector: Collected::with_content_ids(),
            checked: Transaction::unchecked(&root, stat),
            stage: None,
            root,
            _lock: lock,
        }
    }

    /// Plans to create or replace the file `rel`; `commit` does it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let mut change = durafile::Transaction::begin(dir)?;
    /// change.write("data/a.txt", "hello")?;
    /// assert!(!dir.join("data").exists());
    /// change.commit()?;
    /// assert!(dir.join("data/a.txt").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()); `InvalidPath` for a path that is absolute, contains `..` or
    /// leads over a link. After an error in the middle of the content, `commit` fails.
    pub fn write(&mut self, rel: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let (rel, contents) = (rel.as_ref(), contents.as_ref());
        self.options.check_size(contents, &self.path.join(rel))?;
        let mut file = self.create_file(rel)?;
        file.write_whole(contents)?;
        file.finish()
    }

    /// Plans to create or replace the file `rel` with `value` as JSON; `commit` does it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let mut change = durafile::Transaction::begin(dir)?;
    /// change.write_json("index.json", &["a.txt"])?;
    /// change.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Plans to create or replace the file `rel` with what is written to the stream, which must be
    /// ended by [`StagedFile::finish`] before `commit`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::io::Write;
    ///
    /// let mut change = durafile::Transaction::begin(dir)?;
    /// let mut file = change.create_file("long.csv")?;
    /// writeln!(file, "name,age")?;
    /// file.finish()?;
    /// change.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Transaction::write).
    pub fn create_file(&mut self, rel: impl AsRef<Path>) -> Result<StagedFile> {
        let rel = rel.as_ref();
        let site = self.site(rel, false)?;
        self.refuse_as_parent(rel, rel)?;
        self.refuse_other_spellings_as_parents(rel, &site)?;
        let existing = site.existing.filter(|old| old.stat.kind == Kind::File);
        let mode = creation_mode_of(existing.as_ref(), &self.options);
        let path = self.path.join(rel);
        let others = self.other_spellings(rel, &site.parent)?;
        refuse_hard_links(existing.as_ref(), &self.options, 0, &path)?;
        let created = self.stage_file(&site.parent, mode);
        let (number, file) = created.map_err(|e| Error::io("create a file to be put at", &path, e))?;
        let stream = ContentWriter::new(file, &path, (&self.options).into()).summed();
        let tag = self.tags.len();
        let compare_with = self.options.skip_unchanged.then(|| existing.clone()).flatten().map(|existing| {
            let name = rel.file_name().unwrap_or_default().to_owned();
            let mut target = Target::new(site.parent, name, &path);
            target.existing = Some(existing);
            target
        });
        let mut file = StagedFile::new(stream, existing, &self.options, self.sync, tag, &self.collector);
        compare_with.into_iter().for_each(|target| file.compare_with(target));
        self.tags.push(rel.to_owned());
        self.forget_all(&others);
        self.set(rel, Some(number), tag, site.missing);
        Ok(file)
    }

    /// Plans to remove the file or link `rel`; `commit` does it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// durafile::write(dir.join("old.txt"), "")?;
    /// let mut change = durafile::Transaction::begin(dir)?;
    /// change.remove("old.txt")?;
    /// change.write("new.txt", "")?;
    /// change.commit()?;
    /// assert!(!dir.join("old.txt").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if it isn't there; [`IsADirectory`](ErrorKind::IsADirectory) for a directory.
    pub fn remove(&mut self, rel: impl AsRef<Path>) -> Result<()> {
        let rel = rel.as_ref();
        let site = self.site(rel, true)?;
        let others = self.other_spellings(rel, &site.parent)?;
        let was_planned = self.forget_all(&others);
        if site.existing.is_some() {
            self.set(rel, None, 0, Vec::new());
            return Ok(());
        }
        if !self.forget(rel) && !was_planned {
            return Err(Error::new(ErrorKind::NotFound, "remove", &self.path.join(rel)));
        }
        Ok(())
    }

    /// Decides and applies the changes. When this returns, all of them are durable.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::TargetState;
    ///
    /// let mut change = durafile::Transaction::begin(dir)?;
    /// change.write("a.txt", "hello")?;
    /// match change.commit() {
    ///     Ok(_) => println!("saved"),
    ///     Err(e) if e.target() == TargetState::Pending => println!("decided; recovery will finish it"),
    ///     Err(e) => println!("nothing has changed: {e}"),
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If it fails before the decision, nothing has changed. After it, [`Error::target`] is
    /// [`Pending`](crate::TargetState::Pending): [`recover`](crate::recover()) or the next `begin`
    /// finishes it. A single change that is in place and not known to be durable is
    /// [`Replaced`](crate::TargetState::Replaced).
    pub fn commit(mut self) -> Result<Committed> {
        match self.try_commit() {
            Ok(durability) => {
                let kept_metadata = lock(&self.collector).lost_metadata.is_empty();
                let mut entries = self.entries.values();
                let unchanged = !self.entries.is_empty() && entries.all(|entry| entry.is_unchanged);
                Ok(Committed { kept_metadata, unchanged, ..Committed::new(durability) })
            }
            Err(e) => {
                let state =
                    |entry: &Entry| if entry.is_unchanged { TargetState::Unchanged } else { e.target() };
                let mut entries: Vec<_> = self.entries.iter().collect();
                entries.sort_unstable_by_key(|(_, entry)| entry.order);
                let files = entries.iter().map(|(rel, entry)| (self.path.join(rel), state(entry))).collect();
                Err(e.with_files(files))
            }
        }
    }

    /// Gives up the transaction; nothing changes, and nothing is left behind.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let mut change = durafile::Transaction::begin(dir)?;
    /// change.write("a.txt", "hello")?;
    /// change.discard()?;
    /// assert_eq!(std::fs::read_dir(dir)?.count(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If what was staged can't be removed; [`recover`](crate::recover()) removes it later.
    pub fn discard(mut self) -> Result<()> {
        // Windows keeps the names of open files.
        lock(&self.collector).forget_unsynced();
        let removed = self.stage.take().map_or(Ok(()), StagingDir::remove);
        removed.map_err(|e| Error::io("remove what was staged in", &self.path, e))
    }

    fn set(&mut self, rel: &Path, put: Option<u64>, tag: usize, missing: Vec<PathBuf>) {
        self.forget(rel);
        self.changes += 1;
        self.spellings.add(rel);
        missing.iter().for_each(|dir| self.new_dirs.add(dir));
        let entry = Entry { put, tag, missing, is_unchanged: false, order: self.changes };
        self.entries.insert(rel.to_owned(), entry);
    }

    /// Takes back what was planned for these paths. False if there was nothing.
    fn forget_all(&mut self, paths: &[PathBuf]) -> bool {
        paths.iter().filter(|path| self.forget(path)).count() > 0
    }

    /// Takes back what was planned for a path. False if there was nothing.
    fn forget(&mut self, rel: &Path) -> bool {
        let Some(entry) = self.entries.remove(rel) else { return false };
        if let (Some(number), Some(stage)) = (entry.put, &self.stage) {
            lock(&self.collector).set.forget(entry.tag);
            // If this fails, it goes with the others.
            let _ = stage.dir().unlink(&name_of(number));
        }
        true
    }

    /// A file can't be put where another change needs a directory, `dir`.
    fn refuse_as_parent(&self, rel: &Path, dir: &Path) -> Result<()> {
        let next = self.entries.range::<Path, _>((Bound::Excluded(dir), Bound::Unbounded)).next();
        if next.is_some_and(|(next, _)| next.starts_with(dir)) {
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
            if let Some(file) = parent.create_unnamed(mode)? {
                let number = stage.fresh_number();
                match link_or_drop(file, stage.dir(), &name_of(number)) {
                    // Nothing can be moved between the two: it will be copied.
                    Err(e) if sys::crosses_devices(&e) => {}
                    linked => {
                        if let Some(file) = linked? {
                            return Ok((number, file));
                        }
                    }
                }
            }
        }
        stage.create_file(mode)
    }

    /// The directory for staged files, created with the first of them.
    fn stage(&mut self) -> io::Result<&mut StagingDir> {
        let stage = match self.stage.take() {
            Some(stage) => stage,
            None => StagingDir::create(&self.root, Role::Change)?,
        };
        Ok(self.stage.insert(stage))
    }

    /// Whether the staged files stay when this is dropped: the decision may stand.
    fn keep(&mut self, yes: bool) {
        if let Some(stage) = &mut self.stage {
            stage.keep(yes);
        }
    }
}
