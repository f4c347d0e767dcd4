//! Directories that are replaced as a whole.

mod snapshot;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::atomic::dir_carry::Harvest;
use crate::atomic::dir_draft::Draft;
use crate::atomic::dir_settle::settle_pending;
use crate::atomic::dir_target::DirTarget;
use crate::atomic::stream::Stream;
use crate::atomic::sync_set::{How, Wish};
use crate::atomic::writer_lock::WriterLock;
use crate::options::{Committed, Durability, WriteOptions};
use crate::staged_file::{self, Collector, StagedFile};
use crate::sys::{self, File, FsKind};
use crate::{CancelToken, Error, ErrorKind, Result, SyncStrategy};
pub use snapshot::DirSnapshot;

/// How [`AtomicDir::update`] carries over the files that the caller doesn't manage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Carry {
    /// Copies them; large ones share their blocks with the original where the file system can
    /// (XFS, btrfs). The versions are independent.
    #[default]
    Copy,
    /// Gives each file a second name. Much faster, at a price: while both versions exist they
    /// hold *the same* file.
    ///
    /// A program that replaces files (as this crate does) changes one version only. But one that writes
    /// *in place* into a file that was carried over changes every version that has it: below
    /// [`staging`](AtomicDir::staging), before the commit, the live directory at once, with all that this
    /// crate prevents (half of a write may be seen, and is what a crash leaves); in the target, after the
    /// commit, what a [`DirSnapshot`] of the old version reads. So do changes of mode, owner,
    /// attributes and times.
    ///
    /// What is carried over is written out to the device, but not synced file by file: a file that
    /// another program wrote and did not sync itself may be lost in a power cut, as it would be without
    /// the update. Files that can't be linked (another user's, too many links) are copied.
    HardLink,
}

/// How to replace a directory; a builder, passed by value.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `create` or `update`"]
pub struct DirOptions {
    pub(crate) durability: Durability,
    pub(crate) sync: SyncStrategy,
    pub(crate) single_flush: bool,
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) lock_timeout: Duration,
    pub(crate) carry: Carry,
    pub(crate) allow_fallback: bool,
}

impl Default for DirOptions {
    fn default() -> DirOptions {
        DirOptions::new()
    }
}

impl DirOptions {
    /// The defaults: fully durable, files synced together, [`Locked`](ErrorKind::Locked) at once,
    /// copies, fallbacks allowed.
    pub const fn new() -> DirOptions {
        DirOptions {
            durability: Durability::Full,
            sync: SyncStrategy::Auto,
            single_flush: false,
            cancel: None,
            lock_timeout: Duration::ZERO,
            carry: Carry::Copy,
            allow_fallback: true,
        }
    }

    /// How much must survive a power cut. Default: [`Durability::Full`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// How the files are made durable. Default: [`SyncStrategy::Auto`].
    pub fn sync(mut self, strategy: SyncStrategy) -> Self {
        self.sync = strategy;
        self
    }

    /// Save with one device flush where that is as safe; see
    /// [`WriteOptions::single_flush`]. Default: false.
    pub fn single_flush(mut self, yes: bool) -> Self {
        self.single_flush = yes;
        self
    }

    /// Stop with [`Cancelled`](ErrorKind::Cancelled) once the token is cancelled, unless the new
    /// version is in place by then. Default: nothing stops it.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// Wait so long for another writer of the same directory, then fail with
    /// [`TimedOut`](ErrorKind::TimedOut). Default: zero, which is [`Locked`](ErrorKind::Locked) at once.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// How `update` carries over what the caller doesn't manage. Default: [`Carry::Copy`].
    pub fn carry(mut self, carry: Carry) -> Self {
        self.carry = carry;
        self
    }

    /// Whether a slower way may be taken where the file system can't exchange two directories in
    /// one step. Default: true; see [`AtomicDir`] for what it means. With false, the commit fails with
    /// [`Unsupported`](ErrorKind::Unsupported) there, and changes nothing.
    pub fn allow_fallback(mut self, yes: bool) -> Self {
        self.allow_fallback = yes;
        self
    }

