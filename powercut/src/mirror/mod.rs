//! A file system that shows a directory, and refuses what it is told to refuse; it may fold the case of
//! names.
//!
//! For one test program at a time: it answers requests one after the other, and keeps nothing in
//! caches, so that every call of the program reaches it.

mod requests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use crate::device::fuse::{Request, reply, words};

/// What a file system may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lack {
    /// Files without a name.
    Tmpfile,
    Link,
    /// Renames that exchange, or don't replace.
    Rename2,
    Flock,
    Xattr,
    /// Syncs of directories.
    Dirsync,
    /// A file has another number each time that it is looked up.
    Inodes,
}

/// What is refused, and how.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    lack: Lack,
    errno: Errno,
}

impl FromStr for Refusal {
    type Err = String;

    /// `link`, or with the number of an error `link=95`.
    fn from_str(text: &str) -> Result<Refusal, String> {
        let (name, errno) = text.split_once('=').unwrap_or((text, ""));
        let (lack, usual) = match name {
            "tmpfile" => (Lack::Tmpfile, Errno::OPNOTSUPP),
            "link" => (Lack::Link, Errno::PERM),
            "rename2" => (Lack::Rename2, Errno::INVAL),
            "flock" => (Lack::Flock, Errno::NOSYS),
            "xattr" => (Lack::Xattr, Errno::OPNOTSUPP),
            "dirsync" => (Lack::Dirsync, Errno::INVAL),
            "inodes" => (Lack::Inodes, Errno::INVAL),
            _ => return Err(format!("nothing is called {name}")),
        };
        let number = errno.parse().ok().map(Errno::from_raw_os_error);
        Ok(Refusal { lack, errno: number.unwrap_or(usual) })
    }
}

#[derive(Debug, clap::Args)]
pub struct Task {
    backing: PathBuf,
    at: PathBuf,
    #[arg(long)]
    refuse: Vec<Refusal>,
    #[command(flatten)]
    folding: Folding,
}

/// How names are compared.
#[derive(Clone, Debug, clap::Args)]
struct Folding {
    /// Names that differ in case only are one.
    #[arg(long)]
    fold: bool,
    /// Composed and decomposed letters (one of them, for tests) are one.
    #[arg(long)]
    compose: bool,
    /// Only below directories of this name.
    #[arg(long)]
    below: Option<String>,
}

impl Folding {
    fn key(&self, name: &OsStr) -> String {
        let name = name.to_string_lossy();
        // As in the full case folding of Unicode, one letter may become two.
        let name =
            if self.fold { name.to_lowercase().to_uppercase().to_lowercase() } else { name.into_owned() };
        if self.compose { name.replace("e\u{301}", "\u{e9}") } else { name }
    }

    fn is_here(&self, dir: &Path) -> bool {
        let is_below = |name: &String| dir.iter().any(|part| part == name.as_str());
        (self.fold || self.compose) && self.below.as_ref().is_none_or(is_below)
    }
}

/// Mounts, says so, and serves until it is unmounted or killed.
pub fn run(task: &Task) -> io::Result<()> {
    let fuse = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!(
        "fd={},rootmode=40755,user_id=0,group_id=0,default_permissions,allow_other",
        fuse.as_raw_fd()
    );
    let options = CString::new(options)?;
    let mut mirror = Mirror::new(&task.backing, &task.refuse, task.folding.clone())?;
    mount("mirror", &task.at, "fuse.mirror", MountFlags::NODEV | MountFlags::NOSUID, &*options)?;
    println!("mounted");
    mirror.serve(fuse.as_fd())
}

pub const ROOT: u64 = 1;

struct Node {
    /// Opened without any right but to be named.
    fd: OwnedFd,
    lookups: u64,
    key: (u64, u64),
}

pub struct Mirror {
    nodes: HashMap<u64, Node>,
    by_key: HashMap<(u64, u64), u64>,
    next_node: u64,
    refusals: HashMap<Lack, Errno>,
    folding: Folding,
    pub(crate) open: HashMap<u64, OwnedFd>,
    pub(crate) listings: HashMap<u64, Vec<u8>>,
    next_handle: u64,
}

pub(crate) type Answer = Result<Option<Vec<u8>>, Errno>;

