//! A recorded log, readable and alterable.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::crash_testing::disk::{Disk, ROOT};
use crate::crash_testing::units::Units;
use crate::sys::recorder::{Event, Fate, Node, Step};

/// What a save did, operation by operation, from a known beginning.
///
/// An acknowledgment ([`ack`](crate::crash_testing::ack())) counts as an operation here.
///
/// ```
/// # use durafile::crash_testing::CrashTest;
/// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
/// let recording = test.record()?;
/// println!("{}", recording.trace());
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct Trace {
    pub(crate) initial: Disk,
    pub(crate) log: Vec<Event>,
}

/// One operation of a [`Trace`].
///
/// ```
/// # use durafile::crash_testing::CrashTest;
/// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
/// for operation in test.record()?.trace().operations() {
///     println!("{operation}");
/// }
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
#[derive(Clone, Debug)]
pub struct Operation {
    name: &'static str,
    text: String,
    sync: bool,
    failed: Option<i32>,
}

impl Operation {
    /// The kind of operation, such as `"sync file"`.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let operations = test.record()?.trace().operations();
    /// assert!(operations.iter().any(|operation| operation.name() == "sync file"));
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the operation makes something durable.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let operations = test.record()?.trace().operations();
    /// assert_eq!(operations.iter().filter(|operation| operation.is_sync()).count(), 2);
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn is_sync(&self) -> bool {
        self.sync
    }

    /// The errno that the operation returned, if it failed.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let operations = test.record()?.trace().operations();
    /// assert!(operations.iter().all(|operation| operation.errno().is_none()));
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn errno(&self) -> Option<i32> {
        self.failed
    }
}

/// Kind, names and outcome.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Trace {
    /// All operations, in order.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.record()?;
    /// println!("{} operations", recording.trace().operations().len());
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn operations(&self) -> Vec<Operation> {
        let mut names = Names::of(&self.initial);
        self.log.iter().map(|event| names.operation(event)).collect()
    }

    /// Returns this log without one operation, if the operations after it could still succeed.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.record()?;
    /// let operations = recording.trace().operations();
    /// let sync = operations.iter().position(|operation| operation.name() == "sync file").unwrap();
    ///
    /// // Is the check good enough to see that the file's sync is missing?
    /// let forgotten = recording.trace().without(sync).unwrap();
    /// let found = test.explore(&forgotten, |dir, _| match std::fs::read(dir.join("a")) {
    ///     Ok(content) if content != b"1" => Err("the file is torn".into()),
    ///     _ => Ok(()),
    /// });
    /// assert!(found.is_err());
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn without(&self, operation: usize) -> Option<Trace> {
        let mut log = self.log.clone();
        if operation >= log.len() {
            return None;
        }
        log.remove(operation);
        self.altered(log)
    }

    /// Returns this log with an operation and the next one in reverse order, if both could still
    /// succeed.
    ///
    /// ```
    /// # use durafile::crash_testing::CrashTest;
    /// # let test = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("a"), "1")?)));
    /// let recording = test.record()?;
    /// for n in 0..recording.trace().operations().len() {
    ///     if let Some(other_order) = recording.trace().swapped(n) {
    ///         println!("{other_order}");
    ///     }
    /// }
    /// # Ok::<(), durafile::crash_testing::Failure>(())
    /// ```
    pub fn swapped(&self, operation: usize) -> Option<Trace> {
        let mut log = self.log.clone();
        if operation + 1 >= log.len() {
            return None;
        }
        log.swap(operation, operation + 1);
        self.altered(log)
    }

    fn altered(&self, log: Vec<Event>) -> Option<Trace> {
        let trace = Trace { initial: self.initial.clone(), log };
        Units::of(&trace.initial, &trace.log).impossible.is_empty().then_some(trace)
    }

    /// The messages that were acknowledged by the first `point` operations.
    pub(crate) fn acked(&self, point: usize) -> Vec<String> {
        let label = |event: &Event| match event {
            Event::Ack(label) => Some(label.clone()),
            Event::Did(..) => None,
        };
        self.log.iter().take(point).filter_map(label).collect()
    }
}

/// All operations, numbered, one a line.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, operation) in self.operations().iter().enumerate() {
            writeln!(f, "    {number:>3}  {operation}")?;
        }
        Ok(())
    }
}

/// A name for each node: where it was, or where it came to be.
struct Names {
    paths: HashMap<Node, PathBuf>,
    unnamed: usize,
}

