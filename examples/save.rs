//! `save`: a durable `sponge`. It reads standard input to its end and then puts it in the
//! place of TARGET, atomically: whoever opens TARGET sees the complete old content or the
//! complete new content, after a power cut too.
//!
//! ```text
//! cargo metadata --format-version 1 | save target/metadata.json --json
//! save notes.txt < notes.txt.new
//! ```
//!
//! The target is opened before the first byte is read, so that a path that can never work is
//! refused at once. Memory use does not depend on the length of the input, `--json` and
//! `--pretty` included. A producer that dies early looks like a short input; `--json` refuses
//! a document that was cut off, plain input cannot be told apart.
//!
//! Exit codes:
//!
//! | code | meaning                                                         | error kinds |
//! | ---- | --------------------------------------------------------------- | ----------- |
//! | 0    | saved, or already identical under `--skip-unchanged`            | |
//! | 1    | an I/O error, or anything not listed below                      | `Io` and others |
//! | 2    | wrong usage                                                     | |
//! | 3    | the input is not valid JSON (`--json`, `--pretty`)              | `Serialize` |
//! | 4    | the input is longer than `--size-limit`                         | `TooLarge` |
//! | 5    | standard input could not be read                                | `Reader` |
//! | 6    | the target cannot be a file at that path                        | `NotFound`, `InvalidPath`, `IsADirectory`, `NotADirectory`, `CrossDevice`, `Unsupported` |
//! | 7    | the target exists already (`--create-new`)                      | `AlreadyExists` |
//! | 8    | not permitted, or the file system is read-only                  | `PermissionDenied`, `ReadOnlyFilesystem` |
//! | 9    | no space left, or the quota is used up                          | `StorageFull`, `QuotaExceeded` |
//! | 10   | the target is in use: locked, busy, or a mount point            | `Busy`, `Locked`, `TimedOut` |
//! | 11   | the new content is (or may be) in place, but it may not survive a power cut | any, once the target is not `Unchanged` |
//!
//! With every code but 0 and 11 the target is as it was, and nothing is left beside it.

