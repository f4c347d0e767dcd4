//! Directories that are replaced as a whole.

mod begin;
mod carry_over;
mod draft;
mod make_durable;
mod nature;
pub(crate) mod old_versions;
pub(crate) mod options;
mod pending;
mod record;
pub(crate) mod recovery;
mod redo;
pub(crate) mod snapshot;
mod spelling;
mod swap;
mod swap_in_steps;
mod target;
mod version;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::atomic::content::ContentWriter;
use crate::atomic::target::Target;
use crate::dir::carry_over::CarriedFiles;
use crate::dir::draft::Draft;
use crate::dir::options::DirOptions;
use crate::error::{Error, Result};
use crate::failing;
use crate::options::durability::Committed;
use crate::set::collector::{Collector, lock};
use crate::set::staged_file::StagedFile;
use crate::set::sync_request::GroupSync;
use crate::set::unchanged::same_file;
use crate::sys::FsKind;

/// A directory that is written beside its target and swapped in as a whole.
///
/// Fill it, then [`commit`](AtomicDir::commit). At every instant, and after any crash, the target is
/// the complete old version or the complete new one, with every file from the same version. The name is
/// never missing in between. An `AtomicDir` that is dropped discards the new version.
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
/// // The next version: files that aren't mentioned are carried over.
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
/// Inside the directory, paths are relative: `a/b.txt`. A path that is absolute, that contains `..`, `.` or an
/// empty part, or that contains a name of this crate's own ([`is_remnant`](crate::is_remnant)), is refused with
/// [`InvalidPath`](crate::ErrorKind::InvalidPath). Directories on the way are created. A link on the way is
/// refused, not followed; a link at the end is replaced.
///
/// The target itself may be a link to a directory: then the directory behind the link is replaced. The path of the
/// target may end with a slash. Its parent must exist.
///
/// # Writers and readers
///
/// A directory has one writer at a time, in all processes together: from `create` or `update` until the end,
/// another writer gets [`Locked`](crate::ErrorKind::Locked), or waits ([`DirOptions::lock_timeout`]). So no
/// update loses another's changes, nor those of a [`Transaction`](crate::Transaction) or of an `AtomicDir` in a directory
/// inside: if two of them overlap, one fails with `Locked` or, if its directory was swapped away,
/// with [`NotFound`](crate::ErrorKind::NotFound). Changes that a crash left pending inside are finished or undone before
/// they are carried over; if that is not possible, the commit fails and names them.
///
/// **Only these are safe against a swap.** A plain [`write`](crate::write()), a [`Batch`](crate::Batch), `std::fs` and
/// every other program that saves *into* the directory while it is swapped may save into the version that is
/// about to be deleted: its save returns `Ok`, and is gone. With a writer that swapped in a loop, that
/// happened to 29 of 100 saves.
///
/// A plain reader that opens several files one after the other may see two versions. A
/// [`DirSnapshot`](crate::DirSnapshot) doesn't: it keeps its version as long as it needs it. The old version is deleted by
/// the commit, or else by its last reader, the next commit or [`recover`](crate::recover()).
///
/// # When a `Transaction` is the better tool
///
/// A swap gives the directory, and every file in it, a new inode. A shell whose current directory it is, a
/// file manager that shows it, an editor that has one of its files open and a program that watches it with inotify all
/// keep the old one. Tools that compare times see the directory's time change with each commit. And without
/// [`Carry::HardLink`](crate::Carry::HardLink) each commit copies every file. A chat program that pioneered such swaps for
/// its conversations gave them up for these reasons.
///
/// Swap where one program owns the directory and readers must see all of a version or nothing: a
/// generated site, an index, a cache, an installed package. Where people and other programs look into the directory, or
/// where only a few of many files change, a [`Transaction`](crate::Transaction) changes just these files: all or none of them, across crashes.
///
/// # How
///
/// All files and directories that are new are synced; then the new directory and the target exchange
/// their names in one step (`renameat2`), and the parent directory is synced. The new directory keeps the
/// mode, owner, ACLs and attributes of the old one.
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
///   second of that, [`Busy`](crate::ErrorKind::Busy).
/// - The file system must have locks (`flock`): without, `Unsupported`.
/// - A program that has the directory as its current one, or open, stays in the old version.
/// - Mount points inside the directory can't be carried over (`Busy`); FIFOs, sockets and devices
///   neither (`InvalidPath`).
/// - A new directory can't be what an encrypted one (fscrypt, unless the parent is encrypted, too), one whose files
///   count to a project's quota, or a subvolume of btrfs is: `Unsupported`, before anything is changed. `create`
///   does not look inside what it replaces. That a directory is not copied on write (`chattr +C`) is kept.
/// - Where composed and decomposed letters are one, writers exclude each other only if they spell such letters of the name alike;
///   upper and lower case count as one wherever the file system says so.
/// - What is killed between the swap and the deletion of an old version that belongs to another user, in a
///   directory where others can create names, leaves that version; see [`recover`](crate::recover()).
#[derive(Debug)]
#[must_use = "a directory that is neither committed nor discarded publishes nothing"]
pub struct AtomicDir {
    pub(super) staging: PathBuf,
    pub(super) options: DirOptions,
    pub(super) kind: FsKind,
    pub(super) sync: GroupSync,
    pub(super) collector: Collector,
    pub(super) inner: Mutex<Inner>,
}

