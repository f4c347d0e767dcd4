//! Many changes under one root, all or none.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::atomic::names::{self, Role};
use crate::atomic::plan::{Action, Change, Plan, is_inside};
use crate::atomic::settle::{Settled, settle_locked};
use crate::atomic::stream::Stream;
use crate::atomic::sweep::Judge;
use crate::atomic::sync_set::{How, Wish};
use crate::atomic::writer_lock::WriterLock;
use crate::atomic::{Outcome, creation_mode_of, outcome_of_link, redo};
use crate::batch::SyncStrategy;
use crate::options::{Committed, Durability, WriteOptions};
use crate::staged_file::{Collected, Collector, StagedFile, lock};
use crate::sys::{self, Dir, Existing, File, FsKind, Kind, Stat};
use crate::{CancelToken, Error, ErrorKind, Result, TargetState};

/// How a [`Transaction`] works; a builder, passed by value.
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until `begin`"]
pub struct TransactionOptions {
    strategy: SyncStrategy,
    single_flush: bool,
    cancel: Option<CancelToken>,
    lock_timeout: Duration,
}

impl TransactionOptions {
    /// The defaults.
    pub fn new() -> TransactionOptions {
        TransactionOptions::default()
    }

    /// How the staged files are made durable. Default: [`SyncStrategy::Auto`].
    pub fn sync(mut self, strategy: SyncStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Use fewer device flushes where that is as safe; see [`WriteOptions::single_flush`].
    /// Default: false.
    pub fn single_flush(mut self, yes: bool) -> Self {
        self.single_flush = yes;
        self
    }

    /// Stop with [`Cancelled`](ErrorKind::Cancelled) once the token is cancelled, unless the
    /// transaction is decided by then.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// How long `begin` waits for another writer of the same root. Default: not at all.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// [`Transaction::begin`] with these options.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn begin(&self, root: impl AsRef<Path>) -> Result<Transaction> {
        let root = root.as_ref();
        let open = |e| Error::io("open", root, e);
        let dir = Arc::new(Dir::open(root).map_err(open)?);
        let stat = dir.stat().map_err(open)?;
        let kind = sys::fs_kind(&*dir, &stat).map_err(open)?;
        let taken = WriterLock::take(&dir, OsStr::new(""), self.lock_timeout);
        let Some(lock) = taken.map_err(|e| Error::io("lock", root, e))? else {
            return Err(Error::new(ErrorKind::Locked, "begin another transaction in", root));
        };
        settle_pending(root, &dir)?;
        let wish =
            Wish { durability: Durability::Full, strategy: self.strategy, single_flush: self.single_flush };
        let write = WriteOptions { cancel: self.cancel.clone(), ..WriteOptions::new() };
        Ok(Transaction {
            how: wish.how(&dir, kind, &stat),
            path: root.to_owned(),
            stat,
            kind,
            options: write,
            entries: BTreeMap::new(),
            new_dirs: BTreeSet::new(),
            tags: Vec::new(),
            collector: Collected::with_facts(),
            decided: false,
            root: dir,
            _lock: lock,
        })
    }
}

/// Finishes or undoes what a crash left of an earlier transaction.
fn settle_pending(path: &Path, root: &Arc<Dir>) -> Result<()> {
    let fail = |e| Error::io("settle the last transaction in", path, e);
    let (mut journals, mut staged) = (Vec::new(), Vec::new());
    for entry in root.entries().map_err(fail)? {
        let (name, _) = entry.map_err(fail)?;
        match names::role_of(&name) {
            Some(Role::Journal) => journals.push(name),
            Some(Role::Change) => staged.push(name),
            _ => {}
        }
    }
    if journals.is_empty() && staged.is_empty() {
        return Ok(());
    }
    let judge = Judge { min_age: Duration::ZERO, dry_run: false };
    let Settled { quarantined, unreadable, .. } =
        settle_locked(root, &journals, &staged, judge).map_err(fail)?;
    if let Some(name) = quarantined.first() {
        return Err(Error::new(
            ErrorKind::Corrupt,
            "settle the transaction now moved aside to",
            &path.join(name),
        ));
    }
    match unreadable.first() {
        Some(name) => Err(Error::new(ErrorKind::Unsupported, "read the newer record", &path.join(name))),
        None => Ok(()),
    }
}

