//! Directories, renames and removals under crash test; entries of the table.

use std::path::Path;

use durafile::Durability;
use durafile::crash_testing::{CrashTest, Fault};
use rustix::io::Errno;

use crate::crash::case::Case;
use crate::crash::cases_files::{empty, long};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(("create_dir_all", "three new"), empty, |dir| {
            let made = reached(durafile::create_dir_all(dir.join("a/b/c")))?;
            // What is saved there next stands on it.
            let saved = reached(durafile::write(dir.join("a/b/c/target"), "new"))?;
            Ok(made.min(saved))
        })
        .at("a/b/c/target", "new")
        .makes_directories(),
        Case::new(("rename", "within a directory"), file, |dir| {
            reached(durafile::rename(dir.join("from"), dir.join("target")))
        })
        .at("target", long(b'f')),
        Case::new(("rename", "replaces"), two_files, |dir| {
            reached(durafile::rename(dir.join("from"), dir.join("target")))
        })
        .at("target", long(b'f')),
        Case::new(("rename", "a directory"), tree, |dir| {
            reached(durafile::rename(dir.join("tree"), dir.join("moved/")))
        })
        .at("moved/below/file", "content"),
        Case::new(("remove_file", "a file"), file, |dir| reached(durafile::remove_file(dir.join("from"))))
            .removes("from"),
        Case::new(("remove_dir_all", "a tree"), tree, |dir| {
            reached(durafile::remove_dir_all(dir.join("tree")))
        })
        .removes("tree")
        .swaps(),
        Case::new(("rename_new", "within a directory"), file, |dir| {
            reached(durafile::rename_new(dir.join("from"), dir.join("target")))
        })
        .at("target", long(b'f')),
        Case::new(("remove_dir_all", "no rename_new"), tree, |dir| {
            reached(durafile::remove_dir_all(dir.join("tree")))
        })
        .removes("tree")
        .swaps()
        .setup(no_rename_new),
    ]
}

fn reached(committed: durafile::Result<durafile::Committed>) -> durafile::Result<Durability> {
    committed.map(|committed| committed.durability())
}

pub(crate) fn no_rename_new(test: CrashTest<'_>) -> CrashTest<'_> {
    test.fault(Fault::Refuse { name: "rename new", errno: Errno::INVAL.raw_os_error() })
}

pub(crate) fn file(dir: &Path) -> std::io::Result<()> {
    std::fs::write(dir.join("neighbour"), "untouched")?;
    std::fs::write(dir.join("from"), long(b'f'))
}

fn two_files(dir: &Path) -> std::io::Result<()> {
    file(dir)?;
    std::fs::write(dir.join("target"), long(b'o'))
}

fn tree(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir.join("tree/below"))?;
    std::fs::create_dir(dir.join("tree/empty"))?;
    std::fs::write(dir.join("tree/file"), long(b't'))?;
    std::fs::write(dir.join("tree/below/file"), "content")
}
