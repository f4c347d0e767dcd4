//! How a transaction begins: lock, what is pending, an empty list of changes.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::failing;
use crate::names::{self, Role};
use crate::remnant::orphan::RemnantPolicy;
use crate::remnant::report::RecoveryReport;
use crate::set::writer_lock::WriterLock;
use crate::sys::{self, Dir};
use crate::transaction::Transaction;
use crate::transaction::options::TransactionOptions;
use crate::transaction::recovery::{list, recover_locked};

impl TransactionOptions {
    /// [`Transaction::begin`] with these options.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// let mut change = durafile::TransactionOptions::new().single_flush(true).begin(dir)?;
    /// change.write("a.txt", "hello")?;
    /// change.commit()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Transaction::begin`]. [`TimedOut`](crate::ErrorKind::TimedOut) in place of `Locked` with
    /// [`lock_timeout`](TransactionOptions::lock_timeout), and [`Unsupported`](crate::ErrorKind::Unsupported) if
    /// [`files`](TransactionOptions::files) has an option that a transaction does not take.
    pub fn begin(&self, root: impl AsRef<Path>) -> Result<Transaction> {
        let path = root.as_ref();
        failing::check(path)?;
        let open = |e| Error::io("open", path, e);
        self.set.check(path)?;
        let root = Arc::new(self.set.open_dir(path).map_err(open)?);
        let stat = root.stat().map_err(open)?;
        let kind = sys::fs_kind(&*root, &stat).map_err(open)?;
        let lock = WriterLock::take_for_set(&root, OsStr::new(""), &self.set.patience(path))?;
        recover_pending(path, &root)?;
        let sync = self.set.sync_request().resolve_for_record(&root, kind, &stat);
        Ok(Transaction::new(path, root, (stat, kind), sync, self, lock))
    }
}

/// Finishes or undoes what a crash left of an earlier transaction. What can't be decided stays as it is, and
/// keeps the next transaction from beginning over it.
fn recover_pending(path: &Path, root: &Arc<Dir>) -> Result<()> {
    let fail = |e| Error::io("recover the last transaction in", path, e);
    let (journals, staged) = list(root).map_err(fail)?;
    if journals.is_empty() && staged.is_empty() {
        return Ok(());
    }
    let mut report = RecoveryReport::default();
    recover_locked(root, &journals, &staged, RemnantPolicy::of_writer(), &mut report).map_err(fail)?;
    // Whatever else somebody has put here stops nothing.
    match report.stopper(&|name| names::role_of(name) == Some(Role::Journal)) {
        Some((kind, name)) => {
            Err(Error::new(kind, "recover the transaction of the record", &path.join(name)))
        }
        None => Ok(()),
    }
}
