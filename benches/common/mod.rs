//! What every bench here needs: a file system that behaves like the users', honest words on
//! what that is, interleaved measurements, and peak memory.
//!
//! As root, the benches run on a journaled ext4 image on a loop device. The program runs itself
//! again in a mount namespace of its own, mounts the image there and unlinks it: whatever ends
//! the run, the kernel takes mount, loop device and image back. Otherwise, or where that
//! fails, they run in the temporary directory. `DURAFILE_BENCH_DIR=/some/dir` chooses a directory,
//! `DURAFILE_BENCH_FS=xfs` or `btrfs` another file system for the image.
#![allow(dead_code, reason = "each bench uses its part of this")]

pub(crate) mod sets;

use std::error::Error;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Set for the run inside the private mount namespace.
const INSIDE: &str = "DURAFILE_BENCH_INSIDE";
const GIB: u64 = 1 << 30;

/// The directory to measure in; its content goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Ground {
    dir: tempfile::TempDir,
    real: bool,
}

impl Ground {
    /// `cargo bench` gets the image; a mere test of the benches gets the temporary directory.
    /// Call this first in `main`: it may replace the process.
    pub(crate) fn prepare(image_gib: u64) -> Outcome<Self> {
        Self::prepare_with(image_gib, 65536)
    }

    /// The same, for so many files.
    pub(crate) fn prepare_with(image_gib: u64, inodes: u64) -> Outcome<Self> {
        let real = std::env::args().any(|arg| arg == "--bench");
        let place = if let Some(chosen) = std::env::var_os("DURAFILE_BENCH_DIR") {
            PathBuf::from(chosen)
        } else if real && rustix::process::geteuid().is_root() {
            loop_image(image_gib * GIB, inodes).unwrap_or_else(|error| {
                println!("no loop-mounted image ({error}); using the temporary directory");
                std::env::temp_dir()
            })
        } else {
            std::env::temp_dir()
        };
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(place)?;
        Ok(Self { dir, real })
    }

    /// False when the benches are only tried out: then a small workload is enough.
    pub(crate) fn is_real(&self) -> bool {
        self.real
    }

    /// A new directory for one side of a comparison.
    pub(crate) fn subdir(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.dir.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    }

    /// File system, journal, kernel and the cost of one flush, in one line.
    pub(crate) fn describe(&self) -> Outcome<String> {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let flush = self.flush_cost()?.as_secs_f64() * 1e3;
        let mount = mounted_on(self.dir.path()).ok_or("unknown file system")?;
        Ok(format!("{}, Linux {}, {flush:.2} ms a flush", mount.text(), kernel.trim()))
    }

    /// Overwrite 4 KiB in place and wait for the device: the median of many.
    fn flush_cost(&self) -> Outcome<Duration> {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::create(self.dir.path().join("flush"))?;
        file.write_all_at(&[0; 4096], 0)?;
        file.sync_all()?;
        let mut times = Vec::new();
        for round in 0..200_u8 {
            let start = Instant::now();
            file.write_all_at(&[round; 4096], 0)?;
            file.sync_data()?;
            times.push(start.elapsed());
        }
        Ok(median(&mut times))
    }
}

/// Mounts a new ext4 image where only this process and its children see it.
fn loop_image(len: u64, inodes: u64) -> Outcome<PathBuf> {
    if std::env::var_os(INSIDE).is_none() {
        succeed(Command::new("unshare").args(["--mount", "true"]))?;
        let mut args = std::env::args_os();
        let _name = args.next();
        return Err(Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--"])
            .arg(std::env::current_exe()?)
            .args(args)
            .env(INSIDE, "1")
            .exec()
            .into());
    }
    let mut image = tempfile::NamedTempFile::new()?;
    // Real blocks, so that the first write to each place costs what later ones do.
    std::io::copy(&mut std::io::repeat(0).take(len), &mut image)?;
    image.as_file().sync_all()?;
    let mut mkfs = match std::env::var("DURAFILE_BENCH_FS") {
        Ok(kind) if kind != "ext4" => {
            let mut mkfs = Command::new(format!("mkfs.{kind}"));
            mkfs.arg("-q");
            mkfs
        }
        _ => {
            // Everything is laid out now, so that no kernel thread does it during the run.
            let layout = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
            let mut mkfs = Command::new("mkfs.ext4");
            mkfs.args(["-q", "-F", "-E", layout, "-N", &inodes.to_string()]);
            mkfs
        }
    };
    succeed(mkfs.arg(image.path()))?;
    let mount_point = Path::new("/mnt");
    succeed(Command::new("mount").args(["-o", "loop"]).arg(image.path()).arg(mount_point))?;
    // Where the host can, go round its page cache: then a flush waits for the device, not for
    // a second copy of all data.
    if let Some(device) = mounted_on(mount_point).and_then(|mount| mount.device) {
        let _ = succeed(Command::new("losetup").args(["--direct-io=on", &format!("/dev/{device}")]));
    }
    // The image is unlinked on return; the loop device keeps it alive as long as the mount.
    Ok(mount_point.to_owned())
}

fn succeed(command: &mut Command) -> Outcome {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}: {}", output.status, text.trim()).into())
}

/// What a directory is mounted from.
struct Mount {
    kind: String,
    source: String,
    /// The kernel's name of the block device, such as `loop0`.
    device: Option<String>,
}

