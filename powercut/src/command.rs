//! The command line, and one worker for each column of the table.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::{Parser, Subcommand};

use crate::device::file_system::{Column, FileSystem};
use crate::device::recording::Cut;
use crate::device::{bare, daemon, store};
use crate::mirror;
use crate::table::{self, Row};
use crate::work::operation::Outcome;
use crate::work::worker;

/// Cuts the power in the middle of durafile's saves, on real file systems, and looks at what is left.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    /// At least 2,000 states for each operation and file system, and 400 with each of several mount options
    #[arg(long)]
    full: bool,
    /// These file systems only
    #[arg(long, value_delimiter = ',', value_enum)]
    fs: Vec<FileSystem>,
    /// Operations whose name contains this; may be repeated
    #[arg(long)]
    op: Vec<String>,
    /// So many states for each operation and file system; without this and `--full`, 60
    #[arg(long)]
    states: Option<usize>,
    /// For the same draws again; the order of the kernel's writes differs between runs all the same
    #[arg(long)]
    seed: Option<u64>,
    /// Mount with these (ext4's `fast_commit` too) instead of the defaults; may be repeated
    #[arg(long)]
    mount_options: Vec<String>,
    /// So many file systems at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Without the protocols that are known to be wrong
    #[arg(long)]
    no_teeth: bool,
    /// A recording that an earlier run has kept
    #[arg(long, requires = "state")]
    replay: Option<PathBuf>,
    /// One state of it
    #[arg(long, requires = "replay")]
    state: Option<Cut>,
}

#[derive(Debug, Subcommand)]
enum Part {
    #[command(hide = true)]
    Worker(worker::Task),
    #[command(hide = true)]
    Daemon { bytes: u64, host: PathBuf, backing: PathBuf },
    /// A disk that takes orders, and may be told to fail
    #[command(hide = true)]
    Bare(bare::Task),
    /// Shows a directory at another place, and refuses what it is told to refuse
    #[command(hide = true)]
    Mirror(mirror::Task),
}

pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match &arguments.part {
        Some(Part::Worker(task)) => worker::run(task).map(|()| true),
        Some(Part::Daemon { bytes, host, backing }) => {
            daemon::run(*bytes, host, backing.clone()).map(|()| true).map_err(Into::into)
        }
        Some(Part::Bare(task)) => bare::run(task).map(|()| true),
        Some(Part::Mirror(task)) => mirror::run(task).map(|()| true).map_err(Into::into),
        None => lead(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("powercut: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all is as it must be.
fn lead(arguments: &Arguments) -> Outcome<bool> {
    let columns = columns(arguments)?;
    if let Some(missing) = missing(&columns) {
        println!("SKIPPED: the power-loss rig needs {missing}");
        return Ok(std::env::var_os("DURAFILE_REQUIRE_ALL").is_none());
    }
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let scratch = Scratch::new("powercut")?;
    let keep = scratch.0.join("recordings");
    fs::create_dir(&keep)?;
    let rows = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let all_ended = Mutex::new(true);
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.clamp(1, columns.len().max(1)) {
            scope.spawn(|| {
                while let Some((at, column)) = pick(&columns, &next) {
                    let dir = scratch.0.join(format!("{}-{at}", std::process::id()));
                    let ended = work(arguments, column, &dir, &keep, seed, |row| lock(&rows).push((at, row)));
                    if let Err(e) = ended {
                        eprintln!("{}: {e}", column.title());
                        *lock(&all_ended) = false;
                    }
                }
            });
        }
    });
    let mut rows = rows.into_inner().unwrap_or_default();
    rows.sort_by_key(|(at, _)| *at);
    let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    if arguments.replay.is_none() {
        println!("{}", table::print(&rows));
        println!("{LEGEND}");
        println!("seed {seed}, {} states", rows.iter().map(|row| row.states).sum::<usize>());
        let good = rows.iter().filter(|row| row.is_good()).count();
        println!("{good} passed, {} failed", rows.len() - good);
    }
    if fs::read_dir(&keep)?.next().is_some() {
        println!("recordings are kept in {}", keep.display());
    } else {
        fs::remove_dir(&keep)?;
    }
    let all_ended = *lock(&all_ended);
    Ok(all_ended && rows.iter().all(Row::is_good))
}

const LEGEND: &str = "A torn, missing or mixed; D an acknowledged save lost; L something left after recover; \
R recover failed. In brackets, no violations: \
B several saves at the level Data undone; U the file system itself could not be mounted.";

fn lock<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|broken| broken.into_inner())
}

