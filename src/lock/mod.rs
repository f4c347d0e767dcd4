//! Locks between processes.

pub(crate) mod holder;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::atomic::target::split;
use crate::cancel::Backoff;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::lock::holder::{Holder, HolderRecord};
use crate::sys::{self, Dir, File, Kind, Lock, ProcessMark, Share, Stat, absent};

/// How often a file that was replaced between opening and locking it is tried anew.
const TRIES: usize = 1000;

/// How long a lock is tried again that nobody says to hold.
const GRACE: Duration = Duration::from_millis(10);

/// An advisory lock between processes and threads, which ends with its holder.
///
/// At most one [`LockFile`] on a path exists at a time, in all processes together, unless all
/// are [shared](LockFile::lock_shared). The kernel keeps the lock (`flock`) and frees it in the
/// instant in which its holder dies, however it dies; nothing has to be cleaned up, and no process
/// id can be mistaken for another's. Two locks of one process exclude each other like those of two,
/// so a thread that locks a path twice with [`lock`](LockFile::lock) waits for ever.
///
/// # Limitations
///
/// - The lock binds only those who ask for it: programs that use this type or `flock(2)`, as the
///   command `flock(1)` does. POSIX locks (`fcntl`) are independent of it.
/// - Lock a file that exists for this purpose, not the file that is saved: a save puts a new file
///   in its place, and the lock stays with the old one.
/// - The file stays when the lock is released. Removing it is never necessary; whoever waits for the
///   lock notices that it was removed and goes on to the new file. But if somebody removes it
///   *while it is held*, the next one to ask creates a new file, and gets a lock on that.
/// - The holder leaves its name in the file for messages, if the file is empty or holds such a name. Any other
///   content is left alone; the lock is as good, and [`holder`](LockFile::holder) names nobody.
/// - The file is created for its owner only (mode 0600): whoever can open it can hold the lock for
///   ever. To share a lock with other users, create the file beforehand, with the mode it needs.
/// - A child that this process forks has the lock too, because it shares the open file. It can't give
///   it up by accident: dropping its copy only closes the file. While the holder that took the
///   lock lives, its [`unlock`](LockFile::unlock) frees it for good; if that one dies first, the lock
///   lasts until such children have ended. Programs that are started from this process don't inherit it
///   (`O_CLOEXEC`), once they run: until then each is such a child, for microseconds.
/// - On Windows there is no `flock`: the holder has the file open and lets nobody else open it for
///   writing, or for a lock of this type. `lock` looks again every 10 ms.
/// - On a network file system the lock is as good as the server's: on Linux, NFS and SMB exclude other
///   machines too, but after a broken connection a lock may be lost without notice.
///
/// # Example
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let data = dir.path();
/// use durafile::{ErrorKind, LockFile};
///
/// let path = data.join("service.lock");
/// let lock = LockFile::try_lock(&path)?;
///
/// // Here or in any other process:
/// match LockFile::try_lock(&path) {
///     Err(e) if e.kind() == ErrorKind::Locked => {
///         if let Some(holder) = LockFile::holder(&path)? {
///             eprintln!("already running on {}, process {}", holder.host, holder.pid);
///         }
///     }
///     other => panic!("{other:?}"),
/// }
/// lock.unlock()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "a lock that is dropped is released"]
pub struct LockFile {
    file: File,
    path: PathBuf,
    /// A forked child is another process, and gives up nothing.
    taken_by: ProcessMark,
    recorded: bool,
    released: bool,
}

impl LockFile {
    /// Takes the lock, and waits for it as long as it takes. Creates the file if it is missing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("service.lock");
    /// let lock = durafile::LockFile::lock(&path)?;
    /// // Only one process at a time comes here.
    /// drop(lock);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`IsADirectory`](ErrorKind::IsADirectory) and [`InvalidPath`](ErrorKind::InvalidPath) if something other than a
    /// regular file is there, a symbolic link included; [`Unsupported`](ErrorKind::Unsupported) if the file system
    /// has no locks; and the errors of opening or creating the file.
    pub fn lock(path: impl AsRef<Path>) -> Result<LockFile> {
        LockPath::of(path.as_ref())?.acquire(Share::Exclusive, Wait::Forever)
    }

    /// Takes the lock if nobody has it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("service.lock");
    /// use durafile::{ErrorKind, LockFile};
    ///
    /// let lock = LockFile::try_lock(&path)?;
    /// assert_eq!(LockFile::try_lock(&path).unwrap_err().kind(), ErrorKind::Locked);
    /// # drop(lock);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`lock`](LockFile::lock), and [`Locked`](ErrorKind::Locked) if somebody has it.
    pub fn try_lock(path: impl AsRef<Path>) -> Result<LockFile> {
        LockPath::of(path.as_ref())?.acquire(Share::Exclusive, Wait::Never)
    }

