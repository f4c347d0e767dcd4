//! How a transaction works, and how it begins.

use std::time::Duration;

use crate::cancel::CancelToken;
use crate::options::WriteOptions;
use crate::options::durability::SyncStrategy;
use crate::set::options::SetOptions;

/// How a [`Transaction`](crate::Transaction) works; a builder, passed by value.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path();
/// use std::time::Duration;
///
/// use durafile::TransactionOptions;
///
/// let options = TransactionOptions::new().create_parents(true).lock_timeout(Duration::from_secs(5));
/// let mut change = options.begin(dir.join("conversations"))?;
/// change.write("first.md", "Hello")?;
/// change.commit()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until `begin`"]
pub struct TransactionOptions {
    pub(super) set: SetOptions,
}

impl TransactionOptions {
    /// The defaults: files are synced together, [`Locked`](crate::ErrorKind::Locked) is returned at once, and the root
    /// must exist.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let change = durafile::TransactionOptions::new().begin(dir)?;
    /// # drop(change);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new() -> TransactionOptions {
        TransactionOptions::default()
    }

    /// How the staged files are made durable; see [`SyncStrategy`]. Default: [`SyncStrategy::Auto`].
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::{SyncStrategy, TransactionOptions};
    ///
    /// let change = TransactionOptions::new().sync(SyncStrategy::PerFile).begin(dir)?;
    /// # drop(change);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn sync(mut self, strategy: SyncStrategy) -> Self {
        self.set.sync = strategy;
        self
    }

    /// Use fewer device flushes where that is as safe; see
    /// [`WriteOptions::single_flush`](crate::WriteOptions::single_flush). Default: false.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let change = durafile::TransactionOptions::new().single_flush(true).begin(dir)?;
    /// # drop(change);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn single_flush(mut self, yes: bool) -> Self {
        self.set.single_flush = yes;
        self
    }

    /// Stop with [`Cancelled`](crate::ErrorKind::Cancelled) once the token is cancelled, unless the
    /// transaction is already decided by then. Default: nothing stops it.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::{CancelToken, ErrorKind, TransactionOptions};
    ///
    /// let token = CancelToken::new();
    /// let mut change = TransactionOptions::new().cancel(&token).begin(dir)?;
    /// change.write("a.txt", "hello")?;
    /// change.write("b.txt", "hello")?;
    /// token.cancel();
    /// assert_eq!(change.commit().unwrap_err().kind(), ErrorKind::Cancelled);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.set.cancel = Some(token.clone());
        self
    }

    /// Wait this long for another writer of the same root, then fail with
    /// [`TimedOut`](crate::ErrorKind::TimedOut). Default: zero, which is [`Locked`](crate::ErrorKind::Locked) at once.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::time::Duration;
    ///
    /// use durafile::{ErrorKind, Transaction, TransactionOptions};
    ///
    /// let first = Transaction::begin(dir)?;
    /// let second = TransactionOptions::new().lock_timeout(Duration::from_millis(30)).begin(dir);
    /// assert_eq!(second.unwrap_err().kind(), ErrorKind::TimedOut);
    /// # drop(first);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.set.lock_timeout = timeout;
        self
    }

    /// Create the root, and what is missing above it, each durable in its own parent. They stay, whatever
    /// happens later. Default: false, and a root that is missing is [`NotFound`](crate::ErrorKind::NotFound).
    /// Costs one more sync where nothing is missing.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::TransactionOptions;
    ///
    /// let change = TransactionOptions::new().create_parents(true).begin(dir.join("new/root"))?;
    /// # drop(change);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_parents(mut self, yes: bool) -> Self {
        self.set.create_parents = yes;
        self
    }

    /// How the files of the transaction are saved. Default: as by [`write`](crate::write()).
    ///
    /// Of the options of single files, these are accepted: `pretty`, `final_newline`, `permissions`, `preserve_metadata`,
    /// `size_limit`, `skip_unchanged` and `hard_links`. Any other that isn't at its default is
    /// [`Unsupported`](crate::ErrorKind::Unsupported) when `begin` is called.
    ///
    /// With `skip_unchanged`, a file that holds the same bytes when the transaction is committed keeps inode and
    /// time, is made durable all the same, and does not count as a change.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let root = dir.path().join("conversations/first");
    /// use durafile::{TransactionOptions, WriteOptions};
    ///
    /// let files = WriteOptions::new().final_newline(true).skip_unchanged(true);
    /// let options = TransactionOptions::new().create_parents(true).files(files);
    /// let mut change = options.begin(&root)?;
    /// change.write("title.txt", "Hello")?;
    /// assert!(!change.commit()?.is_unchanged());
    ///
    /// let mut change = options.begin(&root)?;
    /// change.write("title.txt", "Hello")?;
    /// assert!(change.commit()?.is_unchanged());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn files(mut self, options: WriteOptions) -> Self {
        self.set.files = options;
        self
    }
}
