//! Many independent files, made durable together.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::atomic::places::{Places, StagedAt};
use crate::atomic::stage_dir::name_of;
use crate::atomic::stream::Stream;
use crate::atomic::sync_set::{Wish, in_parallel};
use crate::atomic::{Content, Outcome, Target, creation_mode, move_into_place, sync_rename, unchanged_file};
use crate::options::{Committed, Durability, WriteOptions};
use crate::staged_file::{Collector, StagedFile, lock};
use crate::sys::{self, Dir};
use crate::{CancelToken, Error, Result, TargetState};

/// How a set of files is made durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncStrategy {
    /// Start writing each file to the device early, then sync the files on up to 16 threads,
    /// whose flushes the file system merges. A set of fewer than 50 files never waits for the dirty data
    /// of other programs.
    ///
    /// From 50 files on it looks at how much the system has yet to write, this set's data included
    /// (`/proc/meminfo`). While that is less than 128 KiB for each file, one `syncfs` at the end is cheaper
    /// and takes the place of the files' own syncs (Linux 5.17 and later; ext4, XFS, btrfs). It looks
    /// again right before that, and opens the files once more to sync them if another program has
    /// begun to write; only those whose mode forbids it need the `syncfs` even then.
    #[default]
    Auto,
    /// Sync each file by itself, one after the other, on the thread that adds it.
    PerFile,
    /// Sync the whole file system once (`syncfs`): the fewest flushes for very many files, but it
    /// waits for everybody's dirty data.
    ///
    /// Only where `syncfs` is known to report errors (Linux 5.8 and later; ext4, XFS, btrfs);
    /// elsewhere this is `PerFile`.
    FileSystem,
}

/// Many independent files, each atomic by itself, all durable when `commit` returns.
///
/// Add them, then [`commit`](Batch::commit); until then nothing is seen of them. A crash or an
/// error in the middle of `commit` may leave some files new and some old, each of them complete.
/// Dropped, the batch is discarded.
///
/// Much faster than a loop of [`write`](crate::write()): flushes are shared. At most 128
/// descriptors are open at any size, but for those of streams that the caller holds.
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
    places: Option<Places>,
    entries: Vec<Entry>,
    /// The entry for each target, by place and name.
    index: HashMap<(usize, OsString), usize>,
}

#[derive(Debug)]
struct Entry {
    path: PathBuf,
    place: usize,
    name: OsString,
    staged: Option<StagedAt>,
    /// The target holds the content already.
    unchanged: bool,
    /// A later entry for the same target, which wins.
    superseded_by: Option<usize>,
    state: TargetState,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// How each file is saved. To be said before files are added.
    pub fn options(mut self, options: WriteOptions) -> Self {
        self.options = options;
        self
    }

