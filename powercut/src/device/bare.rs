//! A rig for another program: it gives the orders, one a line, and gets one line in answer to each.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::device::file_system::{Column, FileSystem};
use crate::device::rig::{Mounted, Rig};
use crate::work::operation::Outcome;

#[derive(Debug, clap::Args)]
pub struct Task {
    #[arg(long)]
    fs: FileSystem,
    /// Empty; for the mount points. The file system is mounted at `fs` in it.
    #[arg(long)]
    dir: PathBuf,
    /// The mount name space that the daemon shall live in.
    #[arg(long)]
    host: PathBuf,
}

/// `format`, `mount`, `unmount`, and whatever the daemon understands.
pub fn run(task: &Task) -> Outcome<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let rig = Rig::new(task.fs.bytes(), &task.host, &task.dir)?;
    let column = Column { kind: task.fs, options: String::new() };
    let mut mounted = None;
    for order in io::stdin().lock().lines() {
        let done = execute(&rig, &column, &mut mounted, &order?);
        let answer = done.map_or_else(|e| format!("failed: {e}"), |answer| format!("ok {answer}"));
        println!("{answer}");
        io::stdout().flush()?;
    }
    Ok(())
}

fn execute<'r>(
    rig: &'r Rig,
    column: &Column,
    mounted: &mut Option<Mounted<'r>>,
    order: &str,
) -> io::Result<String> {
    match order {
        "format" => rig.format(&column.format())?,
        "mount" => *mounted = Some(rig.mount(column.kind, column.kind.read_only_on_errors())?),
        "unmount" => mounted.take().map_or(Ok(()), Mounted::unmount)?,
        _ => return rig.order(order),
    }
    Ok(String::new())
}