    /// [`AtomicDir::create`] with these options.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn create(&self, target: impl AsRef<Path>) -> Result<AtomicDir> {
        AtomicDir::begin(target.as_ref(), self, false)
    }

    /// [`AtomicDir::update`] with these options.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn update(&self, target: impl AsRef<Path>) -> Result<AtomicDir> {
        AtomicDir::begin(target.as_ref(), self, true)
    }

    /// Each file by itself, as far as that makes sense inside a set.
    fn of_files(&self) -> WriteOptions {
        let options = WriteOptions::new().durability(self.durability);
        match &self.cancel {
            Some(token) => options.cancel(token),
            None => options,
        }
    }

    fn wish(&self) -> Wish {
        Wish { durability: self.durability, strategy: self.sync, single_flush: self.single_flush }
    }
}

/// A directory that is written beside its target and swapped in as a whole.
///
/// Fill it, then [`commit`](AtomicDir::commit). At every instant, and after any crash, the target is
/// the complete old version or the complete new one: every file from the same version. The name is
/// never missing in between. Dropped, the new version is discarded.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let talk = dir.path().join("talk");
/// use durafile::AtomicDir;
///
/// let mut new = AtomicDir::create(&talk)?;
/// new.write("metadata.json", r#"{"turns":1}"#)?;
/// new.write("events.json", r#"["hello"]"#)?;
/// new.commit()?;
///
/// // The next version: what isn't mentioned is carried over.
/// let mut next = AtomicDir::update(&talk)?;
/// next.write("metadata.json", r#"{"turns":2}"#)?;
/// next.write("attachments/note.txt", "remember")?;
/// next.commit()?;
/// # assert_eq!(std::fs::read_to_string(talk.join("events.json"))?, r#"["hello"]"#);
/// # assert_eq!(std::fs::read_to_string(talk.join("metadata.json"))?, r#"{"turns":2}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Paths
///
/// Inside the directory, paths are relative: `a/b.txt`. An absolute one, one with `..`, `.` or an
/// empty part, and a name of this crate's own ([`is_remnant`](crate::is_remnant)) are refused with
/// [`InvalidPath`](ErrorKind::InvalidPath). Directories on the way are created. A link on the way is
/// refused, not followed; a link at the end is replaced.
///
/// The target itself may be a link to a directory: then what it leads to is replaced. It may end
/// with a slash. Its parent must exist.
///
/// # Writers and readers
///
/// One writer of a directory at a time, in all processes: from `create` or `update` until the end,
/// another one gets [`Locked`](ErrorKind::Locked), or waits ([`DirOptions::lock_timeout`]). So no
/// update can lose another's changes.
///
/// A plain reader that opens several files one after the other may see two versions. A
/// [`DirSnapshot`] doesn't: it keeps its version as long as it needs it. The old version is deleted by
/// the commit, or else by its last reader, the next commit or [`recover`](crate::recover()).
///
/// # How
///
/// All files and directories that are new are synced; then the new directory and the target exchange
/// their names in one step (`renameat2`), and the parent directory is synced. The new root keeps
/// mode, owner, ACLs and attributes of the old.
///
/// # Limits
///
/// - Where two directories can't be exchanged, a fallback is taken unless it is
///   [not allowed](DirOptions::allow_fallback): on file systems without `RENAME_EXCHANGE`, two renames,
///   between which readers find the name missing; for a directory that can't be renamed at all (a lower layer
///   of an overlay), the old directory is deleted before the new one takes its name. A record written before says what
///   is meant: after a crash [`recover`](crate::recover()), or the next writer, completes it. Until then
///   the name may be missing or, in the second case, old files be gone.
/// - Windows can't exchange two directories, and renames none while something in it is open: after a
///   second of that, [`Busy`](ErrorKind::Busy).
/// - The file system must have locks (`flock`): without, `Unsupported`.
/// - A program that has the directory as its current one, or open, stays in the old version.
/// - Mount points inside the directory can't be carried over (`Busy`); FIFOs, sockets and devices
///   neither (`InvalidPath`).
/// - On a file system that folds case, writers exclude each other only if they spell the name alike.
/// - What is killed between the swap and the deletion of an old version that belongs to another user,
///   or that everybody may write to, leaves that version; see [`recover`](crate::recover()).
#[derive(Debug)]
#[must_use = "a directory that is neither committed nor discarded publishes nothing"]
pub struct AtomicDir {
    staging: PathBuf,
    options: DirOptions,
    kind: FsKind,
    how: How,
    collector: Collector,
    inner: Mutex<Inner>,
}