fn pick<'a>(columns: &'a [Column], next: &AtomicUsize) -> Option<(usize, &'a Column)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    columns.get(at).map(|column| (at, column))
}

fn columns(arguments: &Arguments) -> Outcome<Vec<Column>> {
    if let Some(recording) = &arguments.replay {
        let (_, about) = store::load(recording)?;
        let mut about = about.splitn(3, ';');
        let kind = <FileSystem as clap::ValueEnum>::from_str(about.next().unwrap_or_default(), true)?;
        return Ok(vec![Column { kind, options: about.next().unwrap_or_default().to_owned() }]);
    }
    let kinds = match arguments.fs.as_slice() {
        [] => &[FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs],
        some => some,
    };
    let mut columns = Vec::new();
    let given: Vec<&str> = arguments.mount_options.iter().map(String::as_str).collect();
    if given.is_empty() {
        columns.extend(kinds.iter().map(|&kind| Column { kind, options: String::new() }));
    }
    for &kind in kinds {
        let variants = if arguments.full && given.is_empty() { kind.variants() } else { &given };
        columns.extend(variants.iter().map(|&options| Column { kind, options: options.to_owned() }));
    }
    Ok(columns)
}

/// What the rig can't do without and doesn't find.
fn missing(columns: &[Column]) -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("root".to_owned());
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if let Err(e) = fs::OpenOptions::new().read(true).write(true).open(device) {
            return Some(format!("{device} ({e})"));
        }
    }
    let mut programs = vec!["unshare", "losetup", "xfs_io"];
    if columns.iter().any(|column| column.kind == FileSystem::Btrfs) {
        programs.push("btrfs");
    }
    programs.extend(columns.iter().map(|column| column.format().program));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    programs.into_iter().find(|program| !is_there(program)).map(|program| format!("the program {program}"))
}

fn work(
    arguments: &Arguments,
    column: &Column,
    dir: &Path,
    keep: &Path,
    seed: u64,
    mut take: impl FnMut(Row),
) -> Outcome<()> {
    fs::create_dir(dir)?;
    let by_default = match (arguments.full, column.options.as_str()) {
        (false, _) => 60,
        (true, "") => 2_000,
        (true, _) => 400,
    };
    let states = arguments.states.unwrap_or(by_default);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(std::env::current_exe()?).arg("worker");
    command.args(["--fs", column.kind.name(), "--options", &column.options]);
    command.args(["--states", &states.to_string(), "--seed", &seed.to_string()]);
    command.arg("--dir").arg(dir).arg("--keep").arg(keep);
    arguments.op.iter().for_each(|part| {
        command.args(["--op", part]);
    });
    let is_default = column.options.is_empty() || column.has_fast_commit();
    if (is_default && !arguments.no_teeth) || arguments.replay.is_some() {
        command.arg("--teeth");
    }
    if let (Some(recording), Some(cut)) = (&arguments.replay, arguments.state) {
        command.arg("--replay").arg(recording.canonicalize()?).args(["--state", &cut.to_string()]);
    }
    let mut worker = command.stdout(Stdio::piped()).spawn()?;
    if let Some(rows) = worker.stdout.take() {
        for line in BufReader::new(rows).lines() {
            take(Row::from_line(&line?).ok_or("the worker printed something else than a row")?);
        }
    }
    let status = worker.wait()?;
    for name in ["disk", "fs", ""] {
        let _ = fs::remove_dir(dir.join(name));
    }
    if status.success() { Ok(()) } else { Err(format!("the worker ended with {status}").into()) }
}

/// A new directory for mount points and recordings, removed if empty.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Outcome<Scratch> {
        for number in 0..1000 {
            let path = std::env::temp_dir().join(format!("{name}-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Scratch(path)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err("no name is free for a temporary directory".into())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
