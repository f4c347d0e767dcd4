//! The operations under crash test. A new one is one more entry.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use durafile::crash_testing::{CrashTest, Fault};
use durafile::{AtomicFile, Committed, Durability, Symlinks, WriteOptions};
use rustix::io::Errno;

use crate::crash::case::Case;

/// More than one block, so that it can be torn.
pub(crate) fn long(byte: u8) -> Vec<u8> {
    vec![byte; 3 * 4096 + 100]
}

pub(crate) fn empty(_: &Path) -> std::io::Result<()> {
    Ok(())
}

pub(crate) fn old(dir: &Path) -> std::io::Result<()> {
    let target = dir.join("target");
    std::fs::write(&target, long(b'o'))?;
    std::fs::write(dir.join("neighbour"), "untouched")?;
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640))
}

fn annotated(dir: &Path) -> std::io::Result<()> {
    old(dir)?;
    let target = dir.join("target");
    rustix::fs::setxattr(&target, c"user.note", b"mine", rustix::fs::XattrFlags::empty())?;
    Ok(())
}

/// Somebody else's, where the tests may give files away.
fn foreign(dir: &Path) -> std::io::Result<()> {
    annotated(dir)?;
    let nobody = rustix::process::geteuid().is_root().then_some(65534);
    std::os::unix::fs::chown(dir.join("target"), nobody, nobody)
}

pub(crate) fn linked(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir.join("far"))?;
    std::fs::write(dir.join("far/target"), "old")?;
    std::os::unix::fs::symlink("far/target", dir.join("link"))
}

pub(crate) fn dangling(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir(dir.join("far"))?;
    std::os::unix::fs::symlink(dir.join("far/target"), dir.join("link"))
}