impl Mirror {
    fn new(backing: &Path, refusals: &[Refusal], folding: Folding) -> io::Result<Mirror> {
        let root = rfs::open(backing, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let node = Node { fd: root, lookups: 1, key: (0, 0) };
        // The umask of the asker has been applied.
        rustix::process::umask(Mode::empty());
        Ok(Mirror {
            nodes: HashMap::from([(ROOT, node)]),
            by_key: HashMap::new(),
            next_node: ROOT + 1,
            folding,
            refusals: refusals.iter().map(|refusal| (refusal.lack, refusal.errno)).collect(),
            open: HashMap::new(),
            listings: HashMap::new(),
            next_handle: 1,
        })
    }

    fn serve(&mut self, fuse: BorrowedFd<'_>) -> io::Result<()> {
        let mut buffer = vec![0; (1 << 20) + 4096];
        loop {
            let length = match rustix::io::read(fuse, &mut buffer[..]) {
                Ok(length) => length,
                Err(Errno::NODEV) => return Ok(()),
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => continue,
                Err(e) => return Err(e.into()),
            };
            let request = Request::new(buffer[..length].to_vec());
            let answer = match self.answer(&request) {
                Ok(None) => continue,
                Ok(Some(data)) => reply(&request, 0, &data),
                Err(e) => reply(&request, -e.raw_os_error(), &[]),
            };
            match rustix::io::write(fuse, &answer) {
                Ok(_) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    pub(crate) fn refuses(&self, lack: Lack) -> Result<(), Errno> {
        self.refusals.get(&lack).map_or(Ok(()), |errno| Err(*errno))
    }

    pub(crate) fn lacks(&self, lack: Lack) -> bool {
        self.refusals.contains_key(&lack)
    }

    pub(crate) fn fd(&self, node: u64) -> Result<BorrowedFd<'_>, Errno> {
        self.nodes.get(&node).map(|node| node.fd.as_fd()).ok_or(Errno::STALE)
    }

    /// A path that leads to the node, whatever its name is now.
    pub(crate) fn path(&self, node: u64) -> Result<String, Errno> {
        Ok(format!("/proc/self/fd/{}", self.fd(node)?.as_raw_fd()))
    }

    pub(crate) fn attributes(&self, node: u64) -> Result<Vec<u8>, Errno> {
        let stat = rfs::statat(self.fd(node)?, c"", AtFlags::EMPTY_PATH)?;
        Ok(attributes(&stat, if self.lacks(Lack::Inodes) { node } else { stat.st_ino }))
    }

    pub(crate) fn lookup(&mut self, parent: u64, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rfs::openat(self.fd(parent)?, &*self.as_stored(parent, name)?, flags, Mode::empty())?;
        self.enter(fd)
    }

    /// The name as the directory has it, where names are folded; the given one if it is new.
    pub(crate) fn as_stored<'n>(&self, parent: u64, name: &'n OsStr) -> Result<Cow<'n, OsStr>, Errno> {
        let path = self.path(parent)?;
        let is_folded = || std::fs::read_link(&path).is_ok_and(|dir| self.folding.is_here(&dir));
        if is_folded() {
            let wanted = self.folding.key(name);
            let dir = rfs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            for entry in rfs::Dir::read_from(dir)? {
                let stored = OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned();
                if self.folding.key(&stored) == wanted {
                    return Ok(Cow::Owned(stored));
                }
            }
        }
        Ok(Cow::Borrowed(name))
    }

    /// Takes down a node that the kernel is told of, and tells it.
    pub(crate) fn enter(&mut self, fd: OwnedFd) -> Result<Vec<u8>, Errno> {
        let stat = rfs::statat(&fd, c"", AtFlags::EMPTY_PATH)?;
        let key = (stat.st_dev, stat.st_ino);
        let known = self.by_key.get(&key).copied().filter(|_| !self.lacks(Lack::Inodes));
        let id = known.unwrap_or(self.next_node);
        if known.is_none() {
            self.next_node += 1;
            self.by_key.insert(key, id);
        }
        self.nodes.entry(id).or_insert(Node { fd, lookups: 0, key }).lookups += 1;
        let mut entry = words(&[id, id, 0, 0, 0]);
        entry.extend(self.attributes(id)?);
        Ok(entry)
    }

    pub(crate) fn forget(&mut self, id: u64, times: u64) {
        let Some(node) = self.nodes.get_mut(&id).filter(|_| id != ROOT) else { return };
        node.lookups = node.lookups.saturating_sub(times);
        if node.lookups == 0 {
            if self.by_key.get(&node.key) == Some(&id) {
                self.by_key.remove(&node.key);
            }
            self.nodes.remove(&id);
        }
    }

    pub(crate) fn keep_open(&mut self, fd: OwnedFd) -> Vec<u8> {
        let handle = self.next_handle;
        self.next_handle += 1;
        self.open.insert(handle, fd);
        words(&[handle, 0])
    }

    pub(crate) fn handle(&self, handle: u64) -> Result<BorrowedFd<'_>, Errno> {
        self.open.get(&handle).map(AsFd::as_fd).ok_or(Errno::BADF)
    }
}

fn attributes(stat: &Stat, ino: u64) -> Vec<u8> {
    let seconds = [stat.st_atime, stat.st_mtime, stat.st_ctime].map(|time| time as u64);
    let mut data = words(&[ino, stat.st_size as u64, stat.st_blocks as u64]);
    data.extend(words(&seconds));
    let nanoseconds = [stat.st_atime_nsec, stat.st_mtime_nsec, stat.st_ctime_nsec].map(|time| time as u32);
    let rest = [stat.st_mode, stat.st_nlink as u32, stat.st_uid, stat.st_gid, 0, 4096, 0];
    for word in nanoseconds.into_iter().chain(rest) {
        data.extend(word.to_ne_bytes());
    }
    data
}

/// The names at the end of a request, each ended by a zero.
pub(crate) fn names(request: &Request, skip: usize) -> impl Iterator<Item = &OsStr> {
    let rest = request.message.get(request.body() + skip..).unwrap_or_default();
    rest.split(|byte| *byte == 0).map(OsStr::from_bytes)
}
