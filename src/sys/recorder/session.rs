//! One recording: the log, and which inode is which node.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;

use super::fault::{Injection, injection};
use super::xattrs::xattrs_of_fd;
use super::{Access, Birth, Event, Fate, Fault, NO_NODE, Node, Op, Recordable, Step};
use crate::sys::{Dir, File, FileId, FsKind, Stat, Xattrs, stat_fd};

/// How a session behaves.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) fs: FsKind,
    pub(crate) faults: Vec<Fault>,
    /// Syncs are performed, too; otherwise they would only cost time.
    pub(crate) real_syncs: bool,
    /// An unnamed file can't be given a name.
    pub(crate) no_links_by_descriptor: bool,
    /// The process is dead from this operation on, until [`Session::restart`].
    pub(crate) killed_before: Option<usize>,
}

/// A recording that is under way. Calls of several threads are performed one at a time, so
/// that the order of the log is the order of the file system.
#[derive(Debug)]
pub(crate) struct Session {
    setup: Setup,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nodes: HashMap<FileId, Node>,
    next: Node,
    log: Vec<Event>,
    /// Operations on files that the session does not know.
    outside: Vec<String>,
    /// Their syncs do nothing any more.
    lying: HashSet<Node>,
    /// A new process has begun.
    restarted: bool,
}

/// An operation on something that the session does not know.
struct Outside;

impl Session {
    /// A session that starts with these nodes; the numbers must lie below `next`.
    pub(crate) fn new(setup: Setup, nodes: HashMap<FileId, Node>, next: Node) -> Session {
        let state = State {
            nodes,
            next,
            log: Vec::new(),
            outside: Vec::new(),
            lying: HashSet::new(),
            restarted: false,
        };
        Session { setup, state: Mutex::new(state) }
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.setup
    }

    pub(crate) fn ack(&self, label: &str) {
        let mut state = self.lock();
        let killed = self.setup.killed_before.is_some_and(|operation| operation <= state.log.len());
        if state.restarted || !killed {
            state.log.push(Event::Ack(label.to_owned()));
        }
    }

    /// The number that tells this inode from all others of the recording, on every disk that a crash leaves.
    pub(crate) fn lasting_ino(&self, id: FileId) -> u64 {
        self.lock().nodes.get(&id).map_or(u64::MAX, |&node| node as u64)
    }

    /// A new process begins, after the one that was killed.
    pub(crate) fn restart(&self) {
        self.lock().restarted = true;
    }