impl Names {
    fn of(initial: &Disk) -> Names {
        let mut names = Names { paths: HashMap::from([(ROOT, PathBuf::new())]), unnamed: 0 };
        let mut pending = vec![ROOT];
        while let Some(dir) = pending.pop() {
            for (name, child) in initial.entries.get(&dir).into_iter().flatten() {
                let path = names.entry(dir, name);
                if !names.paths.contains_key(child) {
                    names.paths.insert(*child, path);
                    pending.push(*child);
                }
            }
        }
        names
    }

    fn entry(&self, dir: Node, name: &OsStr) -> PathBuf {
        self.paths.get(&dir).map_or_else(|| PathBuf::from("?"), Clone::clone).join(name)
    }

    fn node(&self, node: Node) -> String {
        match self.paths.get(&node) {
            Some(path) if path.as_os_str().is_empty() => ".".to_owned(),
            Some(path) => path.display().to_string(),
            None => "?".to_owned(),
        }
    }

    fn operation(&mut self, event: &Event) -> Operation {
        let (step, fate) = match event {
            Event::Ack(label) => {
                let text = format!("-- acknowledged: {label}");
                return Operation { name: "acknowledged", text, sync: false, failed: None };
            }
            Event::Did(step, fate) => (step, *fate),
        };
        self.learn(step);
        let (note, failed) = match fate {
            Fate::Done => (String::new(), None),
            Fate::Failed(errno) => (format!("  FAILED: {}", errno_text(errno)), Some(errno)),
            Fate::ReplyLost(errno) => {
                (format!("  done, but reported as failed: {}", errno_text(errno)), Some(errno))
            }
            Fate::Dropped(errno) => {
                (format!("  FAILED and dropped the data: {}", errno_text(errno)), Some(errno))
            }
            Fate::Lied => ("  said Ok and did nothing".to_owned(), None),
        };
        let text = format!("{:<16} {}{note}", step.name(), self.detail(step));
        Operation { name: step.name(), text, sync: step.is_sync(), failed }
    }

    fn learn(&mut self, step: &Step) {
        match step {
            Step::CreateUnnamed { node, .. } => {
                self.unnamed += 1;
                self.paths.insert(*node, PathBuf::from(format!("(unnamed {})", self.unnamed)));
            }
            Step::Create { dir, name, node, .. }
            | Step::Mkdir { dir, name, node, .. }
            | Step::Symlink { dir, name, node, .. } => {
                let path = self.entry(*dir, name);
                self.paths.insert(*node, path);
            }
            _ => {}
        }
    }

    fn detail(&self, step: &Step) -> String {
        match step {
            Step::Write { node, offset, data } => {
                format!(
                    "{} at {offset}: {} bytes {}",
                    self.node(*node),
                    data.len(),
                    crate::crash_testing::disk::preview(data)
                )
            }
            Step::Reserve { node, len } => format!("{} for {len} bytes", self.node(*node)),
            Step::Truncate { node, len } => format!("{} to {len} bytes", self.node(*node)),
            Step::SetMode { node, access } => format!("{} to {:04o}", self.node(*node), access.mode),
            Step::SetOwner { node, access } => {
                format!("{} to {}:{}", self.node(*node), access.uid, access.gid)
            }
            Step::SetXattr { node, name, .. } | Step::RemoveXattr { node, name, .. } => {
                format!("{} {}", self.node(*node), name.to_string_lossy())
            }
            Step::WriteOut { node, offset, len, wait } => {
                let wait = if *wait { ", waited for" } else { "" };
                format!("{} at {offset}: {len} bytes{wait}", self.node(*node))
            }
            Step::LinkUnnamed { node, dir, name } => {
                format!("{} as {}", self.node(*node), self.entry(*dir, name).display())
            }
            Step::Symlink { dir, name, target, .. } => {
                format!("{} to {}", self.entry(*dir, name).display(), Path::new(target).display())
            }
            _ => self.plain_detail(step),
        }
    }

    fn plain_detail(&self, step: &Step) -> String {
        match step {
            Step::Link { dir, from, to_dir, to }
            | Step::Rename { dir, from, to_dir, to }
            | Step::RenameNew { dir, from, to_dir, to }
            | Step::Exchange { dir, from, to_dir, to } => {
                format!("{} to {}", self.entry(*dir, from).display(), self.entry(*to_dir, to).display())
            }
            Step::Create { dir, name, .. }
            | Step::Mkdir { dir, name, .. }
            | Step::Unlink { dir, name }
            | Step::Rmdir { dir, name } => self.entry(*dir, name).display().to_string(),
            Step::CreateUnnamed { node, .. }
            | Step::Lock { node }
            | Step::SyncFile { node }
            | Step::SyncDir { node } => self.node(*node),
            _ => String::new(),
        }
    }
}

fn errno_text(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
