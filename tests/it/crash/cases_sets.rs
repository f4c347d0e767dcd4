//! The operations on many files under crash test; entries of the table.

use std::io::Write;
use std::path::Path;

use durafile::{Batch, Durability, SyncStrategy, WriteOptions};

use crate::crash::case::Case;
use crate::crash::cases_files::long;

pub(crate) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (strategy, option) in [(SyncStrategy::PerFile, "PerFile"), (SyncStrategy::Auto, "Auto")] {
        let case = Case::new(("Batch", option), some_old, batch(strategy, Durability::Full));
        all.push(case.at("folder/new", long(b'n')).each());
    }
    for (durability, option) in [(Durability::Data, "Data"), (Durability::None, "None")] {
        let case = Case::new(("Batch", option), some_old, batch(SyncStrategy::Auto, durability));
        all.push(case.at("folder/new", long(b'n')).each().durability(durability));
    }
    all
}

fn some_old(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir.join("folder"))?;
    std::fs::write(dir.join("old"), "old")?;
    std::fs::write(dir.join("folder/old"), "old")
}

/// Two directories, new files and old ones, whole and streamed.
fn batch(
    strategy: SyncStrategy,
    durability: Durability,
) -> impl Fn(&Path) -> durafile::Result<Durability> + Send + Sync {
    move |dir| {
        let mut batch = Batch::new().options(WriteOptions::new().durability(durability)).sync(strategy);
        batch.write(dir.join("old"), "new")?;
        batch.write(dir.join("folder/new"), long(b'n'))?;
        let mut stream = batch.create_file(dir.join("folder/old"))?;
        stream.write_all(&long(b's')).map_err(|e| e.downcast::<durafile::Error>().unwrap())?;
        stream.finish()?;
        let committed = batch.commit()?;
        Ok(committed.iter().map(durafile::Committed::durability).min().unwrap())
    }
}
