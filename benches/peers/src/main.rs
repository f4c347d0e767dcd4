//! durafile beside the other crates that save atomically, and beside the floors.
//!
//! `cargo run --release -p durafile-peers` measures everything on ext4, XFS and btrfs images and in
//! the machine's temporary directory, then writes a table and plots into `docs/bench`. As root: it
//! mounts the images in a mount namespace of its own, so that whatever ends the run, the kernel
//! takes mounts, loop devices and images back. `--quick` shows in a minute that all of it works.

mod calls;
mod clock;
mod ground;
mod guarantees;
mod plot;
mod report;
mod run;
mod saves;
mod sets;

use std::path::{Path, PathBuf};

use clap::Parser;

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Measures durafile beside its peers.
#[derive(Debug, Parser)]
struct Args {
    /// Few rounds, small sets, one image: shows that everything works, and measures nothing well.
    #[arg(long)]
    quick: bool,
    /// Where the table and the plots go. Default: docs/bench; with --quick, target/peers-quick.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Only these: ext4, xfs, btrfs (images), host (the temporary directory).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Do one job, between two marks that strace shows: for the count of system calls.
    #[arg(long, hide = true, num_args = 3, value_names = ["JOB", "METHOD", "DIR"])]
    trace: Option<Vec<String>>,
}

fn main() -> Outcome {
    let args = Args::parse();
    if let Some([job, method, dir]) = args.trace.as_deref() {
        return calls::traced_job(job, method, Path::new(dir));
    }
    let plan = run::Plan::new(args.quick);
    let wanted = |name: &str| match args.only.is_empty() {
        true => !args.quick || matches!(name, "ext4" | "host"),
        false => args.only.iter().any(|only| only == name),
    };
    let mut kinds: Vec<_> = ground::Kind::ALL.into_iter().filter(|kind| wanted(kind.name())).collect();
    ground::enter_private_namespace(&mut kinds)?;

    let mut results = Vec::new();
    for kind in kinds {
        match ground::Ground::prepare(kind, plan.image_gib) {
            Ok(ground) => results.push(run::everything(&ground, &plan)?),
            Err(error) => println!("{}: left out: {error}", kind.name()),
        }
    }
    let guarantees = guarantees::probe_all()?;
    let out = args.out.unwrap_or_else(|| default_out(args.quick));
    std::fs::create_dir_all(&out)?;
    let report = report::Report { results: &results, guarantees: &guarantees, quick: args.quick };
    report.write(&out)?;
    plot::draw_all(&results, &out)?;
    for goal in report.goals() {
        println!("{goal}");
    }
    println!("written: {}", out.display());
    Ok(())
}

fn default_out(quick: bool) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join(if quick { "target/peers-quick" } else { "docs/bench" })
}