/// Many changes under one root directory: all of them happen or none, across crashes.
///
/// Changes are staged in the root under names of ours. `commit` makes them durable and then writes
/// one checksummed record: that is the point where the transaction is decided. After it the changes
/// are applied one by one. If a crash comes between, [`recover`](crate::recover()) (or the next
/// `begin` on the root) finishes them; if it comes before, it removes what was staged.
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
/// * What is saved to a target after the commit and before recovery wins over the record. But a
///   target that is *deleted* within seconds of the commit may come back, if a power cut brings
///   back the record that `commit` has removed.
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
    new_dirs: BTreeSet<PathBuf>,
    /// The target of each staged file, in the order of staging.
    tags: Vec<PathBuf>,
    collector: Collector,
    /// The record may be there: nothing must be removed any more.
    decided: bool,
    /// Dropped last, so that the names above are gone before the next writer begins.
    _lock: WriterLock,
}

#[derive(Debug)]
enum Entry {
    Put { staged: OsString, tag: usize },
    Remove,
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

    /// Will create or replace the file `rel`.
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()); `InvalidPath` for a path that is absolute, contains `..` or
    /// leads over a link.
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
        let site = self.site(rel)?;
        let existing = site.existing.filter(|old| old.stat.kind == Kind::File);
        self.refuse_as_parent(rel)?;
        let mode = creation_mode_of(existing.as_ref(), &self.options);
        let parent = site.parent.as_ref().unwrap_or(&self.root);
        let staged = names::fresh(Role::Change);
        let file = create(&self.root, parent, &staged, mode)
            .map_err(|e| Error::io("create a file to be put at", &self.path.join(rel), e))?;
        let stream = Stream::new(file, &self.path.join(rel), (&self.options).into()).summed();
        let tag = self.tags.len();
        let file = StagedFile::new(stream, existing, &self.options, self.how, tag, &self.collector);
        self.tags.push(rel.to_owned());
        self.new_dirs.extend(site.missing);
        self.set(rel, Entry::Put { staged, tag });
        Ok(file)
    }

    /// Will remove the file or link `rel`.
    ///
    /// # Errors
    ///
    /// `NotFound` if it isn't there; `IsADirectory` for a directory.
    pub fn remove(&mut self, rel: impl AsRef<Path>) -> Result<()> {
        let rel = rel.as_ref();
        let planned = matches!(self.entries.get(rel), Some(Entry::Put { .. }));
        let site = self.site_of(rel, true)?;
        if site.existing.is_none() {
            if planned {
                self.forget(rel);
                return Ok(());
            }
            return Err(Error::new(ErrorKind::NotFound, "remove", &self.path.join(rel)));
        }
        self.set(rel, Entry::Remove);
        Ok(())
    }

    /// Decides and applies the changes. When this returns, all of them are durable.
    ///
    /// # Errors
    ///
    /// Before the decision nothing has changed. After it, [`Error::target`] is
    /// [`Pending`](TargetState::Pending): [`recover`](crate::recover()) or the next `begin` finishes it.
    pub fn commit(mut self) -> Result<Committed> {
        match self.try_commit() {
            Ok(durability) => Ok(Committed { durability, unchanged: false }),
            Err(e) => {
                let state = e.target();
                let files = self.entries.keys().map(|rel| (self.path.join(rel), state)).collect();
                Err(e.with_files(files))
            }
        }
    }

    /// Ends the transaction; nothing changes, and nothing is left behind.
    pub fn discard(self) {
        drop(self);
    }

    fn set(&mut self, rel: &Path, entry: Entry) {
        self.forget(rel);
        self.entries.insert(rel.to_owned(), entry);
    }

    fn forget(&mut self, rel: &Path) {
        if let Some(Entry::Put { staged, .. }) = self.entries.remove(rel) {
            // An error leaves an orphan, which recovery removes.
            let _ = self.root.unlink(&staged);
        }
    }

    fn site(&self, rel: &Path) -> Result<Site> {
        self.site_of(rel, false)
    }

    /// Finds where a change goes, and refuses what could not be carried out.
    fn site_of(&self, rel: &Path, removes: bool) -> Result<Site> {
        let path = self.path.join(rel);
        let refuse = |kind, operation| Err(Error::new(kind, operation, &path));
        let fail = |e| Error::io("inspect", &path, e);
        let (true, Some(name)) = (is_inside(rel), rel.file_name()) else {
            return refuse(ErrorKind::InvalidPath, "change");
        };
        if names::role_of(name).is_some() {
            return refuse(ErrorKind::InvalidPath, "change a remnant at");
        }
        let (parent, missing) = self.nearest(rel)?;
        let dir = parent.as_ref().unwrap_or(&self.root);
        if dir.stat().map_err(fail)?.mount != self.stat.mount {
            return refuse(ErrorKind::CrossDevice, "change");
        }
        let existing = match dir.look(name, true) {
            _ if !missing.is_empty() => None,
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            found => Some(found.map_err(fail)?),
        };
        match existing.as_ref().map(|existing| existing.stat) {
            Some(Stat { mount_root: true, .. }) => return Err(Error::mount_point(&path, None)),
            Some(Stat { kind: Kind::Dir, .. }) => return refuse(ErrorKind::IsADirectory, "change"),
            Some(Stat { kind: Kind::Symlink, .. }) if !removes => {
                return refuse(ErrorKind::InvalidPath, "replace the link");
            }
            Some(Stat { kind: Kind::Other, .. }) if !removes => {
                return refuse(ErrorKind::InvalidPath, "replace the FIFO, socket or device");
            }
            _ => {}
        }
        Ok(Site { parent, missing, existing })
    }

    /// The nearest directory that exists, if it isn't the root, and those below it that don't.
    fn nearest(&self, rel: &Path) -> Result<(Option<Arc<Dir>>, Vec<PathBuf>)> {
        let mut missing = Vec::new();
        for dir in rel.ancestors().skip(1) {
            if dir.as_os_str().is_empty() {
                break;
            }
            if matches!(self.entries.get(dir), Some(Entry::Put { .. })) {
                return Err(Error::new(ErrorKind::NotADirectory, "change", &self.path.join(rel)));
            }
            match self.root.open_beneath(dir) {
                Ok(open) => return Ok((Some(Arc::new(open)), missing)),
                Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(dir.to_owned()),
                Err(e) => return Err(Error::io("open the directory of", &self.path.join(rel), e)),
            }
        }
        Ok((None, missing))
    }

    /// A file can't be put where another change needs a directory.
    fn refuse_as_parent(&self, rel: &Path) -> Result<()> {
        if self.new_dirs.contains(rel) {
            return Err(Error::new(ErrorKind::IsADirectory, "change", &self.path.join(rel)));
        }
        Ok(())
    }

    fn try_commit(&mut self) -> Result<Durability> {
        let (path, tags) = (&self.path, &self.tags);
        lock(&self.collector).finish(path, |tag| path.join(&tags[tag]))?;
        if self.how == How::FileSystem {
            sys::sync_file_system(&self.root).map_err(|e| Error::io("sync the file system of", path, e))?;
        }
        CancelToken::check(self.options.cancel.as_ref(), path)?;
        let plan = self.plan()?;
        if plan.changes.is_empty() {
            return Ok(self.kind.limit(Durability::Full));
        }
        let record = self.decide(&plan)?;
        let pending = |operation| {
            let path = &self.path;
            move |e| Error::io(operation, path, e).with_target(TargetState::Pending)
        };
        let synced = self.root.sync().map_err(pending("make durable the decision in"))?;
        redo::carry_out(&self.root, &plan, None).map_err(pending("apply the transaction in"))?;
        // All is done and durable; a record that stays says so to the next recovery.
        let _ = self.root.unlink(&record);
        Ok(self.kind.limit(if synced { Durability::Full } else { Durability::Data }))
    }

    fn plan(&self) -> Result<Plan> {
        let collected = lock(&self.collector);
        let mut changes = Vec::with_capacity(self.entries.len());
        for (rel, entry) in &self.entries {
            let before = redo::fingerprint(&self.root, rel)
                .map_err(|e| Error::io("inspect", &self.path.join(rel), e))?;
            let action = match entry {
                Entry::Remove => Action::Remove,
                Entry::Put { staged, tag } => {
                    let content = collected.facts_of(*tag).ok_or_else(|| {
                        Error::new(ErrorKind::Reader, "use the unfinished stream for", &self.path.join(rel))
                    })?;
                    Action::Put { staged: staged.clone(), content }
                }
            };
            changes.push(Change { path: rel.clone(), before, action });
        }
        Ok(Plan { dirs: self.new_dirs.iter().cloned().collect(), changes })
    }

    /// Writes the record, complete and durable, and gives it its name.
    fn decide(&mut self, plan: &Plan) -> Result<OsString> {
        let path = self.path.clone();
        let write = |e| Error::io("write the record of the transaction in", &path, e);
        let (staged, journal) = (names::fresh(Role::Change), names::fresh(Role::Journal));
        let unnamed = self.root.create_unnamed(0o600).map_err(write)?;
        let unnamed = unnamed.filter(|file| file.can_be_linked(&self.root));
        let is_named = unnamed.is_none();
        let file = match unnamed {
            Some(file) => file,
            None => self.root.create_new(&staged, 0o600).map_err(write)?,
        };
        let written = self.write_record(file, plan);
        let file = match written {
            Ok(file) => file,
            Err(e) => {
                if is_named {
                    let _ = self.root.unlink(&staged);
                }
                return Err(e);
            }
        };
        // From here on it may be decided.
        self.decided = true;
        let named =
            if is_named { self.root.rename(&staged, &journal) } else { file.link_as(&self.root, &journal) };
        match outcome_of_link(&self.root, &named, &file, &journal, self.kind.remote) {
            Outcome::Done => Ok(journal),
            Outcome::NotDone => {
                self.decided = false;
                if is_named {
                    let _ = self.root.unlink(&staged);
                }
                Err(write(named.err().unwrap_or_else(|| io::ErrorKind::Other.into())))
            }
            Outcome::Unknown => {
                let error = write(named.err().unwrap_or_else(|| io::ErrorKind::Other.into()));
                Err(error.with_target(TargetState::Unknown))
            }
        }
    }

    fn write_record(&self, file: File, plan: &Plan) -> Result<File> {
        let mut stream = Stream::new(file, &self.path, (&self.options).into());
        stream.write_whole(&plan.encode())?;
        let file = stream.into_file();
        let synced = if self.how == How::SingleFlush { file.written_out() } else { file.sync() };
        synced.map_err(|e| Error::io("sync the record of the transaction in", &self.path, e))?;
        Ok(file)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.decided {
            return;
        }
        for entry in self.entries.values() {
            if let Entry::Put { staged, .. } = entry {
                let _ = self.root.unlink(staged);
            }
        }
    }
}

/// Where a change goes.
struct Site {
    /// The nearest directory that exists, if it isn't the root.
    parent: Option<Arc<Dir>>,
    /// Directories to be created.
    missing: Vec<PathBuf>,
    existing: Option<Existing>,
}

/// Creates a staged file in the root, as if it were created in `parent`, from which it inherits
/// group and default ACL.
fn create(root: &Dir, parent: &Dir, name: &OsStr, mode: u32) -> io::Result<File> {
    if !std::ptr::eq(root, parent) {
        if let Some(file) = parent.create_unnamed(mode)?.filter(|file| file.can_be_linked(root)) {
            file.link_as(root, name)?;
            return Ok(file);
        }
    }
    root.create_new(name, mode)
}