/// The parts that `staging` changes, too.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) draft: Draft,
    /// Files in the collector, by their numbers.
    pub(super) files: Vec<PathBuf>,
    /// Why nothing can be published any more.
    pub(super) failed: Option<Error>,
}

impl AtomicDir {
    /// Begins a new version that is empty. The target need not exist.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::AtomicDir::create(&path)?;
    /// site.write("index.html", "<p>Hello")?;
    /// site.commit()?;
    /// assert!(path.join("index.html").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotADirectory`](crate::ErrorKind::NotADirectory) if something else is there;
    /// [`Busy`](crate::ErrorKind::Busy) if it is a mount point; [`Locked`](crate::ErrorKind::Locked) if another
    /// writer is at work.
    pub fn create(target: impl AsRef<Path>) -> Result<AtomicDir> {
        DirOptions::new().create(target)
    }

    /// Begins a new version with the content of the present one. Whatever isn't replaced or
    /// removed is carried over, with modes, owners (as far as permitted), times, attributes, ACLs and links. If there
    /// is no present version, the new one begins empty.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::AtomicDir::update(&path)?;
    /// site.write("index.html", "<p>Hello")?;
    /// site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`create`](AtomicDir::create).
    pub fn update(target: impl AsRef<Path>) -> Result<AtomicDir> {
        DirOptions::new().update(target)
    }

    /// Puts a file into the new version, and replaces a file that is already there.
    ///
    /// A replaced file's mode, owner, ACLs and attributes are kept, as with [`write`](crate::write()).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::AtomicDir::create(&path)?;
    /// site.write("css/style.css", "p { color: navy }")?;
    /// site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`IsADirectory`](crate::ErrorKind::IsADirectory) if a directory is there, [`InvalidPath`](crate::ErrorKind::InvalidPath)
    /// and [`NotADirectory`](crate::ErrorKind::NotADirectory) for a path that can't be used; and the errors of the disk.
    pub fn write(&mut self, rel: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let (rel, contents) = (rel.as_ref(), contents.as_ref());
        let path = self.draft().path_of(rel);
        self.options.set.files.check_size(contents, &path)?;
        let mut file = self.create_file(rel)?;
        file.write_whole(contents)?;
        file.finish()
    }

    /// Puts a file with `value` as JSON into the new version. See
    /// [`write_json`](crate::write_json).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::AtomicDir::create(&path)?;
    /// site.write_json("pages.json", &["index.html"])?;
    /// site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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

    /// Puts a file into the new version as a stream, which must be ended by [`StagedFile::finish`] before
    /// `commit`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// use std::io::Write;
    ///
    /// let mut site = durafile::AtomicDir::create(&path)?;
    /// let mut file = site.create_file("long.csv")?;
    /// writeln!(file, "name,age")?;
    /// file.finish()?;
    /// site.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](AtomicDir::write).
    pub fn create_file(&mut self, rel: impl AsRef<Path>) -> Result<StagedFile> {
        let (rel, options) = (rel.as_ref(), self.options.set.of_files());
        let inner = self.inner.get_mut().unwrap_or_else(|broken| broken.into_inner());
        let (file, existing) = inner.draft.create_file(rel, &options)?;
        let stream = ContentWriter::new(file, &inner.draft.path_of(rel), (&options).into());
        // Other programs may change it again: then it is synced when they are done.
        let sync = if inner.draft.is_exposed() { GroupSync::None } else { self.sync };
        inner.files.push(rel.to_owned());
        let present = inner.draft.present(rel).filter(|_| options.skip_unchanged);
        let mut file =
            StagedFile::new(stream, existing, &options, sync, inner.files.len() - 1, &self.collector);
        present.into_iter().for_each(|target| file.compare_with(target));
        Ok(file)
    }

    /// Creates a directory in the new version, and missing ones above it. It is no error if the directory exists.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::AtomicDir::create(&path)?;
    /// site.create_dir("images/large")?;
    /// site.commit()?;
    /// assert!(path.join("images/large").is_dir());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists) if something else is there; otherwise as
    /// [`write`](AtomicDir::write).
    pub fn create_dir(&mut self, rel: impl AsRef<Path>) -> Result<()> {
        self.draft().create_dir(rel.as_ref())
    }

