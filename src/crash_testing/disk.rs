//! The content of a disk: nodes and names, in memory and as real directories.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{CString, OsString};
use std::fmt::{self, Write as _};
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Timespec, Timestamps};

use crate::sys::FileId;
use crate::sys::recorder::{Access, Node, set_xattr_of, xattrs_of};

/// The node of the root directory.
pub(crate) const ROOT: Node = 0;

/// Deeper trees come only from a directory that was moved into itself by halves.
const DEEPEST: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Body {
    File(Arc<Vec<u8>>),
    Dir,
    Symlink(OsString),
    /// An absolute link to this below the root, wherever that is.
    RootLink(OsString),
}

impl Body {
    pub(crate) fn link(target: OsString, origin: &Path) -> Body {
        match Path::new(&target).strip_prefix(origin) {
            Ok(rest) => Body::RootLink(rest.as_os_str().to_owned()),
            Err(_) => Body::Symlink(target),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    pub(crate) body: Body,
    pub(crate) access: Access,
    pub(crate) xattrs: BTreeMap<CString, Vec<u8>>,
}

pub(crate) type Entries = BTreeMap<OsString, Node>;

/// A root directory and all below it.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    /// Where it was recorded.
    pub(crate) origin: Arc<Path>,
    pub(crate) inodes: HashMap<Node, Inode>,
    pub(crate) entries: HashMap<Node, Entries>,
}

impl Disk {
    /// Reads a real directory. Also says which inode became which node; the root is 0. What
    /// [`write`](Disk::write) has written keeps its numbers: a program may have noted down which inode
    /// is which.
    pub(crate) fn read(root: &Path) -> io::Result<(Disk, HashMap<FileId, Node>)> {
        let is_written = number_of(&fs::symlink_metadata(root)?) == Some(ROOT);
        let mut reader = Reader {
            root,
            is_written,
            next: if is_written { NUMBERS } else { ROOT },
            taken: HashSet::new(),
            ids: HashMap::new(),
            inodes: HashMap::new(),
            entries: HashMap::new(),
        };
        reader.visit(root)?;
        let disk = Disk { origin: Arc::from(root), inodes: reader.inodes, entries: reader.entries };
        Ok((disk, reader.ids))
    }

    /// Writes it as a real directory, which must not exist yet.
    pub(crate) fn write(&self, at: &Path) -> io::Result<()> {
        Writer { disk: self, root: at, written: HashMap::new() }.visit(ROOT, at, 0)
    }

    /// Two disks look the same to a program exactly if these are equal.
    pub(crate) fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.walk(&mut |path, node, first, inode| {
            (path, node, first).hash(&mut hasher);
            inode.hash(&mut hasher);
        });
        hasher.finish()
    }

    /// Every name, in order: its path, a number for what it leads to, whether that is new, and
    /// what it is.
    fn walk<'d>(&'d self, visit: &mut dyn FnMut(&Path, usize, bool, &'d Inode)) {
        let mut seen = HashMap::new();
        self.walk_from(ROOT, &mut PathBuf::new(), 0, &mut seen, visit);
    }

    fn walk_from<'d>(
        &'d self,
        node: Node,
        path: &mut PathBuf,
        depth: usize,
        seen: &mut HashMap<Node, usize>,
        visit: &mut dyn FnMut(&Path, usize, bool, &'d Inode),
    ) {
        let Some(inode) = self.inodes.get(&node) else { return };
        let fresh = seen.len();
        let number = *seen.entry(node).or_insert(fresh);
        visit(path, number, number == fresh, inode);
        let Some(entries) = self.entries.get(&node).filter(|_| depth < DEEPEST) else { return };
        for (name, child) in entries {
            path.push(name);
            self.walk_from(*child, path, depth + 1, seen, visit);
            path.pop();
        }
    }
}

/// The tree, one line for each name.
impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        let mut paths: HashMap<usize, PathBuf> = HashMap::new();
        self.walk(&mut |path, number, first, inode| {
            if path.as_os_str().is_empty() {
                return;
            }
            let line = match (paths.get(&number), &inode.body) {
                (Some(other), Body::File(_)) if !first => format!("same file as {}", other.display()),
                (_, body) => format!("{body}  {:04o}", inode.access.mode),
            };
            let _ = writeln!(text, "    {:<24} {line}", path.display());
            paths.entry(number).or_insert_with(|| path.to_owned());
        });
        f.write_str(if text.is_empty() { "    (empty)\n" } else { &text })
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Body::File(data) => write!(f, "file, {} bytes {}", data.len(), preview(data)),
            Body::Dir => f.write_str("directory"),
            Body::Symlink(target) => write!(f, "link to {}", Path::new(target).display()),
            Body::RootLink(target) => write!(f, "link to {} in this directory", Path::new(target).display()),
        }
    }
}

/// The beginning of some content; runs of one byte are counted.
pub(crate) fn preview(data: &[u8]) -> String {
    const RUNS: usize = 4;
    const TEXT: usize = 40;
    if data.len() <= TEXT && !data.contains(&0) {
        return format!("{:?}", String::from_utf8_lossy(data));
    }
    let mut runs = data.chunk_by(|a, b| a == b);
    let shown: Vec<String> = runs
        .by_ref()
        .take(RUNS)
        .map(|run| format!("{} x {:?}", run.len(), char::from(run.first().copied().unwrap_or_default())))
        .collect();
    let more = if runs.next().is_some() { ", ..." } else { "" };
    format!("[{}{more}]", shown.join(", "))
}