/// What `staging` changes, too.
#[derive(Debug)]
struct Inner {
    draft: Draft,
    /// Files in the collector, by their numbers.
    files: Vec<PathBuf>,
    /// Why nothing can be published any more.
    failed: Option<Error>,
}

impl AtomicDir {
    /// Begins a new version with nothing in it. The target need not exist.
    ///
    /// # Errors
    ///
    /// [`NotADirectory`](ErrorKind::NotADirectory) if something else is there;
    /// [`Busy`](ErrorKind::Busy) if it is a mount point; [`Locked`](ErrorKind::Locked) if another
    /// writer is at work.
    pub fn create(target: impl AsRef<Path>) -> Result<AtomicDir> {
        DirOptions::new().create(target)
    }

    /// Begins a new version with the content of the present one: whatever isn't replaced or
    /// removed is carried over, with modes, owners (as permitted), times, attributes, ACLs and links. If there
    /// is no present version, it begins with nothing.
    ///
    /// # Errors
    ///
    /// As [`create`](AtomicDir::create).
    pub fn update(target: impl AsRef<Path>) -> Result<AtomicDir> {
        DirOptions::new().update(target)
    }

    fn begin(path: &Path, options: &DirOptions, keep: bool) -> Result<AtomicDir> {
        let target = DirTarget::resolve(path)?;
        let lock = take_lock(&target, options)?;
        settle_pending(&target)?;
        let draft = Draft::create(target, lock, keep)?;
        let fail = |e| Error::io("inspect", path, e);
        let kind = sys::fs_kind(&*draft.stage.root.dir, &draft.stage.root.stat).map_err(fail)?;
        let how = options.wish().how(&draft.target.parent, kind, &draft.stage.root.stat);
        let staging = draft.target.place.join(draft.stage.name());
        let (options, collector) = (options.clone(), Collector::default());
        let inner = Mutex::new(Inner { draft, files: Vec::new(), failed: None });
        Ok(AtomicDir { staging, options, kind, how, collector, inner })
    }

    /// Puts a file into the new version, in the place of what it has there.
    ///
    /// A replaced file's mode, owner, ACLs and attributes are kept, as with [`write`](crate::write()).
    ///
    /// # Errors
    ///
    /// [`IsADirectory`](ErrorKind::IsADirectory) if a directory is there, `InvalidPath` and
    /// `NotADirectory` if the path can't be; those of the disk.
    pub fn write(&mut self, rel: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let mut file = self.create_file(rel)?;
        file.write_whole(contents.as_ref())?;
        file.finish()
    }

    /// Puts a file with `value` as JSON into the new version. See
    /// [`write_json`](crate::write_json).
    ///
    /// # Errors
    ///
    /// As [`write`](AtomicDir::write). After an error in the middle of the text, `commit` fails.
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

    /// Puts a file into the new version as a stream, to be ended by [`StagedFile::finish`] before
    /// `commit`.
    ///
    /// # Errors
    ///
    /// As [`write`](AtomicDir::write).
    pub fn create_file(&mut self, rel: impl AsRef<Path>) -> Result<StagedFile> {
        let (rel, options) = (rel.as_ref(), self.options.of_files());
        let inner = self.inner.get_mut().unwrap_or_else(|broken| broken.into_inner());
        let (file, existing) = inner.draft.create_file(rel)?;
        let stream = Stream::new(file, &inner.draft.path_of(rel), (&options).into());
        // Other programs may change it again: then it is synced when they are done.
        let how = if inner.draft.is_exposed() { How::Nothing } else { self.how };
        inner.files.push(rel.to_owned());
        Ok(StagedFile::new(stream, existing, &options, how, inner.files.len() - 1, &self.collector))
    }

    /// Creates a directory in the new version, and those above it. That it exists is no error.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](ErrorKind::AlreadyExists) if something else is there; otherwise as
    /// [`write`](AtomicDir::write).
    pub fn create_dir(&mut self, rel: impl AsRef<Path>) -> Result<()> {
        self.draft().create_dir(rel.as_ref())
    }

    /// Removes a file from the new version, or a directory with everything in it.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is nothing; otherwise as
    /// [`write`](AtomicDir::write).
    pub fn remove(&mut self, rel: impl AsRef<Path>) -> Result<()> {
        self.draft().remove(rel.as_ref())
    }

