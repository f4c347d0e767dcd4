//! The log as units: what may survive a crash, or not, independently of the rest.

use std::collections::{HashMap, HashSet};
use std::ffi::{CString, OsStr, OsString};
use std::sync::Arc;

use crate::crash_testing::disk::{Body, Disk, Inode};
use crate::sys::recorder::{Access, Birth, Event, Fate, Node, Step};

/// Writes are torn at multiples of this.
pub(crate) const BLOCK: u64 = 4096;

/// A change of metadata. The kernel may adjust the mode along with the rest.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Mode(u32),
    Owner { uid: u32, gid: u32, clears: u32 },
    Xattr { name: CString, value: Option<Vec<u8>>, mode: u32 },
}

/// Setuid and setgid, which a change of the owner may clear.
const SET_IDS: u32 = 0o6000;

/// One unit.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// The position of its operation in the log.
    pub(crate) op: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// Names of one directory change together: each leads to a node now, or to nothing.
    Entry {
        dir: Node,
        now: Vec<(OsString, Option<Node>)>,
        needs: Vec<usize>,
    },
    Write {
        node: Node,
        offset: u64,
        data: Arc<[u8]>,
    },
    Truncate {
        node: Node,
        len: u64,
    },
    Meta {
        node: Node,
        change: Change,
    },
}

impl Unit {
    /// The inode that it belongs to; a change of names belongs to its directory.
    pub(crate) fn node(&self) -> Node {
        match self.kind {
            Kind::Entry { dir, .. } => dir,
            Kind::Write { node, .. } | Kind::Truncate { node, .. } | Kind::Meta { node, .. } => node,
        }
    }

    pub(crate) fn is_entry(&self) -> bool {
        matches!(self.kind, Kind::Entry { .. })
    }

    /// Whether a journal orders it; the content of files is not in the journal.
    pub(crate) fn is_journaled(&self) -> bool {
        !matches!(self.kind, Kind::Write { .. })
    }

    pub(crate) fn needs(&self) -> &[usize] {
        match &self.kind {
            Kind::Entry { needs, .. } => needs,
            _ => &[],
        }
    }
}

/// All units of a log, and the inodes that it creates.
#[derive(Debug)]
pub(crate) struct Units {
    pub(crate) all: Vec<Unit>,
    pub(crate) born: HashMap<Node, Inode>,
    /// Operations that succeeded when recorded and cannot succeed in this, altered, log.
    pub(crate) impossible: Vec<usize>,
}

/// The names as the running program sees them, and which unit changed each last.
struct Live<'d> {
    initial: &'d Disk,
    names: HashMap<(Node, OsString), Option<Node>>,
    last: HashMap<(Node, OsString), usize>,
    /// The last units in a directory, by which its removal waits for all changes inside.
    inside: HashMap<Node, Vec<usize>>,
    units: Units,
    op: usize,
}

/// The operation makes no sense where the log has it now.
struct Impossible;

impl Units {
    pub(crate) fn of(initial: &Disk, log: &[Event]) -> Units {
        let units = Units { all: Vec::new(), born: HashMap::new(), impossible: Vec::new() };
        let mut live = Live {
            initial,
            names: HashMap::new(),
            last: HashMap::new(),
            inside: HashMap::new(),
            units,
            op: 0,
        };
        for (op, event) in log.iter().enumerate() {
            live.op = op;
            if let Event::Did(step, Fate::Done | Fate::ReplyLost(_) | Fate::Lied) = event {
                if live.follow(step).is_err() {
                    live.units.impossible.push(op);
                }
            }
        }
        live.units
    }
}

