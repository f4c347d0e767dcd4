//! Many independent files, made durable together.

mod commit;
pub(crate) mod target_dirs;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::atomic::content::ContentWriter;
use crate::atomic::spelling::is_one_entry;
use crate::atomic::staged::{creation_mode, named_mode};
use crate::atomic::target::Target;
use crate::batch::target_dirs::{StagedAt, TargetDirs};
use crate::error::{Error, Result, TargetState};
use crate::names::name_of;
use crate::options::WriteOptions;
use crate::options::durability::{Committed, SyncStrategy};
use crate::set::collector::{Collector, lock};
use crate::set::options::check_for_batch;
use crate::set::spelling::{Comparison, Spellings, ask_in, would_be_one};
use crate::set::staged_file::StagedFile;
use crate::set::sync_request::SyncRequest;

/// Many independent files, each atomic by itself, all durable when `commit` returns.
///
/// Add the files, then [`commit`](Batch::commit); nobody sees any of them before that. A crash or an
/// error in the middle of `commit` may leave some files new and some old, but each of them complete.
/// A batch that is dropped is discarded.
///
/// A batch is much faster than a loop of [`write`](crate::write()), because the files share flushes. It never has more
/// than 128 descriptors open, however large it is, apart from the streams that the caller holds and one descriptor for
/// each mount or subvolume beyond 32.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let mut batch = durafile::Batch::new();
/// for n in 0..100 {
///     batch.write(dir.join(format!("{n}.txt")), "hello")?;
/// }
/// batch.commit()?;
/// # assert_eq!(std::fs::read_dir(dir)?.count(), 100);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
#[must_use = "a batch that is not committed publishes nothing"]
pub struct Batch {
    options: WriteOptions,
    strategy: SyncStrategy,
    /// Dropped before the staging directories: Windows keeps the names of open files.
    collector: Collector,
    dirs: Option<TargetDirs>,
    entries: Vec<Entry>,
    /// The entry for each target, by directory and name.
    index: HashMap<(usize, OsString), usize>,
    /// The names in each directory, and how it compares them, once it was asked.
    spellings: HashMap<usize, (Spellings, Option<Comparison>)>,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    dir: usize,
    name: OsString,
    staged: StagedAt,
    /// The target holds the content already.
    unchanged: bool,
    /// A later entry for the same target, which wins.
    superseded_by: Option<usize>,
    state: TargetState,
}

impl Batch {
    /// An empty batch.
    ///
    /// ```
    /// let batch = durafile::Batch::new();
    /// assert!(batch.is_empty());
    /// ```
    pub fn new() -> Batch {
        Batch::default()
    }

