//! The program: directories to and from object storage.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use durafile_publish::ErrorKind;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return fail(&e, None),
    };
    match runtime.block_on(cli::run(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(cli::Failure::Usage(text)) => {
            eprintln!("durafile-publish: {text}");
            ExitCode::from(2)
        }
        Err(cli::Failure::Failed(e)) => {
            fail(&e, Some(e.hint()));
            ExitCode::from(status(e.kind()))
        }
    }
}

/// What scripts tell failures apart by; the README has the table.
fn status(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Conflict => 3,
        ErrorKind::NotFound => 4,
        ErrorKind::Corrupt => 5,
        ErrorKind::Unknown => 6,
        ErrorKind::Store => 7,
        ErrorKind::Local => 8,
        ErrorKind::Refused => 9,
        ErrorKind::Unsupported => 10,
        ErrorKind::Cancelled => durafile::EXIT_CANCELLED,
        _ => 1,
    }
}

/// The whole chain of causes, and what to do.
fn fail(error: &dyn std::error::Error, hint: Option<&str>) -> ExitCode {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // The store's errors repeat their causes.
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    eprintln!("durafile-publish: {text}");
    if let Some(hint) = hint {
        eprintln!("{hint}");
    }
    ExitCode::FAILURE
}
