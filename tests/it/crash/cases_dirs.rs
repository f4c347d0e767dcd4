//! The operations on directories under crash test; entries of the table.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use durafile::crash_testing::{CrashTest, Fault, Model};
use durafile::{AtomicDir, Carry, DirOptions, Durability, SyncStrategy};
use rustix::io::Errno;

use crate::crash::case::{Case, Prepare, Setup};
use crate::crash::cases_files::empty;

/// More than one block, so that it can be torn.
fn long(byte: u8) -> Vec<u8> {
    vec![byte; 4096 + 100]
}

/// A directory with a file to replace and one to carry over, deeper down.
fn talk(dir: &Path) -> std::io::Result<()> {
    let talk = dir.join("talk");
    std::fs::create_dir_all(talk.join("files"))?;
    std::fs::write(talk.join("metadata"), "old")?;
    std::fs::write(talk.join("files/mine"), "mine")?;
    std::fs::set_permissions(talk.join("files"), std::fs::Permissions::from_mode(0o750))?;
    std::fs::set_permissions(&talk, std::fs::Permissions::from_mode(0o710))
}

/// What a directory swap leaves is many small things: a sample of their states will do.
fn sampled(test: CrashTest<'_>) -> CrashTest<'_> {
    test.max_states(150)
}

fn no_exchange(test: CrashTest<'_>) -> CrashTest<'_> {
    sampled(test).fault(Fault::Refuse { name: "exchange", errno: Errno::INVAL.raw_os_error() })
}

/// Nor are there files without a name, or renames to a new name only.
fn nothing_new(test: CrashTest<'_>) -> CrashTest<'_> {
    let refuse = |name, errno: Errno| Fault::Refuse { name, errno: errno.raw_os_error() };
    no_exchange(test).fault(refuse("create unnamed", Errno::NOTSUP)).fault(refuse("rename new", Errno::INVAL))
}

fn cannot_be_renamed(test: CrashTest<'_>) -> CrashTest<'_> {
    sampled(test).fault(Fault::Refuse { name: "exchange", errno: Errno::XDEV.raw_os_error() })
}

/// Where a sync of the whole file system may be relied on.
fn journaled(test: CrashTest<'_>) -> CrashTest<'_> {
    sampled(test).journaled(true)
}

fn journaled_no_exchange(test: CrashTest<'_>) -> CrashTest<'_> {
    no_exchange(test).journaled(true)
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
    let plain = DirOptions::new;
    let linking = || plain().carry(Carry::HardLink);
    let by = |strategy| plain().sync(strategy);
    let weak = |durability| plain().durability(durability);
    let updating = |option, options| Case::new(("AtomicDir", option), talk, update(options)).setup(sampled);
    let mut all = vec![
        Case::new(("AtomicDir", "create, new"), empty, create(plain())).setup(sampled),
        Case::new(("AtomicDir", "create, replace"), talk, create(plain())).setup(sampled),
        updating("update", plain()),
        updating("update, HardLink", linking()),
        updating("update, PerFile", by(SyncStrategy::PerFile)),
        updating("update, FileSystem", by(SyncStrategy::FileSystem)).setup(journaled),
        updating("two renames", plain()).setup(no_exchange),
        updating("two renames, HardLink", linking()).setup(no_exchange),
        updating("two renames, named record", plain()).setup(nothing_new),
        updating("replaced", plain()).setup(cannot_be_renamed),
        updating("replaced, at last", plain()).setup(neither),
        updating("Data", weak(Durability::Data)).durability(Durability::Data),
        updating("None", weak(Durability::None)).durability(Durability::None),
    ];
    let at = |case: Case| case.at("talk/metadata", long(b'n')).swaps();
    all = all.into_iter().map(at).collect();
    all.push(Case::new(("AtomicDir", "discard"), talk, discard).changes_nothing());
    all
}

/// The flush of the parent's sync covers what was written out before, in one kind of journal only.
#[test]
fn a_single_flush_of_a_directory_holds_on_an_ordered_journal_and_nowhere_else() {
    for (initial, setup) in
        [(empty as Prepare, journaled as Setup), (talk, journaled), (talk, journaled_no_exchange)]
    {
        let save = update(DirOptions::new().single_flush(true));
        let case = Case::new(("AtomicDir", "single_flush"), initial, save).setup(setup);
        let case = case.at("talk/metadata", long(b'n')).swaps();
        let (expected, recording) = case.learn();
        let explore = |model| {
            let (test, _) = case.test();
            test.model(model)
                .explore(recording.trace(), |dir, acked| expected.check(&case, model, dir, acked))
        };
        for model in [Model::OrderedJournal, Model::ProcessDeath] {
            explore(model).unwrap_or_else(|failure| panic!("{model:?}:\n{failure}"));
        }
        assert!(explore(Model::Unordered).is_err(), "torn content was not found in the weaker model");
    }
}
