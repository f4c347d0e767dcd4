//! The process that is the disk.
//!
//! It lives in the mount name space of the host and has no descriptors but its own. So whenever the
//! process that mounted the file systems dies, the kernel can unmount them: this one still answers,
//! and ends when its own file system is gone.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::device::disk::Disk;
use crate::device::fuse::{self, Device};
use crate::device::recording::{Entry, Recording};
use crate::device::store;
use crate::random::Random;

struct State {
    disk: Disk,
    /// What is recorded, or was.
    recording: Recording,
    is_recording: bool,
    slots: Vec<Option<Disk>>,
    /// How long flushes take.
    delays: Random,
    failing: Failing,
}

/// A disk that breaks: how many more requests it carries out.
#[derive(Debug, Default)]
struct Failing {
    writes: Option<u64>,
    flushes: Option<u64>,
}

impl Failing {
    fn write(&mut self) -> Result<(), Errno> {
        Failing::count(&mut self.writes)
    }

    fn flush(&mut self) -> Result<(), Errno> {
        Failing::count(&mut self.flushes)
    }

    fn count(left: &mut Option<u64>) -> Result<(), Errno> {
        match left {
            Some(0) => Err(Errno::IO),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// `writes 3`, `flushes 0`; nothing: all is well again.
    fn obey(&mut self, order: &str) -> Result<(), Box<dyn std::error::Error>> {
        *self = Failing::default();
        let mut words = order.split_whitespace();
        while let (Some(what), Some(count)) = (words.next(), words.next()) {
            let count = Some(count.parse()?);
            match what {
                "writes" => self.writes = count,
                "flushes" => self.flushes = count,
                _ => return Err("writes or flushes".into()),
            }
        }
        Ok(())
    }
}

/// Serves `/dev/fuse` on standard input, and obeys orders on standard output, which is a socket.
/// `host` is the mount name space of the first process, by its path in `/proc`.
pub fn run(bytes: u64, host: &Path, backing: PathBuf) -> io::Result<()> {
    move_into_link_name_space(fs::File::open(host)?.as_fd(), Some(LinkNameSpaceType::Mount))?;
    let fuse: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    let orders = UnixStream::from(io::stdout().as_fd().try_clone_to_owned()?);
    let state = Arc::new(Mutex::new(State {
        disk: Disk::new(bytes),
        recording: Recording::new(Disk::new(bytes), 4096),
        is_recording: false,
        slots: Vec::new(),
        delays: Random::new(1),
        failing: Failing::default(),
    }));
    let (shared, leader) = (Arc::clone(&state), host.to_owned());
    let cleaner = std::thread::spawn(move || {
        let _ = obey(&shared, &orders);
        clean_up(&backing, &leader);
    });
    // Disks don't wait for a busy processor.
    let _ = rustix::process::nice(-15);
    let served = fuse::serve(&mut Shared(state), fuse.as_fd());
    let _ = cleaner.join();
    served
}

struct Shared(Arc<Mutex<State>>);

/// A thread that died inside must not stop the disk from answering.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(|broken| broken.into_inner())
}

impl Device for Shared {
    fn size(&self) -> u64 {
        lock(&self.0).disk.size()
    }

    fn read(&mut self, offset: u64, length: usize) -> Vec<u8> {
        lock(&self.0).disk.read(offset, length)
    }

    fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut state = lock(&self.0);
        state.failing.write()?;
        state.disk.write(offset, data);
        if state.is_recording {
            state.recording.log.push(Entry::Write { offset, data: data.into() });
        }
        Ok(())
    }

    fn zero(&mut self, offset: u64, length: u64) -> Result<(), Errno> {
        let mut state = lock(&self.0);
        state.failing.write()?;
        state.disk.zero(offset, length);
        if state.is_recording {
            state.recording.log.push(Entry::Zero { offset, length });
        }
        Ok(())
    }

    fn answered(&mut self) -> usize {
        lock(&self.0).recording.log.len()
    }

