//! The file systems to measure on, and what can be told of them.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Outcome;

/// Set for the run inside the private mount namespace.
const INSIDE: &str = "DURAFILE_PEERS_INSIDE";
const GIB: u64 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
    /// Where this machine keeps its temporary files.
    Host,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::Host];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
            Kind::Host => "host",
        }
    }
}

/// One file system, and a directory on it that is ours.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) kind: Kind,
    /// Dropped in this order: what is in the directory, then the mount, then its place.
    dir: tempfile::TempDir,
    mounted: Option<Mounted>,
    device: Option<String>,
}

impl Ground {
    pub(crate) fn prepare(kind: Kind, image_gib: u64) -> Outcome<Self> {
        let mounted = match kind {
            Kind::Host => None,
            _ => Some(Mounted::image(kind, image_gib * GIB)?),
        };
        let place =
            mounted.as_ref().map_or_else(std::env::temp_dir, |mounted| mounted.place.path().to_owned());
        // What is on an image goes with the image.
        let keep = mounted.is_some();
        let dir =
            tempfile::Builder::new().prefix("durafile-peers-").disable_cleanup(keep).tempdir_in(place)?;
        let device = device_of(dir.path());
        if mounted.is_some() {
            // Where the host can, go round its page cache: then a flush waits for the device, not
            // for a second copy of all data.
            let device = device.as_ref().ok_or("no loop device")?;
            let _ = succeed(Command::new("losetup").args(["--direct-io=on", &format!("/dev/{device}")]));
        }
        Ok(Self { kind, dir, mounted, device })
    }

    /// A new directory, made durable, so that its creation is in nobody's time.
    pub(crate) fn subdir(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path)?;
        File::open(self.dir.path())?.sync_all()?;
        Ok(path)
    }

    /// Writes out what earlier turns left, so that the next one doesn't pay for it.
    pub(crate) fn settle(&self) -> Outcome {
        Ok(rustix::fs::syncfs(File::open(self.dir.path())?)?)
    }

    /// How many flushes the device has answered so far; only of a device that nobody else uses.
    pub(crate) fn device_flushes(&self) -> Option<u64> {
        let device = self.mounted.as_ref().and(self.device.as_ref())?;
        let stat = std::fs::read_to_string(format!("/sys/block/{device}/stat")).ok()?;
        // The 16th number counts flushes.
        stat.split_whitespace().nth(15)?.parse().ok()
    }

    /// In a few words.
    pub(crate) fn label(&self) -> String {
        let journal = match (self.kind_name().as_str(), self.ext4_options()) {
            ("ext4", Some(options)) if !options.contains("data=") => ", no journal",
            _ => "",
        };
        match self.kind {
            Kind::Host => format!("host ({}{journal})", self.kind_name()),
            Kind::Xfs => "XFS".to_owned(),
            _ => self.kind.name().to_owned(),
        }
    }

    fn kind_name(&self) -> String {
        self.mount_fields().map_or_else(|| "unknown".to_owned(), |(kind, _)| kind)
    }

    /// Kernel, file system, mount options, device and the cost of one flush.
    pub(crate) fn describe(&self) -> Outcome<Vec<(&'static str, String)>> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let (kind, options) = self.mount_fields().ok_or("not in mountinfo")?;
        let journal = match self.ext4_options() {
            Some(text) if kind == "ext4" => match text.lines().find(|line| line.starts_with("data=")) {
                Some(mode) => format!("journal, {mode}"),
                None => "no journal".to_owned(),
            },
            _ => "-".to_owned(),
        };
        let device = match (&self.mounted, self.loop_is_direct()) {
            (Some(_), true) => "loop device with direct I/O on a file",
            (Some(_), false) => "loop device on a file, through the host's page cache",
            (None, _) => "the machine's own disk, shared with all that runs there",
        };
        let load = std::fs::read_to_string("/proc/loadavg")?;
        let load = load.split(' ').next().unwrap_or_default();
        let processors = std::thread::available_parallelism()?;
        Ok(vec![
            ("kernel", format!("Linux {}", kernel.trim())),
            ("file system", kind),
            ("journal", journal),
            ("mount options", options),
            ("device", device.to_owned()),
            ("one flush", format!("{:.2} ms", self.flush_millis()?)),
            ("processors", processors.to_string()),
            ("load at the start", load.to_owned()),
        ])
    }

    fn loop_is_direct(&self) -> bool {
        let dio = self.device.as_ref().map(|device| format!("/sys/block/{device}/loop/dio"));
        dio.and_then(|path| std::fs::read_to_string(path).ok()).is_some_and(|text| text.trim() == "1")
    }

    fn ext4_options(&self) -> Option<String> {
        let device = self.device.as_ref()?;
        std::fs::read_to_string(format!("/proc/fs/ext4/{device}/options")).ok()
    }

    /// Type and options of the mount.
    fn mount_fields(&self) -> Option<(String, String)> {
        let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        let point = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
        let line = table
            .lines()
            .filter(|line| point(line).is_some_and(|point| self.dir.path().starts_with(point)))
            // The longest one; of two mounts on one point the later covers the earlier.
            .max_by_key(|line| point(line).map(|point| point.components().count()))?;
        let (head, tail) = line.split_once(" - ")?;
        let mut tail = tail.split(' ');
        let (kind, _source, fs_options) = (tail.next()?, tail.next()?, tail.next()?);
        let mut options: Vec<&str> = Vec::new();
        for option in head.split(' ').nth(5)?.split(',').chain(fs_options.split(',')) {
            if !options.contains(&option) {
                options.push(option);
            }
        }
        Some((kind.to_owned(), options.join(",")))
    }

    /// Overwrite 4 KiB in place and wait for the device: the median of many.
    fn flush_millis(&self) -> Outcome<f64> {
        let file = File::create(self.dir.path().join("flush"))?;
        file.write_all_at(&[0; 4096], 0)?;
        file.sync_all()?;
        let mut times = Vec::new();
        for round in 0..200_u8 {
            let start = Instant::now();
            file.write_all_at(&[round; 4096], 0)?;
            file.sync_data()?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[times.len() / 2].as_secs_f64() * 1e3)
    }
}

