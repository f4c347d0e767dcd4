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
//! `--pretty` included. A producer that dies early looks like a short input: `--json` refuses
//! a document that was cut off, `--not-empty` an input without a single byte. Any other plain input
//! that was cut off can't be told from one that is whole. A program started without standard input
//! (`save notes.txt <&-`) saves nothing: that is an error, and not an empty file.
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
//! | 5    | standard input is closed, or could not be read                  | `Reader` |
//! | 6    | the target cannot be a file at that path                        | `NotFound`, `InvalidPath`, `IsADirectory`, `NotADirectory`, `CrossDevice`, `Unsupported` |
//! | 7    | the target exists already (`--create-new`)                      | `AlreadyExists` |
//! | 8    | not permitted, or the file system is read-only                  | `PermissionDenied`, `ReadOnlyFilesystem` |
//! | 9    | no space left, or the quota is used up                          | `StorageFull`, `QuotaExceeded` |
//! | 10   | the target is in use: locked, busy, or a mount point            | `Busy`, `Locked`, `TimedOut` |
//! | 11   | the new content is (or may be) in place, but it may not survive a power cut | any, once the target is not `Unchanged` |
//! | 12   | the input is empty (`--not-empty`)                              | |
//! | 14   | stopped by SIGTERM or SIGINT (Ctrl-C) before the target was replaced | `Cancelled` |
//!
//! With every code but 0 and 11 the target is as it was, and nothing is left beside it. A second
//! signal ends the program at once, with the status that the signal gives; the target is as it was
//! then, too.

mod input;
mod json;
mod progress;
mod size;

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use durafile::{CancelToken, EXIT_CANCELLED, ErrorKind, TargetState, WriteOptions};

use input::{Empty, Input};
use progress::Progress;

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
    /// Write nothing if the target already holds the same bytes
    #[arg(long)]
    skip_unchanged: bool,
    /// Refuse empty input, such as that of a producer that failed at once
    #[arg(long)]
    not_empty: bool,
    /// Refuse to save more than this many bytes, such as 5000, 64KiB (1024 bytes each) or 3MB (1000000
    /// bytes each)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
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
    fn options(&self, token: &CancelToken) -> WriteOptions {
        let mut options = WriteOptions::new()
            .cancel(token)
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
    // Without it a signal ends the program at once, and the target is as it was all the same.
    let token = CancelToken::on_termination().unwrap_or_default();
    if input::is_closed() {
        return report(&Failure::Closed);
    }
    let mut input = Progress::new(Input::new(&token, args.not_empty));
    let saved = if args.json || args.pretty {
        json::save(&args, &token, &mut input)
    } else {
        args.options(&token).write_from(&args.target, &mut input).map_err(Failure::of_save)
    };
    input.clear();
    match saved {
        Ok(committed) => {
            if let Some(notice) = less_durable(args.durability.into(), committed.durability()) {
                eprintln!("save: {notice}");
            }
            ExitCode::SUCCESS
        }
        Err(failure) => report(&failure),
    }
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("save: {}", failure.sentence());
    eprintln!("save: {}", failure.chain());
    ExitCode::from(failure.exit_code())
}

/// What to say where the file system can't promise what was asked for.
fn less_durable(wanted: durafile::Durability, reached: durafile::Durability) -> Option<&'static str> {
    use durafile::Durability::{Data, None as Memory};
    match reached {
        reached if reached >= wanted => None,
        Memory => Some(
            "Saved, but this file system keeps files in memory only; the file will not survive a restart \
             or a power cut.",
        ),
        Data => Some(
            "Saved, but this file system can't make the new name durable; after a power cut the old \
             content may be back.",
        ),
        _ => Some("Saved, but not as durably as was asked for."),
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
    /// The input has no bytes, and must have some.
    Empty,
    /// There is no standard input.
    Closed,
}

impl Failure {
    /// A failed save; the cause may be that the input was refused.
    fn of_save(error: durafile::Error) -> Self {
        if error.io_error().is_some_and(Empty::is_cause_of) { Self::Empty } else { Self::Save(error) }
    }

    /// A failed read while JSON was parsed.
    fn of_input(error: io::Error) -> Self {
        if Empty::is_cause_of(&error) { Self::Empty } else { Self::Input(error) }
    }

    /// One sentence for the person at the terminal.
    fn sentence(&self) -> &'static str {
        match self {
            Self::Save(error) => error.hint(),
            Self::Json(_) | Self::NotUtf8(_) => "The input is not valid JSON; nothing was saved.",
            Self::Input(_) => "The input could not be read to its end; nothing was saved.",
            Self::Empty => "The input is empty; nothing was saved.",
            Self::Closed => "There is no standard input to read; nothing was saved.",
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
            Self::Empty => ("standard input ended before its first byte".to_owned(), None),
            Self::Closed => ("standard input is closed".to_owned(), None),
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
            Self::Input(_) | Self::Closed => return 5,
            Self::Empty => return 12,
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
            ErrorKind::Cancelled => EXIT_CANCELLED,
            _ => 1,
        }
    }
}
