//! A stream inside a set.

use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::atomic::plan::Facts;
use crate::atomic::stream::Stream;
use crate::atomic::sync_set::{Failed, How, SyncSet};
use crate::atomic::{Content, Target, metadata, unchanged_file};
use crate::options::WriteOptions;
use crate::sys::{Existing, File};
use crate::{Error, ErrorKind, Result};

/// What the streams of a set leave for its commit.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    set: SyncSet,
    /// Streams that are not ended yet.
    open: usize,
    /// Why a stream was dropped unfinished.
    abandoned: Option<Error>,
    failed: Option<Failed>,
    /// What each finished file is known by, where that is needed.
    facts: Option<HashMap<usize, Facts>>,
    /// Files whose targets hold the same content already.
    unchanged: Vec<usize>,
}

impl Collected {
    /// One that keeps the facts of each file.
    pub(crate) fn with_facts() -> Collector {
        let facts = Some(HashMap::new());
        Arc::new(Mutex::new(Collected { facts, ..Collected::default() }))
    }

    pub(crate) fn facts_of(&self, tag: usize) -> Option<Facts> {
        self.facts.as_ref()?.get(&tag).copied()
    }

    pub(crate) fn unchanged(&self) -> &[usize] {
        &self.unchanged
    }

    /// Takes a complete file.
    pub(crate) fn add(&mut self, how: How, tag: usize, file: File) {
        if self.failed.is_none() {
            self.failed = self.set.add(how, tag, file).err();
        }
    }

    /// What was added is synced by somebody else, unless it is already. A sync that has failed
    /// is not forgotten: the kernel would not tell of it again.
    pub(crate) fn forget_unsynced(&mut self) {
        let failed = std::mem::take(&mut self.set).abandon();
        self.failed = self.failed.take().or(failed);
    }

    /// Waits until everything that was added is durable, but for what [`SyncSet::finish`] says. `path_of`
    /// tells which file a number is, `open` opens its staged file again.
    pub(crate) fn finish(
        &mut self,
        root: &Path,
        path_of: impl Fn(usize) -> std::path::PathBuf,
        open: impl Fn(usize) -> io::Result<Option<File>>,
    ) -> Result<bool> {
        if let Some(e) = self.abandoned.take() {
            return Err(e);
        }
        if self.open > 0 {
            return Err(Error::new(ErrorKind::Reader, UNFINISHED, root));
        }
        let finished = self.failed.take().map_or_else(|| self.set.finish(open), Err);
        finished.map_err(|failed| Error::io("sync", &path_of(failed.tag), failed.cause))
    }
}

const UNFINISHED: &str = "use the unfinished stream for";

pub(crate) type Collector = Arc<Mutex<Collected>>;

pub(crate) fn lock(collector: &Collector) -> MutexGuard<'_, Collected> {
    collector.lock().unwrap_or_else(|broken| broken.into_inner())
}

/// A stream of new content inside a [`Batch`](crate::Batch) or [`Transaction`](crate::Transaction).
///
/// Owned, and can be filled on another thread. Ended by [`finish`](StagedFile::finish); one that
/// is dropped unfinished makes the `commit` of its set fail with
/// [`Reader`](ErrorKind::Reader), and so does one that is still open then.
#[derive(Debug)]
#[must_use = "a stream that is not finished makes the commit fail"]
pub struct StagedFile {
    /// None once finished.
    stream: Option<Stream>,
    existing: Option<Existing>,
    /// If it holds the same content already, it stays as it is.
    compare_with: Option<Box<Target>>,
    options: WriteOptions,
    how: How,
    tag: usize,
    collector: Collector,
}

impl StagedFile {
    pub(crate) fn new(
        stream: Stream,
        existing: Option<Existing>,
        options: &WriteOptions,
        how: How,
        tag: usize,
        collector: &Collector,
    ) -> StagedFile {
        lock(collector).open += 1;
        let (options, collector) = (options.clone(), Arc::clone(collector));
        StagedFile { stream: Some(stream), existing, compare_with: None, options, how, tag, collector }
    }

