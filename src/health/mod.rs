//! Can a program save here, how full is it, and is the writer alive?
//!
//! [`check`] answers the first two for a list of directories, [`Heartbeat`] the third.

mod heartbeat;
#[cfg(feature = "json")]
mod json;
mod probe;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::atomic::target::refuse_no_path;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::health::probe::probe;
use crate::sys::Dir;

pub use heartbeat::Heartbeat;

/// Checks each of these directories, in this order, with the default [`HealthOptions`].
///
/// Each directory is really tried out: a file of 4 KiB is created, written, synced and removed, in the way
/// of a save. The file has no name where the file system knows such files, so that nothing is left even
/// if the process is killed; elsewhere it has one of our names ([`is_remnant`](crate::is_remnant)) for
/// a moment, and [`recover`](crate::recover) removes what a kill leaves. One check costs two
/// flushes for each directory: every few seconds is often enough.
///
/// # A disk that does not answer
///
/// A disk or server that hangs makes every program wait in the kernel, this one too, and nothing can
/// interrupt that. The caller bounds it, in a thread that may be left behind. Start the next check only when
/// the last one has ended, or the threads pile up:
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let data = dir.path().to_owned();
/// use std::sync::mpsc;
/// use std::time::Duration;
///
/// let (send, receive) = mpsc::channel();
/// std::thread::spawn(move || send.send(durafile::health::check([data])));
/// match receive.recv_timeout(Duration::from_secs(10)) {
///     Ok(health) => println!("healthy: {}", health.healthy),
///     Err(_) => println!("healthy: false, the disk does not answer"),
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check(dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> Health {
    HealthOptions::new().check(dirs)
}

/// What counts as healthy; a builder, passed by value.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let (data, logs) = (dir.path(), dir.path());
/// use durafile::health::HealthOptions;
///
/// let health = HealthOptions::new().min_free_bytes(100 << 20).check([data, logs]);
/// for dir in &health.dirs {
///     println!("{}: {:.0} % used", dir.path.display(), dir.used_percent);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "options do nothing until `check`"]
pub struct HealthOptions {
    min_free_bytes: u64,
}

impl Default for HealthOptions {
    fn default() -> HealthOptions {
        HealthOptions::new()
    }
}

impl HealthOptions {
    /// The defaults: 500 MiB must be free.
    ///
    /// ```
    /// # use durafile::health::HealthOptions;
    /// let options = HealthOptions::new();
    /// # drop(options);
    /// ```
    pub const fn new() -> HealthOptions {
        HealthOptions { min_free_bytes: 500 << 20 }
    }

    /// How many bytes must be free in each directory for all to be healthy. Default: 500 MiB.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::health::HealthOptions;
    ///
    /// let health = HealthOptions::new().min_free_bytes(u64::MAX).check([dir]);
    /// assert!(!health.healthy && health.dirs[0].writable);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn min_free_bytes(mut self, bytes: u64) -> Self {
        self.min_free_bytes = bytes;
        self
    }

    /// [`check`] with these options. It never fails: whatever is wrong is in the answer.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::health::HealthOptions;
    ///
    /// let health = HealthOptions::new().min_free_bytes(0).check([dir]);
    /// assert!(health.healthy);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn check(&self, dirs: impl IntoIterator<Item = impl AsRef<Path>>) -> Health {
        let dirs: Vec<DirHealth> = dirs.into_iter().map(|dir| DirHealth::of(dir.as_ref())).collect();
        let healthy = dirs.iter().all(|dir| dir.writable && dir.free_bytes >= self.min_free_bytes);
        Health { healthy, dirs }
    }
}

/// The state of some directories. With the feature `json` it can be serialised. Apart from the paths that were asked
/// about, the result contains only numbers and fixed words, and nothing else about the machine.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let health = durafile::health::check([dir, &dir.join("missing")]);
/// assert!(!health.healthy);
/// assert!(health.dirs[0].writable && !health.dirs[1].exists);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Health {
    /// Every directory exists, is writable and has enough bytes free. True if no directory was given.
    pub healthy: bool,
    /// One entry for each directory, in the order they were given.
    pub dirs: Vec<DirHealth>,
}

/// The state of one directory. Whatever could not be found out is false or zero.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// let health = durafile::health::check([dir]);
/// let data = &health.dirs[0];
/// if !data.durable {
///     println!("{} loses everything in a power cut", data.path.display());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DirHealth {
    /// The path as it was given.
    pub path: PathBuf,
    /// There is a directory.
    pub exists: bool,
    /// A file could be created, written, synced and removed.
    pub writable: bool,
    /// Why it is not writable. It is `None` for a directory that is writable, even if the disk is too full.
    pub error: Option<ErrorKind>,
    /// How many bytes the file system has left for users without privileges. Quotas are not considered.
    pub free_bytes: u64,
    /// The size of the file system in bytes.
    pub total_bytes: u64,
    /// How full the file system is for such users, from 0 to 100, as `df` shows it, but not rounded.
    pub used_percent: f64,
    /// What was synced survives a power cut: false on tmpfs, and where a directory can't be synced. It can't tell
    /// whether the disk keeps its promises.
    pub durable: bool,
    /// A directory can be swapped for another in one step (`RENAME_EXCHANGE`). Known of ext4, XFS,
    /// btrfs, tmpfs, F2FS, bcachefs and overlays on those (there, a directory of a lower layer still
    /// can't); on any other file system it is tried.
    pub dir_swap: bool,
    /// Files can be locked.
    pub locks: bool,
    /// The file system is reached over a network, or may be (FUSE).
    pub network: bool,
    /// Files show an owner or a mode that is not the one they were created with, as on many mounts of foreign file
    /// systems and network shares. There, owner and mode don't tell who made a file, and are not kept.
    pub fixed_owners: bool,
}

impl DirHealth {
    fn of(path: &Path) -> DirHealth {
        let mut found = DirHealth {
            path: path.to_owned(),
            exists: false,
            writable: false,
            error: None,
            free_bytes: 0,
            total_bytes: 0,
            used_percent: 0.0,
            durable: false,
            dir_swap: false,
            locks: false,
            network: false,
            fixed_owners: false,
        };
        found.error = found.look().err().map(|e| e.kind());
        found
    }

    fn look(&mut self) -> Result<()> {
        // An empty path, too: asked about health, it is a missing setting.
        refuse_no_path("open", &self.path)?;
        let dir = Arc::new(Dir::open(&self.path).map_err(|e| Error::io("open", &self.path, e))?);
        self.exists = true;
        let volume = dir.volume().map_err(|e| Error::io("inspect", &self.path, e))?;
        self.free_bytes = volume.free_bytes;
        self.total_bytes = volume.total_bytes;
        self.used_percent = volume.used_percent;
        self.network = volume.kind.remote;
        let abilities = probe(&dir, &volume, &self.path)?;
        self.writable = true;
        self.durable = abilities.durable;
        self.dir_swap = abilities.exchange;
        self.locks = abilities.locks;
        self.fixed_owners = abilities.fixed_owners;
        Ok(())
    }
}
