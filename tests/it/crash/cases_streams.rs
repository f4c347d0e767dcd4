//! Streams whose name is chosen at the end, under crash test; entries of the table.

use std::io::Write;
use std::path::Path;

use durafile::crash_testing::CrashTest;
use durafile::{Durability, WriteOptions};

use crate::crash::case::Case;
use crate::crash::cases_files::{empty, long, named_staging, old, reached};

fn far(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir.join("far"))
}

fn far_old(dir: &Path) -> std::io::Result<()> {
    far(dir)?;
    std::fs::write(dir.join("far/target"), long(b'o'))
}

fn commit_as(
    path: &'static str,
    options: WriteOptions,
) -> impl Fn(&Path) -> durafile::Result<Durability> + Send + Sync {
    move |dir| {
        let mut stream = options.open_in(dir)?;
        stream.write_all(&long(b'n')).map_err(|e| e.downcast::<durafile::Error>().unwrap())?;
        reached(stream.commit_as(dir.join(path)))
    }
}

/// The recipe of a store: somebody has stored the same content, and not made it durable.
fn stored_before(dir: &Path) -> durafile::Result<Durability> {
    let options = WriteOptions::new();
    options.clone().durability(Durability::None).write(dir.join("target"), long(b'n'))?;
    commit_as("target", options.skip_unchanged(true))(dir)
}

pub(crate) fn cases() -> Vec<Case> {
    let options = WriteOptions::new;
    let as_target =
        |option, initial| Case::new(("AtomicFile", option), initial, commit_as("target", options()));
    let as_far = |option, initial| {
        Case::new(("AtomicFile", option), initial, commit_as("far/target", options()))
            .at("far/target", long(b'n'))
    };
    let named: fn(CrashTest<'_>) -> CrashTest<'_> = named_staging;
    vec![
        as_target("commit_as, new", empty).at("target", long(b'n')),
        as_target("commit_as, replace", old).at("target", long(b'n')),
        as_target("commit_as, named, new", empty).at("target", long(b'n')).setup(named),
        as_target("commit_as, named, replace", old).at("target", long(b'n')).setup(named),
        as_far("commit_as, elsewhere, new", far),
        as_far("commit_as, elsewhere, replace", far_old),
        as_far("commit_as, named, elsewhere, new", far).setup(named),
        as_far("commit_as, named, elsewhere, replace", far_old).setup(named),
        Case::new(("AtomicFile", "commit_as, skip_unchanged, unsynced"), empty, stored_before)
            .at("target", long(b'n'))
            .tears(),
        Case::new(("AtomicFile", "commit_as, create_parents"), empty, {
            commit_as("a/b/target", options().create_parents(true))
        })
        .at("a/b/target", long(b'n'))
        .makes_directories(),
    ]
}