    /// Removes a file from the new version, or a directory with everything in it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::AtomicDir::create(&path)?;
    /// site.write("old.html", "")?;
    /// site.commit()?;
    ///
    /// let mut site = durafile::AtomicDir::update(&path)?;
    /// site.remove("old.html")?;
    /// site.commit()?;
    /// assert!(!path.join("old.html").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) if nothing is there; otherwise as
    /// [`write`](AtomicDir::write).
    pub fn remove(&mut self, rel: impl AsRef<Path>) -> Result<()> {
        self.draft().remove(rel.as_ref())
    }

    /// The directory in which the new version is built, for other tools to write to.
    ///
    /// Everything that is there at the time of `commit` is synced and published. Files that are carried over from the
    /// present version are there when this returns; if that failed, `commit` reports it. Before you change such files
    /// in place, read about [`Carry::HardLink`](crate::Carry::HardLink). Where others than its owner can create names beside
    /// the target, only its owner may use the directory until it is published.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let site = durafile::AtomicDir::create(&path)?;
    /// // Any other program or library may write here.
    /// std::fs::write(site.staging().join("index.html"), "<p>Hello")?;
    /// site.commit()?;
    /// assert!(path.join("index.html").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn staging(&self) -> &Path {
        let mut inner = self.lock();
        if !inner.draft.is_exposed() {
            if let Err(e) = self.carry(&mut inner, GroupSync::None) {
                inner.failed.get_or_insert(e);
            }
            inner.draft.expose();
            // All that waits for its sync is synced with what the tools have made of it.
            lock(&self.collector).forget_unsynced();
        }
        &self.staging
    }

    /// Makes the new version durable, and then puts it in the place of the target.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::AtomicDir::create(&path)?;
    /// site.write("index.html", "<p>Hello")?;
    /// assert!(!path.exists());
    /// site.commit()?;
    /// assert!(path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If it fails before the swap, the target is unchanged and nothing is left behind. [`Error::target`] is
    /// `Replaced` if the new version is in place and not known to be durable, and `Pending` if a fallback was
    /// interrupted: then [`recover`](crate::recover()) completes it.
    pub fn commit(self) -> Result<Committed> {
        let mut inner = self.lock();
        failing::check(&inner.draft.target.path)?;
        self.carry(&mut inner, self.sync)?;
        drop(inner);
        let AtomicDir { options, kind, sync, collector, inner, .. } = self;
        let Inner { mut draft, files, failed } = inner.into_inner().unwrap_or_else(|b| b.into_inner());
        if let Some(e) = failed {
            return Err(e);
        }
        let path_of = |tag: usize| files.get(tag).map_or_else(PathBuf::new, |rel| draft.path_of(rel));
        let open = |tag: usize| files.get(tag).map_or(Ok(None), |rel| draft.open_staged(rel));
        let mut collected = lock(&collector);
        collected.check(&draft.target.path)?;
        let whole = collected.finish(false, &path_of, &open)?;
        draft.keeps_metadata &= collected.lost_metadata.is_empty();
        drop(collected);
        let synced = draft.make_durable(if whole { GroupSync::SyncFs } else { sync })?;
        draft.publish(&options, kind, synced)
    }

    /// Gives up the new version; the target stays as it is, and nothing is left behind.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("site");
    /// let mut site = durafile::AtomicDir::create(&path)?;
    /// site.write("index.html", "<p>Hello")?;
    /// site.discard()?;
    /// assert!(!path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the new version can't be removed; [`recover`](crate::recover()) removes it later.
    pub fn discard(self) -> Result<()> {
        // Windows keeps the names of open files.
        lock(&self.collector).forget_unsynced();
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

    fn carry(&self, inner: &mut Inner, sync: GroupSync) -> Result<()> {
        self.keep_unchanged(inner)?;
        let files = CarriedFiles { collector: &self.collector, sync, paths: &mut inner.files };
        inner.draft.carry(&self.options, files)
    }

    /// Files that the present version has with the same content are carried over with the rest.
    fn keep_unchanged(&self, inner: &mut Inner) -> Result<()> {
        let mut collected = lock(&self.collector);
        if collected.open > 0 {
            // What is not complete can't be compared.
            return Ok(());
        }
        let (options, maybe_unchanged) =
            (self.options.set.of_files(), std::mem::take(&mut collected.maybe_unchanged));
        for (tag, sync) in maybe_unchanged {
            let rel = inner.files.get(tag).cloned().unwrap_or_default();
            let fail = |e| Error::io("compare", &inner.draft.path_of(&rel), e);
            // None if it was removed since.
            let Some(staged) = inner.draft.open_staged(&rel).map_err(fail)? else { continue };
            let present = inner.draft.present(&rel);
            let is_same =
                |target: Target| same_file((&target.dir, &target.name), &staged, &options).is_some();
            if present.is_some_and(is_same) {
                inner.draft.unstage(&rel).map_err(|e| Error::io("carry over", &rel, e))?;
            } else {
                collected.add(sync, tag, staged);
            }
        }
        Ok(())
    }
}
