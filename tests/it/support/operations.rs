//! Every way to save, as one list: for tests that put each of them on a disk that fails. Each has a
//! directory of its own, and the trees before and after it are known, so that whatever an error
//! claims can be held against what is there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use durafile::{
    AtomicDir, AtomicFile, Batch, Carry, Committed, DirOptions, Durability, Error, Result, SyncStrategy,
    TargetState, TransactionOptions, WriteOptions,
};
use fs_err as fs;

use crate::support::chmod;

type Run = Box<dyn Fn(&Path) -> Result<Durability> + Send + Sync>;

pub(crate) struct Operation {
    pub(crate) name: String,
    run: Run,
}

/// Files with their content; of directories only those that bear a mark of ours.
pub(crate) type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// More than a block, so that a torn file would show.
pub(crate) const OLD: [u8; 2500] = [b'o'; 2500];
pub(crate) const NEW: [u8; 3000] = [b'n'; 3000];

fn operation(
    name: impl Into<String>,
    run: impl Fn(&Path) -> Result<Durability> + Send + Sync + 'static,
) -> Operation {
    Operation { name: name.into(), run: Box::new(run) }
}

fn reached(committed: Committed) -> Durability {
    committed.durability()
}

fn single() -> Vec<Operation> {
    let write = |name: &str, file: &'static str, options: WriteOptions| {
        operation(format!("write, {name}"), move |dir| options.write(dir.join(file), NEW).map(reached))
    };
    let new = WriteOptions::new;
    vec![
        write("new", "new", new()),
        write("replace", "file", new()),
        write("create_new", "new", new().create_new(true)),
        write("create_parents", "a/b/new", new().create_parents(true)),
        write("single flush", "file", new().single_flush(true)),
        write("single flush, new", "new", new().single_flush(true)),
        write("Data", "file", new().durability(Durability::Data)),
        write("None", "file", new().durability(Durability::None)),
        write("skip_unchanged", "file", new().skip_unchanged(true)),
        operation("write_json", |dir| durafile::write_json(dir.join("file"), &vec!["new"; 500]).map(reached)),
        operation("write_from", |dir| {
            WriteOptions::new().write_from(dir.join("file"), &[b'n'; 40_000][..]).map(reached)
        }),
        operation("update", |dir| durafile::update(dir.join("file"), |_| Ok(NEW.to_vec())).map(reached)),
        operation("update, new", |dir| durafile::update(dir.join("new"), |_| Ok(NEW.to_vec())).map(reached)),
        operation("write, expect", |dir| {
            let (_, version) = durafile::read_version(dir.join("file"))?;
            WriteOptions::new().expect(&version).write(dir.join("file"), NEW).map(reached)
        }),
        operation("AtomicFile", |dir| {
            let mut file = AtomicFile::create(dir.join("file"))?;
            // A write that fails is told by the commit.
            let _ = (0..20).try_for_each(|_| file.write_all(&NEW).and_then(|()| file.flush()));
            file.commit().map(reached)
        }),
    ]
}

fn sets() -> Vec<Operation> {
    let mut all = Vec::new();
    let strategies = [SyncStrategy::Auto, SyncStrategy::PerFile, SyncStrategy::FileSystem];
    for (strategy, single) in
        strategies.map(|strategy| (strategy, false)).into_iter().chain([(strategies[0], true)])
    {
        let how = if single { "single flush".to_owned() } else { format!("{strategy:?}") };
        all.push(operation(format!("Batch, {how}"), move |dir| {
            let options = WriteOptions::new().single_flush(single);
            let mut batch = Batch::new().options(options).sync(strategy);
            for name in ["file", "new", "folder/kept", "folder/new"] {
                batch.write(dir.join(name), NEW)?;
            }
            let all = batch.commit()?;
            Ok(all.into_iter().map(reached).min_by_key(|reached| *reached as u8).unwrap_or(Durability::None))
        }));
        all.push(operation(format!("Transaction, {how}"), move |dir| {
            let options = TransactionOptions::new().single_flush(single).sync(strategy);
            let mut change = options.begin(dir)?;
            change.write("file", NEW)?;
            change.write("made/new", NEW)?;
            change.remove("folder/kept")?;
            change.commit().map(reached)
        }));
        for carry in [Carry::Copy, Carry::HardLink] {
            all.push(operation(format!("AtomicDir, update, {carry:?}, {how}"), move |dir| {
                let options = DirOptions::new().sync(strategy).single_flush(single).carry(carry);
                let mut next = options.update(dir.join("folder"))?;
                next.write("new", NEW)?;
                next.write("deep/new", NEW)?;
                next.commit().map(reached)
            }));
        }
    }
    all.push(operation("AtomicDir, create", |dir| {
        let mut next = AtomicDir::create(dir.join("fresh"))?;
        next.write("new", NEW)?;
        next.write("deep/new", NEW)?;
        next.commit().map(reached)
    }));
    all
}

