//! Running something in a session.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crash_testing::disk::{Disk, Scratch};
use crate::crash_testing::trace::Trace;
use crate::sys::recorder::{self, Event, Fault, Session, Setup};
use crate::sys::{Family, FsKind};

/// Says, within a save under test, that something is done from the user's point of view.
///
/// Call it after a durafile operation has returned `Ok`: a check that finds the label in
/// [`Acked`](crate::crash_testing::Acked) insists that the effect survived. Outside of a test it does nothing.
///
/// ```
/// # use durafile::crash_testing::{CrashTest, ack};
/// # CrashTest::new(|dir| {
/// durafile::write(dir.join("order"), "paid")?;
/// ack("paid"); // what the customer has been told
///
/// durafile::write(dir.join("order"), "sent")?;
/// # Ok(())
/// # })
/// # .run(|dir, acked| {
/// #     assert!(dir.join("order").exists() || !acked.contains("paid"));
/// #     Ok(())
/// # })?;
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
pub fn ack(label: &str) {
    if let Some(session) = recorder::current() {
        session.ack(label);
    }
}

/// Wraps the body of a thread that a save under test starts, so that what it does is
/// recorded, too.
///
/// ```
/// # use durafile::crash_testing::{CrashTest, inherit};
/// # CrashTest::new(|dir| {
/// let path = dir.join("a");
/// let thread = std::thread::spawn(inherit(move || durafile::write(path, "new")));
/// # thread.join().unwrap()?;
/// # Ok(()) }).run(|_, _| Ok(())).unwrap();
/// ```
pub fn inherit<T>(body: impl FnOnce() -> T) -> impl FnOnce() -> T {
    recorder::inherit(body)
}

/// A save that was recorded, and the directory it worked in.
///
/// ```
/// use durafile::crash_testing::CrashTest;
///
/// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
/// let recording = test.record()?;
/// assert!(recording.result().is_ok());
/// println!("{}", recording.trace());
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[derive(Debug)]
pub struct Recording<T = ()> {
    pub(crate) trace: Trace,
    pub(crate) result: T,
    root: PathBuf,
    /// The directory of its own, if it has one.
    _scratch: Option<Scratch>,
}

impl<T> Recording<T> {
    /// What the save did, operation by operation.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.record()?;
    /// assert!(recording.trace().operations().iter().any(|operation| operation.is_sync()));
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What the save returned.
    ///
    /// ```
    /// use durafile::crash_testing::CrashTest;
    ///
    /// let test = CrashTest::new(|_| Err("it always fails".into()));
    /// let recording = test.record()?;
    /// assert!(recording.result().is_err());
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn result(&self) -> &T {
        &self.result
    }

    /// The directory in which the save worked. If the test made it, it is removed when this is dropped.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.record()?;
    /// assert!(recording.dir().join("a").exists());
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn dir(&self) -> &Path {
        &self.root
    }
}

/// How to record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Manner {
    pub(crate) faults: Vec<Fault>,
    pub(crate) real_syncs: bool,
    pub(crate) no_links_by_descriptor: bool,
    pub(crate) remote: bool,
    pub(crate) journaled: bool,
    pub(crate) btrfs: bool,
    pub(crate) killed_before: Option<usize>,
}

/// Records in a new directory, after `prepare` has filled it.
pub(crate) fn record_new<T>(
    manner: &Manner,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
    save: impl Fn(&Path) -> T,
) -> Result<Recording<T>, String> {
    let scratch = Scratch::new().map_err(|e| format!("no place to work in: {e}"))?;
    let root = scratch.path().join("root");
    std::fs::create_dir(&root).map_err(|e| format!("{}: {e}", root.display()))?;
    let recording = record_there(manner, &root, prepare, save)?;
    Ok(Recording { _scratch: Some(scratch), ..recording })
}

/// Records in this directory, after `prepare` has filled it.
pub(crate) fn record_there<T>(
    manner: &Manner,
    root: &Path,
    prepare: impl FnOnce(&Path) -> io::Result<()>,
    save: impl Fn(&Path) -> T,
) -> Result<Recording<T>, String> {
    prepare(root).map_err(|e| format!("the initial state could not be prepared: {e}"))?;
    let (trace, result) = record(manner, root, save)?;
    Ok(Recording { trace, result, root: root.to_owned(), _scratch: None })
}

/// Records in this directory, as it is.
pub(crate) fn record<T>(
    manner: &Manner,
    root: &Path,
    save: impl Fn(&Path) -> T,
) -> Result<(Trace, T), String> {
    let (initial, ids) = Disk::read(root).map_err(|e| format!("the initial state: {e}"))?;
    let next = ids.values().max().map_or(0, |last| last + 1);
    let setup = Setup {
        fs: FsKind { memory_backed: false, remote: manner.remote, family: family_of(manner) },
        faults: manner.faults.clone(),
        real_syncs: manner.real_syncs,
        no_links_by_descriptor: manner.no_links_by_descriptor,
        killed_before: manner.killed_before,
    };
    let session = Arc::new(Session::new(setup, ids, next));
    let result = {
        let _entered = recorder::enter(Some(Arc::clone(&session)));
        if manner.killed_before.is_some() {
            let _dead = save(root);
            session.restart();
            crate::recover(root).map_err(|e| format!("the recovery after the kill: {e}"))?;
        }
        save(root)
    };
    let (log, outside) = session.log();
    let trace = Trace { initial, log };
    match outside.first() {
        Some(op) => Err(format!("durafile worked on something outside of the directory of the test: {op}")),
        None => Ok((trace, result)),
    }
}

/// Nothing but the recorded operations changed the directory.
pub(crate) fn is_complete(trace: &Trace, root: &Path) -> Result<(), String> {
    let (found, _) = Disk::read(root).map_err(|e| format!("the final state: {e}"))?;
    let modelled = trace.live();
    if found.digest() == modelled.digest() {
        return Ok(());
    }
    Err(format!(
        "the save changed its directory by other means than durafile, or on a thread that was not \
         wrapped in `inherit`\n  recorded:\n{modelled}  found:\n{found}"
    ))
}

impl Trace {
    pub(crate) fn push_ack(&mut self, label: &str) {
        self.log.push(Event::Ack(label.to_owned()));
    }
}

fn family_of(manner: &Manner) -> Family {
    match manner {
        Manner { journaled: true, .. } => Family::Ext4,
        Manner { btrfs: true, .. } => Family::Btrfs,
        _ => Family::Other,
    }
}
