//! `ingest`: a recording service. It takes WAV recordings over HTTP, whole or in chunks, and makes
//! of each, once, a directory with its levels, loudness, silences and a picture. See the README for
//! the interface, the exit codes and what holds after a crash.

mod audio;
mod chunks;
mod commands;
mod config;
mod failure;
mod http;
mod item;
mod layout;
mod ledger;
mod moves;
mod pipeline;
mod serve;
mod service;
mod settle;
mod stage;
mod stop;
mod worker;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use config::{Cli, Command};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(config) => {
            log_to_stderr();
            serve::serve(*config).map(|()| ExitCode::SUCCESS)
        }
        Command::Process(args) => commands::process(&args).map(|()| ExitCode::SUCCESS),
        Command::Retry { id, data } => commands::retry(&data, &id).map(|()| ExitCode::SUCCESS),
        Command::Alive { data, heartbeat, max_age } => commands::alive(&data, heartbeat.as_deref(), max_age),
    };
    done.unwrap_or_else(|failure| {
        eprintln!("ingest: {}", failure.hint());
        eprintln!("ingest: {}", failure.chain());
        ExitCode::from(failure.exit_code())
    })
}

/// `RUST_LOG` chooses how much.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}
