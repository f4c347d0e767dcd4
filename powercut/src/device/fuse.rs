//! The few FUSE messages that it takes to serve one file (`fuse.h`, protocol 7.31 and later).

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// What the one file does.
pub trait Device {
    fn size(&self) -> u64;
    fn read(&mut self, offset: u64, length: usize) -> Vec<u8>;
    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Errno>;
    fn zero(&mut self, offset: u64, length: u64) -> Result<(), Errno>;
    /// How much was answered by now: what a flush that is asked for now covers.
    fn answered(&mut self) -> usize;
    fn flush(&mut self, covers: usize) -> Result<(), Errno>;
}

const MAX_WRITE: usize = 1 << 20;
const ROOT: u64 = 1;
const DISK: u64 = 2;

mod op {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const ACCESS: u32 = 34;
    pub const INTERRUPT: u32 = 36;
    pub const DESTROY: u32 = 38;
    pub const BATCH_FORGET: u32 = 42;
    pub const FALLOCATE: u32 = 43;
}

const KEEP_SIZE_PUNCH: u32 = 0x01 | 0x02;
const ZERO_RANGE: u32 = 0x10;

pub struct Request {
    pub message: Vec<u8>,
    /// For a flush: what had been answered when it came in.
    answered: usize,
}

impl Request {
    pub fn new(message: Vec<u8>) -> Request {
        Request { message, answered: 0 }
    }

    pub fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(std::array::from_fn(|n| self.message.get(at + n).copied().unwrap_or(0)))
    }

    pub fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(std::array::from_fn(|n| self.message.get(at + n).copied().unwrap_or(0)))
    }

    pub fn opcode(&self) -> u32 {
        self.u32(4)
    }

    pub fn node(&self) -> u64 {
        self.u64(16)
    }

    pub fn body(&self) -> usize {
        40
    }
}

/// Serves until the file system is unmounted.
///
/// Requests are taken off the kernel's queue before each answer: a flush that was asked for while
/// a write was under way does not cover that write.
pub fn serve(device: &mut dyn Device, fuse: BorrowedFd<'_>) -> io::Result<()> {
    let mut queue: VecDeque<Request> = VecDeque::new();
    let mut buffer = vec![0; MAX_WRITE + 4096];
    loop {
        let mut more = [PollFd::new(&fuse, PollFlags::IN)];
        let at_once = Some(&Timespec { tv_sec: 0, tv_nsec: 0 });
        if queue.is_empty() || poll(&mut more, at_once).or_else(again)? > 0 {
            match rustix::io::read(fuse, &mut buffer[..]) {
                Ok(length) => {
                    let answered = device.answered();
                    queue.push_back(Request { message: buffer[..length].to_vec(), answered });
                }
                Err(Errno::NODEV) => return Ok(()),
                // It was interrupted before it could be read.
                Err(Errno::NOENT | Errno::INTR | Errno::AGAIN) => {}
                Err(e) => return Err(e.into()),
            }
            continue;
        }
        let Some(request) = queue.pop_front() else { continue };
        let answer = match answer(device, &request) {
            Ok(None) => continue,
            Ok(Some(data)) => reply(&request, 0, &data),
            Err(e) => reply(&request, -e.raw_os_error(), &[]),
        };
        match rustix::io::write(fuse, &answer) {
            // The asker has given up, or the file system is gone: the next read tells.
            Ok(_) | Err(Errno::NOENT | Errno::NODEV) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

fn again(e: Errno) -> Result<usize, Errno> {
    if e == Errno::INTR { Ok(0) } else { Err(e) }
}

pub fn reply(request: &Request, error: i32, data: &[u8]) -> Vec<u8> {
    let length = 16 + data.len() as u32;
    let mut message = Vec::with_capacity(length as usize);
    message.extend(length.to_ne_bytes());
    message.extend(error.to_ne_bytes());
    message.extend(request.u64(8).to_ne_bytes());
    message.extend(data);
    message
}

/// None: this kind of request has no answer.
fn answer(device: &mut dyn Device, request: &Request) -> Result<Option<Vec<u8>>, Errno> {
    let at = request.body();
    let done = Ok(Some(Vec::new()));
    match request.opcode() {
        op::INIT => Ok(Some(init(request.u32(at + 4), request.u32(at + 12)))),
        op::LOOKUP if request.node() == ROOT => {
            // Under any name: the loop device tells by the name whose it is.
            let mut entry = words(&[DISK, 1, 3600, 3600, 0]);
            entry.extend(attributes(DISK, device.size()));
            Ok(Some(entry))
        }
        op::GETATTR | op::SETATTR => {
            let mut attr = words(&[3600, 0]);
            attr.extend(attributes(request.node(), device.size()));
            Ok(Some(attr))
        }
        op::OPEN if request.node() == DISK => {
            // FOPEN_DIRECT_IO and FOPEN_PARALLEL_DIRECT_WRITES: no page cache, no waiting.
            Ok(Some(words(&[1, 1 | 1 << 6])))
        }
        op::READ => Ok(Some(device.read(request.u64(at + 8), request.u32(at + 16) as usize))),
        op::WRITE => {
            let size = request.u32(at + 16) as usize;
            let data = request.message.get(at + 40..at + 40 + size).ok_or(Errno::INVAL)?;
            device.write(request.u64(at + 8), data)?;
            Ok(Some(words(&[size as u64])))
        }
        op::FALLOCATE => {
            let mode = request.u32(at + 24);
            if mode & KEEP_SIZE_PUNCH != KEEP_SIZE_PUNCH && mode & ZERO_RANGE == 0 {
                return Err(Errno::OPNOTSUPP);
            }
            device.zero(request.u64(at + 8), request.u64(at + 16))?;
            done
        }
        op::FSYNC => {
            device.flush(request.answered)?;
            done
        }
        op::STATFS => {
            let blocks = device.size() / 4096;
            let mut statfs = words(&[blocks, 0, 0, 1, 0, 4096 | 255 << 32, 4096]);
            statfs.resize(80, 0);
            Ok(Some(statfs))
        }
        op::ACCESS | op::FLUSH | op::RELEASE | op::DESTROY => done,
        op::FORGET | op::BATCH_FORGET | op::INTERRUPT => Ok(None),
        _ => Err(Errno::NOSYS),
    }
}

pub fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn init(minor: u32, offered: u32) -> Vec<u8> {
    // ASYNC_READ, BIG_WRITES, ASYNC_DIO, MAX_PAGES.
    let flags = offered & (1 | 1 << 5 | 1 << 15 | 1 << 22);
    let mut data = Vec::with_capacity(64);
    for word in [7, minor.min(36), 0, flags] {
        data.extend(word.to_ne_bytes());
    }
    for background in [128u16, 128] {
        data.extend(background.to_ne_bytes());
    }
    data.extend((MAX_WRITE as u32).to_ne_bytes());
    data.extend(1u32.to_ne_bytes());
    data.extend(((MAX_WRITE / 4096) as u16).to_ne_bytes());
    data.resize(64, 0);
    data
}

fn attributes(node: u64, disk: u64) -> Vec<u8> {
    let (mode, size) = if node == DISK { (0o100600u32, disk) } else { (0o040700, 4096) };
    let mut data = words(&[node, size, size / 512, 0, 0, 0]);
    // Nanoseconds of three times, mode, links, owner, group, device, block size, flags.
    for word in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        data.extend(word.to_ne_bytes());
    }
    data
}
