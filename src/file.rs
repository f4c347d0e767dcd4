//! Saving one file: at once, or as a stream.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::atomic::{Content, Staged, Target, unchanged};
use crate::options::{Committed, WriteOptions};
use crate::{CancelToken, Error, ErrorKind, Result};

/// Replaces or creates the file at `path`, atomically and durably.
///
/// When this returns `Ok`, the content survives power loss. At every instant the path leads to
/// the complete old or the complete new content. Links are followed; mode, owner, ACLs and
/// extended attributes of a replaced file are kept. See [`WriteOptions`] for more.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// durafile::write("settings.toml", "theme = 'dark'\n")?;
/// # assert_eq!(std::fs::read("settings.toml")?, b"theme = 'dark'\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::target`] says what the path leads to now. Whatever fails before the rename leaves
/// the old content and nothing else behind.
pub fn write(path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<Committed> {
    WriteOptions::new().write(path, contents)
}

/// Replaces or creates the file at `path` with `value` as JSON, atomically and durably.
///
/// The text goes straight into the staged file and is never held in memory. The bytes are those
/// of `serde_json::to_vec`. See [`write()`] for what is promised.
///
/// # Errors
///
/// As [`write()`], and [`Serialize`](ErrorKind::Serialize) if the value can't be JSON.
#[cfg(feature = "json")]
pub fn write_json<T: serde::Serialize + ?Sized>(path: impl AsRef<Path>, value: &T) -> Result<Committed> {
    WriteOptions::new().write_json(path, value)
}

impl WriteOptions {
    /// [`write`](crate::write()) with these options.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn write(&self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Result<Committed> {
        let (path, contents) = (path.as_ref(), contents.as_ref());
        self.check_size(contents, path)?;
        let target = Target::resolve(path, self)?;
        if self.skip_unchanged {
            if let Some(committed) = unchanged(&target, &Content::Bytes(contents), self)? {
                return Ok(committed);
            }
        }
        let mut staged = Staged::create(target, self)?;
        staged.stream.write_whole(contents)?;
        staged.publish(self)
    }

    /// [`write_json`](crate::write_json) with these options.
    ///
    /// # Errors
    ///
    /// As there.
    #[cfg(feature = "json")]
    pub fn write_json<T: serde::Serialize + ?Sized>(
        &self,
        path: impl AsRef<Path>,
        value: &T,
    ) -> Result<Committed> {
        let mut file = self.open(path)?;
        file.staged.stream.write_json(value, self.pretty)?;
        file.commit()
    }

    /// Saves everything that `reader` gives, in constant memory.
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()), and [`Reader`](ErrorKind::Reader) if the reader fails;
    /// nothing is published then.
    pub fn write_from(&self, path: impl AsRef<Path>, mut reader: impl Read) -> Result<Committed> {
        let mut file = self.open(path)?;
        let mut chunk = vec![0; CHUNK];
        loop {
            CancelToken::check(self.cancel.as_ref(), file.path())?;
            let read = match reader.read(&mut chunk) {
                Ok(0) => return file.commit(),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    // The reader may have looked at the token, too.
                    CancelToken::check(self.cancel.as_ref(), file.path())?;
                    return Err(Error::caused(ErrorKind::Reader, "read the new content of", file.path(), e));
                }
            };
            let Some(data) = chunk.get(..read) else {
                return Err(Error::new(ErrorKind::Reader, "read the new content of", file.path()));
            };
            file.staged.stream.write(data)?;
        }
    }

    /// Opens a stream whose content becomes the target's with [`AtomicFile::commit`].
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()): whatever can be known before the content is.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<AtomicFile> {
        let target = Target::resolve(path.as_ref(), self)?;
        let staged = Staged::create(target, self)?;
        Ok(AtomicFile { staged, options: self.clone() })
    }
}

/// What `write_from` reads at once.
const CHUNK: usize = 256 << 10;

/// A stream of new content for a file, which replaces the old in one step.
///
/// Writes are buffered. Nothing is seen at the target before [`commit`](AtomicFile::commit);
/// dropped, the stream is discarded. A write that failed poisons it: `commit` then returns that
/// error and publishes nothing.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("take.wav");
/// use std::io::Write;
///
/// let mut recording = durafile::AtomicFile::create(&path)?;
/// recording.write_all(b"RIFF")?;
/// recording.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a stream that is neither committed nor discarded publishes nothing"]
pub struct AtomicFile {
    staged: Staged,
    options: WriteOptions,
}

impl AtomicFile {
    /// Opens a stream with the default options.
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()).
    pub fn create(path: impl AsRef<Path>) -> Result<AtomicFile> {
        WriteOptions::new().open(path)
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.staged.target.path
    }

    /// Makes the content the target's, atomically and durably.
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()); also that of an earlier write of this stream.
    pub fn commit(mut self) -> Result<Committed> {
        self.staged.stream.finish()?;
        let AtomicFile { mut staged, options } = self;
        // The target may have been replaced since the stream was opened.
        staged.target.look(&options)?;
        if options.skip_unchanged {
            if let Some(committed) = unchanged(
                &staged.target,
                &Content::Staged(staged.stream.file(), staged.stream.len()),
                &options,
            )? {
                staged.discard()?;
                return Ok(committed);
            }
        }
        staged.publish(&options)
    }

    /// Ends the stream; the target stays as it is, and nothing is left behind.
    ///
    /// # Errors
    ///
    /// If the staged file has a name and can't be removed;
    /// [`recover`](crate::recover) removes it later.
    pub fn discard(self) -> Result<()> {
        self.staged.discard()
    }
}

impl Write for AtomicFile {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.staged.stream.write(data)?;
        Ok(data.len())
    }

    /// Passes the buffer on to the operating system. Nothing is durable before `commit`.
    fn flush(&mut self) -> io::Result<()> {
        Ok(self.staged.stream.finish()?)
    }
}

impl Seek for AtomicFile {
    /// As for [`std::fs::File`]: beyond the end is allowed, and the gap reads as zeros.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.staged.stream.seek(to)
    }
}
