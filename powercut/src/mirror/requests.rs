//! The requests that [`Mirror`] answers.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{self as rfs, AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid};
use rustix::fs::{CWD, UTIME_NOW, UTIME_OMIT, XattrFlags};
use rustix::io::Errno;

use crate::device::fuse::{Request, words};
use crate::mirror::{Answer, Lack, Mirror, names};

impl Mirror {
    /// None: this kind of request has no answer.
    pub(crate) fn answer(&mut self, request: &Request) -> Answer {
        let (at, node) = (request.body(), request.node());
        let mut given = names(request, 0);
        let name = || names(request, 0).next().ok_or(Errno::INVAL);
        match request.opcode() {
            1 => self.lookup(node, name()?).map(Some),
            2 => self.forgotten(&[(node, request.u64(at))]),
            42 => {
                let count = request.u32(at) as usize;
                let each = (0..count).map(|n| at + 8 + 16 * n);
                self.forgotten(&each.map(|at| (request.u64(at), request.u64(at + 8))).collect::<Vec<_>>())
            }
            3 => self.told(node),
            4 => self.set_attributes(request),
            5 => Ok(Some(rfs::readlinkat(self.fd(node)?, c"", Vec::new())?.into_bytes())),
            6 => {
                let (name, target) = (name()?, given.nth(1).ok_or(Errno::INVAL)?);
                rfs::symlinkat(target, self.fd(node)?, &*self.as_stored(node, name)?)?;
                self.made(request, name)
            }
            8 => self.make_node(request),
            9 => {
                let name = names(request, 8).next().ok_or(Errno::INVAL)?;
                let (mode, stored) = (Mode::from_raw_mode(request.u32(at)), self.as_stored(node, name)?);
                rfs::mkdirat(self.fd(node)?, &*stored, mode)?;
                self.made(request, name)
            }
            10 => self.unlink(node, name()?, AtFlags::empty()),
            11 => self.unlink(node, name()?, AtFlags::REMOVEDIR),
            12 => self.rename(request, 8, 0),
            45 => self.rename(request, 16, request.u32(at + 8)),
            13 => self.link(request),
            14 | 27 => self.open_node(request),
            15 => self.read(request),
            16 => self.write(request),
            17 => self.statfs(node),
            18 | 29 => {
                self.open.remove(&request.u64(at));
                self.listings.remove(&request.u64(at));
                Ok(Some(Vec::new()))
            }
            20 => done(rfs::fsync(self.handle(request.u64(at))?)),
            30 => {
                self.refuses(Lack::Dirsync)?;
                done(rfs::fsync(self.handle(request.u64(at))?))
            }
            21..=24 => self.attribute(request),
            25 | 38 => Ok(Some(Vec::new())),
            26 => Ok(Some(self.init(request.u32(at + 12)))),
            28 => self.list(request),
            // Only asked if locks are ours to give, and that is only to refuse them.
            31..=33 => self.refuses(Lack::Flock).and(Err(Errno::NOSYS)),
            35 => self.create(request),
            51 => self.create_unnamed(request),
            36 => Ok(None),
            _ => Err(Errno::NOSYS),
        }
    }

    fn forgotten(&mut self, nodes: &[(u64, u64)]) -> Answer {
        nodes.iter().for_each(|(node, times)| self.forget(*node, *times));
        Ok(None)
    }

    fn told(&self, node: u64) -> Answer {
        let mut data = words(&[0, 0]);
        data.extend(self.attributes(node)?);
        Ok(Some(data))
    }

    fn init(&self, offered: u32) -> Vec<u8> {
        // ASYNC_READ, ATOMIC_O_TRUNC, BIG_WRITES; FLOCK_LOCKS, to be asked for locks.
        let flock = if self.lacks(Lack::Flock) { 1 << 10 } else { 0 };
        let flags = offered & (1 | 1 << 3 | 1 << 5 | flock);
        let mut data: Vec<u8> = [7u32, 36, 0, flags].into_iter().flat_map(u32::to_ne_bytes).collect();
        data.extend([16u16, 16].into_iter().flat_map(u16::to_ne_bytes));
        data.extend([128u32 << 10, 1].into_iter().flat_map(u32::to_ne_bytes));
        data.resize(64, 0);
        data
    }

    /// Something new belongs to who asked for it.
    fn made(&mut self, request: &Request, name: &OsStr) -> Answer {
        let parent = request.node();
        self.give(request, parent, name)?;
        self.lookup(parent, name).map(Some)
    }

