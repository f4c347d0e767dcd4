//! A save as a stream, whose target may be named at the end.

use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom, Write};
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(windows)]
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::atomic::content::ContentWriter;
use crate::atomic::staged::Staged;
use crate::atomic::target::{Target, refuse_no_path};
use crate::atomic::unchanged::{Content, unchanged};
use crate::condition::{self, Condition};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::failing;
use crate::journal::checksum::checksum;
use crate::options::WriteOptions;
use crate::options::durability::Committed;
use crate::overwrite::save;
use crate::sys::Dir;

/// A stream of new content for a file, which replaces the old in one step.
///
/// Writes are buffered. Nothing is seen at the target before [`commit`](AtomicFile::commit), and a stream that is
/// dropped is discarded. After a write has failed, `commit` returns that error and publishes nothing.
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
///
/// Reading, writing and seeking share one position. On Unix the stream has a descriptor (`AsFd`) and on Windows a handle
/// (`AsHandle`), so that a program can write to it by other calls: what it writes there after a
/// [`flush`](Write::flush) is part of the stream's content.
///
/// # A name that is known at the end
///
/// A program that names a file by its content opens the stream in a directory and gives the path last:
///
/// ```
/// # let store = tempfile::tempdir()?;
/// # let store = store.path();
/// use std::io::{Read, Seek, Write};
///
/// use durafile::WriteOptions;
///
/// let mut object = WriteOptions::new().create_parents(true).open_in(store)?;
/// object.write_all(b"some content")?;
/// object.rewind()?;
/// let name = checksum_of(&mut object)?;
/// object.commit_as(store.join(&name[..2]).join(&name))?;
/// # fn checksum_of(object: &mut impl Read) -> std::io::Result<String> {
/// #     let mut content = Vec::new();
/// #     object.read_to_end(&mut content)?;
/// #     Ok(format!("{:08x}", content.len()))
/// # }
/// # assert_eq!(std::fs::read(store.join("00/0000000c"))?, b"some content");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a stream that is neither committed nor discarded publishes nothing"]
pub struct AtomicFile {
    /// The staged file, open. It goes before anything is done by name.
    #[cfg(windows)]
    handle: Arc<std::fs::File>,
    staged: Staged,
    options: WriteOptions,
    /// Somebody may have written by the descriptor.
    is_shared: AtomicBool,
}

impl WriteOptions {
    /// Opens a stream whose content becomes the target's with [`AtomicFile::commit`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("export.csv");
    /// use std::io::Write;
    ///
    /// use durafile::WriteOptions;
    ///
    /// let mut export = WriteOptions::new().size_limit(1 << 30).open(&path)?;
    /// writeln!(export, "name,age")?;
    /// export.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those errors of [`write`](crate::write()) that can be known before there is any content.
    pub fn open(&self, path: impl AsRef<Path>) -> Result<AtomicFile> {
        let path = path.as_ref();
        self.check(path)?;
        let mut target = Target::resolve(path, self)?;
        save::begin(&mut target, self)?;
        AtomicFile::new(save::stage(target, self)?, self)
    }

    /// Opens a stream in a directory; [`AtomicFile::commit_as`] gives it its path, anywhere on the same file system.
    ///
    /// Until then, only the caller's user may open the staged file. The directory must exist, even with
    /// [`create_parents`](WriteOptions::create_parents), which concerns the path that is given at the end.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::io::Write;
    ///
    /// use durafile::WriteOptions;
    ///
    /// let mut object = WriteOptions::new().open_in(dir)?;
    /// object.write_all(b"some content")?;
    /// object.commit_as(dir.join("8ad8757b"))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of opening the directory, and of creating a file in it.
    pub fn open_in(&self, dir: impl AsRef<Path>) -> Result<AtomicFile> {
        let path = dir.as_ref();
        self.check(path)?;
        refuse_no_path("open", path)?;
        let dir = Dir::open(path).map_err(|e| Error::naming("open", path, e))?;
        // The empty name is nobody's: it is replaced before anything is published.
        let target = Target::new(Arc::new(dir), OsString::new(), path);
        AtomicFile::new(Staged::create(target, self)?, self)
    }

    /// Refuses options that contradict each other.
    fn check(&self, path: &Path) -> Result<()> {
        self.check_condition(path)?;
        self.check_previous(path)?;
        save::check(self, path)?;
        failing::check(path)
    }
}

impl AtomicFile {
    fn new(staged: Staged, options: &WriteOptions) -> Result<AtomicFile> {
        Ok(AtomicFile {
            #[cfg(windows)]
            handle: (staged.file().shared_handle())
                .map_err(|e| Error::io(Error::CREATE_BESIDE, &staged.target.path, e))?,
            staged: staged.may_be_forked(),
            options: options.clone(),
            is_shared: AtomicBool::new(false),
        })
    }

    /// Opens a stream with the default options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("export.csv");
    /// use std::io::Write;
    ///
    /// let mut export = durafile::AtomicFile::create(&path)?;
    /// writeln!(export, "name,age")?;
    /// assert!(!path.exists());
    /// export.commit()?;
    /// assert!(path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()).
    pub fn create(path: impl AsRef<Path>) -> Result<AtomicFile> {
        WriteOptions::new().open(path)
    }

