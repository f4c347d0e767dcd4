//! Goal: after any sequence of saves with any options, failures included, every name holds
//! what it must and nothing else is there. Method: proptest runs random programs against a
//! model of the directory; after each step the real one is compared with it completely.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use durafile::{Committed, Durability, ErrorKind, Symlinks, WriteOptions};
use fs_err as fs;
use proptest::prelude::*;

use crate::support::dir;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Clone, Debug)]
struct Options {
    create_new: bool,
    symlinks: Symlinks,
    size_limit: Option<u64>,
    skip_unchanged: bool,
    mode: Option<u32>,
    preserve: bool,
    durability: Durability,
}

#[derive(Clone, Debug)]
enum Way {
    Whole(Vec<u8>),
    /// The reader fails after its bytes if told to.
    Reader(Vec<u8>, bool),
    /// Pieces, each written where it says.
    Stream(Vec<(u64, Vec<u8>)>, Ending),
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Commit,
    Discard,
    Drop,
}

#[derive(Clone, Debug)]
enum Step {
    Save(usize, Options, Way),
    /// The same bytes as the name holds already.
    Again(usize, Options),
    Remove(usize),
    Link(usize, usize),
    Folder(usize),
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    File { bytes: Vec<u8>, mode: u32 },
    Link(PathBuf),
    Folder,
}

type Model = BTreeMap<String, (Node, u64)>;

/// The directory as it is, each name with its inode.
fn look(dir: &Path) -> Model {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let node = |path: &Path| {
        let found = fs::symlink_metadata(path).unwrap();
        let node = if found.is_symlink() {
            Node::Link(fs::read_link(path).unwrap())
        } else if found.is_dir() {
            Node::Folder
        } else {
            let (bytes, mode) = (fs::read(path).unwrap(), found.mode() & 0o7777);
            Node::File { bytes, mode }
        };
        (node, found.ino())
    };
    entries.map(|entry| (entry.file_name().into_string().unwrap(), node(&entry.path()))).collect()
}

/// Where a save of `name` ends, or the kinds of error that it may be refused with.
fn resolve(model: &Model, name: &str, options: &Options) -> Result<String, Vec<ErrorKind>> {
    let mut kinds = Vec::new();
    if options.create_new && model.contains_key(name) {
        kinds.push(ErrorKind::AlreadyExists);
    }
    let mut name = name.to_owned();
    for _ in 0..=NAMES.len() {
        match model.get(&name).map(|(node, _)| node) {
            Some(Node::Folder) => kinds.push(ErrorKind::IsADirectory),
            Some(Node::Link(to)) => match options.symlinks {
                Symlinks::Follow => {
                    name = to.to_str().unwrap().to_owned();
                    continue;
                }
                Symlinks::Replace => {}
                _ => kinds.push(ErrorKind::InvalidPath),
            },
            _ => {}
        }
        return if kinds.is_empty() { Ok(name) } else { Err(kinds) };
    }
    kinds.push(ErrorKind::InvalidPath);
    Err(kinds)
}

/// Fails after its bytes, when told to.
struct Source<'a>(&'a [u8], bool);

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() && self.1 {
            return Err(io::Error::other("broken off"));
        }
        self.0.read(buffer)
    }
}

impl Options {
    fn build(&self) -> WriteOptions {
        let mut options = WriteOptions::new()
            .create_new(self.create_new)
            .symlinks(self.symlinks)
            .skip_unchanged(self.skip_unchanged)
            .preserve_metadata(self.preserve)
            .durability(self.durability);
        if let Some(limit) = self.size_limit {
            options = options.size_limit(limit);
        }
        if let Some(mode) = self.mode {
            options = options.permissions(std::fs::Permissions::from_mode(mode));
        }
        options
    }
}

impl Way {
    /// The content that would be published.
    fn bytes(&self) -> Vec<u8> {
        match self {
            Way::Whole(bytes) | Way::Reader(bytes, _) => bytes.clone(),
            Way::Stream(pieces, _) => {
                let mut file = io::Cursor::new(Vec::new());
                for (at, piece) in pieces.iter().filter(|(_, piece)| !piece.is_empty()) {
                    file.set_position(*at);
                    file.write_all(piece).unwrap();
                }
                file.into_inner()
            }
        }
    }