pub(crate) fn all() -> Vec<Operation> {
    let mut all = single();
    all.extend(sets());
    all
}

impl Operation {
    /// Makes the directory, and what is in it before.
    pub(crate) fn prepare(dir: &Path) {
        fs::create_dir(dir).unwrap();
        fs::create_dir(dir.join("folder")).unwrap();
        fs::write(dir.join("file"), OLD).unwrap();
        fs::write(dir.join("folder/kept"), OLD).unwrap();
        chmod(dir.join("file"), 0o640);
    }

    pub(crate) fn run(&self, dir: &Path) -> Result<Durability> {
        (self.run)(dir)
    }

    /// The trees before and after it, where nothing fails.
    pub(crate) fn learn(&self, dir: &Path) -> (Tree, Tree) {
        Operation::prepare(dir);
        let before = tree(dir);
        self.run(dir).unwrap_or_else(|e| panic!("{}: {e}: {:?}", self.name, e.io_error()));
        let after = tree(dir);
        assert!(remnants(&after).is_empty(), "{}: {after:?}", self.name);
        assert_ne!(before, after, "{}", self.name);
        fs::remove_dir_all(dir).unwrap();
        (before, after)
    }
}

pub(crate) fn tree(dir: &Path) -> Tree {
    let (mut tree, mut pending) = (Tree::new(), vec![PathBuf::new()]);
    while let Some(rel) = pending.pop() {
        for entry in fs::read_dir(dir.join(&rel)).unwrap() {
            let entry = entry.unwrap();
            let path = rel.join(entry.file_name());
            if !entry.file_type().unwrap().is_dir() {
                tree.insert(path, fs::read(entry.path()).unwrap());
            } else if durafile::is_remnant(entry.file_name()) {
                tree.insert(path, Vec::new());
            } else {
                pending.push(path);
            }
        }
    }
    tree
}

pub(crate) fn remnants(tree: &Tree) -> Vec<&PathBuf> {
    tree.keys().filter(|path| path.file_name().is_some_and(durafile::is_remnant)).collect()
}

/// Holds what an error says against what is there.
pub(crate) fn judge(
    error: &Error,
    dir: &Path,
    before: &Tree,
    after: &Tree,
) -> std::result::Result<(), String> {
    let mut now = tree(dir);
    let left: Vec<PathBuf> = remnants(&now).into_iter().cloned().collect();
    let may_leave = error.target() != TargetState::Unchanged
        || error.files().iter().any(|(_, state)| *state != TargetState::Unchanged);
    if !may_leave && !left.is_empty() {
        return Err(format!("left behind: {left:?}"));
    }
    now.retain(|path, _| !left.contains(path));
    let paths: std::collections::BTreeSet<&PathBuf> =
        before.keys().chain(after.keys()).chain(now.keys()).collect();
    for path in paths {
        let own = error.files().iter().find(|(told, _)| told.ends_with(path));
        let state = own.map_or(error.target(), |(_, state)| *state);
        let (old, new, seen) = (before.get(path), after.get(path), now.get(path));
        let is_true = match state {
            TargetState::Unchanged => seen == old,
            TargetState::Replaced => seen == new,
            _ => seen == old || seen == new,
        };
        if !is_true {
            let told = seen.map(Vec::len);
            return Err(format!("{} is not {state:?}: {told:?} bytes", path.display()));
        }
    }
    Ok(())
}