    fn give(&self, request: &Request, parent: u64, name: &OsStr) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(request.u32(24)), Gid::from_raw(request.u32(28)));
        let name = self.as_stored(parent, name)?;
        rfs::chownat(self.fd(parent)?, &*name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn make_node(&mut self, request: &Request) -> Answer {
        let (mode, name) = (request.u32(request.body()), names(request, 16).next().ok_or(Errno::INVAL)?);
        let kind = FileType::from_raw_mode(mode);
        let stored = self.as_stored(request.node(), name)?;
        rfs::mknodat(self.fd(request.node())?, &*stored, kind, Mode::from_raw_mode(mode), 0)?;
        self.made(request, name)
    }

    fn unlink(&self, parent: u64, name: &OsStr, flags: AtFlags) -> Answer {
        done(rfs::unlinkat(self.fd(parent)?, &*self.as_stored(parent, name)?, flags))
    }

    fn rename(&self, request: &Request, skip: usize, flags: u32) -> Answer {
        if flags != 0 {
            self.refuses(Lack::Rename2)?;
        }
        let mut names = names(request, skip);
        let (from, to) = (names.next().ok_or(Errno::INVAL)?, names.next().ok_or(Errno::INVAL)?);
        let (node, to_node) = (request.node(), request.u64(request.body()));
        let (from, stored) = (self.as_stored(node, from)?, self.as_stored(to_node, to)?);
        // A name that only changes its case is its own obstacle.
        let to = if node == to_node && from == stored { to } else { &stored };
        let flags = RenameFlags::from_bits_retain(flags);
        done(rfs::renameat_with(self.fd(node)?, &*from, self.fd(to_node)?, to, flags))
    }

    fn link(&mut self, request: &Request) -> Answer {
        self.refuses(Lack::Link)?;
        let (parent, name) = (request.node(), names(request, 8).next().ok_or(Errno::INVAL)?);
        let from = self.path(request.u64(request.body()))?;
        let stored = self.as_stored(parent, name)?;
        rfs::linkat(CWD, from, self.fd(parent)?, &*stored, AtFlags::SYMLINK_FOLLOW)?;
        self.lookup(parent, name).map(Some)
    }

    fn open_node(&mut self, request: &Request) -> Answer {
        let flags = OFlags::from_bits_retain(request.u32(request.body()));
        let keep = OFlags::ACCMODE | OFlags::TRUNC | OFlags::APPEND | OFlags::DIRECTORY;
        let fd = rfs::open(self.path(request.node())?, flags & keep | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Some(self.keep_open(fd)))
    }

    fn create(&mut self, request: &Request) -> Answer {
        let (at, parent) = (request.body(), request.node());
        let name = names(request, 16).next().ok_or(Errno::INVAL)?;
        let flags = OFlags::from_bits_retain(request.u32(at)) & (OFlags::EXCL | OFlags::TRUNC);
        let flags = flags | OFlags::CREATE | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(request.u32(at + 4) & 0o7777);
        let fd = rfs::openat(self.fd(parent)?, &*self.as_stored(parent, name)?, flags, mode)?;
        self.give(request, parent, name)?;
        let mut answer = self.lookup(parent, name)?;
        answer.extend(self.keep_open(fd));
        Ok(Some(answer))
    }

    fn create_unnamed(&mut self, request: &Request) -> Answer {
        self.refuses(Lack::Tmpfile)?;
        let mode = Mode::from_raw_mode(request.u32(request.body() + 4) & 0o7777);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let fd = rfs::open(self.path(request.node())?, flags, mode)?;
        let (uid, gid) = (Uid::from_raw(request.u32(24)), Gid::from_raw(request.u32(28)));
        rfs::fchown(&fd, Some(uid), Some(gid))?;
        let mut answer = self.enter(again(&fd)?)?;
        answer.extend(self.keep_open(fd));
        Ok(Some(answer))
    }

    fn read(&self, request: &Request) -> Answer {
        let at = request.body();
        let mut data = vec![0; request.u32(at + 16) as usize];
        let length = rustix::io::pread(self.handle(request.u64(at))?, &mut data[..], request.u64(at + 8))?;
        data.truncate(length);
        Ok(Some(data))
    }

    fn write(&self, request: &Request) -> Answer {
        let at = request.body();
        let data = request.message.get(at + 40..).ok_or(Errno::INVAL)?;
        let length = rustix::io::pwrite(self.handle(request.u64(at))?, data, request.u64(at + 8))?;
        Ok(Some(words(&[length as u64])))
    }

    fn statfs(&self, node: u64) -> Answer {
        let found = rfs::fstatvfs(self.fd(node)?)?;
        let mut data = words(&[found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree]);
        for word in [found.f_bsize as u32, 255, found.f_frsize as u32, 0] {
            data.extend(word.to_ne_bytes());
        }
        data.resize(80, 0);
        Ok(Some(data))
    }

    fn list(&mut self, request: &Request) -> Answer {
        let (at, handle) = (request.body(), request.u64(request.body()));
        let (offset, size) = (request.u64(at + 8) as usize, request.u32(at + 16) as usize);
        if offset == 0 {
            let listing = entries(self.handle(handle)?)?;
            self.listings.insert(handle, listing);
        }
        let listing = self.listings.get(&handle).ok_or(Errno::BADF)?;
        let (mut end, rest) = (offset, listing.get(offset..).unwrap_or_default());
        // Whole entries, as many as fit.
        while let Some(length) = rest.get(end - offset + 16..end - offset + 20) {
            let length = u32::from_ne_bytes(length.try_into().map_err(|_| Errno::IO)?) as usize;
            let next = end + 24 + length.next_multiple_of(8);
            if next - offset > size {
                break;
            }
            end = next;
        }
        Ok(Some(listing.get(offset..end).unwrap_or_default().to_vec()))
    }

    fn set_attributes(&self, request: &Request) -> Answer {
        let (at, path) = (request.body(), self.path(request.node())?);
        let valid = request.u32(at);
        let has = |bit: u32| valid & (1 << bit) != 0;
        if has(1) || has(2) {
            let uid = has(1).then(|| Uid::from_raw(request.u32(at + 76)));
            let gid = has(2).then(|| Gid::from_raw(request.u32(at + 80)));
            rfs::chownat(self.fd(request.node())?, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if has(0) {
            rfs::chmod(&path, Mode::from_raw_mode(request.u32(at + 68) & 0o7777))?;
        }
        if has(3) {
            let file = rfs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            rfs::ftruncate(file, request.u64(at + 16))?;
        }
        if has(4) || has(5) {
            let time = |set: u32, now: u32, seconds: usize, nanoseconds: usize| Timespec {
                tv_sec: request.u64(at + seconds) as _,
                tv_nsec: match (has(set), has(now)) {
                    (false, _) => UTIME_OMIT,
                    (true, true) => UTIME_NOW,
                    (true, false) => request.u32(at + nanoseconds) as _,
                },
            };
            let times = Timestamps { last_access: time(4, 7, 32, 56), last_modification: time(5, 8, 40, 60) };
            rfs::utimensat(CWD, &path, &times, AtFlags::empty())?;
        }
        self.told(request.node())
    }

    fn attribute(&self, request: &Request) -> Answer {
        self.refuses(Lack::Xattr)?;
        let (at, path) = (request.body(), self.path(request.node())?);
        let size = request.u32(at) as usize;
        let name = |skip| names(request, skip).next().ok_or(Errno::INVAL);
        let mut value = vec![0; if size == 0 { 65536 } else { size }];
        let length = match request.opcode() {
            21 => {
                let name = name(8)?;
                let value = request.message.get(at + 8 + name.len() + 1..).ok_or(Errno::INVAL)?;
                let flags = XattrFlags::from_bits_retain(request.u32(at + 4));
                return done(rfs::setxattr(path, name, value, flags));
            }
            24 => return done(rfs::removexattr(path, name(0)?)),
            22 => rfs::getxattr(path, name(8)?, &mut value[..])?,
            _ => rfs::listxattr(path, &mut value[..])?,
        };
        if size == 0 {
            return Ok(Some(words(&[length as u64])));
        }
        value.truncate(length);
        Ok(Some(value))
    }
}

fn done(result: Result<(), Errno>) -> Answer {
    result.map(|()| Some(Vec::new()))
}

/// The same file, by a descriptor that can only be named.
fn again(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::io::fcntl_dupfd_cloexec(fd, 0)
}

fn entries(dir: std::os::fd::BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut listing = Vec::new();
    for entry in rfs::Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let next = listing.len() + 24 + name.len().next_multiple_of(8);
        listing.extend(words(&[entry.ino(), next as u64]));
        listing.extend((name.len() as u32).to_ne_bytes());
        let kind = entry.file_type().as_raw_mode() >> 12;
        listing.extend(kind.to_ne_bytes());
        listing.extend(OsStr::from_bytes(name).as_bytes());
        listing.resize(next, 0);
    }
    Ok(listing)
}
