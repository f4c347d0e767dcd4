//! The disk as the workloads' process sees it: a loop device, orders to the daemon, mounts.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::device::file_system::{FileSystem, Format};
use crate::device::recording::Cut;

pub struct Rig {
    orders: Mutex<Orders>,
    /// Where the daemon's file system is mounted; the tested one in `mounted` below.
    fuse_at: PathBuf,
    fs_at: PathBuf,
    device: PathBuf,
    /// Held open: it detaches when the last one closes it, and so also when we are killed.
    handle: File,
}

struct Orders {
    send: UnixStream,
    receive: BufReader<UnixStream>,
}

impl Rig {
    /// In a mount name space of our own. `host` names the one that the daemon shall live in; `dir` is
    /// empty, and holds the mount points.
    pub fn new(bytes: u64, host: &Path, dir: &Path) -> io::Result<Rig> {
        let (fuse_at, fs_at) = (dir.join("disk"), dir.join("fs"));
        fs::create_dir(&fuse_at)?;
        fs::create_dir(&fs_at)?;
        let name = dir.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let file = fuse_at.join(name);
        let (ours, theirs) = UnixStream::pair()?;
        let fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
        let options = CString::new(options)?;
        mount("powercut", &fuse_at, "fuse.powercut", MountFlags::NODEV | MountFlags::NOSUID, &*options)?;
        Command::new("/proc/self/exe")
            .args(["daemon", &bytes.to_string()])
            .args([host, &file])
            .stdin(Stdio::from(fuse))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .spawn()?;
        let orders = Mutex::new(Orders { send: ours.try_clone()?, receive: BufReader::new(ours) });
        let device = attach(&file)?;
        let handle = File::open(&device)?;
        // In use as it is, it is only marked: to be detached when it no longer is.
        losetup(&["--detach".as_ref(), device.as_os_str()])?;
        Ok(Rig { orders, fuse_at, fs_at, device, handle })
    }

    pub fn order(&self, order: &str) -> io::Result<String> {
        let mut orders = self.orders.lock().unwrap_or_else(|broken| broken.into_inner());
        orders.send.write_all(format!("{order}\n").as_bytes())?;
        let mut answer = String::new();
        orders.receive.read_line(&mut answer)?;
        match answer.strip_prefix("ok") {
            Some(rest) => Ok(rest.trim().to_owned()),
            None if answer.is_empty() => Err(io::Error::other("the daemon has died")),
            None => Err(io::Error::other(answer.trim().to_owned())),
        }
    }

    /// The power goes: what is on the disk now is this state. Equal numbers are equal disks.
    pub fn cut(&self, cut: Cut) -> io::Result<u64> {
        self.order(&format!("cut {cut}"))?.parse().map_err(io::Error::other)
    }

    pub fn format(&self, format: &Format) -> io::Result<()> {
        let output = Command::new(format.program).args(format.arguments).arg(&self.device).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("{} {:?}: {said}", format.program, format.arguments)));
        }
        Ok(())
    }

    /// Mounts what is on the disk now.
    pub fn mount(&self, kind: FileSystem, options: &str) -> io::Result<Mounted<'_>> {
        // What the block device's page cache knows is of another state.
        fadvise(&self.handle, 0, None, Advice::DontNeed)?;
        let options = CString::new(options)?;
        let flags = MountFlags::NODEV | MountFlags::NOSUID;
        mount(&self.device, &self.fs_at, kind.name(), flags, &*options)?;
        if kind == FileSystem::Xfs {
            self.fail_fast();
        }
        Ok(Mounted { rig: self, is_mounted: true })
    }

    /// XFS tries a failed write of metadata again for ever, and could never be unmounted if the daemon died.
    fn fail_fast(&self) {
        let Some(name) = self.device.file_name() else { return };
        let errors = Path::new("/sys/fs/xfs").join(name).join("error");
        let _ = fs::write(errors.join("fail_at_unmount"), "1");
        for error in ["default", "EIO", "ENODEV", "ENOSPC"] {
            let _ = fs::write(errors.join("metadata").join(error).join("max_retries"), "0");
        }
    }
}

fn attach(file: &Path) -> io::Result<PathBuf> {
    let mut tries = 0;
    loop {
        // Others attach, too, and may be quicker with the free number that was found.
        match losetup(&["--find".as_ref(), "--show".as_ref(), "--direct-io=on".as_ref(), file.as_os_str()]) {
            Ok(device) => return Ok(PathBuf::from(device)),
            Err(e) if tries == 5 => return Err(e),
            Err(_) => tries += 1,
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn losetup(arguments: &[&std::ffi::OsStr]) -> io::Result<String> {
    let output = Command::new("losetup").args(arguments).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(io::Error::other(format!("losetup {arguments:?}: {said}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = unmount(&self.fs_at, UnmountFlags::DETACH);
        let _ = unmount(&self.fuse_at, UnmountFlags::DETACH);
        // The loop device goes with its handle, after this; the daemon ends when it is gone.
    }
}

/// A mounted file system; unmounted when dropped.
pub struct Mounted<'a> {
    rig: &'a Rig,
    is_mounted: bool,
}

impl Mounted<'_> {
    pub fn path(&self) -> &Path {
        &self.rig.fs_at
    }

    pub fn unmount(mut self) -> io::Result<()> {
        self.is_mounted = false;
        unmount_patiently(&self.rig.fs_at)
    }

    /// Directories of it, mounted as an overlay on another of its directories.
    pub fn overlay(&self, lower: &str, upper: &str, inner: &str, at: &str) -> io::Result<Overlay<'_>> {
        let [lower, upper, inner, at] = [lower, upper, inner, at].map(|dir| self.path().join(dir));
        let (lower, upper, inner) = (lower.display(), upper.display(), inner.display());
        let options = CString::new(format!("lowerdir={lower},upperdir={upper},workdir={inner}"))?;
        mount("powercut", &at, "overlay", MountFlags::NODEV | MountFlags::NOSUID, &*options)?;
        Ok(Overlay { at, _below: self })
    }
}

/// Unmounted when dropped, before what it lies on.
pub struct Overlay<'a> {
    at: PathBuf,
    _below: &'a Mounted<'a>,
}

impl Drop for Overlay<'_> {
    fn drop(&mut self) {
        if unmount_patiently(&self.at).is_err() {
            let _ = unmount(&self.at, UnmountFlags::DETACH);
        }
    }
}

/// Waits for the kernel, which may still be at work on a file that was just closed.
fn unmount_patiently(path: &Path) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match unmount(path, UnmountFlags::empty()) {
            Err(Errno::BUSY) if begun.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => return Ok(done?),
        }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        if self.is_mounted {
            let _ = unmount(&self.rig.fs_at, UnmountFlags::DETACH);
        }
    }
}
