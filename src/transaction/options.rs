//! How a transaction works, and how it begins.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Transaction;
use crate::atomic::settle::{Settled, list, settle_locked};
use crate::atomic::sweep::Judge;
use crate::atomic::sync_set::Wish;
use crate::atomic::writer_lock::WriterLock;
use crate::batch::SyncStrategy;
use crate::options::Durability;
use crate::sys::{self, Dir};
use crate::{CancelToken, Error, ErrorKind, Result};

/// How a [`Transaction`] works; a builder, passed by value.
#[derive(Clone, Debug, Default)]
#[must_use = "options do nothing until `begin`"]
pub struct TransactionOptions {
    strategy: SyncStrategy,
    single_flush: bool,
    pub(super) cancel: Option<CancelToken>,
    lock_timeout: Duration,
}

impl TransactionOptions {
    /// The defaults.
    pub fn new() -> TransactionOptions {
        TransactionOptions::default()
    }

    /// How the staged files are made durable. Default: [`SyncStrategy::Auto`].
    pub fn sync(mut self, strategy: SyncStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Use fewer device flushes where that is as safe; see
    /// [`WriteOptions::single_flush`](crate::WriteOptions::single_flush). Default: false.
    pub fn single_flush(mut self, yes: bool) -> Self {
        self.single_flush = yes;
        self
    }

    /// Stop with [`Cancelled`](ErrorKind::Cancelled) once the token is cancelled, unless the
    /// transaction is decided by then.
    pub fn cancel(mut self, token: &CancelToken) -> Self {
        self.cancel = Some(token.clone());
        self
    }

    /// Wait so long for another writer of the same root, then fail with
    /// [`TimedOut`](ErrorKind::TimedOut). Default: zero, which is [`Locked`](ErrorKind::Locked) at once.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// [`Transaction::begin`] with these options.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn begin(&self, root: impl AsRef<Path>) -> Result<Transaction> {
        let path = root.as_ref();
        let open = |e| Error::io("open", path, e);
        let root = Arc::new(Dir::open(path).map_err(open)?);
        let stat = root.stat().map_err(open)?;
        let kind = sys::fs_kind(&*root, &stat).map_err(open)?;
        let lock = self.take_lock(&root, path)?;
        settle_pending(path, &root)?;
        let (strategy, single_flush) = (self.strategy, self.single_flush);
        let wish = Wish { durability: Durability::Full, strategy, single_flush };
        let how = wish.how(&root, kind, &stat);
        Ok(Transaction::new(path, root, (stat, kind), how, self, lock))
    }

    /// The right to be the only writer, looking at the token while waiting for it.
    fn take_lock(&self, root: &Arc<Dir>, path: &Path) -> Result<WriterLock> {
        const SLICE: Duration = Duration::from_millis(50);
        let deadline = Instant::now().checked_add(self.lock_timeout);
        loop {
            CancelToken::check(self.cancel.as_ref(), path)?;
            let left = deadline.map_or(SLICE * 2, |end| end.saturating_duration_since(Instant::now()));
            let taken = WriterLock::take(root, OsStr::new(""), left.min(SLICE));
            match taken.map_err(|e| Error::io("lock", path, e))? {
                Some(lock) => return Ok(lock),
                None if left > SLICE => {}
                None if self.lock_timeout.is_zero() => {
                    return Err(Error::new(ErrorKind::Locked, "begin another transaction in", path));
                }
                None => return Err(Error::new(ErrorKind::TimedOut, "wait for the writer of", path)),
            }
        }
    }
}

/// Finishes or undoes what a crash left of an earlier transaction.
fn settle_pending(path: &Path, root: &Arc<Dir>) -> Result<()> {
    let fail = |e| Error::io("settle the last transaction in", path, e);
    let (journals, staged) = list(root).map_err(fail)?;
    if journals.is_empty() && staged.is_empty() {
        return Ok(());
    }
    let judge = Judge { min_age: Duration::ZERO, dry_run: false };
    let mut settled = Settled::default();
    settle_locked(root, &journals, &staged, judge, &mut settled).map_err(fail)?;
    let Settled { quarantined, unreadable, .. } = settled;
    if let Some(name) = quarantined.first() {
        let path = path.join(name);
        return Err(Error::new(ErrorKind::Corrupt, "settle the transaction now moved aside to", &path));
    }
    match unreadable.first() {
        Some(name) => {
            Err(Error::new(ErrorKind::Unsupported, "read the record of another version", &path.join(name)))
        }
        None => Ok(()),
    }
}