/// More nodes than this have no test.
const NUMBERS: Node = 100_000_000;

/// A disk that is written out carries the numbers of its nodes as times of modification, in the
/// seventies: times are not modelled, and nothing else stays with an inode.
fn number_of(found: &fs::Metadata) -> Option<Node> {
    let seconds = usize::try_from(found.mtime()).ok().filter(|_| found.mtime_nsec() == 0)?;
    seconds.checked_sub(1).filter(|number| *number < NUMBERS)
}

fn note_number(at: &Path, node: Node) -> io::Result<()> {
    let time = Timespec { tv_sec: node as i64 + 1, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(rustix::fs::CWD, at, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?)
}

struct Reader<'r> {
    root: &'r Path,
    is_written: bool,
    next: Node,
    taken: HashSet<Node>,
    ids: HashMap<FileId, Node>,
    inodes: HashMap<Node, Inode>,
    entries: HashMap<Node, Entries>,
}

impl Reader<'_> {
    fn visit(&mut self, path: &Path) -> io::Result<Node> {
        let found = fs::symlink_metadata(path)?;
        let id = FileId { dev: found.dev(), ino: found.ino() };
        if let Some(known) = self.ids.get(&id) {
            return Ok(*known);
        }
        let noted = number_of(&found).filter(|node| self.is_written && self.taken.insert(*node));
        let node = noted.unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.ids.insert(id, node);
        let body = match found.file_type() {
            kind if kind.is_file() => Body::File(Arc::new(fs::read(path)?)),
            kind if kind.is_symlink() => Body::link(fs::read_link(path)?.into_os_string(), self.root),
            kind if kind.is_dir() => Body::Dir,
            _ => return Err(unsupported(path, "only files, directories and links can be modelled")),
        };
        if body == Body::Dir {
            let mut entries = Entries::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                entries.insert(entry.file_name(), self.visit(&entry.path())?);
            }
            self.entries.insert(node, entries);
        }
        let (access, xattrs) = match body {
            // Nobody looks at the metadata of a link.
            Body::Symlink(_) | Body::RootLink(_) => Default::default(),
            _ => {
                let access = Access { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid() };
                (access, xattrs_of(path)?.into_iter().collect())
            }
        };
        self.inodes.insert(node, Inode { body, access, xattrs });
        Ok(node)
    }
}

fn unsupported(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("{}: {why}", path.display()))
}

struct Writer<'d> {
    disk: &'d Disk,
    root: &'d Path,
    written: HashMap<Node, PathBuf>,
}

impl Writer<'_> {
    fn visit(&mut self, node: Node, at: &Path, depth: usize) -> io::Result<()> {
        let Some(inode) = self.disk.inodes.get(&node) else { return Ok(()) };
        let link = match &inode.body {
            Body::Symlink(target) => Some(PathBuf::from(target)),
            Body::RootLink(target) => Some(self.root.join(target)),
            _ => None,
        };
        if let Some(target) = link {
            std::os::unix::fs::symlink(target, at)?;
            return note_number(at, node);
        }
        match &inode.body {
            Body::Symlink(_) | Body::RootLink(_) => {}
            Body::File(data) => {
                if let Some(other) = self.written.get(&node) {
                    return fs::hard_link(other, at);
                }
                fs::write(at, data.as_slice())?;
                self.written.insert(node, at.to_owned());
            }
            Body::Dir => {
                fs::DirBuilder::new().mode(0o700).create(at)?;
                let entries = self.disk.entries.get(&node).filter(|_| depth < DEEPEST);
                for (name, child) in entries.into_iter().flatten() {
                    self.visit(*child, &at.join(name), depth + 1)?;
                }
            }
        }
        give_metadata(at, inode)?;
        note_number(at, node)
    }
}

/// Owner before mode: changing the owner changes the mode.
fn give_metadata(at: &Path, inode: &Inode) -> io::Result<()> {
    let found = fs::symlink_metadata(at)?;
    let Access { mode, uid, gid } = inode.access;
    if (found.uid(), found.gid()) != (uid, gid) {
        std::os::unix::fs::chown(at, Some(uid), Some(gid))?;
    }
    for (name, value) in &inode.xattrs {
        set_xattr_of(at, name, value)?;
    }
    if fs::symlink_metadata(at)?.mode() & 0o7777 != mode {
        fs::set_permissions(at, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// A directory for the states of one test, removed when dropped. In memory where possible.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(crate) fn new() -> io::Result<Scratch> {
        use std::sync::atomic::{AtomicU64, Ordering};
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let name = format!(
            "durafile-crash-{}-{}-{:08x}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed),
            // Names of a killed run that had the same process id are not met again.
            std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos()),
        );
        for base in [PathBuf::from("/dev/shm"), std::env::temp_dir()] {
            let path = base.canonicalize().unwrap_or(base).join(&name);
            if fs::DirBuilder::new().mode(0o700).create(&path).is_ok() {
                return Ok(Scratch { path });
            }
        }
        Err(io::Error::other("neither /dev/shm nor the temporary directory can be written to"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove_tree(&self.path);
    }
}

/// As far as it goes: what is left in a directory for temporary files harms nobody.
pub(crate) fn remove_tree(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    let mut opened = HashSet::new();
    let mut pending = vec![path.to_owned()];
    while let Some(dir) = pending.pop() {
        if !opened.insert(dir.clone())
            || fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).is_err()
        {
            continue;
        }
        let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
        pending.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    let _ = fs::remove_dir_all(path);
}
