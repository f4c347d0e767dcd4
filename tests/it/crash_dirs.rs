//! The operations on directories under crash test; entries of the table.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use durafile::crash_testing::{CrashTest, Fault};
use durafile::{AtomicDir, Carry, DirOptions, Durability, SyncStrategy};
use rustix::io::Errno;

use crate::crash_case::Case;

/// More than one block, so that it can be torn.
fn long(byte: u8) -> Vec<u8> {
    vec![byte; 4096 + 100]
}

fn empty(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// A directory with a file to replace, one to remove and one to carry over, deeper down.
fn talk(dir: &Path) -> std::io::Result<()> {
    let talk = dir.join("talk");
    std::fs::create_dir_all(talk.join("files"))?;
    std::fs::write(talk.join("metadata"), "old")?;
    std::fs::write(talk.join("gone"), "old")?;
    std::fs::write(talk.join("files/mine"), long(b'm'))?;
    std::os::unix::fs::symlink("files/mine", talk.join("link"))?;
    std::fs::set_permissions(talk.join("files"), std::fs::Permissions::from_mode(0o750))?;
    std::fs::set_permissions(&talk, std::fs::Permissions::from_mode(0o710))
}

fn no_exchange(test: CrashTest<'_>) -> CrashTest<'_> {
    test.fault(Fault::Refuse { name: "exchange", errno: Errno::INVAL.raw_os_error() })
}

fn cannot_be_renamed(test: CrashTest<'_>) -> CrashTest<'_> {
    test.fault(Fault::Refuse { name: "exchange", errno: Errno::XDEV.raw_os_error() })
}

fn neither(test: CrashTest<'_>) -> CrashTest<'_> {
    no_exchange(test).fault(Fault::Refuse { name: "rename", errno: Errno::XDEV.raw_os_error() })
}

fn create(options: DirOptions) -> impl Fn(&Path) -> durafile::Result<Durability> + Send + Sync {
    move |dir| {
        let mut new = options.create(dir.join("talk"))?;
        new.write("metadata", long(b'n'))?;
        let mut stream = new.create_file("deep/er")?;
        stream.write_all(b"new").map_err(|e| e.downcast::<durafile::Error>().unwrap())?;
        stream.finish()?;
        Ok(new.commit()?.durability())
    }
}

fn update(options: DirOptions) -> impl Fn(&Path) -> durafile::Result<Durability> + Send + Sync {
    move |dir| {
        let mut next = options.update(dir.join("talk"))?;
        next.write("metadata", long(b'n'))?;
        if dir.join("talk/gone").exists() {
            next.remove("gone")?;
        }
        Ok(next.commit()?.durability())
    }
}

fn discard(dir: &Path) -> durafile::Result<Durability> {
    let mut next = AtomicDir::update(dir.join("talk"))?;
    next.write("files/new", "new")?;
    next.discard()?;
    Ok(Durability::Full)
}

pub(crate) fn cases() -> Vec<Case> {
    let options = DirOptions::new();
    let linking = || DirOptions::new().carry(Carry::HardLink);
    let by = |strategy| DirOptions::new().sync(strategy);
    let weak = |durability| DirOptions::new().durability(durability);
    let mut all = vec![
        Case::new(("AtomicDir", "create, new"), empty, create(options.clone())),
        Case::new(("AtomicDir", "create, replace"), talk, create(options.clone())),
        Case::new(("AtomicDir", "update"), talk, update(options.clone())),
        Case::new(("AtomicDir", "update, HardLink"), talk, update(linking())),
        Case::new(("AtomicDir", "update, PerFile"), talk, update(by(SyncStrategy::PerFile))),
        Case::new(("AtomicDir", "update, FileSystem"), talk, update(by(SyncStrategy::FileSystem))),
        Case::new(("AtomicDir", "update, single_flush"), talk, update(options.clone().single_flush(true))),
        Case::new(("AtomicDir", "two renames"), talk, update(options.clone())).setup(no_exchange),
        Case::new(("AtomicDir", "two renames, HardLink"), talk, update(linking())).setup(no_exchange),
        Case::new(("AtomicDir", "replaced"), talk, update(options.clone())).setup(cannot_be_renamed),
        Case::new(("AtomicDir", "replaced, HardLink"), talk, update(linking())).setup(cannot_be_renamed),
        Case::new(("AtomicDir", "replaced at last"), talk, update(options)).setup(neither),
    ];
    for (durability, option) in [(Durability::Data, "Data"), (Durability::None, "None")] {
        all.push(Case::new(("AtomicDir", option), talk, update(weak(durability))).durability(durability));
    }
    let at = |case: Case| case.at("talk/metadata", long(b'n')).swaps();
    let mut all: Vec<Case> = all.into_iter().map(at).collect();
    all.push(Case::new(("AtomicDir", "discard"), talk, discard).changes_nothing());
    all
}