/// An image, mounted where only this process and its children see it.
#[derive(Debug)]
struct Mounted {
    place: tempfile::TempDir,
}

impl Mounted {
    fn image(kind: Kind, len: u64) -> Outcome<Self> {
        let mut image = tempfile::NamedTempFile::new()?;
        // Real blocks, so that the first write to each place costs what later ones do.
        std::io::copy(&mut std::io::repeat(0).take(len), &mut image)?;
        image.as_file().sync_all()?;
        let inodes = (len / (5 << 10)).to_string();
        let args: &[&str] = match kind {
            // Everything is laid out now, so that no kernel thread does it during the run.
            Kind::Ext4 => {
                &["-q", "-F", "-N", &inodes, "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"]
            }
            Kind::Xfs => &["-q", "-f", "-K"],
            _ => &["-q", "-f", "-K"],
        };
        succeed(Command::new(format!("mkfs.{}", kind.name())).args(args).arg(image.path()))?;
        let place = tempfile::Builder::new().prefix("durafile-peers-").tempdir()?;
        succeed(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(place.path()))?;
        // The image is unlinked on return; the loop device keeps it alive as long as the mount.
        Ok(Self { place })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: whatever is open goes with the process.
        let _ = succeed(Command::new("umount").arg("--lazy").arg(self.place.path()));
    }
}

/// Runs this program again in a mount namespace of its own, where images can be mounted. Returns
/// there; and where that is not permitted, without the images.
pub(crate) fn enter_private_namespace(kinds: &mut Vec<Kind>) -> Outcome {
    let needed = kinds.iter().any(|kind| *kind != Kind::Host);
    if !needed || std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    if let Err(error) = succeed(Command::new("unshare").args(["--mount", "true"])) {
        println!("no images, only the temporary directory: {error}");
        *kinds = vec![Kind::Host];
        return Ok(());
    }
    let mut args = std::env::args_os();
    let _name = args.next();
    Err(Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe()?)
        .args(args)
        .env(INSIDE, "1")
        .exec()
        .into())
}

/// The kernel's name of the block device that holds `dir`, such as `loop0`.
fn device_of(dir: &Path) -> Option<String> {
    let dev = std::fs::metadata(dir).ok()?.dev();
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let device = std::fs::canonicalize(format!("/sys/dev/block/{major}:{minor}"))
        .ok()
        // btrfs makes up device numbers; its mount names the real one.
        .or_else(|| loop_of_mount(dir))?;
    Some(device.file_name()?.to_str()?.to_owned())
}

fn loop_of_mount(dir: &Path) -> Option<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table
        .lines()
        .find(|line| line.split(' ').nth(4).is_some_and(|point| point != "/" && dir.starts_with(point)))?;
    Some(PathBuf::from(line.split(" - ").nth(1)?.split(' ').nth(1)?))
}

pub(crate) fn succeed(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}: {}", output.status, text.trim()).into())
}
