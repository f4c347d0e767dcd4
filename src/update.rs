//! Read, change and save, so that no other program's change is lost.

use std::path::Path;

use crate::atomic::target::Target;
use crate::condition::{self, Condition, Expected, TargetLock, refuse_link};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::failing;
use crate::file::save_bytes;
use crate::options::durability::Committed;
use crate::options::file_version::FileVersion;
use crate::options::{Symlinks, WriteOptions};
use crate::overwrite::save;
use crate::sys::Kind;

/// The error with which the closure of [`update`] may fail.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Reads a file, lets `f` compute its new content, and saves that, so that no other `update` is lost.
///
/// `f` is given the present content, or `None` if there is no such file, and is called once. All `update`s and
/// saves with [`expect`](WriteOptions::expect) of one path exclude each other, in all threads and processes: while
/// `f` runs, the others wait. The result's [`version`](Committed::version) is what was saved.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// // Many processes may do this at a time, and none of the visits is lost.
/// durafile::update("visits", |old| {
///     let visits: u64 = match old {
///         Some(text) => std::str::from_utf8(text)?.parse()?,
///         None => 0,
///     };
///     Ok((visits + 1).to_string().into_bytes())
/// })?;
/// # assert_eq!(std::fs::read("visits")?, b"1");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What is not promised
///
/// Other saves, and other programs, take no lock. A save that happens while `f` runs is noticed: then nothing is
/// saved, and the error is [`Changed`](ErrorKind::Changed). A save that falls into the instant between that last look
/// and the rename is overwritten.
///
/// # The lock
///
/// The lock is a file beside the target (the one behind the links, if there are any), with a name of this crate's own
/// ([`is_remnant`](crate::is_remnant)). It is gone when `update` returns. The kernel frees it when its holder dies; the next
/// `update`, or [`recover`](crate::recover()), removes what is left of it. Where no file can be created beside the target,
/// the target itself is locked. `update` waits for the lock as long as it takes, or until its
/// [`CancelToken`](crate::CancelToken) is cancelled: an `update` of the same path from within `f` waits for ever.
/// On a file system without locks it is [`Unsupported`](ErrorKind::Unsupported). Names that differ in case only
/// share a lock.
///
/// # Errors
///
/// Those of [`write()`](crate::write()), and those of reading. If `f` fails, its error becomes the
/// [`source()`](std::error::Error::source) of an error of kind [`Reader`](ErrorKind::Reader), and nothing is saved;
/// nor is anything saved if `f` panics.
pub fn update(
    path: impl AsRef<Path>,
    f: impl FnOnce(Option<&[u8]>) -> std::result::Result<Vec<u8>, Failure>,
) -> Result<Committed> {
    WriteOptions::new().update(path, f)
}

/// Reads a file and tells which version of it that was, for [`WriteOptions::expect`].
///
/// This is for programs that keep a document open: they do not overwrite what somebody else has saved in the meantime.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # std::env::set_current_dir(&dir)?;
/// use durafile::{ErrorKind, WriteOptions, read_version};
///
/// durafile::write("notes.txt", "one")?;
/// let (text, opened) = read_version("notes.txt")?;
///
/// // Much later:
/// match WriteOptions::new().expect(&opened).write("notes.txt", [&text[..], b", two"].concat()) {
///     Ok(saved) => {
///         let next = saved.version().expect("the save had a condition");
///         assert_eq!(next, read_version("notes.txt")?.1);
///     }
///     Err(e) if e.kind() == ErrorKind::Changed => eprintln!("somebody else has saved the document"),
///     Err(e) => return Err(e.into()),
/// }
/// # assert_eq!(std::fs::read("notes.txt")?, b"one, two");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Links are followed. The content and the version always belong together, whatever is saved meanwhile.
///
/// # Errors
///
/// [`NotFound`](ErrorKind::NotFound), [`IsADirectory`](ErrorKind::IsADirectory),
/// [`InvalidPath`](ErrorKind::InvalidPath) for a FIFO, socket or device, and the errors of the operating system.
pub fn read_version(path: impl AsRef<Path>) -> Result<(Vec<u8>, FileVersion)> {
    let target = Target::resolve_to_read(path.as_ref())?;
    condition::read(&target)
}

impl WriteOptions {
    /// [`update`](crate::update()) with these options.
    ///
    /// With [`create_new`](WriteOptions::create_new), an existing file is
    /// [`AlreadyExists`](ErrorKind::AlreadyExists), and `f` is given `None`. With [`expect`](WriteOptions::expect), any other
    /// version than that is [`Changed`](ErrorKind::Changed), and a missing file
    /// [`NotFound`](ErrorKind::NotFound); `f` is not called then. A link is not replaced
    /// ([`Symlinks::Replace`](crate::Symlinks::Replace)): that is [`Unsupported`](ErrorKind::Unsupported).
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("visits");
    /// use durafile::WriteOptions;
    ///
    /// let options = WriteOptions::new().size_limit(100);
    /// options.update(&path, |old| Ok([old.unwrap_or_default(), b"|"].concat()))?;
    /// assert_eq!(std::fs::read(&path)?, b"|");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`update`](crate::update()).
    pub fn update(
        &self,
        path: impl AsRef<Path>,
        f: impl FnOnce(Option<&[u8]>) -> std::result::Result<Vec<u8>, Failure>,
    ) -> Result<Committed> {
        let path = path.as_ref();
        self.check_condition(path)?;
        self.check_previous(path)?;
        save::check(self, path)?;
        failing::check(path)?;
        let (target, lock) = self.lock_target(path)?;
        let old = target.existing.as_ref().map(|_| condition::read(&target)).transpose()?;
        if let Some(expected) = &self.expect {
            let refuse = |kind| Err(Error::new(kind, "save", path));
            match &old {
                None => return refuse(ErrorKind::NotFound),
                Some((_, found)) if !found.has_content_of(expected) => return refuse(ErrorKind::Changed),
                Some(_) => {}
            }
        }
        let new = f(old.as_ref().map(|(content, _)| content.as_slice()))
            .map_err(|e| Error::of_caller("compute the new content of", path, e))?;
        self.check_size(&new, path)?;
        // Between the two looks nobody can have removed it who takes the lock.
        let expected = |(_, version)| Expected::Version(version, ErrorKind::Changed);
        let expected = old.map_or(Expected::Absent, expected);
        save_bytes(target, self, Some(Condition { lock, expected }), &new)
    }

    /// Finds the target and takes its lock. What the path leads to may change meanwhile.
    fn lock_target(&self, path: &Path) -> Result<(Target, TargetLock)> {
        loop {
            let mut target = Target::resolve(path, self)?;
            // Before the lock, which may be one that it waits for.
            save::begin(&mut target, self)?;
            let lock = TargetLock::take(&target, self)?;
            target.judge_again(self)?;
            match &target.existing {
                Some(found) if found.stat.kind == Kind::Symlink => match self.symlinks {
                    Symlinks::Follow => {}
                    Symlinks::Replace | Symlinks::Refuse => return Err(refuse_link(&target, self)),
                },
                _ => return Ok((target, lock)),
            }
        }
    }
}