impl Live<'_> {
    fn follow(&mut self, step: &Step) -> Result<(), Impossible> {
        match step {
            Step::CreateUnnamed { node, birth } => {
                self.give_birth(*node, Body::File(Arc::default()), birth);
                Ok(())
            }
            Step::Create { dir, name, node, birth } => {
                self.create(*dir, name, *node, Body::File(Arc::default()), birth)
            }
            Step::Mkdir { dir, name, node, birth } => self.create(*dir, name, *node, Body::Dir, birth),
            Step::Symlink { dir, name, node, target } => {
                let body = Body::link(target.clone(), &self.initial.origin);
                self.create(*dir, name, *node, body, &Birth::default())
            }
            Step::Lock { node } | Step::SyncFile { node } | Step::SyncDir { node } => self.exists(*node),
            Step::WriteOut { node, .. } | Step::Reserve { node, .. } => self.exists(*node),
            Step::SyncFs => Ok(()),
            Step::Write { node, offset, data } => {
                let (node, offset, data) = (*node, *offset, Arc::clone(data));
                self.change(node, Kind::Write { node, offset, data })
            }
            Step::Truncate { node, len } => self.change(*node, Kind::Truncate { node: *node, len: *len }),
            Step::SetMode { node, access } => self.change_meta(*node, Change::Mode(access.mode)),
            Step::SetOwner { node, access } => {
                let Access { uid, gid, mode } = *access;
                self.change_meta(*node, Change::Owner { uid, gid, clears: SET_IDS & !mode })
            }
            Step::SetXattr { node, name, value, access } => {
                let (name, value) = (name.clone(), Some(value.clone()));
                self.change_meta(*node, Change::Xattr { name, value, mode: access.mode })
            }
            Step::RemoveXattr { node, name, access } => {
                self.change_meta(*node, Change::Xattr { name: name.clone(), value: None, mode: access.mode })
            }
            _ => self.follow_names(step),
        }
    }

    fn follow_names(&mut self, step: &Step) -> Result<(), Impossible> {
        match step {
            Step::LinkUnnamed { node, dir, name } => {
                self.exists(*node)?;
                self.free(*dir, name)?;
                self.entries(*dir, vec![(name.clone(), Some(*node))], None);
            }
            Step::Link { dir, from, to_dir, to } => {
                let node = self.lookup(*dir, from)?;
                self.free(*to_dir, to)?;
                self.entries(*to_dir, vec![(to.clone(), Some(node))], None);
            }
            Step::Rename { dir, from, to_dir, to } => self.rename((*dir, from), (*to_dir, to))?,
            Step::RenameNew { dir, from, to_dir, to } => {
                self.free(*to_dir, to)?;
                self.rename((*dir, from), (*to_dir, to))?;
            }
            Step::Exchange { dir, from, to_dir, to } => {
                let (one, other) = (self.lookup(*dir, from)?, self.lookup(*to_dir, to)?);
                let (first, second) = ((from.clone(), Some(other)), (to.clone(), Some(one)));
                self.pair(*dir, first, *to_dir, second, None);
            }
            Step::Unlink { dir, name } | Step::Rmdir { dir, name } => {
                let gone = self.lookup(*dir, name)?;
                self.entries(*dir, vec![(name.clone(), None)], Some(gone));
            }
            _ => {}
        }
        Ok(())
    }

    fn rename(&mut self, from: (Node, &OsStr), to: (Node, &OsStr)) -> Result<(), Impossible> {
        let node = self.lookup(from.0, from.1)?;
        let replaced = self.lookup(to.0, to.1).ok();
        let (removal, addition) = ((from.1.to_owned(), None), (to.1.to_owned(), Some(node)));
        self.pair(from.0, removal, to.0, addition, replaced);
        Ok(())
    }

    /// Within one directory one unit; across two directories two, which survive separately.
    fn pair(
        &mut self,
        dir: Node,
        first: (OsString, Option<Node>),
        to_dir: Node,
        second: (OsString, Option<Node>),
        gone: Option<Node>,
    ) {
        if dir == to_dir {
            self.entries(dir, vec![first, second], gone);
        } else {
            self.entries(dir, vec![first], None);
            self.entries(to_dir, vec![second], gone);
        }
    }

    fn create(
        &mut self,
        dir: Node,
        name: &OsStr,
        node: Node,
        body: Body,
        birth: &Birth,
    ) -> Result<(), Impossible> {
        self.free(dir, name)?;
        self.give_birth(node, body, birth);
        self.entries(dir, vec![(name.to_owned(), Some(node))], None);
        Ok(())
    }

    fn give_birth(&mut self, node: Node, body: Body, birth: &Birth) {
        let Birth { access, xattrs } = birth.clone();
        self.units.born.insert(node, Inode { body, access, xattrs: xattrs.into_iter().collect() });
    }

    fn change_meta(&mut self, node: Node, change: Change) -> Result<(), Impossible> {
        self.change(node, Kind::Meta { node, change })
    }

    fn change(&mut self, node: Node, kind: Kind) -> Result<(), Impossible> {
        self.exists(node)?;
        self.units.all.push(Unit { op: self.op, kind });
        Ok(())
    }

    /// A change of names waits for earlier changes of the same names; the removal of a
    /// directory waits for all changes in it.
    fn entries(&mut self, dir: Node, now: Vec<(OsString, Option<Node>)>, gone: Option<Node>) {
        let number = self.units.all.len();
        let mut needs = HashSet::new();
        for (name, node) in &now {
            needs.extend(self.last.insert((dir, name.clone()), number));
            self.names.insert((dir, name.clone()), *node);
        }
        needs.extend(gone.and_then(|gone| self.inside.get(&gone)).into_iter().flatten());
        self.inside.entry(dir).or_default().push(number);
        let mut needs: Vec<usize> = needs.into_iter().collect();
        needs.sort_unstable();
        self.units.all.push(Unit { op: self.op, kind: Kind::Entry { dir, now, needs } });
    }

    fn exists(&self, node: Node) -> Result<(), Impossible> {
        let known = self.initial.inodes.contains_key(&node) || self.units.born.contains_key(&node);
        if known { Ok(()) } else { Err(Impossible) }
    }

    fn lookup(&self, dir: Node, name: &OsStr) -> Result<Node, Impossible> {
        self.exists(dir)?;
        let found = match self.names.get(&(dir, name.to_owned())) {
            Some(changed) => *changed,
            None => self.initial.entries.get(&dir).and_then(|entries| entries.get(name)).copied(),
        };
        found.ok_or(Impossible)
    }

    fn free(&self, dir: Node, name: &OsStr) -> Result<(), Impossible> {
        self.exists(dir)?;
        if self.lookup(dir, name).is_ok() { Err(Impossible) } else { Ok(()) }
    }
}