    /// None if the save was given up on purpose.
    fn run(&self, path: &Path, options: &Options) -> durafile::Result<Option<Committed>> {
        let options = options.build();
        match self {
            Way::Whole(bytes) => options.write(path, bytes).map(Some),
            Way::Reader(bytes, fails) => options.write_from(path, Source(bytes, *fails)).map(Some),
            Way::Stream(pieces, ending) => {
                let mut file = options.open(path)?;
                for (at, piece) in pieces {
                    // A refusal is told again by the commit.
                    let _ = file.seek(SeekFrom::Start(*at));
                    let _ = file.write_all(piece);
                }
                match ending {
                    Ending::Commit => file.commit().map(Some),
                    Ending::Discard => file.discard().map(|()| None),
                    Ending::Drop => Ok(None),
                }
            }
        }
    }
}

/// Changes the model as the save must, and says what the save must return: `Ok(is_unchanged)`
/// (none if nothing is published), or the kinds of error that are right.
fn expect(
    model: &mut Model,
    name: &str,
    options: &Options,
    way: &Way,
    new_mode: u32,
) -> Result<Option<bool>, Vec<ErrorKind>> {
    let bytes = way.bytes();
    let given_up = matches!(way, Way::Stream(_, Ending::Discard | Ending::Drop));
    let too_large = options.size_limit.is_some_and(|limit| bytes.len() as u64 > limit);
    let (resolved, mut kinds) = match resolve(model, name, options) {
        Ok(name) => (name, Vec::new()),
        Err(kinds) => (String::new(), kinds),
    };
    if too_large && !given_up {
        kinds.push(ErrorKind::TooLarge);
    }
    if matches!(way, Way::Reader(_, true)) && kinds.is_empty() | too_large {
        kinds.push(ErrorKind::Reader);
    }
    if !kinds.is_empty() {
        return Err(kinds);
    }
    let name = resolved;
    if given_up {
        return Ok(None);
    }
    let old = model.get(&name);
    let kept = match old {
        Some((Node::File { mode, .. }, _)) if options.preserve => *mode & 0o777,
        _ => new_mode,
    };
    let mode = options.mode.unwrap_or(kept);
    if let Some((Node::File { bytes: before, mode: bits }, _)) = old {
        // Asked for the very same content with other permissions, the save has work to do.
        let same = *before == bytes && options.mode.is_none_or(|mode| mode == *bits);
        if options.skip_unchanged && same {
            return Ok(Some(true));
        }
    }
    model.insert(name, (Node::File { bytes, mode }, 0));
    Ok(Some(false))
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let dir = dir();
    let probe = dir.path().join("a");
    fs::write(&probe, "").unwrap();
    let new_mode = fs::metadata(&probe).unwrap().mode() & 0o7777;
    fs::remove_file(&probe).unwrap();

    let mut model = Model::new();
    for step in steps {
        let shown = format!("{step:?}");
        let before = model.clone();
        match step {
            Step::Save(at, options, way) => save(&dir, &mut model, at, &options, &way, new_mode)?,
            Step::Again(at, options) => {
                let found = resolve(&model, NAMES[at], &options).ok();
                let found = found.and_then(|name| model.get(&name));
                let Some((Node::File { bytes, .. }, _)) = found else { continue };
                let way = Way::Whole(bytes.clone());
                save(&dir, &mut model, at, &options, &way, new_mode)?;
            }
            Step::Remove(at) => match model.remove(NAMES[at]) {
                Some((Node::Folder, _)) => fs::remove_dir(dir.path().join(NAMES[at])).unwrap(),
                Some(_) => fs::remove_file(dir.path().join(NAMES[at])).unwrap(),
                None => {}
            },
            Step::Link(at, to) if !model.contains_key(NAMES[at]) => {
                symlink(NAMES[to], dir.path().join(NAMES[at])).unwrap();
                model.insert(NAMES[at].to_owned(), (Node::Link(NAMES[to].into()), 0));
            }
            Step::Folder(at) if !model.contains_key(NAMES[at]) => {
                fs::create_dir(dir.path().join(NAMES[at])).unwrap();
                model.insert(NAMES[at].to_owned(), (Node::Folder, 0));
            }
            Step::Link(..) | Step::Folder(_) => {}
        }
        // Inodes: what was not saved is the very file it was, what was saved is another one.
        let now = look(dir.path());
        for (name, (node, inode)) in &mut model {
            let Some((found, number)) = now.get(name) else {
                return Err(TestCaseError::fail(format!("{name} is missing after {shown}")));
            };
            prop_assert!(found == node, "{} is {:?} after {}", name, found, shown);
            if *inode != 0 {
                prop_assert_eq!(*number, *inode, "{} was touched by {}", name, &shown);
            } else if let Some((Node::File { .. }, old)) = before.get(name) {
                prop_assert_ne!(number, old, "{} was written in place by {}", name, &shown);
            }
            *inode = *number;
        }
        let names = |of: &Model| of.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(names(&now), names(&model), "after {}", shown);
    }
    Ok(())
}