fn mounted_on(dir: &Path) -> Option<Mount> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let point = |line: &str| line.split(' ').nth(4).map(PathBuf::from);
    let line = table
        .lines()
        .filter(|line| point(line).is_some_and(|point| dir.starts_with(point)))
        // The longest one; of two mounts on one point the later covers the earlier.
        .max_by_key(|line| point(line).map(|point| point.components().count()))?;
    let mut tail = line.split(" - ").nth(1)?.split(' ');
    let device = format!("/sys/dev/block/{}", line.split(' ').nth(2)?);
    let device = std::fs::canonicalize(device).ok();
    Some(Mount {
        kind: tail.next()?.to_owned(),
        source: tail.next()?.to_owned(),
        device: device.and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
    })
}

impl Mount {
    fn text(&self) -> String {
        let device = self.device.as_ref().unwrap_or(&self.source);
        let options = std::fs::read_to_string(format!("/proc/fs/ext4/{device}/options"));
        let journal = match options {
            Ok(text) if self.kind == "ext4" => match text.lines().find(|line| line.starts_with("data=")) {
                Some(mode) => format!(" (journal, {mode})"),
                None => " (no journal)".to_owned(),
            },
            _ => String::new(),
        };
        let direct = std::fs::read_to_string(format!("/sys/block/{device}/loop/dio"));
        let direct = match direct.as_deref().map(str::trim) {
            Ok("1") => " with direct I/O",
            _ => "",
        };
        format!("{}{journal} on {device}{direct}", self.kind)
    }
}

/// Two ways of doing one job, measured in turns, so that what disturbs one disturbs the other.
#[derive(Debug)]
pub(crate) struct Pair {
    title: &'static str,
    ours: Vec<Duration>,
    baseline: Vec<Duration>,
}

impl Pair {
    pub(crate) fn new(title: &'static str) -> Self {
        Self { title, ours: Vec::new(), baseline: Vec::new() }
    }

    /// For criterion's `iter_custom`: measures `rounds` times both, and returns the time of ours.
    pub(crate) fn run(
        &mut self,
        rounds: u64,
        mut ours: impl FnMut() -> Outcome,
        mut baseline: impl FnMut() -> Outcome,
    ) -> Duration {
        let mut total = Duration::ZERO;
        for _ in 0..rounds {
            // Each leaves the device busy for whoever comes next: take turns at going first.
            let ours_first = self.ours.len() % 2 == 0;
            if !ours_first {
                self.baseline.push(time(&mut baseline));
            }
            let taken = time(&mut ours);
            self.ours.push(taken);
            total += taken;
            if ours_first {
                self.baseline.push(time(&mut baseline));
            }
        }
        total
    }

    /// The ratio of the medians of all rounds, in terms of time or of speed.
    pub(crate) fn report(&mut self, figure: Figure) {
        if self.ours.is_empty() {
            return;
        }
        let rounds = self.ours.len();
        let pairs = self.ours.iter().zip(&self.baseline);
        let mut spread: Vec<f64> = match figure {
            Figure::Speed { .. } => pairs.map(|(ours, base)| base.div_duration_f64(*ours)).collect(),
            _ => pairs.map(|(ours, base)| ours.div_duration_f64(*base)).collect(),
        };
        spread.sort_unstable_by(f64::total_cmp);
        let quartile = |quarters: usize| spread.get(rounds * quarters / 4).copied().unwrap_or_default();
        let ours = median(&mut self.ours).as_secs_f64() * 1e3;
        let baseline = median(&mut self.baseline).as_secs_f64() * 1e3;
        let verdict = |met| if met { "met" } else { "MISSED" };
        let ratio = match figure {
            Figure::Time { at_most } => {
                let ratio = ours / baseline;
                format!("time {ratio:.3} (goal: at most {at_most}, {})", verdict(ratio <= at_most))
            }
            Figure::Speed { at_least } => {
                let ratio = baseline / ours;
                format!("speed {ratio:.3} (goal: at least {at_least}, {})", verdict(ratio >= at_least))
            }
            Figure::Plain => format!("time {:.3} (no goal)", ours / baseline),
        };
        println!(
            "{}: {ratio}; medians of {rounds} rounds: {ours:.3} ms, baseline {baseline:.3} ms; \
             half of the rounds lie between {:.3} and {:.3}",
            self.title,
            quartile(1),
            quartile(3),
        );
    }
}

/// What a ratio compares, and what it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Figure {
    Time { at_most: f64 },
    Speed { at_least: f64 },
    Plain,
}

fn time(job: &mut impl FnMut() -> Outcome) -> Duration {
    let start = Instant::now();
    let outcome = job();
    let taken = start.elapsed();
    // A failed save has no time worth reporting.
    outcome.expect("the measured job works");
    taken
}

pub(crate) fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// By how many bytes `job` raised the peak of this process's resident memory.
pub(crate) fn peak_growth(job: impl FnOnce() -> Outcome) -> Outcome<u64> {
    // 5: forget the peak so far.
    std::fs::write("/proc/self/clear_refs", "5")?;
    let before = memory("VmRSS:")?;
    job()?;
    Ok(memory("VmHWM:")?.saturating_sub(before))
}

fn memory(field: &str) -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.split_whitespace().next())
        .ok_or("no such field in /proc/self/status")?;
    Ok(kib.parse::<u64>()? * 1024)
}