    fn flush(&mut self, covers: usize) -> Result<(), Errno> {
        let mut state = lock(&self.0);
        state.failing.flush()?;
        if !state.is_recording {
            return Ok(());
        }
        // A flush takes its time on real disks; meanwhile others write.
        let delay = state.delays.below(400);
        drop(state);
        std::thread::sleep(Duration::from_micros(delay));
        let log = &mut lock(&self.0).recording.log;
        // The recording may have begun since.
        log.push(Entry::Flush { covers: covers.min(log.len()) });
        Ok(())
    }
}

/// One order a line, one line in answer.
fn obey(state: &Mutex<State>, orders: &UnixStream) -> io::Result<()> {
    let mut answers = orders.try_clone()?;
    for order in BufReader::new(orders).lines() {
        let order = order?;
        let answer = match execute(&mut lock(state), &order) {
            Ok(answer) => format!("ok {answer}\n"),
            Err(e) => format!("failed: {order:?}: {e}\n"),
        };
        answers.write_all(answer.as_bytes())?;
    }
    Ok(())
}

fn execute(state: &mut State, order: &str) -> Result<String, Box<dyn std::error::Error>> {
    let (word, rest) = order.split_once(' ').unwrap_or((order, ""));
    match word {
        "record" => {
            state.recording = Recording::new(state.disk.clone(), rest.parse()?);
            state.is_recording = true;
        }
        "mark" => {
            state.recording.log.push(Entry::Mark(rest.to_owned()));
        }
        "stop" => {
            state.is_recording = false;
            return Ok(state.recording.log.len().to_string());
        }
        "marks" => {
            let marks = state.recording.log.iter().enumerate().filter_map(|(at, entry)| match entry {
                Entry::Mark(text) => Some(format!("{at} {text};")),
                _ => None,
            });
            return Ok(marks.collect());
        }
        "cut" => {
            let (disk, kept) = state.recording.disk_of(rest.parse()?);
            state.disk = disk;
            return Ok(kept.to_string());
        }
        "fail" => state.failing.obey(rest)?,
        "keep" => {
            let slot: usize = rest.parse()?;
            if state.slots.len() <= slot {
                state.slots.resize(slot + 1, None);
            }
            state.slots[slot] = Some(state.disk.clone());
        }
        "load" => {
            let kept = state.slots.get(rest.parse::<usize>()?).and_then(Option::clone);
            state.disk = kept.ok_or("nothing is kept there")?;
        }
        "save" => {
            let (path, about) = rest.split_once('\t').ok_or("a path and a text")?;
            store::save(&state.recording, about, Path::new(path))?;
        }
        "replay" => {
            let (recording, about) = store::load(Path::new(rest))?;
            state.disk = recording.base.clone();
            state.recording = recording;
            return Ok(about);
        }
        _ => return Err("no such order".into()),
    }
    Ok(String::new())
}

/// Whoever gave the orders is gone. A loop device that was not yet handed over to the kernel's own
/// clean-up is detached here.
fn clean_up(backing: &Path, leader: &Path) {
    for turn in 0..100 {
        std::thread::sleep(Duration::from_millis(100));
        let attached = loop_devices(backing);
        if attached.is_empty() {
            break;
        }
        // Most are on their way.
        if turn % 10 == 5 {
            attached.iter().for_each(|device| {
                let _ = Command::new("losetup").arg("--detach").arg(device).output();
            });
        }
    }
    // The mount points and what they are in, empty by now. The first process removes it all, if it lives.
    let mount_point = backing.parent().unwrap_or(backing);
    let dir = mount_point.parent().unwrap_or(mount_point);
    for path in [mount_point, &dir.join("fs"), dir] {
        let _ = fs::remove_dir(path);
    }
    let scratch = dir.parent().filter(|_| !leader.exists());
    if let Some(scratch) = scratch {
        let _ = fs::remove_dir(scratch.join("recordings"));
        let _ = fs::remove_dir(scratch);
    }
}

fn loop_devices(backing: &Path) -> Vec<PathBuf> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let attached = devices.filter(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        // From here the file is not reachable, and only its name is sure.
        Path::new(file.trim_end()).file_name() == backing.file_name()
    });
    attached.map(|device| Path::new("/dev").join(device.file_name())).collect()
}