    /// Takes the lock, and waits for it at most `timeout`. It looks again and again, at intervals of up to
    /// 20 ms, so those who wait in [`lock`](LockFile::lock) may get it earlier.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("service.lock");
    /// use std::time::Duration;
    ///
    /// use durafile::{ErrorKind, LockFile};
    ///
    /// let lock = LockFile::lock(&path)?;
    /// let late = LockFile::lock_timeout(&path, Duration::from_millis(30));
    /// assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    /// # drop(lock);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`lock`](LockFile::lock), and [`TimedOut`](ErrorKind::TimedOut) if somebody else still holds it then.
    pub fn lock_timeout(path: impl AsRef<Path>, timeout: Duration) -> Result<LockFile> {
        // A time beyond what the clock can say is for ever.
        let wait = Instant::now().checked_add(timeout).map_or(Wait::Forever, Wait::Until);
        LockPath::of(path.as_ref())?.acquire(Share::Exclusive, wait)
    }

    /// Takes the lock together with all others who take it shared, and waits until nobody holds it
    /// exclusively. Read access to the lock file is enough.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("readers.lock");
    /// use durafile::{ErrorKind, LockFile};
    ///
    /// let one = LockFile::lock_shared(&path)?;
    /// let two = LockFile::lock_shared(&path)?;
    /// assert_eq!(LockFile::try_lock(&path).unwrap_err().kind(), ErrorKind::Locked);
    /// # drop((one, two));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`lock`](LockFile::lock).
    pub fn lock_shared(path: impl AsRef<Path>) -> Result<LockFile> {
        LockPath::of(path.as_ref())?.acquire(Share::Shared, Wait::Forever)
    }

    /// Tells which process holds the lock right now, for messages.
    ///
    /// Returns `None` if nobody does, if the lock is only held shared, or if the holder can't be named: because it
    /// did not leave its name (another program, a full disk), or because it is dead and a forked child of it goes
    /// on holding the lock. A process that merely has the process id of a dead holder is never named.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("service.lock");
    /// use durafile::LockFile;
    ///
    /// assert_eq!(LockFile::holder(&path)?, None);
    /// let lock = LockFile::lock(&path)?;
    /// assert_eq!(LockFile::holder(&path)?.map(|holder| holder.pid), Some(std::process::id()));
    /// # drop(lock);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the file is no regular file or can't be read, or the file system can't lock. A missing
    /// file is no error.
    pub fn holder(path: impl AsRef<Path>) -> Result<Option<Holder>> {
        let path = path.as_ref();
        match LockPath::of(path).and_then(|place| place.holder()) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            found => found,
        }
    }

    /// Releases the lock. Dropping it does the same, and ignores errors.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("service.lock");
    /// use durafile::LockFile;
    ///
    /// let lock = LockFile::lock(&path)?;
    /// lock.unlock()?;
    /// let again = LockFile::try_lock(&path)?;
    /// # drop(again);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the system can't release it, as on a network file system that is out of reach. The lock then ends with
    /// the process.
    pub fn unlock(mut self) -> Result<()> {
        self.release().map_err(|e| Error::io("unlock", &self.path, e))
    }

    fn release(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.released, true) || !self.taken_by.is_this() {
            return Ok(());
        }
        if self.recorded {
            // Without it, the record would only be stale.
            let _ = self.file.truncate(0);
        }
        // Not by closing: a child that is being started may have the file open for a moment.
        self.file.unlock()
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = self.release();
    }
}

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Never,
    Until(Instant),
    Forever,
}

impl Wait {
    fn take(self, file: &File, share: Share) -> io::Result<Lock> {
        match self {
            Wait::Never => match file.try_lock_as(share)? {
                // A single holder has left its name, or is about to; others may only be asking who
                // holds it, which takes a shared lock for an instant.
                Lock::Elsewhere if HolderRecord::read(file)?.is_none() => {
                    poll(file, share, Instant::now() + GRACE)
                }
                lock => Ok(lock),
            },
            Wait::Forever => match file.try_lock_as(share)? {
                Lock::Elsewhere => file.wait_for_lock(share),
                lock => Ok(lock),
            },
            Wait::Until(deadline) => poll(file, share, deadline),
        }
    }

    /// The kind of error when somebody else has the lock in the end.
    fn failed(self) -> ErrorKind {
        match self {
            Wait::Until(_) => ErrorKind::TimedOut,
            Wait::Never | Wait::Forever => ErrorKind::Locked,
        }
    }
}

fn poll(file: &File, share: Share, deadline: Instant) -> io::Result<Lock> {
    let mut backoff = Backoff::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match file.try_lock_as(share)? {
            Lock::Elsewhere if !left.is_zero() => backoff.pause(left),
            lock => return Ok(lock),
        }
    }
}

