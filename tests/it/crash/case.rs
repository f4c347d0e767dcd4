//! One operation under crash test: what it starts from, what it does, what it promises.
//!
//! What a state is compared with is whole trees: names, content, mode, owner, attributes, links.
//! After any crash and `recover` the directory is exactly as before the save or exactly as after.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use durafile::Durability;
use durafile::crash_testing::{Acked, CrashTest, Model, Outcome, Recording};
use fs_err as fs;

pub(crate) type Prepare = fn(&Path) -> std::io::Result<()>;
/// Says what durability it reached.
pub(crate) type Save = Arc<dyn Fn(&Path) -> durafile::Result<Durability> + Send + Sync>;
pub(crate) type Setup = for<'a> fn(CrashTest<'a>) -> CrashTest<'a>;

/// One row of the table.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) operation: &'static str,
    pub(crate) option: &'static str,
    /// What a power cut may do to it. `Full` for the default.
    pub(crate) durability: Durability,
    pub(crate) initial: Prepare,
    pub(crate) save: Save,
    pub(crate) setup: Setup,
    /// Where the new content is, and what it is; nothing if the save must change nothing, or removes.
    pub(crate) new: Option<(&'static str, Vec<u8>)>,
    /// What the operation removes.
    pub(crate) removed: Option<&'static str>,
    /// Directories that the save makes stay, whatever becomes of it.
    pub(crate) makes_directories: bool,
    /// Before it is acknowledged the target may be torn: part of the save is not synced.
    pub(crate) tears: bool,
    /// Each file is old or new by itself.
    pub(crate) each: bool,
    /// A whole directory is swapped; after an error that comes later, the old one is left to recovery.
    pub(crate) swaps: bool,
    /// The target is overwritten: what is pending is undone by a recovery, and an undo copy that can't be removed stays.
    pub(crate) overwrites: bool,
    /// The staged file belongs to somebody else: recovery leaves it, as documented.
    pub(crate) foreign: bool,
}

impl Case {
    pub(crate) fn new(
        (operation, option): (&'static str, &'static str),
        initial: Prepare,
        save: impl Fn(&Path) -> durafile::Result<Durability> + Send + Sync + 'static,
    ) -> Case {
        Case {
            operation,
            option,
            durability: Durability::Full,
            initial,
            save: Arc::new(save),
            setup: |test| test,
            new: Some(("target", b"new".to_vec())),
            removed: None,
            makes_directories: false,
            tears: false,
            each: false,
            swaps: false,
            overwrites: false,
            foreign: false,
        }
    }

    pub(crate) fn at(mut self, path: &'static str, content: impl Into<Vec<u8>>) -> Case {
        self.new = Some((path, content.into()));
        self
    }

    pub(crate) fn removes(mut self, path: &'static str) -> Case {
        (self.new, self.removed) = (None, Some(path));
        self
    }

    pub(crate) fn changes_nothing_at_all(&self) -> bool {
        self.new.is_none() && self.removed.is_none()
    }

    pub(crate) fn changes_nothing(mut self) -> Case {
        self.new = None;
        self
    }

    pub(crate) fn durability(mut self, durability: Durability) -> Case {
        self.durability = durability;
        self
    }

    pub(crate) fn setup(mut self, setup: Setup) -> Case {
        self.setup = setup;
        self
    }

    pub(crate) fn makes_directories(mut self) -> Case {
        self.makes_directories = true;
        self
    }

    pub(crate) fn tears(mut self) -> Case {
        self.tears = true;
        self
    }

    pub(crate) fn each(mut self) -> Case {
        self.each = true;
        self
    }

    pub(crate) fn swaps(mut self) -> Case {
        self.swaps = true;
        self
    }

    pub(crate) fn overwrites(mut self) -> Case {
        self.overwrites = true;
        self
    }

    pub(crate) fn foreign(mut self) -> Case {
        self.foreign = true;
        self
    }

    pub(crate) fn name(&self) -> String {
        format!("{}, {}", self.operation, self.option)
    }

    /// The test of this operation, and where it leaves what it returned last.
    pub(crate) fn test(&self) -> (CrashTest<'_>, Arc<Mutex<Option<Durability>>>) {
        let returned = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&returned);
        let save = move |dir: &Path| {
            let reached = (self.save)(dir)?;
            *keep.lock().unwrap() = Some(reached);
            Ok(())
        };
        ((self.setup)(CrashTest::new(save).initial(self.initial)), returned)
    }

    /// How many states of one crash point are tried where the save is disturbed, once for each of many
    /// disturbances. Sets and directories have many more operations than single saves.
    pub(crate) fn few(&self) -> usize {
        if self.each || self.swaps { 10 } else { 100 }
    }

    /// Records it undisturbed and learns from that what old and new look like.
    pub(crate) fn learn(&self) -> (Expected, Recording<Outcome>) {
        let (test, returned) = self.test();
        let recording = test.record().unwrap();
        recording.result().as_ref().unwrap_or_else(|e| panic!("{}: {e}", self.name()));
        assert_eq!(returned.lock().unwrap().take(), Some(self.durability), "{}", self.name());
        let before = CrashTest::new(|_| Ok(())).initial(self.initial).record().unwrap();
        let expected = Expected {
            old: self.look(before.dir()),
            new: self.look(recording.dir()),
            durability: self.durability,
        };
        match &self.new {
            Some((path, content)) => {
                assert_eq!(fs::read(recording.dir().join(path)).unwrap(), *content, "{}", self.name());
                assert_ne!(expected.old, expected.new, "{}", self.name());
            }
            None => match self.removed {
                Some(path) => assert!(!expected.new.contains_key(Path::new(path)), "{}", self.name()),
                None => assert_eq!(expected.old, expected.new, "{}", self.name()),
            },
        }
        (expected, recording)
    }

    pub(crate) fn look(&self, dir: &Path) -> Tree {
        let mut tree = look(dir);
        if self.foreign {
            tree = without_remnants(&tree);
        }
        if self.makes_directories {
            tree.retain(|_, seen| !matches!(seen, Seen::Dir { .. }));
        }
        tree
    }
}

