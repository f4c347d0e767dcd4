//! The commands that need no running service.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use durafile::CancelToken;
use durafile::health::Heartbeat;

use crate::config::Process;
use crate::failure::{Failure, Outcome};
use crate::item::{Held, exists};
use crate::layout::{Layout, RecordingId};
use crate::ledger::Ledger;
use crate::moves::{must_move, same};
use crate::pipeline::{Job, Observer};

/// Tells on standard error how far it is.
struct Narrator;

impl Observer for Narrator {
    fn begins(&self, stage: &'static str) {
        eprintln!("ingest: {stage}");
    }

    fn alive(&self) {}
}

/// Stopped by a signal before the result is in place, it leaves the output as it was.
pub(crate) fn process(args: &Process) -> Outcome {
    let cancel = CancelToken::on_termination()?;
    let job = Job {
        recording: args.file.clone(),
        limits: args.limits.limits(),
        cancel: &cancel,
        guard: Arc::new(()),
        observer: &Narrator,
    };
    let sha256 = job.identify().map_err(of_the_file)?;
    let product = job.make(&sha256).map_err(of_the_file)?;
    job.publish(product, &args.output)
}

/// Whatever keeps us from reading it, nothing else is to be read here.
fn of_the_file(e: Failure) -> Failure {
    match e {
        Failure::Disk(e) => Failure::Input(e),
        other => other,
    }
}

/// The ledger first, then the file: cut short in between, the next start of a service finishes it.
pub(crate) fn retry(data: &Path, id: &str) -> Outcome {
    let layout = Layout::new(data);
    let unknown = || Failure::NotFailed(PathBuf::from(id));
    let id = RecordingId::parse(id).ok_or_else(unknown)?;
    if !exists(&layout.failed(&id))? {
        return Err(unknown());
    }
    let Some(_held) = Held::try_take(layout.lock(&id))? else {
        return Err(Failure::TimedOut("lock"));
    };
    // Another command may have been quicker.
    if !exists(&layout.failed(&id))? {
        return Err(unknown());
    }
    let (failed, waiting) = (layout.failed(&id), layout.waiting(&id));
    // Another recording of that name, which the service is about to give one of its own.
    if exists(&waiting)? && !same(&failed, &waiting)? {
        return Err(Failure::Disk(io::ErrorKind::AlreadyExists.into()));
    }
    Ledger::open(&layout.ledger(), "retry")?.retry(&id)?;
    must_move(&failed, &waiting)
}

pub(crate) fn alive(data: &Path, heartbeat: Option<&Path>, max_age: Duration) -> Outcome<ExitCode> {
    let path = heartbeat.map_or_else(|| Layout::new(data).heartbeat(), Path::to_owned);
    let alive = Heartbeat::is_alive(path, max_age)?;
    Ok(if alive { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