    /// How each file is saved. Call this before files are added. Default: as by [`write`](crate::write()).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("token");
    /// use durafile::{Batch, WriteOptions};
    ///
    /// let mut batch = Batch::new().options(WriteOptions::new().create_parents(true));
    /// batch.write(path.with_file_name("new-folder").join("a.txt"), "hello")?;
    /// batch.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn options(mut self, options: WriteOptions) -> Self {
        self.options = options;
        self
    }

    /// How the files are made durable. Call this before files are added. Default:
    /// [`SyncStrategy::Auto`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// use durafile::{Batch, SyncStrategy};
    ///
    /// let mut batch = Batch::new().sync(SyncStrategy::PerFile);
    /// batch.write(&path, "hello")?;
    /// batch.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sync(mut self, strategy: SyncStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How many files have been added.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// let mut batch = durafile::Batch::new();
    /// batch.write(&path, "hello")?;
    /// assert_eq!(batch.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no file has been added.
    ///
    /// ```
    /// let batch = durafile::Batch::new();
    /// assert!(batch.is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a file. Its content is staged when this returns. If two entries have the same target, the
    /// later one wins.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// let mut batch = durafile::Batch::new();
    /// batch.write(&path, "first")?;
    /// batch.write(&path, "second")?;
    /// batch.commit()?;
    /// assert_eq!(std::fs::read(&path)?, b"second");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()). If the path or the size is refused, or the file can't be created, the batch goes on
    /// without it. If writing fails in the middle of the content, `commit` fails.
    pub fn write(&mut self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let (path, contents) = (path.as_ref(), contents.as_ref());
        self.options.check_size(contents, path)?;
        let mut file = self.create_file(path)?;
        file.write_whole(contents)?;
        file.finish()
    }

    /// Adds a file with `value` as JSON. See [`write_json`](crate::write_json).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.json");
    /// let mut batch = durafile::Batch::new();
    /// batch.write_json(&path, &[1, 2, 3])?;
    /// batch.commit()?;
    /// assert_eq!(std::fs::read(&path)?, b"[1,2,3]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Batch::write), and [`Serialize`](crate::ErrorKind::Serialize) if the value can't be JSON. After an error in the middle of the text, `commit` fails.
    #[cfg(feature = "json")]
    pub fn write_json<T: serde::Serialize + ?Sized>(
        &mut self,
        path: impl AsRef<Path>,
        value: &T,
    ) -> Result<()> {
        let mut file = self.create_file(path)?;
        file.write_json(value)?;
        file.finish()
    }

    /// Adds a file as a stream, which must be ended by [`StagedFile::finish`] before `commit`.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("long.csv");
    /// use std::io::Write;
    ///
    /// let mut batch = durafile::Batch::new();
    /// let mut file = batch.create_file(&path)?;
    /// for n in 0..1000 {
    ///     writeln!(file, "{n}")?;
    /// }
    /// file.finish()?;
    /// batch.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`WriteOptions::open`].
    pub fn create_file(&mut self, path: impl AsRef<Path>) -> Result<StagedFile> {
        let path = path.as_ref();
        check_for_batch(&self.options, path)?;
        let (at, target) = self.dirs().resolve(path)?;
        self.stage(at, target)
    }

    /// Makes everything that was added durable, then publishes it, file by file.
    ///
    /// The result has one entry for each file, in the order of adding.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// let mut batch = durafile::Batch::new();
    /// batch.write(&path, "hello")?;
    /// match batch.commit() {
    ///     Ok(saved) => assert_eq!(saved.len(), 1),
    ///     Err(e) => {
    ///         for (path, state) in e.files() {
    ///             eprintln!("{}: {state:?}", path.display());
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Before the first file is published, every target is unchanged. After that, publishing stops
    /// at the first failure; [`Error::files`](crate::Error::files) has the state of each file, and [`Error::target`](crate::Error::target) that
    /// of the file which the error names.
    pub fn commit(mut self) -> Result<Vec<Committed>> {
        match self.try_commit() {
            Ok(reached) => {
                let mut kept_metadata = vec![true; self.entries.len()];
                for &at in &lock(&self.collector).lost_metadata {
                    kept_metadata[at] = false;
                }
                let committed = |at: usize| {
                    let at = self.winner_of(at);
                    let Entry { unchanged, dir, .. } = self.entries[at];
                    let kept_metadata = kept_metadata[at];
                    Committed { unchanged, kept_metadata, ..Committed::new(reached[dir]) }
                };
                Ok((0..self.entries.len()).map(committed).collect())
            }
            Err(e) => {
                let state = |at: usize| self.entries[self.winner_of(at)].state;
                let states =
                    self.entries.iter().enumerate().map(|(at, entry)| (entry.path.clone(), state(at)));
                Err(e.with_files(states.collect()))
            }
        }
    }

    /// Ends the batch; every target stays as it is, and nothing is left behind.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// let mut batch = durafile::Batch::new();
    /// batch.write(&path, "hello")?;
    /// batch.discard()?;
    /// assert!(!path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If what was staged can't be removed. [`recover`](crate::recover()) removes it later.
    pub fn discard(mut self) -> Result<()> {
        // Windows keeps the names of open files.
        lock(&self.collector).forget_unsynced();
        self.dirs.take().map_or(Ok(()), TargetDirs::remove_staged)
    }

    fn dirs(&mut self) -> &mut TargetDirs {
        let Batch { options, strategy, .. } = self;
        let request = SyncRequest::new(options, *strategy);
        self.dirs.get_or_insert_with(|| TargetDirs::new(options, request))
    }

    /// The last one of the entries for the same path as this one.
    fn winner_of(&self, mut at: usize) -> usize {
        while let Some(later) = self.entries[at].superseded_by {
            at = later;
        }
        at
    }

    fn stage(&mut self, at: usize, target: Target) -> Result<StagedFile> {
        let others = self.other_spellings(at, &target)?;
        let mode = creation_mode(&target, &self.options);
        let modes = (mode, named_mode(mode, target.existing.as_ref(), &self.options));
        let (staged, file) = self.dirs().create(at, &target, modes)?;
        let stream = ContentWriter::new(file, &target.path, (&self.options).into());
        let (sync, tag) = (self.dirs().get(at).sync, self.entries.len());
        let existing = target.existing.clone();
        let mut staged_file = StagedFile::new(stream, existing, &self.options, sync, tag, &self.collector);
        staged_file.set_remote(self.dirs().get(at).kind.remote);
        if self.options.skip_unchanged && target.existing.is_some() {
            staged_file.compare_with(target.clone());
        }
        others.into_iter().for_each(|other| self.supersede(other, tag));
        self.add(at, target, staged);
        Ok(staged_file)
    }

    /// Removes what was staged for an earlier entry of the same target, at once: a batch that saves one file again and
    /// again takes the room of one.
    fn supersede(&mut self, earlier: usize, by: usize) {
        let entry = &mut self.entries[earlier];
        entry.superseded_by = Some(by);
        lock(&self.collector).set.forget(earlier);
        if let Some(stage) = self.dirs.as_ref().and_then(|dirs| dirs.staging(&entry.staged)) {
            // If this fails, it goes with the others.
            let _ = stage.unlink(&name_of(entry.staged.number));
        }
    }

    /// Entries for the same target under another spelling.
    fn other_spellings(&mut self, at: usize, target: &Target) -> Result<Vec<usize>> {
        let name: &Path = target.name.as_ref();
        let known = self.spellings.get_mut(&at).filter(|(spellings, _)| spellings.may_have_others(name));
        let Some((spellings, comparison)) = known else { return Ok(Vec::new()) };
        let staging = self.dirs.as_ref().and_then(|dirs| dirs.staging_like(at, &target.dir));
        let fail = |e| Error::io("compare the spelling of", &target.path, e);
        let comparison = match comparison {
            Some(asked) => *asked,
            None => {
                let asked = ask_in(&target.dir, staging, Comparison::ask).map_err(fail)?;
                *comparison.insert(asked.unwrap_or(Comparison::Loose))
            }
        };
        let mut same = Vec::new();
        for other in spellings.others(name, comparison) {
            let Some(&entry) = self.index.get(&(at, other.into())) else { continue };
            if self.entries[entry].superseded_by.is_some() {
                continue;
            }
            let (name, other) = (&target.name, other.as_os_str());
            let would_be = || {
                let asked = ask_in(&target.dir, staging, |private| would_be_one(private, name, other))?;
                Ok(asked.unwrap_or(false))
            };
            let there = is_one_entry(&target.dir, name, other).map_err(fail)?;
            if there.map_or_else(would_be, Ok).map_err(fail)? {
                same.push(entry);
            }
        }
        Ok(same)
    }

    fn add(&mut self, at: usize, target: Target, staged: StagedAt) -> usize {
        let Target { name, path, .. } = target;
        let added = self.entries.len();
        if let Some(earlier) = self.index.insert((at, name.clone()), added) {
            self.supersede(earlier, added);
        }
        self.spellings.entry(at).or_default().0.add(name.as_ref());
        let state = TargetState::Unchanged;
        self.entries.push(Entry {
            path,
            dir: at,
            name,
            staged,
            unchanged: false,
            superseded_by: None,
            state,
        });
        added
    }
}