    /// The path as it was given: that of the target or, with [`open_in`](WriteOptions::open_in), that of the directory.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("export.csv");
    /// let export = durafile::AtomicFile::create(&path)?;
    /// assert_eq!(export.path(), path);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn path(&self) -> &Path {
        &self.staged.target.path
    }

    pub(super) fn content(&mut self) -> &mut ContentWriter {
        &mut self.staged.stream
    }

    /// Truncates the content to this many bytes, or extends it with zeros. The position stays.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("disk.img");
    /// let mut image = durafile::AtomicFile::create(&path)?;
    /// image.set_len(4096)?;
    /// image.commit()?;
    /// assert_eq!(std::fs::read(&path)?, [0; 4096]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of writing, and [`TooLarge`](ErrorKind::TooLarge) beyond the size limit. A length that no file can have
    /// (beyond [`i64::MAX`]) is `TooLarge`, too; nothing has happened then, and the stream can be written on.
    pub fn set_len(&mut self, bytes: u64) -> Result<()> {
        self.staged.stream.set_len(bytes)
    }

    /// Puts the content in the place of the target, atomically and durably.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("export.csv");
    /// use std::io::Write;
    ///
    /// let mut export = durafile::AtomicFile::create(&path)?;
    /// export.write_all(b"1;2;3")?;
    /// let committed = export.commit()?;
    /// println!("reached: {:?}", committed.durability());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()), and the error of an earlier write to this stream. A stream that was opened by
    /// [`open_in`](WriteOptions::open_in) has no path yet: [`InvalidPath`](ErrorKind::InvalidPath).
    pub fn commit(mut self) -> Result<Committed> {
        failing::check(self.path())?;
        if self.staged.target.name.is_empty() {
            let refused =
                Error::new(ErrorKind::InvalidPath, "commit a stream without a name in", self.path());
            return Err(refused.because("`commit_as` gives it its path"));
        }
        self.end_content()?;
        self.staged.target.judge_again(&self.options)?;
        self.publish()
    }

    /// As [`commit`](AtomicFile::commit), but to a path that is chosen now, on the same file system. The options apply
    /// to this path. A new file gets the mode, the group and the ACL that any new file in its directory gets.
    ///
    /// On Windows the security descriptor is that of the directory in which the stream was opened.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::io::Write;
    ///
    /// use durafile::WriteOptions;
    ///
    /// let mut recording = WriteOptions::new().open_in(dir)?;
    /// recording.write_all(b"RIFF")?;
    /// let seconds = 12; // known only now
    /// recording.commit_as(dir.join(format!("take-{seconds}s.wav")))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`commit`](AtomicFile::commit), and [`CrossDevice`](ErrorKind::CrossDevice) for another file system;
    /// nothing is left behind then.
    pub fn commit_as(mut self, path: impl AsRef<Path>) -> Result<Committed> {
        let path = path.as_ref();
        self.options.check(path)?;
        self.end_content()?;
        let mut target = Target::resolve(path, &self.options)?;
        save::begin(&mut target, &self.options)?;
        self.staged.retarget(target, &self.options)?;
        self.publish()
    }

    /// Everything is in the file, what was written by the descriptor too.
    fn end_content(&mut self) -> Result<()> {
        self.staged.stream.finish()?;
        match self.is_shared.load(Ordering::Relaxed) {
            true => self.staged.stream.measure(),
            false => Ok(()),
        }
    }

    fn publish(self) -> Result<Committed> {
        #[cfg(windows)]
        drop(self.handle);
        let AtomicFile { mut staged, options, .. } = self;
        let condition = Condition::enter(&mut staged.target, &options)?;
        if options.skip_unchanged {
            let content = Content::Staged(staged.stream.file(), staged.stream.len());
            if let Some(committed) = unchanged(&staged.target, &content, &options)? {
                let committed = match condition {
                    Some(condition) => {
                        let sum = checksum(staged.stream.file());
                        let sum = sum.map_err(|e| Error::io("inspect", &staged.target.path, e))?;
                        condition.unchanged(&staged.target, committed, sum)?
                    }
                    None => committed,
                };
                staged.discard()?;
                return Ok(committed);
            }
        }
        condition::publish(staged, &options, condition, &checksum)
    }

    /// Gives up the stream; the target stays as it is, and nothing is left behind.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("export.csv");
    /// let export = durafile::AtomicFile::create(&path)?;
    /// export.discard()?;
    /// assert!(!path.exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the staged file has a name and can't be removed;
    /// [`recover`](crate::recover) removes it later.
    pub fn discard(self) -> Result<()> {
        #[cfg(windows)]
        drop(self.handle);
        self.staged.discard()
    }
}

impl Read for AtomicFile {
    /// Reads what was written, from the position that writing shares.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.staged.stream.read(into)
    }
}

#[cfg(unix)]
impl AsFd for AtomicFile {
    /// The staged file. What is still buffered is not in it: [`flush`](Write::flush) first.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.is_shared.store(true, Ordering::Relaxed);
        self.staged.file().as_fd()
    }
}

#[cfg(windows)]
impl AsHandle for AtomicFile {
    /// The staged file. What is still buffered is not in it: [`flush`](Write::flush) first.
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.is_shared.store(true, Ordering::Relaxed);
        self.handle.as_handle()
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