    pub(crate) fn compare_with(&mut self, target: Target) {
        self.compare_with = Some(Box::new(target));
    }

    /// Ends the content. It is published by the `commit` of the set.
    ///
    /// # Errors
    ///
    /// That of an earlier write, or of writing what was buffered. A failed sync is reported by
    /// `commit`.
    pub fn finish(mut self) -> Result<()> {
        let stream = self.stream_mut()?;
        stream.finish()?;
        self.complete()
    }

    /// The whole content at once.
    pub(crate) fn write_whole(&mut self, contents: &[u8]) -> Result<()> {
        self.stream_mut()?.write_whole(contents)
    }

    #[cfg(feature = "json")]
    pub(crate) fn write_json<T: serde::Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let pretty = self.options.pretty;
        self.stream_mut()?.write_json(value, pretty)
    }

    fn complete(&mut self) -> Result<()> {
        let Some(stream) = self.stream.take() else { return Ok(()) };
        if let Some(same) = self.unchanged_file(&stream) {
            let mut collected = lock(&self.collector);
            collected.open -= 1;
            collected.unchanged.push(self.tag);
            collected.add(self.how.of_unchanged(), self.tag, same);
            return Ok(());
        }
        let (mut collected, facts) = match self.describe(&stream) {
            Ok(facts) => (lock(&self.collector), facts),
            Err(e) => {
                let error = Error::io("set the metadata of", stream.path(), e);
                let mut collected = lock(&self.collector);
                collected.open -= 1;
                collected.abandoned = Some(error.clone());
                return Err(error);
            }
        };
        collected.open -= 1;
        if let (Some(all), Some(facts)) = (&mut collected.facts, facts) {
            all.insert(self.tag, facts);
        }
        collected.add(self.how, self.tag, stream.into_file());
        Ok(())
    }

    fn unchanged_file(&self, stream: &Stream) -> Option<File> {
        let content = Content::Staged(stream.file(), stream.len());
        unchanged_file(self.compare_with.as_ref()?, &content, &self.options)
    }

    /// Sets the metadata, and finds the facts where they are wanted.
    fn describe(&self, stream: &Stream) -> io::Result<Option<Facts>> {
        let existing = self.existing.as_ref();
        if metadata::is_needed(existing, &self.options) {
            metadata::apply(stream.file(), &stream.file().stat()?, existing, &self.options)?;
        }
        let wanted = lock(&self.collector).facts.is_some();
        if wanted { stream.facts().map(Some) } else { Ok(None) }
    }

    fn stream_mut(&mut self) -> Result<&mut Stream> {
        // Only `finish` takes it, and that consumes the stream.
        self.stream.as_mut().ok_or_else(|| Error::new(ErrorKind::Reader, "write", Path::new("")))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            let unfinished = || Error::new(ErrorKind::Reader, UNFINISHED, stream.path());
            let mut collected = lock(&self.collector);
            collected.open -= 1;
            collected.abandoned = Some(stream.check().err().unwrap_or_else(unfinished));
        }
    }
}

impl Write for StagedFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.stream_mut()?.write(data)?;
        Ok(data.len())
    }

    /// Passes the buffer on to the operating system. Nothing is durable before the commit.
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.stream_mut()?.finish()?)
    }
}

impl Seek for StagedFile {
    /// As for [`std::fs::File`]: beyond the end is allowed, and the gap reads as zeros.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.stream_mut()?.seek(to)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::sys::Dir;

    /// One round shows it only if the threads get to work in time.
    const ROUNDS: usize = 50;

    #[test]
    fn a_sync_that_failed_in_the_background_is_not_forgotten() {
        let devices = Dir::open(Path::new("/dev")).unwrap();
        let told = (0..ROUNDS).any(|_| {
            let mut collected = Collected::default();
            for tag in 0..22 {
                // It has no sync.
                let file = devices.open_file("null".as_ref()).unwrap();
                collected.add(How::Together, tag, file);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            collected.forget_unsynced();
            collected.finish(Path::new("."), |_| "file".into(), |_| Ok(None)).is_err()
        });
        assert!(told);
    }
}