fn save(
    dir: &tempfile::TempDir,
    model: &mut Model,
    at: usize,
    options: &Options,
    way: &Way,
    new_mode: u32,
) -> Result<(), TestCaseError> {
    let expected = expect(model, NAMES[at], options, way, new_mode);
    let got = way.run(&dir.path().join(NAMES[at]), options);
    let shown = format!("{} {options:?} {way:?}: {got:?}", NAMES[at]);
    match (expected, got) {
        (Ok(unchanged), Ok(committed)) => {
            let got = committed.map(|committed| committed.is_unchanged());
            prop_assert_eq!(got, unchanged, "{}", shown);
        }
        (Err(kinds), Err(error)) => {
            prop_assert!(kinds.contains(&error.kind()), "not {:?}: {}", kinds, shown);
        }
        (expected, _) => prop_assert!(false, "expected {:?}: {}", expected, shown),
    }
    Ok(())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![
        4 => 0..40usize,
        1 => 4090..4100usize,
        1 => 8000..70_000usize
    ];
    (length, any::<u8>()).prop_map(|(length, fill)| vec![fill % 4; length])
}

fn options() -> impl Strategy<Value = Options> {
    let symlinks = prop_oneof![
        3 => Just(Symlinks::Follow),
        1 => Just(Symlinks::Replace),
        1 => Just(Symlinks::Refuse)
    ];
    let durability = prop_oneof![Just(Durability::Full), Just(Durability::Data), Just(Durability::None)];
    let mode =
        proptest::option::weighted(0.2, prop_oneof![Just(0o600), Just(0o644), Just(0o755), Just(0o4711)]);
    (
        proptest::bool::weighted(0.15),
        symlinks,
        proptest::option::weighted(0.2, 0..5000u64),
        any::<bool>(),
        mode,
        proptest::bool::weighted(0.8),
        durability,
    )
        .prop_map(|(create_new, symlinks, size_limit, skip_unchanged, mode, preserve, durability)| {
            Options { create_new, symlinks, size_limit, skip_unchanged, mode, preserve, durability }
        })
}

fn way() -> impl Strategy<Value = Way> {
    let pieces = proptest::collection::vec((0..20_000u64, bytes()), 0..5);
    let ending = prop_oneof![
        3 => Just(Ending::Commit),
        1 => Just(Ending::Discard),
        1 => Just(Ending::Drop)
    ];
    prop_oneof![
        bytes().prop_map(Way::Whole),
        (bytes(), proptest::bool::weighted(0.3)).prop_map(|(all, fails)| Way::Reader(all, fails)),
        (pieces, ending).prop_map(|(pieces, ending)| Way::Stream(pieces, ending)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0..NAMES.len();
    prop_oneof![
        8 => (at(), options(), way()).prop_map(|(at, options, way)| Step::Save(at, options, way)),
        2 => (at(), options()).prop_map(|(at, options)| Step::Again(at, options)),
        2 => at().prop_map(Step::Remove),
        2 => (at(), at()).prop_map(|(at, to)| Step::Link(at, to)),
        1 => at().prop_map(Step::Folder),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_sequence_of_saves_leaves_what_the_model_says(
        steps in proptest::collection::vec(step(), 1..30)
    ) {
        run(steps)?;
    }
}
