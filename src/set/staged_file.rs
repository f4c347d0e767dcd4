//! A stream inside a set.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use crate::atomic::content::{ContentId, ContentWriter};
use crate::atomic::metadata;
use crate::atomic::target::Target;
use crate::atomic::unchanged::{Content, unchanged_file};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::options::WriteOptions;
use crate::set::collector::{Collector, UNFINISHED, lock};
use crate::set::sync_request::GroupSync;
use crate::sys::{FileId, TargetMeta};

/// A stream of new content for one file of a [`Batch`](crate::Batch), a [`Transaction`](crate::Transaction) or an
/// [`AtomicDir`](crate::AtomicDir).
///
/// It is owned, and can be filled on another thread. It must be ended by [`finish`](StagedFile::finish): if a stream is
/// dropped unfinished, or is still open then, the `commit` of its set fails with [`Reader`](ErrorKind::Reader).
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("a.txt");
/// use std::io::Write;
///
/// let mut batch = durafile::Batch::new();
/// let mut file = batch.create_file(&path)?;
/// let writer = std::thread::spawn(move || -> std::io::Result<()> {
///     file.write_all(b"hello")?;
///     Ok(file.finish()?)
/// });
/// writer.join().expect("the thread did not panic")?;
/// batch.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a stream that is not finished makes the commit fail"]
pub struct StagedFile {
    /// The content; none once it is finished.
    stream: Option<ContentWriter>,
    existing: Option<TargetMeta>,
    /// If it holds the same content already, the sync is put off until the commit, which looks again.
    compare_with: Option<Box<Target>>,
    options: WriteOptions,
    sync: GroupSync,
    tag: usize,
    /// A rename may be done though it says that it failed; then only the inode proves it.
    is_remote: bool,
    collector: Collector,
}

impl StagedFile {
    pub(crate) fn new(
        stream: ContentWriter,
        existing: Option<TargetMeta>,
        options: &WriteOptions,
        sync: GroupSync,
        tag: usize,
        collector: &Collector,
    ) -> StagedFile {
        lock(collector).open += 1;
        let (options, collector) = (options.clone(), Arc::clone(collector));
        let (stream, compare_with, is_remote) = (Some(stream), None, false);
        StagedFile { stream, existing, compare_with, options, sync, tag, is_remote, collector }
    }

    /// The file is on a network file system.
    pub(crate) fn set_remote(&mut self, is_remote: bool) {
        self.is_remote = is_remote;
    }

    pub(crate) fn compare_with(&mut self, target: Target) {
        self.compare_with = Some(Box::new(target));
    }

    /// Ends the content. The `commit` of the set publishes it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("a.txt");
    /// use durafile::{Batch, ErrorKind};
    ///
    /// let mut batch = Batch::new();
    /// batch.create_file(&path)?.finish()?;
    /// batch.commit()?;
    ///
    /// let mut batch = Batch::new();
    /// drop(batch.create_file(&path)?); // not finished
    /// assert_eq!(batch.commit().unwrap_err().kind(), ErrorKind::Reader);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The error of an earlier write, or of writing what was still buffered. A failed sync is reported by
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
        // Only `finish` takes the stream, and that consumes this.
        let StagedFile { stream: Some(stream), options, .. } = self else { return Ok(()) };
        stream.write_json(value, options)
    }

    fn complete(&mut self) -> Result<()> {
        let Some(stream) = self.stream.take() else { return Ok(()) };
        let is_undecided = self.seems_unchanged(&stream);
        let described = self.describe(&stream);
        let mut collected = lock(&self.collector);
        collected.open -= 1;
        let (inode, content_id) = described.map_err(|e| {
            let error = Error::io("set the metadata of", stream.path(), e);
            collected.abandoned = Some(error.clone());
            error
        })?;
        collected.inodes.extend(inode.map(|inode| (self.tag, inode)));
        if let (Some(all), Some(id)) = (&mut collected.content_ids, content_id) {
            all.insert(self.tag, id);
        }
        if is_undecided {
            collected.maybe_unchanged.insert(self.tag, self.sync);
        } else {
            collected.add(self.sync, self.tag, stream.into_file());
        }
        Ok(())
    }

    /// The target holds the same content now. It counts only if it still does so at the commit.
    fn seems_unchanged(&self, stream: &ContentWriter) -> bool {
        const READABLE: u32 = 0o400;
        let content = Content::Staged(stream.file(), stream.len());
        self.compare_with.as_ref().is_some_and(|target| {
            // The staged file will be opened again, with the same mode.
            let can_be_read = target.existing.as_ref().is_some_and(|old| old.stat.mode & READABLE != 0);
            can_be_read && unchanged_file(target, &content, &self.options).is_some()
        })
    }

    /// Step 5: sets the metadata, and finds out what the file is known by where somebody will ask.
    fn describe(&self, stream: &ContentWriter) -> io::Result<(Option<FileId>, Option<ContentId>)> {
        let (file, existing) = (stream.file(), self.existing.as_ref());
        let has_metadata = metadata::is_needed(existing, &self.options);
        let is_identified = lock(&self.collector).content_ids.is_some();
        if !has_metadata && !is_identified && !self.is_remote {
            return Ok((None, None));
        }
        let stat = file.stat()?;
        if has_metadata && !metadata::apply(file, &stat, existing, &self.options)? {
            lock(&self.collector).lost_metadata.push(self.tag);
        }
        let content_id = if is_identified { Some(stream.id(&stat)?) } else { None };
        Ok((Some(stat.id), content_id))
    }

    fn stream_mut(&mut self) -> Result<&mut ContentWriter> {
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
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests {
    use super::*;
    use crate::set::collector::Collected;
    use crate::sys::Dir;

    /// One round shows it only if the threads get to work in time.
    const ROUNDS: usize = 50;

    #[test]
    fn a_sync_that_failed_in_the_background_is_not_forgotten() {
        let devices = Dir::open(Path::new("/dev")).unwrap();
        let told = (0..ROUNDS).any(|_| {
            let mut collected = Collected::default();
            for tag in 0..22 {
                // A device that has no sync.
                let file = devices.open_file("null".as_ref()).unwrap();
                collected.add(GroupSync::Parallel, tag, file);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
            collected.forget_unsynced();
            collected.finish(false, &|_| "file".into(), &|_| Ok(None)).is_err()
        });
        assert!(told);
    }
}