    /// The directory in which the new version is put together, for other tools to write to.
    ///
    /// Everything that is there at the time of `commit` is synced and published. What is carried over
    /// is there when this returns; if that failed, `commit` says so. Mind [`Carry::HardLink`].
    pub fn staging(&self) -> &Path {
        let mut inner = self.lock();
        if !inner.draft.is_exposed() {
            if let Err(e) = self.carry(&mut inner, How::Nothing) {
                inner.failed.get_or_insert(e);
            }
            inner.draft.expose();
            // All that waits for its sync is synced with what the tools have made of it.
            staged_file::lock(&self.collector).forget_unsynced();
        }
        &self.staging
    }

    /// Makes the new version durable, and then the target.
    ///
    /// # Errors
    ///
    /// Until the swap, the target is unchanged and nothing is left behind. [`Error::target`] is
    /// `Replaced` if the new version is in place and not known to be durable, and `Pending` if a fallback was
    /// interrupted: then [`recover`](crate::recover()) completes it.
    pub fn commit(self) -> Result<Committed> {
        let mut inner = self.lock();
        self.carry(&mut inner, self.how)?;
        drop(inner);
        let AtomicDir { options, kind, how, collector, inner, .. } = self;
        let Inner { mut draft, files, failed } = inner.into_inner().unwrap_or_else(|b| b.into_inner());
        if let Some(e) = failed {
            return Err(e);
        }
        let path_of = |tag: usize| files.get(tag).map_or_else(PathBuf::new, |rel| draft.path_of(rel));
        let open = |tag: usize| files.get(tag).map_or(Ok(None), |rel| draft.open_staged(rel));
        let whole = staged_file::lock(&collector).finish(&draft.target.path, path_of, open)?;
        let synced = draft.seal(if whole { How::FileSystem } else { how })?;
        draft.publish(&options, kind, synced)
    }

    /// Ends it; the target stays as it is, and nothing is left behind.
    ///
    /// # Errors
    ///
    /// If the new version can't be removed; [`recover`](crate::recover()) removes it later.
    pub fn discard(self) -> Result<()> {
        // Windows keeps the names of open files.
        staged_file::lock(&self.collector).forget_unsynced();
        let mut inner = self.lock();
        let removed = inner.draft.stage.remove();
        removed.map_err(|e| Error::io("remove the new version of", &inner.draft.target.path, e))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    fn draft(&mut self) -> &mut Draft {
        &mut self.inner.get_mut().unwrap_or_else(|broken| broken.into_inner()).draft
    }

    fn carry(&self, inner: &mut Inner, how: How) -> Result<()> {
        let mut basket = Basket { collector: &self.collector, how, files: &mut inner.files };
        inner.draft.carry(self.options.carry, &self.options.of_files(), &mut basket)
    }
}

/// Hands copies over to be synced with the other files.
struct Basket<'a> {
    collector: &'a Collector,
    how: How,
    files: &'a mut Vec<PathBuf>,
}

impl Harvest for Basket<'_> {
    fn copied(&mut self, rel: &Path, copy: File) {
        self.files.push(rel.to_owned());
        staged_file::lock(self.collector).add(self.how, self.files.len() - 1, copy);
    }

    fn linked(&mut self, file: &File) -> io::Result<()> {
        match self.how {
            How::Nothing | How::FileSystem => Ok(()),
            How::PerFile | How::Together | How::Adaptive | How::AdaptiveInTurn | How::SingleFlush => {
                file.written_out()
            }
        }
    }
}

/// The right to be the only writer, looking at the token while waiting for it.
fn take_lock(target: &DirTarget, options: &DirOptions) -> Result<WriterLock> {
    const SLICE: Duration = Duration::from_millis(50);
    let deadline = Instant::now().checked_add(options.lock_timeout);
    loop {
        CancelToken::check(options.cancel.as_ref(), &target.path)?;
        let left = deadline.map_or(SLICE, |end| end.saturating_duration_since(Instant::now()));
        let taken = WriterLock::take(&target.parent, &target.name, left.min(SLICE));
        match taken.map_err(|e| Error::io("lock", &target.path, e))? {
            Some(lock) => return Ok(lock),
            None if left > SLICE => {}
            None if options.lock_timeout.is_zero() => {
                return Err(Error::new(ErrorKind::Locked, "lock", &target.path));
            }
            None => return Err(Error::new(ErrorKind::TimedOut, "wait for the writer of", &target.path)),
        }
    }
}