/// Where a lock file is.
#[derive(Debug)]
struct LockPath {
    dir: Dir,
    name: OsString,
    path: PathBuf,
}

impl LockPath {
    fn of(path: &Path) -> Result<LockPath> {
        let (parent, name) = split(path)?;
        let dir = Dir::open(parent).map_err(|e| Error::io("open the directory of", path, e))?;
        Ok(LockPath { dir, name: name.to_owned(), path: path.to_owned() })
    }

    fn name(&self) -> &OsStr {
        &self.name
    }

    fn failed(&self, e: io::Error) -> Error {
        Error::io("lock", &self.path, e)
    }

    fn refused(&self, kind: ErrorKind) -> Error {
        Error::new(kind, "lock", &self.path)
    }

    /// Somebody else has it; who that is stands in the file, unless the lock is shared.
    fn held(&self, file: &File, kind: ErrorKind) -> Error {
        let error = self.refused(kind);
        match HolderRecord::read(file) {
            Ok(Some(record)) => error.because(format!("held by process {}", record.into_holder().pid)),
            _ => error,
        }
    }

    fn acquire(self, share: Share, wait: Wait) -> Result<LockFile> {
        for _ in 0..TRIES {
            let Some(file) = self.open(share)? else { continue };
            match wait.take(&file, share).map_err(|e| self.failed(e))? {
                Lock::Held => {}
                Lock::Elsewhere => return Err(self.held(&file, wait.failed())),
                Lock::Unsupported => return Err(self.refused(ErrorKind::Unsupported)),
            }
            // Removed or replaced before it was locked: others lock what is there now.
            let locked = file.stat().map_err(|e| self.failed(e))?;
            if self.dir.leads_to(&self.name, locked.id).map_err(|e| self.failed(e))? {
                let recorded = share == Share::Exclusive && HolderRecord::now().write(&file);
                let taken_by = ProcessMark::this();
                return Ok(LockFile { file, path: self.path, taken_by, recorded, released: false });
            }
        }
        // Either someone removes the file all the time, or its inode number changes by itself.
        Err(self.refused(ErrorKind::Unsupported))
    }

    /// Opens or creates the file. None if it came or went meanwhile.
    ///
    /// In two steps: in a directory like `/tmp` the kernel refuses `O_CREAT` for an existing file
    /// of another user's.
    fn open(&self, share: Share) -> Result<Option<File>> {
        const MODE: u32 = 0o600;
        let found = match self.stat()? {
            None => self.dir.create_new(self.name(), MODE),
            Some(_) if share == Share::Shared => self.dir.open_to_lock_or_read(self.name()),
            Some(_) => self.dir.open_file_to_lock(self.name()),
        };
        match found {
            Ok(file) => {
                // Something else may have come there since the look.
                self.refuse_what_is_no_file(file.stat().map_err(|e| self.failed(e))?.kind)?;
                Ok(Some(file))
            }
            Err(e) if sys::already_exists(&e) || sys::is_not_found(&e) => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    /// Looks at what is there, and refuses all but a regular file or nothing: opening a device could do anything.
    fn stat(&self) -> Result<Option<Stat>> {
        let found = absent(self.dir.stat_at(self.name())).map_err(|e| self.failed(e))?;
        found.as_ref().map_or(Ok(()), |found| self.refuse_what_is_no_file(found.kind))?;
        Ok(found)
    }

    fn refuse_what_is_no_file(&self, kind: Kind) -> Result<()> {
        match kind {
            Kind::File => Ok(()),
            Kind::Dir => Err(self.refused(ErrorKind::IsADirectory)),
            Kind::Symlink | Kind::Other => Err(self.refused(ErrorKind::InvalidPath)),
        }
    }

    fn holder(&self) -> Result<Option<Holder>> {
        if self.stat()?.is_none() {
            return Ok(None);
        }
        let failed = |e| Error::io("read", &self.path, e);
        let file = self.dir.open_file(self.name()).map_err(failed)?;
        let Some(record) = HolderRecord::read(&file).map_err(failed)? else { return Ok(None) };
        // Most stale records are recognised without a lock, which others could run into.
        if record.is_stale(&file).map_err(failed)? {
            return Ok(None);
        }
        match file.try_lock_as(Share::Shared).map_err(|e| self.failed(e))? {
            Lock::Held => {
                let _ = file.unlock();
                Ok(None)
            }
            Lock::Elsewhere => Ok(HolderRecord::read(&file).map_err(failed)?.map(HolderRecord::into_holder)),
            Lock::Unsupported => Err(self.refused(ErrorKind::Unsupported)),
        }
    }
}