pub(crate) fn named_staging(test: CrashTest<'_>) -> CrashTest<'_> {
    test.fault(Fault::Refuse { name: "create unnamed", errno: Errno::NOTSUP.raw_os_error() })
}

fn no_proc(test: CrashTest<'_>) -> CrashTest<'_> {
    test.no_links_by_descriptor(true)
}

fn no_rename_new(test: CrashTest<'_>) -> CrashTest<'_> {
    named_staging(test).fault(Fault::Refuse { name: "rename new", errno: Errno::INVAL.raw_os_error() })
}

/// A save, as a case wants it: with what it reached.
pub(crate) fn reached(committed: durafile::Result<Committed>) -> durafile::Result<Durability> {
    committed.map(|committed| committed.durability())
}

fn options() -> WriteOptions {
    WriteOptions::new()
}

/// What writers left that died in the middle: a staged file, one that is published already and
/// has a second name, and one in a folder.
fn remnants(dir: &Path) -> std::io::Result<()> {
    old(dir)?;
    std::fs::write(dir.join(REMNANTS[0]), "half")?;
    std::fs::hard_link(dir.join("target"), dir.join(REMNANTS[1]))?;
    std::fs::create_dir(dir.join("folder"))?;
    std::fs::write(dir.join("folder").join(REMNANTS[0]), "half")?;
    std::fs::write(dir.join("folder/.durafile-s-notours"), "mine")
}

const REMNANTS: [&str; 2] =
    [".durafile-s-aaaaaaaaaaaaaaaaaaaaehkfbg", ".durafile-s-bbbbbbbbbbbbbbbbbbbbpen27v"];

fn recoveries() -> Vec<Case> {
    let recover = |dir: &Path| durafile::recover(dir).map(|_| Durability::Full);
    let flat =
        |dir: &Path| durafile::RecoveryOptions::new().recursive(false).run(dir).map(|_| Durability::Full);
    [("all", recover as fn(&Path) -> _), ("not recursive", flat)]
        .map(|(option, save)| Case::new(("recover", option), remnants, save).changes_nothing().foreign())
        .into()
}

/// Every operation of the crate with every option that changes what it does on disk.
pub(crate) fn cases() -> Vec<Case> {
    [
        writes(),
        options_of_write(),
        streams(),
        links(),
        unchanged(),
        weak(),
        refused(),
        recoveries(),
        crate::crash::cases_sets::cases(),
        crate::crash::cases_dirs::cases(),
        crate::crash::cases_fs_ops::cases(),
        crate::crash::cases_streams::cases(),
        crate::crash::cases_update::cases(),
        crate::crash::cases_overwrite::cases(),
    ]
    .concat()
}

fn writes() -> Vec<Case> {
    let write = |dir: &Path| reached(durafile::write(dir.join("target"), long(b'n')));
    let write_json = |dir: &Path| reached(durafile::write_json(dir.join("target"), &[1, 2, 3]));
    let from =
        |dir: &Path| reached(options().write_from(dir.join("target"), std::io::repeat(b'n').take(600_000)));
    vec![
        Case::new(("write", "new"), empty, write).at("target", long(b'n')),
        Case::new(("write", "replace"), old, write).at("target", long(b'n')),
        Case::new(("write_json", "new"), empty, write_json).at("target", "[1,2,3]"),
        Case::new(("write_json", "replace"), old, write_json).at("target", "[1,2,3]"),
        Case::new(("write_from", "new"), empty, from).at("target", vec![b'n'; 600_000]),
        Case::new(("write_from", "replace"), old, from).at("target", vec![b'n'; 600_000]),
    ]
}

fn options_of_write() -> Vec<Case> {
    let save = |options: WriteOptions, path: &'static str| {
        move |dir: &Path| reached(options.write(dir.join(path), long(b'n')))
    };
    let at_target = |case: Case| case.at("target", long(b'n'));
    let mode = std::fs::Permissions::from_mode(0o604);
    let parents = |options: WriteOptions| save(options.create_parents(true), "a/b/target");
    vec![
        at_target(Case::new(("write", "create_new"), empty, save(options().create_new(true), "target"))),
        at_target(Case::new(("write", "attributes kept"), annotated, save(options(), "target"))),
        at_target(Case::new(("write", "owner kept"), foreign, save(options(), "target"))).foreign(),
        at_target(Case::new(
            ("write", "metadata not kept"),
            annotated,
            save(options().preserve_metadata(false), "target"),
        )),
        at_target(Case::new(
            ("write", "permissions, new"),
            empty,
            save(options().permissions(mode.clone()), "target"),
        )),
        at_target(Case::new(
            ("write", "permissions, replace"),
            annotated,
            save(options().permissions(mode), "target"),
        )),
        Case::new(("write", "create_parents"), empty, parents(options()))
            .at("a/b/target", long(b'n'))
            .makes_directories(),
        Case::new(("write", "create_parents, create_new"), empty, parents(options().create_new(true)))
            .at("a/b/target", long(b'n'))
            .makes_directories(),
    ]
}

/// Out of order, with a gap, over what was written before, in pieces that are written at once.
fn stream(options: WriteOptions) -> impl Fn(&Path) -> durafile::Result<Durability> + Send + Sync {
    move |dir| {
        let mut file = options.open(dir.join("target"))?;
        let mut fill = || -> std::io::Result<()> {
            file.write_all(b"head")?;
            file.seek(SeekFrom::Start(9000))?;
            file.write_all(b"tail")?;
            file.seek(SeekFrom::Start(2))?;
            file.write_all(&[b'n'; 5000])?;
            file.flush()
        };
        fill().map_err(|e| e.downcast::<durafile::Error>().unwrap())?;
        reached(file.commit())
    }
}

fn streamed() -> Vec<u8> {
    let mut content = b"he".to_vec();
    content.extend([b'n'; 5000]);
    content.resize(9000, 0);
    content.extend(b"tail");
    content
}

fn streams() -> Vec<Case> {
    let discard = |dir: &Path| {
        let mut file = AtomicFile::create(dir.join("target"))?;
        file.write_all(b"new").map_err(|e| e.downcast::<durafile::Error>().unwrap())?;
        file.discard()?;
        Ok(Durability::Full)
    };
    let all = vec![
        Case::new(("AtomicFile", "new"), empty, stream(options())).at("target", streamed()),
        Case::new(("AtomicFile", "replace"), old, stream(options())).at("target", streamed()),
        Case::new(("AtomicFile", "create_new"), empty, stream(options().create_new(true)))
            .at("target", streamed()),
        Case::new(("AtomicFile", "attributes kept"), annotated, stream(options())).at("target", streamed()),
        Case::new(("AtomicFile", "discard"), old, discard).changes_nothing(),
    ];
    let named = all.clone().into_iter().map(|case| Case {
        operation: "AtomicFile, named",
        setup: named_staging,
        ..case
    });
    all.into_iter().chain(named).collect()
}

fn links() -> Vec<Case> {
    let through =
        |symlinks| move |dir: &Path| reached(options().symlinks(symlinks).write(dir.join("link"), "new"));
    vec![
        Case::new(("write", "link followed"), linked, through(Symlinks::Follow)).at("far/target", "new"),
        Case::new(("write", "link replaced"), linked, through(Symlinks::Replace)).at("link", "new"),
        Case::new(("write", "dangling link"), dangling, through(Symlinks::Follow)).at("far/target", "new"),
        Case::new(("write", "dangling, named"), dangling, through(Symlinks::Follow))
            .at("far/target", "new")
            .setup(named_staging),
    ]
}

fn unchanged() -> Vec<Case> {
    let skip = |byte| {
        move |dir: &Path| reached(options().skip_unchanged(true).write(dir.join("target"), long(byte)))
    };
    let unsynced_before = |dir: &Path| {
        let _ = options().durability(Durability::None).write(dir.join("target"), long(b'n'))?;
        reached(options().skip_unchanged(true).write(dir.join("target"), long(b'n')))
    };
    vec![
        Case::new(("write", "skip_unchanged, hit"), old, skip(b'o')).changes_nothing(),
        Case::new(("write", "skip_unchanged, miss"), old, skip(b'n')).at("target", long(b'n')),
        Case::new(("write", "skip_unchanged, stream"), old, stream(options().skip_unchanged(true)))
            .at("target", streamed()),
        Case::new(("write", "skip_unchanged, unsynced"), old, unsynced_before)
            .at("target", long(b'n'))
            .tears(),
    ]
}

fn weak() -> Vec<Case> {
    let save = |durability| {
        move |dir: &Path| reached(options().durability(durability).write(dir.join("target"), long(b'n')))
    };
    let mut all = Vec::new();
    for (durability, replace, new) in
        [(Durability::Data, "Data, replace", "Data, new"), (Durability::None, "None, replace", "None, new")]
    {
        for (option, initial) in [(replace, old as fn(&Path) -> _), (new, empty)] {
            let case = Case::new(("write", option), initial, save(durability)).at("target", long(b'n'));
            all.push(case.durability(durability));
        }
    }
    all
}

/// What the system under us may refuse, so that the save takes another way.
fn refused() -> Vec<Case> {
    let write = |dir: &Path| reached(durafile::write(dir.join("target"), long(b'n')));
    let create = |dir: &Path| reached(options().create_new(true).write(dir.join("target"), long(b'n')));
    let at_target = |case: Case| case.at("target", long(b'n'));
    vec![
        at_target(Case::new(("write", "named, new"), empty, write).setup(named_staging)),
        at_target(Case::new(("write", "named, replace"), old, write).setup(named_staging)),
        at_target(Case::new(("write", "named, attributes"), annotated, write).setup(named_staging)),
        at_target(Case::new(("write", "named, create_new"), empty, create).setup(named_staging)),
        at_target(Case::new(("write", "no rename_new"), empty, create).setup(no_rename_new)),
        at_target(Case::new(("write", "no link by fd, new"), empty, write).setup(no_proc)),
        at_target(Case::new(("write", "no link by fd, replace"), old, write).setup(no_proc)),
        at_target(Case::new(("write", "remote, replace"), old, write).setup(|test| test.remote(true))),
    ]
}
