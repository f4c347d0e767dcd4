//! The process that mounts and works, in a mount name space of its own.

use std::io::{self, Write};
use std::path::PathBuf;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::device::file_system::{Column, FileSystem};
use crate::device::recording::Cut;
use crate::device::rig::Rig;
use crate::random::Random;
use crate::table::Row;
use crate::work::experiment::{Experiment, Tally};
use crate::work::operation::{Kind, Operation, Outcome, What};
use crate::work::{dirs, names, sets, single, teeth};

#[derive(Debug, clap::Args)]
pub struct Task {
    #[arg(long)]
    fs: FileSystem,
    #[arg(long)]
    options: String,
    /// Empty; for the mount points.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    keep: PathBuf,
    #[arg(long)]
    states: usize,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    teeth: bool,
    /// Parts of names; nothing: all.
    #[arg(long)]
    op: Vec<String>,
    #[arg(long)]
    replay: Option<PathBuf>,
    #[arg(long)]
    state: Option<Cut>,
}

/// Prints a row for each operation, for the process that has asked.
pub fn run(task: &Task) -> Outcome<()> {
    // Nobody left to print for: what is mounted goes with the name space.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = std::os::unix::process::parent_id();
    let host = PathBuf::from(format!("/proc/{parent}/ns/mnt"));
    let rig = Rig::new(task.fs.bytes(), &host, &task.dir)?;
    let column = Column { kind: task.fs, options: task.options.clone() };
    let random = Random::named(task.seed, &column.title());
    let mut experiment = Experiment { rig: &rig, column: column.clone(), keep: task.keep.clone(), random };
    let mut operations: Vec<Operation> = single::operations();
    operations.extend(names::operations());
    operations.extend(sets::operations());
    operations.extend(dirs::operations());
    if task.teeth {
        operations.extend(teeth::operations(&column));
    }
    if let (Some(recording), Some(cut)) = (&task.replay, task.state) {
        return replay(&mut experiment, &operations, recording, cut);
    }
    experiment.prepare()?;
    operations.retain(|operation| {
        task.op.is_empty() || task.op.iter().any(|part| operation.name.contains(part.as_str()))
    });
    for operation in &operations {
        // Enough for a number in the table; more are tried until it is caught.
        let states = if operation.what == What::Broken { task.states.min(400) } else { task.states };
        let begun = std::time::Instant::now();
        let row = match experiment.run(operation, states) {
            Ok(tally) => {
                let rate = tally.states as f64 / begun.elapsed().as_secs_f64();
                eprintln!(
                    "{}, {}: {} states ({rate:.0} a second), {} violations",
                    column.title(),
                    operation.name,
                    tally.states,
                    tally.violations
                );
                tally.examples.iter().for_each(|example| eprintln!("  {example}"));
                row(&column, operation, &tally, None)
            }
            Err(e) => {
                eprintln!("{}, {}: failed: {e}", column.title(), operation.name);
                row(&column, operation, &Tally::default(), Some(e.to_string()))
            }
        };
        println!("{}", row.to_line());
        io::stdout().flush()?;
    }
    Ok(())
}

fn row(column: &Column, operation: &Operation, tally: &Tally, failed: Option<String>) -> Row {
    Row {
        column: column.title(),
        name: operation.name.clone(),
        what: operation.what,
        failed,
        states: tally.states,
        unmountable: tally.unmountable,
        violations: tally.violations,
        found: Kind::ALL.map(|kind| tally.found.get(&kind).copied().unwrap_or(0)),
    }
}

fn replay(
    experiment: &mut Experiment<'_>,
    operations: &[Operation],
    recording: &std::path::Path,
    cut: Cut,
) -> Outcome<()> {
    let about = experiment.rig.order(&format!("replay {}", recording.display()))?;
    let name = about.splitn(3, ';').nth(2).unwrap_or_default();
    let operation = operations.iter().find(|operation| operation.name == name);
    let findings = experiment.replay(operation.ok_or_else(|| format!("no operation {name:?}"))?, cut)?;
    match findings.as_slice() {
        [] => eprintln!("{about}, {cut}: nothing found"),
        findings => findings.iter().for_each(|finding| eprintln!("{about}, {cut}: {finding}")),
    }
    Ok(())
}
