//! Saves with conditions under crash test; entries of the table.

use std::path::Path;

use durafile::{Durability, Symlinks, WriteOptions, read_version};

use crate::crash::case::Case;
use crate::crash::cases_files::{dangling, empty, linked, long, named_staging, old, reached};

pub(crate) fn cases() -> Vec<Case> {
    let at_target = |case: Case| case.at("target", long(b'n'));
    vec![
        at_target(Case::new(("update", "new"), empty, update("target", WriteOptions::new()))),
        at_target(Case::new(("update", "replace"), old, update("target", WriteOptions::new()))),
        at_target(
            Case::new(("update", "named, new"), empty, update("target", WriteOptions::new()))
                .setup(named_staging),
        ),
        at_target(
            Case::new(("update", "named, replace"), old, update("target", WriteOptions::new()))
                .setup(named_staging),
        ),
        at_target(
            Case::new(("update", "remote, replace"), old, update("target", WriteOptions::new()))
                .setup(|test| test.remote(true)),
        ),
        Case::new(("update", "link followed"), linked, update("link", WriteOptions::new()))
            .at("far/target", long(b'n')),
        Case::new(("update", "dangling link"), dangling, update("link", WriteOptions::new()))
            .at("far/target", long(b'n')),
        Case::new(
            ("update", "skip_unchanged, hit"),
            |dir| std::fs::write(dir.join("target"), long(b'n')),
            update("target", WriteOptions::new().skip_unchanged(true)),
        )
        .changes_nothing(),
        Case::new(("update", "create_parents"), empty, {
            update("a/b/target", WriteOptions::new().create_parents(true))
        })
        .at("a/b/target", long(b'n'))
        .makes_directories(),
        at_target(Case::new(("write", "expect"), old, expect)),
        at_target(Case::new(("write", "expect, named"), old, expect).setup(named_staging)),
        at_target(Case::new(("AtomicFile", "expect"), old, |dir| {
            let (_, version) = read_version(dir.join("target"))?;
            let options = WriteOptions::new().expect(&version).symlinks(Symlinks::Refuse);
            reached(options.write_from(dir.join("target"), long(b'n').as_slice()))
        })),
    ]
}

/// The same content whatever was there: a process that was killed runs it again.
fn update(
    path: &'static str,
    options: WriteOptions,
) -> impl Fn(&Path) -> durafile::Result<Durability> + Send + Sync {
    move |dir| reached(options.update(dir.join(path), |_| Ok(long(b'n'))))
}

fn expect(dir: &Path) -> durafile::Result<Durability> {
    let (_, version) = read_version(dir.join("target"))?;
    reached(WriteOptions::new().expect(&version).write(dir.join("target"), long(b'n')))
}