    /// The log so far, and what was done to files that the session does not know.
    pub(crate) fn log(&self) -> (Vec<Event>, Vec<String>) {
        let state = self.lock();
        (state.log.clone(), state.outside.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    pub(super) fn perform<T: Recordable>(
        &self,
        op: &Op<'_>,
        call: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut state = self.lock();
        let Ok(step) = state.step(op) else {
            // A sync of what was there before, such as the parent of the root, changes nothing.
            if !matches!(op, Op::SyncDir { .. }) {
                state.outside.push(format!("{op:?}"));
            }
            return call();
        };
        let killed = self.setup.killed_before.is_some_and(|operation| operation <= state.log.len());
        if killed && !state.restarted {
            // Nothing that a dead process does happens; none of it is worth a line.
            return Err(Errno::IO.into());
        }
        let injection = injection(&self.setup.faults, state.log.len(), step.name());
        let (result, fate) = self.execute(op, &step, injection, &state.lying, call);
        if let (Fate::Dropped(_), Step::SyncFile { node } | Step::SyncDir { node }) = (fate, &step) {
            state.lying.insert(*node);
        }
        let step = match fate {
            Fate::Done | Fate::ReplyLost(_) => state.complete(op, step, result.as_ref().ok()),
            _ => step,
        };
        state.log.push(Event::Did(step, fate));
        match fate {
            Fate::ReplyLost(errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => result,
        }
    }

    fn execute<T: Recordable>(
        &self,
        op: &Op<'_>,
        step: &Step,
        injection: Injection,
        lying: &HashSet<Node>,
        call: impl FnOnce() -> io::Result<T>,
    ) -> (io::Result<T>, Fate) {
        let failed = |errno| (Err(io::Error::from_raw_os_error(errno)), Fate::Failed(errno));
        match injection {
            Injection::Fail(errno) => failed(errno),
            Injection::Drop if step.is_sync() => {
                let errno = Errno::IO.raw_os_error();
                (Err(io::Error::from_raw_os_error(errno)), Fate::Dropped(errno))
            }
            Injection::Shorten(len) => done(write_some(op, len)),
            Injection::LoseReply(errno) => match call() {
                Ok(value) => (Ok(value), Fate::ReplyLost(errno)),
                Err(e) => (Err(e), Fate::Failed(errno)),
            },
            Injection::Perform | Injection::Drop => match (step, T::pretended(0)) {
                (Step::SyncFile { node } | Step::SyncDir { node }, Some(value)) if lying.contains(node) => {
                    (Ok(value), Fate::Lied)
                }
                (step, Some(value)) if step.is_sync() && !self.setup.real_syncs => (Ok(value), Fate::Done),
                _ => done(call()),
            },
        }
    }
}

fn done<T>(result: io::Result<T>) -> (io::Result<T>, Fate) {
    let fate = match &result {
        Ok(_) => Fate::Done,
        Err(e) => Fate::Failed(e.raw_os_error().unwrap_or(0)),
    };
    (result, fate)
}

fn write_some<T: Recordable>(op: &Op<'_>, len: usize) -> io::Result<T> {
    let Op::Write { file, offset, data } = op else { return Err(Errno::INVAL.into()) };
    let written = rustix::io::pwrite(file, &data[..len.min(data.len())], *offset)?;
    T::pretended(written).ok_or_else(|| Errno::INVAL.into())
}

impl State {
    fn node(&self, stat: io::Result<Stat>) -> Result<Node, Outside> {
        let id = stat.map_err(|_| Outside)?.id;
        self.nodes.get(&id).copied().ok_or(Outside)
    }

    fn dir(&self, dir: &Dir) -> Result<Node, Outside> {
        self.node(dir.stat())
    }

    fn file(&self, file: &File) -> Result<Node, Outside> {
        self.node(file.stat())
    }

    /// The operation in terms of nodes. What only its success tells is filled in later.
    fn step(&self, op: &Op<'_>) -> Result<Step, Outside> {
        Ok(match *op {
            Op::CreateUnnamed { dir, .. } => {
                self.dir(dir)?;
                Step::CreateUnnamed { node: NO_NODE, birth: Birth::default() }
            }
            Op::Create { dir, name } => {
                let (dir, name) = (self.dir(dir)?, name.to_owned());
                Step::Create { dir, name, node: NO_NODE, birth: Birth::default() }
            }
            Op::Mkdir { dir, name } => {
                let (dir, name) = (self.dir(dir)?, name.to_owned());
                Step::Mkdir { dir, name, node: NO_NODE, birth: Birth::default() }
            }
            Op::Symlink { dir, name, target } => {
                let (dir, name, target) = (self.dir(dir)?, name.to_owned(), target.to_owned());
                Step::Symlink { dir, name, node: NO_NODE, target }
            }
            Op::Write { file, offset, data } => {
                Step::Write { node: self.file(file)?, offset, data: Arc::from(data) }
            }
            Op::Truncate { file, len } => Step::Truncate { node: self.file(file)?, len },
            Op::Reserve { file, len } => Step::Reserve { node: self.file(file)?, len },
            Op::WriteOut { file, offset, len, wait } => {
                Step::WriteOut { node: self.file(file)?, offset, len, wait }
            }
            Op::Lock { file } => Step::Lock { node: self.file(file)? },
            Op::LockDir { dir } => Step::Lock { node: self.dir(dir)? },
            Op::SyncFile { file } => Step::SyncFile { node: self.file(file)? },
            Op::SyncDir { dir } => Step::SyncDir { node: self.dir(dir)? },
            Op::SyncFs { dir } => {
                self.dir(dir)?;
                Step::SyncFs
            }
            Op::Unlink { dir, name } => Step::Unlink { dir: self.dir(dir)?, name: name.to_owned() },
            Op::Rmdir { dir, name } => Step::Rmdir { dir: self.dir(dir)?, name: name.to_owned() },
            Op::LinkUnnamed { file, dir, name } => {
                Step::LinkUnnamed { node: self.file(file)?, dir: self.dir(dir)?, name: name.to_owned() }
            }
            _ => return self.metadata_step(op).unwrap_or_else(|| self.two_name_step(op)),
        })
    }

    fn metadata_step(&self, op: &Op<'_>) -> Option<Result<Step, Outside>> {
        let node = match op {
            Op::SetMode { file, .. }
            | Op::SetOwner { file, .. }
            | Op::SetXattr { file, .. }
            | Op::RemoveXattr { file, .. } => self.file(file),
            Op::SetDirMode { dir, .. } => self.dir(dir),
            _ => return None,
        };
        let access = Access::default();
        Some(node.map(|node| match *op {
            Op::SetMode { .. } | Op::SetDirMode { .. } => Step::SetMode { node, access },
            Op::SetXattr { name, value, .. } => {
                Step::SetXattr { node, name: name.to_owned(), value: value.to_owned(), access }
            }
            Op::RemoveXattr { name, .. } => Step::RemoveXattr { node, name: name.to_owned(), access },
            _ => Step::SetOwner { node, access },
        }))
    }

    fn two_name_step(&self, op: &Op<'_>) -> Result<Step, Outside> {
        let (Op::Link { dir, from, to_dir, to }
        | Op::Rename { dir, from, to_dir, to }
        | Op::RenameNew { dir, from, to_dir, to }
        | Op::Exchange { dir, from, to_dir, to }) = *op
        else {
            return Err(Outside);
        };
        let (dir, from) = (self.dir(dir)?, from.to_owned());
        let (to_dir, to) = (self.dir(to_dir)?, to.to_owned());
        Ok(match op {
            Op::Link { .. } => Step::Link { dir, from, to_dir, to },
            Op::Rename { .. } => Step::Rename { dir, from, to_dir, to },
            Op::RenameNew { .. } => Step::RenameNew { dir, from, to_dir, to },
            _ => Step::Exchange { dir, from, to_dir, to },
        })
    }

    /// Fills in what is known after the call: new nodes, resulting permissions, bytes written.
    fn complete<T: Recordable>(&mut self, op: &Op<'_>, mut step: Step, value: Option<&T>) -> Step {
        match *op {
            Op::CreateUnnamed { .. } | Op::Create { .. } => {
                if let Some(fd) = value.and_then(Recordable::created) {
                    self.give_birth(&mut step, stat_fd(fd.as_fd()), xattrs_of_fd(fd.as_fd()));
                }
            }
            Op::Mkdir { dir, name } => {
                let made = dir.open_at(Path::new(name)).and_then(|made| xattrs_of_fd(made.as_fd()));
                self.give_birth(&mut step, dir.stat_at(name), made);
            }
            Op::Symlink { dir, name, .. } => self.give_birth(&mut step, dir.stat_at(name), Ok(Vec::new())),
            Op::SetMode { file, .. }
            | Op::SetOwner { file, .. }
            | Op::SetXattr { file, .. }
            | Op::RemoveXattr { file, .. } => set_access(&mut step, file.stat()),
            Op::SetDirMode { dir, .. } => set_access(&mut step, dir.stat()),
            _ => {}
        }
        if let (Step::Write { data, .. }, Some(value)) = (&mut step, value) {
            if value.written() < data.len() {
                *data = Arc::from(&data[..value.written()]);
            }
        }
        step
    }

    fn give_birth(&mut self, step: &mut Step, stat: io::Result<Stat>, xattrs: io::Result<Xattrs>) {
        let Ok(stat) = stat else { return };
        match step {
            Step::CreateUnnamed { node, birth }
            | Step::Create { node, birth, .. }
            | Step::Mkdir { node, birth, .. } => {
                *birth = Birth { access: access_of(&stat), xattrs: xattrs.unwrap_or_default() };
                *node = self.born(stat.id);
            }
            Step::Symlink { node, .. } => *node = self.born(stat.id),
            _ => {}
        }
    }

    /// A new node; whatever had this inode number before is gone.
    fn born(&mut self, id: FileId) -> Node {
        let node = self.next;
        self.next += 1;
        self.nodes.insert(id, node);
        node
    }
}

fn access_of(stat: &Stat) -> Access {
    Access { mode: stat.mode, uid: stat.uid, gid: stat.gid }
}

fn set_access(step: &mut Step, stat: io::Result<Stat>) {
    if let (
        Step::SetMode { access, .. }
        | Step::SetOwner { access, .. }
        | Step::SetXattr { access, .. }
        | Step::RemoveXattr { access, .. },
        Ok(stat),
    ) = (step, stat)
    {
        *access = access_of(&stat);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_as_large_as_without_recording() {
        // A descriptor, and for a directory one flag: there is no room for anything else.
        assert_eq!(size_of::<File>(), size_of::<std::os::fd::OwnedFd>());
        assert_eq!(size_of::<Dir>(), 2 * size_of::<std::os::fd::OwnedFd>());
    }
}
