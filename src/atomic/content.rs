//! Step 4: new content on its way into a staged file: buffered, bounded, and poisoned by a failure.

use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use crate::cancel::CancelToken;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::journal::checksum::Checksum;
use crate::options::WriteOptions;
use crate::options::durability::Durability;
use crate::sys::{File, Stat};

/// Smaller writes are gathered up to this size.
const BUFFER: usize = 64 << 10;

/// So much is copied at a time.
const COPY: usize = 256 << 10;

/// One write passes at most so much, so that nothing uninterruptible lasts long.
const CHUNK: usize = 1 << 20;

/// After so much new data, wherever it belongs, write-back to the device is started, and what was started before
/// is waited for: never more than twice this is left for the sync.
const WRITE_OUT: u64 = 8 << 20;

/// A write makes whole pages dirty.
const PAGE: u64 = 4096;

/// The limits that a stream keeps to.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    size: Option<u64>,
    /// Whether the content will be synced, so that its write-back may begin early.
    synced: bool,
    cancel: Option<CancelToken>,
}

impl From<&WriteOptions> for Limits {
    fn from(options: &WriteOptions) -> Limits {
        Limits {
            size: options.size_limit,
            synced: options.durability != Durability::None,
            cancel: options.cancel.clone(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct ContentWriter {
    file: File,
    /// The target, as the caller gave it.
    path: PathBuf,
    limits: Limits,
    /// Not written yet; belongs at `start`. The stream's position is at its end.
    buffer: Vec<u8>,
    start: u64,
    /// The furthest position that was written.
    len: u64,
    dirty: Dirty,
    failed: Option<Error>,
    /// The checksum of what was written, as long as it is written in order; for transactions.
    sum: Option<Checksum>,
}

impl ContentWriter {
    pub(crate) fn new(file: File, path: &Path, limits: Limits) -> ContentWriter {
        let path = path.to_owned();
        ContentWriter {
            file,
            path,
            limits,
            buffer: Vec::new(),
            start: 0,
            len: 0,
            dirty: Dirty::default(),
            failed: None,
            sum: None,
        }
    }

    /// Keeps a checksum along the way.
    pub(crate) fn summed(mut self) -> ContentWriter {
        self.sum = Some(Checksum::new());
        self
    }

    /// The identity of the finished file, whose `stat` this is.
    pub(crate) fn id(&self, stat: &Stat) -> io::Result<ContentId> {
        let sum = match &self.sum {
            Some(sum) if sum.len() == stat.size => sum.value(),
            // Written out of order: what counts is what is there now.
            _ => crate::journal::checksum::checksum(&self.file)?,
        };
        Ok(ContentId { ino: crate::sys::lasting_ino(stat.id), size: stat.size, sum })
    }

    /// Takes over all that is in another file, and ends there. What reads as zeros is left out: it reads
    /// as zeros all the same.
    pub(crate) fn copy_from(&mut self, original: &File, operation: &'static str) -> Result<()> {
        let path = self.path.clone();
        let fail = |e| Error::io(operation, &path, e);
        let mut chunk = vec![0; COPY];
        let mut len = 0;
        loop {
            let read = original.read_at(&mut chunk, len).map_err(fail)?;
            let Some(data) = chunk.get(..read).filter(|data| !data.is_empty()) else { break };
            len += read as u64;
            if data.iter().all(|&byte| byte == 0) {
                self.seek(SeekFrom::Start(len)).map_err(fail)?;
            } else {
                self.write(data)?;
            }
        }
        self.finish()?;
        if self.len < len {
            self.file.truncate(len).map_err(fail)?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The length of the content, what is buffered included.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The error that poisoned it, if one did.
    pub(crate) fn check(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Ends the content; everything is in the file then.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.go_on()?;
        self.flush()
    }

    pub(crate) fn into_file(self) -> File {
        self.file
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<()> {
        self.go_on()?;
        // Writing nothing beyond the end makes a file no longer.
        if data.is_empty() {
            return Ok(());
        }
        let end = self.position().saturating_add(data.len() as u64);
        Error::check_size(end, self.limits.size, &self.path).map_err(|e| self.fail(e))?;
        if self.buffer.len() + data.len() > BUFFER {
            self.flush()?;
        }
        if data.len() >= BUFFER {
            self.write_through(data)?;
        } else {
            self.buffer.extend_from_slice(data);
        }
        self.len = self.len.max(end);
        Ok(())
    }

    /// The whole content at once, past the buffer; its size has been checked.
    pub(crate) fn write_whole(&mut self, contents: &[u8]) -> Result<()> {
        self.len = contents.len() as u64;
        self.write_through(contents)
    }

    #[cfg(feature = "json")]
    pub(crate) fn write_json<T: serde::Serialize + ?Sized>(
        &mut self,
        value: &T,
        options: &WriteOptions,
    ) -> Result<()> {
        // Serialisers write token by token, which a plain buffer takes fastest.
        let mut into = io::BufWriter::with_capacity(BUFFER, Json(self));
        let written = if options.pretty {
            serde_json::to_writer_pretty(&mut into, value)
        } else {
            serde_json::to_writer(&mut into, value)
        };
        let end: &[u8] = if options.final_newline { b"\n" } else { b"" };
        let written = written.and_then(|()| {
            let ended = io::Write::write_all(&mut into, end).and_then(|()| io::Write::flush(&mut into));
            ended.map_err(serde_json::Error::io)
        });
        // After an error, the rest must not be written when the buffer is dropped.
        drop(into.into_parts());
        written.map_err(|e| {
            // An error of the file system keeps its kind.
            let own = self.failed.clone();
            let kind = crate::error_kind::ErrorKind::Serialize;
            own.unwrap_or_else(|| self.fail(Error::caused(kind, "serialize", &self.path, e)))
        })
    }

    /// Passes the buffer on to the operating system.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = self.write_through(&buffer);
        buffer.clear();
        self.buffer = buffer;
        written
    }

    /// As for a file: beyond the end is allowed, and the gap reads as zeros.
    pub(crate) fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.check()?;
        let (base, offset) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::End(offset) => (self.len, offset),
            SeekFrom::Current(offset) => (self.position(), offset),
        };
        let position = base.checked_add_signed(offset).filter(|&p| i64::try_from(p).is_ok());
        let position = position.ok_or(io::ErrorKind::InvalidInput)?;
        if position != self.position() {
            self.flush()?;
            self.start = position;
        }
        Ok(position)
    }

    /// Reads what was written, from the position on.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.flush()?;
        let read = self.file.read_at(into, self.start)?;
        self.start += read as u64;
        Ok(read)
    }

    /// Cuts the content off, or extends it with zeros.
    pub(crate) fn set_len(&mut self, bytes: u64) -> Result<()> {
        self.go_on()?;
        // The system would call it an invalid argument, which reads like an error of the disk. Nothing has happened
        // yet, and so the stream goes on, except beyond the caller's own limit.
        let is_within_limit = self.limits.size.is_none_or(|limit| bytes <= limit);
        if is_within_limit && i64::try_from(bytes).is_err() {
            let refused = Error::new(ErrorKind::TooLarge, "extend", &self.path);
            return Err(refused.because("no file can be as long as that"));
        }
        self.finish()?;
        Error::check_size(bytes, self.limits.size, &self.path).map_err(|e| self.fail(e))?;
        self.file.truncate(bytes).map_err(|e| self.fail(Error::io("write", &self.path, e)))?;
        self.len = bytes;
        Ok(())
    }

    /// Asks the system for the length of the content: others may have written to the file.
    pub(crate) fn measure(&mut self) -> Result<()> {
        let stat = self.file.stat().map_err(|e| Error::io("inspect the new content of", &self.path, e))?;
        self.len = stat.size;
        Error::check_size(self.len, self.limits.size, &self.path).map_err(|e| self.fail(e))
    }

    fn position(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    /// The error that poisoned it, or that of a cancellation, which poisons it too.
    fn go_on(&mut self) -> Result<()> {
        self.check()?;
        CancelToken::check(self.limits.cancel.as_ref(), &self.path).map_err(|e| self.fail(e))
    }

    fn fail(&mut self, error: Error) -> Error {
        self.failed = Some(error.clone());
        error
    }

    /// Writes at `start`, past the buffer, which must be empty or the data itself.
    fn write_through(&mut self, data: &[u8]) -> Result<()> {
        for chunk in data.chunks(CHUNK) {
            self.go_on()?;
            let written = self.write_chunk(chunk).and_then(|()| self.bound_dirty_data());
            if let Err(e) = written {
                return Err(self.fail(Error::io("write", &self.path, e)));
            }
        }
        Ok(())
    }

    fn write_chunk(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        while !chunk.is_empty() {
            match self.file.write_at(chunk, self.start)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => {
                    self.sum = self.sum.take().filter(|sum| sum.len() == self.start).map(|mut sum| {
                        sum.add(chunk.get(..written).unwrap_or_default());
                        sum
                    });
                    chunk = chunk.get(written..).unwrap_or_default();
                    let end = self.start + written as u64;
                    self.dirty.add(self.start, end);
                    self.start = end;
                }
            }
        }
        Ok(())
    }

    /// Starts to write what is new to the device, and waits for what was started before.
    fn bound_dirty_data(&mut self) -> io::Result<()> {
        if self.dirty.bytes < WRITE_OUT || !self.limits.synced {
            return Ok(());
        }
        if let Some((from, to)) = self.dirty.started {
            self.file.write_out(from, to - from, true)?;
        }
        let (from, to) = self.dirty.range;
        self.file.write_out(from, to - from, false)?;
        self.dirty = Dirty { started: Some((from, to)), ..Dirty::default() };
        Ok(())
    }
}

/// The bytes that were written and are not on their way to the device yet.
#[derive(Debug, Default)]
struct Dirty {
    bytes: u64,
    /// Where all of it lies; with much else in between perhaps, which costs nothing.
    range: (u64, u64),
    /// Where the part before lies, whose write-back was started.
    started: Option<(u64, u64)>,
}

impl Dirty {
    fn add(&mut self, from: u64, to: u64) {
        let (first, last) = if self.bytes == 0 { (from, to) } else { self.range };
        self.range = (first.min(from), last.max(to));
        self.bytes += to.next_multiple_of(PAGE) - from / PAGE * PAGE;
    }
}

#[cfg(feature = "json")]
struct Json<'a>(&'a mut ContentWriter);

#[cfg(feature = "json")]
impl io::Write for Json<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The identity of a staged file's content: a recovery knows by it what has been published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentId {
    pub(crate) ino: u64,
    pub(crate) size: u64,
    pub(crate) sum: u64,
}