/// What the check compares with.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) old: Tree,
    pub(crate) new: Tree,
    pub(crate) durability: Durability,
}

impl Expected {
    /// The promise, for a disk that a crash left and that was recovered.
    pub(crate) fn check(&self, case: &Case, model: Model, dir: &Path, acked: &Acked) -> Outcome {
        let found = case.look(dir);
        let remnant = found.keys().find(|path| durafile::is_remnant(path.file_name().unwrap()));
        if let Some(remnant) = remnant {
            return Err(format!("left behind: {}", remnant.display()).into());
        }
        let holds = model == Model::ProcessDeath || self.durability == Durability::Full;
        let tears = self.durability == Durability::None || case.tears && !acked.saved();
        if model != Model::ProcessDeath && tears {
            return if case.swaps { Ok(()) } else { self.check_names(&found) };
        }
        if case.each && !(acked.saved() && holds) {
            return self.check_each(&found);
        }
        if found == self.new || found == self.old && !(acked.saved() && holds) {
            return Ok(());
        }
        let what = if found == self.old { "the acknowledged save is lost" } else { "neither old nor new" };
        Err(format!("{what}\nfound {found:#?}").into())
    }

    /// Each path is as before or as after.
    pub(crate) fn check_each(&self, found: &Tree) -> Outcome {
        let paths: BTreeSet<&PathBuf> =
            [found, &self.old, &self.new].into_iter().flat_map(Tree::keys).collect();
        for path in paths {
            let now = found.get(path);
            if now != self.old.get(path) && now != self.new.get(path) {
                return Err(format!("{} is neither old nor new: {now:#?}", path.display()).into());
            }
        }
        Ok(())
    }

    /// A save that was not synced may be torn by a power cut, but touches nothing else.
    fn check_names(&self, found: &Tree) -> Outcome {
        for (path, seen) in found {
            let known = [self.old.get(path), self.new.get(path)].into_iter().flatten();
            let same = known.clone().any(|known| known == seen);
            let saved = self.old.get(path) != self.new.get(path);
            let may_differ = saved && known.count() > 0;
            if !same && !may_differ {
                return Err(format!("{} is not as before", path.display()).into());
            }
        }
        Ok(())
    }
}

/// What a program sees below a directory.
pub(crate) type Tree = BTreeMap<PathBuf, Seen>;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    File { content: Content, mode: u32, owner: (u32, u32), note: Option<Vec<u8>>, links: u64 },
    Dir { mode: u32 },
    Link(PathBuf),
}

/// Bytes that print shortly.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Content(pub Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = String::from_utf8_lossy(&self.0[..self.0.len().min(24)]);
        write!(f, "{} bytes {start:?}", self.0.len())
    }
}

pub(crate) fn look(dir: &Path) -> Tree {
    let mut tree = Tree::new();
    look_into(dir, Path::new(""), &mut tree);
    tree
}

fn look_into(root: &Path, below: &Path, tree: &mut Tree) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let entry = entry.unwrap();
        let (path, rel) = (entry.path(), below.join(entry.file_name()));
        let found = entry.metadata().unwrap();
        let mode = found.mode() & 0o7777;
        let seen = if found.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            Seen::Link(target.strip_prefix(root).map(Path::to_owned).unwrap_or(target))
        } else if found.is_dir() {
            look_into(root, &rel, tree);
            Seen::Dir { mode }
        } else {
            let mut note = [0; 64];
            let note =
                rustix::fs::getxattr(&path, c"user.note", &mut note).ok().map(|len| note[..len].to_vec());
            let (content, owner) = (Content(fs::read(&path).unwrap()), (found.uid(), found.gid()));
            Seen::File { content, mode, owner, note, links: found.nlink() }
        };
        tree.insert(rel, seen);
    }
}

/// The tree as recovery will leave it: a remnant may be the second name of a file.
pub(crate) fn without_remnants(found: &Tree) -> Tree {
    let is_remnant = |path: &PathBuf| path.iter().any(durafile::is_remnant);
    let mut rest = found.clone();
    rest.retain(|path, _| !is_remnant(path));
    if found.keys().any(is_remnant) {
        for seen in rest.values_mut() {
            if let Seen::File { links, .. } = seen {
                *links = 1;
            }
        }
    }
    rest
}

/// The library's own error, as a save under test returned it.
pub(crate) fn error_of(outcome: &Outcome) -> Option<&durafile::Error> {
    let error: &(dyn Error + 'static) = outcome.as_ref().err()?.as_ref();
    error.downcast_ref()
}
