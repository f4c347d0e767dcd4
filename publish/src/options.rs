//! What callers choose, and what they get.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use durafile::CancelToken;

use crate::record::Record;

/// Requests in flight at once, unless the caller says otherwise.
pub(crate) const LANES: usize = 8;

/// A version that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Version {
    /// Greater than that of every version before. Numbers may be left out.
    pub number: u64,
    /// How many files it has.
    pub files: u64,
    /// Their size together, in bytes.
    pub bytes: u64,
    /// When, by the publisher's clock.
    pub published: SystemTime,
}

impl Version {
    /// The version that is the newest by this record.
    pub(crate) fn of(record: &Record) -> Option<Version> {
        let manifest = record.manifest.as_ref()?;
        let since = Duration::from_secs(manifest.published);
        let published = SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::UNIX_EPOCH);
        Some(Version { number: record.version, files: manifest.files, bytes: manifest.bytes, published })
    }
}

/// How far an operation is. Totals grow while they are being found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes that were transferred, and those that must be as far as is known.
    pub bytes: u64,
    /// All bytes that must be transferred.
    pub total: u64,
}

type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// What all operations share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) lanes: usize,
    pub(crate) cancel: Option<CancelToken>,
    pub(crate) progress: Option<OnProgress>,
}

impl Default for Common {
    fn default() -> Common {
        Common { lanes: LANES, cancel: None, progress: None }
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common")
            .field("lanes", &self.lanes)
            .field("cancel", &self.cancel)
            .finish_non_exhaustive()
    }
}

macro_rules! common_options {
    () => {
        /// How many requests may be in flight at once. Each holds at most 16 MiB of content in memory,
        /// or more to upload files over 78 GiB, whose parts are longer. Default: 8.
        pub fn lanes(mut self, lanes: usize) -> Self {
            self.common.lanes = lanes.max(1);
            self
        }

        /// Stop with [`Cancelled`](crate::ErrorKind::Cancelled) soon after the token is cancelled, unless the commit has
        /// begun by then. Default: nothing stops it.
        pub fn cancel(mut self, token: &CancelToken) -> Self {
            self.common.cancel = Some(token.clone());
            self
        }

        /// Call this whenever something was transferred, from the task that runs the operation. It must not block.
        pub fn progress(mut self, call: impl Fn(Progress) + Send + Sync + 'static) -> Self {
            self.common.progress = Some(Arc::new(call));
            self
        }
    };
}

/// How to publish; a builder, passed by reference when it is done.
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until they are passed to `publish`"]
pub struct PublishOptions {
    pub(crate) common: Common,
    pub(crate) expect: Option<u64>,
}

impl PublishOptions {
    /// The defaults: replaces whatever is the newest version, 8 lanes.
    pub fn new() -> PublishOptions {
        PublishOptions::default()
    }

    common_options!();

    /// Publish only if the newest version is this one, else fail with [`Conflict`](crate::ErrorKind::Conflict). 0: only if
    /// nothing was published yet. Default: whatever is the newest is replaced.
    pub fn expect(mut self, version: u64) -> Self {
        self.expect = Some(version);
        self
    }
}

/// How to pull; a builder, passed by reference when it is done.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until they are passed to `pull`"]
pub struct PullOptions {
    pub(crate) common: Common,
    pub(crate) version: Option<u64>,
    pub(crate) cache: Option<PathBuf>,
    pub(crate) lock_timeout: Duration,
    pub(crate) size_limit: u64,
    pub(crate) writable: bool,
}

impl Default for PullOptions {
    fn default() -> PullOptions {
        PullOptions {
            common: Common::default(),
            version: None,
            cache: None,
            lock_timeout: Duration::ZERO,
            size_limit: u64::MAX,
            writable: false,
        }
    }
}

impl PullOptions {
    /// The defaults: the newest version, files that can't be written to, 8 lanes, no limit.
    pub fn new() -> PullOptions {
        PullOptions::default()
    }

    common_options!();

    /// Pull this version. Default: the newest.
    pub fn version(mut self, number: u64) -> Self {
        self.version = Some(number);
        self
    }

    /// Keep what is fetched in this directory too, by its hash, for later pulls into this or other targets. It should be on
    /// the target's file system and this user's alone. It is created if need be, and nothing is ever removed from it but
    /// damaged files. Default: a directory beside the target that goes when the pull is complete; a pull that was interrupted is
    /// resumed from it.
    pub fn cache(mut self, directory: impl AsRef<Path>) -> Self {
        self.cache = Some(directory.as_ref().to_owned());
        self
    }

    /// Wait so long for another writer of the target. Default: zero, which fails at once.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// Pull no version whose files are larger than this together, in bytes. Default: no limit.
    pub fn size_limit(mut self, bytes: u64) -> Self {
        self.size_limit = bytes;
        self
    }

    /// Make the files writable for their owner, as the umask has it. Then versions don't share files: what didn't change is
    /// copied, or shares its blocks where the file system can (XFS, btrfs). Default: false, which lets versions share files by hard
    /// links, for nobody writes into them by mistake.
    pub fn writable(mut self, yes: bool) -> Self {
        self.writable = yes;
        self
    }
}

/// How to collect; a builder, passed by reference when it is done.
#[derive(Clone, Debug)]
#[must_use = "options do nothing until they are passed to `collect`"]
pub struct CollectOptions {
    pub(crate) common: Common,
    pub(crate) keep: u64,
    pub(crate) grace: Duration,
    pub(crate) dry_run: bool,
}

impl Default for CollectOptions {
    fn default() -> CollectOptions {
        CollectOptions {
            common: Common::default(),
            keep: 10,
            grace: Duration::from_secs(24 * 60 * 60),
            dry_run: false,
        }
    }
}

impl CollectOptions {
    /// The defaults: the newest ten versions are kept, a day's grace.
    pub fn new() -> CollectOptions {
        CollectOptions::default()
    }

    common_options!();

    /// Keep so many versions, the newest; at least one. Default: 10.
    pub fn keep(mut self, versions: u64) -> Self {
        self.keep = versions.max(1);
        self
    }

    /// Keep versions that were the newest within this time, and what was uploaded within it and belongs to no version: its
    /// publisher may be at work. This is a matter of politeness, never of safety. Without it readers of an old version begin
    /// again with the newest, and publishers upload again. Default: a day.
    pub fn grace(mut self, time: Duration) -> Self {
        self.grace = time;
        self
    }

    /// Only say what would be deleted. Default: false.
    pub fn dry_run(mut self, yes: bool) -> Self {
        self.dry_run = yes;
        self
    }
}

/// What a publish did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// The version that holds the directory's content now.
    pub version: u64,
    /// The newest version held exactly that already; nothing was published.
    pub unchanged: bool,
    /// Bytes of content that were uploaded.
    pub uploaded: u64,
    /// Times that it began again, because the store's newest version changed or its session was collected.
    pub rebased: u32,
}

/// What a pull did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pulled {
    /// The version that the target holds now.
    pub version: u64,
    /// The target held exactly that already; nothing was touched.
    pub unchanged: bool,
    /// Bytes of content that were fetched.
    pub fetched: u64,
}

/// What a collection deleted, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// The oldest version that is kept.
    pub oldest: u64,
    /// Objects.
    pub objects: u64,
    /// Their size together, in bytes.
    pub bytes: u64,
    /// Uploads that ended without a version, as far as anybody knows, and can't become one any more.
    pub sessions: u64,
}