use std::error::Error as StdError;
use std::io::{self, BufReader, IsTerminal as _, Read, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use durafile::{AtomicFile, Committed, ErrorKind, TargetState, WriteOptions};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize as _;
use serde::de::IgnoredAny;

/// How much is read at once.
const CHUNK: usize = 64 * 1024;

/// Save standard input to TARGET, atomically and durably.
#[derive(Debug, Parser)]
#[command(name = "save", version)]
struct Args {
    /// The file to create or replace
    target: PathBuf,
    /// Refuse input that is not one valid JSON document; save its bytes unchanged
    #[arg(long)]
    json: bool,
    /// Like --json, and lay the document out on indented lines (numbers, strings and the
    /// order of keys stay as they are)
    #[arg(long)]
    pretty: bool,
    /// Fail if the target exists already
    #[arg(long)]
    create_new: bool,
    /// Create missing parent directories
    #[arg(long)]
    parents: bool,
    /// Exact permissions of the target, in octal, instead of those of the old file
    #[cfg(unix)]
    #[arg(long, value_name = "OCTAL", value_parser = parse_mode)]
    mode: Option<u32>,
    /// What to do when the target is a symbolic link
    #[arg(long, value_enum, default_value_t = Symlinks::Follow)]
    symlinks: Symlinks,
    /// Leave a target alone that holds the same bytes already
    #[arg(long)]
    skip_unchanged: bool,
    /// Refuse to save more than this
    #[arg(long, value_name = "BYTES")]
    size_limit: Option<u64>,
    /// What the save must survive: full = power loss; data = power loss, though the previous
    /// save may come back; none = the death of the process
    #[arg(long, value_enum, default_value_t = Durability::Full)]
    durability: Durability,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Symlinks {
    /// Replace the file that the link leads to
    Follow,
    /// Replace the link itself
    Replace,
    /// Fail
    Refuse,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Durability {
    Full,
    Data,
    None,
}

impl From<Durability> for durafile::Durability {
    fn from(level: Durability) -> Self {
        match level {
            Durability::Full => Self::Full,
            Durability::Data => Self::Data,
            Durability::None => Self::None,
        }
    }
}

impl From<Symlinks> for durafile::Symlinks {
    fn from(rule: Symlinks) -> Self {
        match rule {
            Symlinks::Follow => Self::Follow,
            Symlinks::Replace => Self::Replace,
            Symlinks::Refuse => Self::Refuse,
        }
    }
}

#[cfg(unix)]
fn parse_mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err("expected octal permissions from 0 to 7777, such as 640".to_owned()),
    }
}

impl Args {
    fn options(&self) -> WriteOptions {
        let mut options = WriteOptions::new()
            .durability(self.durability.into())
            .symlinks(self.symlinks.into())
            .create_new(self.create_new)
            .create_parents(self.parents)
            .skip_unchanged(self.skip_unchanged);
        if let Some(limit) = self.size_limit {
            options = options.size_limit(limit);
        }
        #[cfg(unix)]
        if let Some(mode) = self.mode {
            use std::os::unix::fs::PermissionsExt as _;
            options = options.permissions(std::fs::Permissions::from_mode(mode));
        }
        options
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut input = Progress::new(io::stdin().lock());
    let saved = if args.json || args.pretty {
        save_json(&args, &mut input)
    } else {
        args.options().write_from(&args.target, &mut input).map_err(Failure::Save)
    };
    input.clear();
    match saved {
        Ok(committed) => {
            let wanted = durafile::Durability::from(args.durability);
            let reached = committed.durability();
            if reached != wanted {
                let [wanted, reached] = [wanted, reached].map(|level| format!("{level:?}").to_lowercase());
                eprintln!("save: Saved, but with durability {reached} only; {wanted} is not possible there.");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("save: {}", failure.sentence());
            eprintln!("save: {}", failure.chain());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Why nothing was saved.
#[derive(Debug)]
enum Failure {
    /// The library refused or failed.
    Save(durafile::Error),
    /// The input is not one JSON document.
    Json(serde_json::Error),
    /// The input is JSON in shape, but not in UTF-8.
    NotUtf8(io::Error),
    /// Standard input broke off while JSON was read.
    Input(io::Error),
}

impl Failure {
    /// One sentence for the person at the terminal.
    fn sentence(&self) -> &'static str {
        match self {
            Self::Save(error) => error.hint(),
            Self::Json(_) | Self::NotUtf8(_) => "The input is not valid JSON; nothing was saved.",
            Self::Input(_) => "The input could not be read to its end; nothing was saved.",
        }
    }

    /// What failed, on what, and why, on one line. Every error names only itself and leaves its
    /// cause to `source()`, so nothing is said twice.
    fn chain(&self) -> String {
        let (mut line, mut next): (String, Option<&dyn StdError>) = match self {
            Self::Save(error) => (error.to_string(), error.source()),
            Self::Json(error) => ("could not parse standard input".to_owned(), Some(error)),
            Self::NotUtf8(error) => ("could not parse standard input".to_owned(), Some(error)),
            Self::Input(error) => ("could not read standard input".to_owned(), Some(error)),
        };
        while let Some(cause) = next {
            line.push_str(": ");
            line.push_str(&cause.to_string());
            next = cause.source();
        }
        line
    }

    /// The table at the head of this file.
    fn exit_code(&self) -> u8 {
        let error = match self {
            Self::Json(_) | Self::NotUtf8(_) => return 3,
            Self::Input(_) => return 5,
            Self::Save(error) => error,
        };
        if error.target() != TargetState::Unchanged {
            return 11;
        }
        match error.kind() {
            ErrorKind::Serialize => 3,
            ErrorKind::TooLarge => 4,
            ErrorKind::Reader => 5,
            ErrorKind::NotFound
            | ErrorKind::InvalidPath
            | ErrorKind::IsADirectory
            | ErrorKind::NotADirectory
            | ErrorKind::CrossDevice
            | ErrorKind::Unsupported => 6,
            ErrorKind::AlreadyExists => 7,
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => 8,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => 9,
            ErrorKind::Busy | ErrorKind::Locked | ErrorKind::TimedOut => 10,
            _ => 1,
        }
    }
}

/// Checks the input while it streams into the staged file; publishes only a valid document.
fn save_json(args: &Args, input: &mut impl Read) -> Result<Committed, Failure> {
    let mut tee = Tee {
        input,
        file: args.options().open(&args.target).map_err(Failure::Save)?,
        layout: args.pretty.then(Layout::default),
        utf8: Utf8::default(),
        broken: None,
    };
    let mut document = serde_json::Deserializer::from_reader(BufReader::with_capacity(CHUNK, &mut tee));
    let verdict = IgnoredAny::deserialize(&mut document).and_then(|_| document.end());
    drop(document);
    match (tee.broken, verdict) {
        // A writer that failed stays failed: commit() returns the error, with its context.
        (Some(Broken::Write), _) | (None, Ok(())) => tee.file.commit().map_err(Failure::Save),
        (Some(Broken::Read(error)), _) => Err(Failure::Input(error)),
        (Some(Broken::Utf8(error)), _) => Err(Failure::NotUtf8(error)),
        (None, Err(error)) => Err(Failure::Json(error)),
    }
}

/// Hands on what it reads, and writes the same to the staged file.
struct Tee<R> {
    input: R,
    file: AtomicFile,
    layout: Option<Layout>,
    utf8: Utf8,
    broken: Option<Broken>,
}

/// Which side of the tee failed; the parser in between would only see "an I/O error".
enum Broken {
    Read(io::Error),
    Utf8(io::Error),
    Write,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let stop = || io::Error::other("stopped");
        let len = match self.input.read(buf) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                self.broken = Some(Broken::Read(error));
                return Err(stop());
            }
        };
        let chunk = &buf[..len];
        if let Err(error) = self.utf8.check(chunk) {
            self.broken = Some(Broken::Utf8(error));
            return Err(stop());
        }
        let written = match &mut self.layout {
            Some(layout) => layout.write(chunk, &mut self.file),
            None => self.file.write_all(chunk),
        };
        if written.is_err() {
            self.broken = Some(Broken::Write);
            return Err(stop());
        }
        Ok(len)
    }
}

/// Checks UTF-8 chunk by chunk: serde_json does not look into the strings that it skips.
#[derive(Default)]
struct Utf8 {
    /// The start of a character that the last chunk cut in two, and its length.
    pending: [u8; 4],
    len: usize,
    /// How many bytes came before `pending`.
    offset: u64,
}

impl Utf8 {
    /// An empty chunk is the end of the input.
    fn check(&mut self, mut chunk: &[u8]) -> io::Result<()> {
        if chunk.is_empty() && self.len > 0 {
            return Err(self.invalid());
        }
        while self.len > 0 && !chunk.is_empty() {
            self.pending[self.len] = chunk[0];
            self.len += 1;
            chunk = &chunk[1..];
            match std::str::from_utf8(&self.pending[..self.len]) {
                Ok(_) => {
                    self.offset += self.len as u64;
                    self.len = 0;
                }
                // Still only the start of a character, three bytes at most.
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(self.invalid()),
            }
        }
        let Err(error) = std::str::from_utf8(chunk) else {
            self.offset += chunk.len() as u64;
            return Ok(());
        };
        let rest = &chunk[error.valid_up_to()..];
        self.offset += error.valid_up_to() as u64;
        if error.error_len().is_some() {
            return Err(self.invalid());
        }
        self.pending[..rest.len()].copy_from_slice(rest);
        self.len = rest.len();
        Ok(())
    }

    fn invalid(&self) -> io::Error {
        let text = format!("invalid UTF-8 at byte offset {}", self.offset);
        io::Error::new(io::ErrorKind::InvalidData, text)
    }
}

/// Lays JSON out as serde_json's pretty printer does, but changes nothing except white space.
/// It works on any bytes; whether they are JSON is judged elsewhere.
#[derive(Default)]
struct Layout {
    out: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The container opened last is still empty.
    just_opened: bool,
}

impl Layout {
    fn write(&mut self, chunk: &[u8], file: &mut AtomicFile) -> io::Result<()> {
        for &byte in chunk {
            self.push(byte, file)?;
        }
        file.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    fn push(&mut self, byte: u8, file: &mut AtomicFile) -> io::Result<()> {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            self.out.push(byte);
            return Ok(());
        }
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => return Ok(()),
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.just_opened) {
                    self.new_line(file)?;
                }
                self.out.push(byte);
            }
            b',' => {
                self.out.push(byte);
                self.new_line(file)?;
            }
            b':' => self.out.extend_from_slice(b": "),
            _ => {
                if std::mem::take(&mut self.just_opened) {
                    self.new_line(file)?;
                }
                self.out.push(byte);
                self.in_string = byte == b'"';
                if matches!(byte, b'{' | b'[') {
                    self.depth += 1;
                    self.just_opened = true;
                }
            }
        }
        Ok(())
    }

    fn new_line(&mut self, file: &mut AtomicFile) -> io::Result<()> {
        self.out.push(b'\n');
        self.out.resize(self.out.len() + 2 * self.depth, b' ');
        // Deep nesting makes long indents: hand them on before they pile up.
        if self.out.len() > CHUNK {
            file.write_all(&self.out)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Counts what is read and, for a long input and a person who watches, shows it.
struct Progress<R> {
    input: R,
    read: u64,
    started: Instant,
    /// Standard error is a terminal, and nobody is typing the input.
    wanted: bool,
    /// The length of the input, where it is a file.
    total: Option<u64>,
    bar: Option<ProgressBar>,
}

impl<R: Read> Progress<R> {
    /// A shorter wait than this needs no bar.
    const PATIENCE: Duration = Duration::from_millis(800);

    fn new(input: R) -> Self {
        Self {
            input,
            read: 0,
            started: Instant::now(),
            wanted: io::stderr().is_terminal() && !io::stdin().is_terminal(),
            total: stdin_len(),
            bar: None,
        }
    }

    fn show(&mut self) {
        let bar = self.bar.get_or_insert_with(|| {
            let (bar, style) = match self.total {
                Some(len) => (ProgressBar::new(len), "{wide_bar} {bytes} of {total_bytes} {msg}"),
                None => (ProgressBar::new_spinner(), "{spinner} {bytes} in {elapsed} {msg}"),
            };
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.with_elapsed(self.started.elapsed())
        });
        bar.set_position(self.read);
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl<R: Read> Read for Progress<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.input.read(buf)?;
        self.read += len as u64;
        if self.wanted && self.read >= 1024 * 1024 && self.started.elapsed() >= Self::PATIENCE {
            self.show();
        }
        if let (0, Some(bar)) = (len, &self.bar) {
            bar.set_message("waiting for the disk");
        }
        Ok(len)
    }
}

/// How long standard input is, if it is a file and the system has a name for it.
fn stdin_len() -> Option<u64> {
    let metadata = std::fs::metadata("/dev/stdin").ok()?;
    metadata.is_file().then_some(metadata.len())
}