    /// How the files are made durable. To be said before files are added. Default:
    /// [`SyncStrategy::Auto`].
    pub fn sync(mut self, strategy: SyncStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How many files were added.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none was added.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a file. Its content is staged when this returns; of two entries for one target the
    /// later wins.
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()). After an error of the path, of the size or of creating the file, the
    /// batch goes on without it; after one in the middle of its content, `commit` fails.
    pub fn write(&mut self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<()> {
        let (path, contents) = (path.as_ref(), contents.as_ref());
        self.options.check_size(contents, path)?;
        let (place, target) = self.places().resolve(path)?;
        if self.options.skip_unchanged {
            if let Some(file) = unchanged_file(&target, &Content::Bytes(contents), &self.options) {
                let how = self.places().get(place).how.of_unchanged();
                let tag = self.add(place, target, None);
                self.entries[tag].unchanged = true;
                lock(&self.collector).add(how, tag, file);
                return Ok(());
            }
        }
        let mut file = self.stage(place, target)?;
        file.write_whole(contents)?;
        file.finish()
    }

    /// Adds a file with `value` as JSON. See [`write_json`](crate::write_json).
    ///
    /// # Errors
    ///
    /// As there. After an error in the middle of the text, `commit` fails.
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

    /// Adds a file as a stream, to be ended by [`StagedFile::finish`] before `commit`.
    ///
    /// # Errors
    ///
    /// As [`WriteOptions::open`].
    pub fn create_file(&mut self, path: impl AsRef<Path>) -> Result<StagedFile> {
        let (place, target) = self.places().resolve(path.as_ref())?;
        self.stage(place, target)
    }

    /// Makes everything that was added durable, then publishes it, file by file.
    ///
    /// The result has one entry for each file, in the order of adding.
    ///
    /// # Errors
    ///
    /// Before the first file is published, every target is unchanged. After that, publishing stops
    /// at the first failure; [`Error::files`] has the state of each file, and [`Error::target`] that
    /// of the file which the error names.
    pub fn commit(mut self) -> Result<Vec<Committed>> {
        match self.try_commit() {
            Ok(reached) => {
                let committed = |entry: &Entry| Committed {
                    durability: reached[entry.place],
                    unchanged: entry.unchanged,
                };
                Ok(self.entries.iter().map(|entry| committed(self.winner(entry))).collect())
            }
            Err(e) => {
                let states = self.entries.iter().map(|entry| (entry.path.clone(), self.winner(entry).state));
                Err(e.with_files(states.collect()))
            }
        }
    }

    /// Ends the batch; every target stays as it is, and nothing is left behind.
    pub fn discard(self) {
        drop(self);
    }

    fn places(&mut self) -> &mut Places {
        let Batch { options, strategy, .. } = self;
        let wish = Wish { strategy: *strategy, ..Wish::from(&*options) };
        self.places.get_or_insert_with(|| Places::new(options, wish))
    }

    fn winner<'a>(&'a self, mut entry: &'a Entry) -> &'a Entry {
        while let Some(later) = entry.superseded_by {
            entry = &self.entries[later];
        }
        entry
    }

    fn stage(&mut self, place: usize, target: Target) -> Result<StagedFile> {
        let mode = creation_mode(&target, &self.options);
        let (staged, file) = self.places().create(place, &target, mode)?;
        let stream = Stream::new(file, &target.path, (&self.options).into());
        let (how, tag) = (self.places().get(place).how, self.entries.len());
        let existing = target.existing.clone();
        let mut staged_file = StagedFile::new(stream, existing, &self.options, how, tag, &self.collector);
        if self.options.skip_unchanged && target.existing.is_some() {
            staged_file.compare_with(target.clone());
        }
        self.add(place, target, Some(staged));
        Ok(staged_file)
    }

    fn add(&mut self, place: usize, target: Target, staged: Option<StagedAt>) -> usize {
        let Target { name, path, .. } = target;
        let added = self.entries.len();
        if let Some(earlier) = self.index.insert((place, name.clone()), added) {
            self.entries[earlier].superseded_by = Some(added);
        }
        let state = TargetState::Unchanged;
        self.entries.push(Entry { path, place, name, staged, unchanged: false, superseded_by: None, state });
        added
    }

    /// What was reached in each place.
    fn try_commit(&mut self) -> Result<Vec<Durability>> {
        let Some(mut places) = self.places.take() else { return Ok(Vec::new()) };
        let first = self.entries.first().map(|entry| entry.path.clone()).unwrap_or_default();
        CancelToken::check(self.options.cancel.as_ref(), &first)?;
        self.make_durable(&places, &first)?;
        CancelToken::check(self.options.cancel.as_ref(), &first)?;
        let mut by_place = vec![Vec::new(); places.len()];
        for (at, entry) in self.entries.iter().enumerate().filter(|(_, e)| e.superseded_by.is_none()) {
            by_place[entry.place].push(at);
        }
        let mut reached = vec![Durability::None; places.len()];
        // One that no file was added to, after all, is left alone.
        let used: Vec<usize> = (0..places.len()).filter(|&place| !by_place[place].is_empty()).collect();
        for window in used.chunks(DIRECTORIES) {
            let dirs = window.iter().map(|&place| Ok((place, places.dir(place)?)));
            let dirs = dirs.collect::<Result<Vec<_>>>()?;
            let synced = self.publish(&mut places, &dirs, &by_place)?;
            for ((place, _), durability) in dirs.iter().zip(synced) {
                reached[*place] = places.get(*place).kind.limit(durability);
            }
        }
        Ok(reached)
    }

    fn make_durable(&mut self, places: &Places, first: &Path) -> Result<()> {
        let mut collected = lock(&self.collector);
        let open = |tag: usize| {
            let staged = self.entries[tag].staged.and_then(|at| Some((places.staging(&at)?, at.number)));
            staged.map(|(stage, number)| stage.open_file(&name_of(number))).transpose()
        };
        let whole = collected.finish(first, |tag| self.entries[tag].path.clone(), open)?;
        for &tag in collected.unchanged() {
            self.entries[tag].unchanged = true;
        }
        drop(collected);
        for (via, dir) in places.file_systems(whole) {
            sys::sync_file_system(dir).map_err(|e| Error::io("sync the file system of", via, e))?;
        }
        Ok(())
    }

    /// Into some directories. What was reached in each.
    fn publish(
        &mut self,
        places: &mut Places,
        dirs: &[(usize, Arc<Dir>)],
        by_place: &[Vec<usize>],
    ) -> Result<Vec<Durability>> {
        let mut held = Vec::new();
        let mut publish = || {
            for (place, dir) in dirs {
                for &at in &by_place[*place] {
                    if places.get(*place).is_held {
                        if held.len() == HELD {
                            self.sync_directories(places, dirs, by_place)?;
                            held.clear();
                        }
                        held.extend(dir.hold(&self.entries[at].name));
                    }
                    self.publish_one(places, dir, at)?;
                }
            }
            Ok(())
        };
        let published = publish();
        if !held.is_empty() || published.is_ok() {
            // After an error, too: what was replaced must not come back torn.
            let synced = self.sync_directories(places, dirs, by_place);
            return published.and(synced);
        }
        published.map(|()| Vec::new())
    }

    fn publish_one(&mut self, places: &mut Places, dir: &Dir, at: usize) -> Result<()> {
        let entry = &mut self.entries[at];
        let Some(staged) = entry.staged.filter(|_| !entry.unchanged) else { return Ok(()) };
        let Some(stage) = places.staging(&staged) else { return Ok(()) };
        let remote = places.get(entry.place).kind.remote;
        let (from, create_new) = (name_of(staged.number), self.options.create_new);
        let (outcome, error) = move_into_place(stage, &from, dir, &entry.name, create_new, remote);
        entry.state = match outcome {
            Outcome::Done => TargetState::Replaced,
            Outcome::NotDone => TargetState::Unchanged,
            Outcome::Unknown => TargetState::Unknown,
        };
        if let (Some(e), Outcome::NotDone | Outcome::Unknown) = (error, outcome) {
            if outcome == Outcome::Unknown {
                places.leave(&staged);
            }
            return Err(Error::publish(&entry.path, e).with_target(entry.state));
        }
        Ok(())
    }

    fn sync_directories(
        &self,
        places: &Places,
        dirs: &[(usize, Arc<Dir>)],
        by_place: &[Vec<usize>],
    ) -> Result<Vec<Durability>> {
        let asked = self.options.durability;
        let reached: Vec<OnceLock<Durability>> = dirs.iter().map(|_| OnceLock::new()).collect();
        let jobs = dirs.iter().zip(&reached).filter(|((place, _), _)| places.get(*place).is_synced);
        let jobs: Vec<_> = jobs.collect();
        let synced = in_parallel(&jobs, |((_, dir), reached)| {
            reached.set(sync_rename(dir, asked)?).unwrap_or_default();
            Ok(())
        });
        match synced {
            Ok(()) => Ok(reached.into_iter().map(|cell| cell.into_inner().unwrap_or(asked)).collect()),
            Err((at, e)) => Err(self.directory_failed(&by_place[jobs[at].0.0], e)),
        }
    }

    /// The error names a file of that directory which is new, if there is one.
    fn directory_failed(&self, files: &[usize], e: io::Error) -> Error {
        let mut entries = files.iter().map(|&at| &self.entries[at]);
        let any = entries.clone().next();
        let Some(entry) = entries.find(|entry| entry.state != TargetState::Unchanged).or(any) else {
            return Error::io("sync the directory of", Path::new(""), e);
        };
        Error::io("sync the directory of", &entry.path, e).with_target(entry.state)
    }
}

/// So many replaced files are held open where they have to be, until their directories are synced.
const HELD: usize = 32;

/// So many directories are open at once while they are synced.
const DIRECTORIES: usize = 64;
