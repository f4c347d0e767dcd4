//! Goal: whatever is edited in whatever tree, the next version is what was asked for, and the
//! present one stays as it is until the commit. Method: random edits of random trees, against a
//! map of paths; some commits are discarded instead, and what is carried over is also compared by
//! mode.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use durafile::{AtomicDir, Carry, DirOptions, Durability, ErrorKind, Symlinks, WriteOptions};
use fs_err as fs;
use proptest::prelude::*;

use crate::support::{chmod, dir, mode, names};

/// Directories are empty here; what is below them has entries of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Dir,
    File(Vec<u8>, u32),
    Link(String),
}

pub(crate) type Tree = BTreeMap<PathBuf, Node>;

#[derive(Clone, Debug)]
pub(crate) enum Edit {
    Write(PathBuf, Vec<u8>),
    /// The same as a stream, the second half first.
    Stream(PathBuf, Vec<u8>),
    Dir(PathBuf),
    Remove(PathBuf),
    /// Other tools may look, and everything is carried over.
    Expose,
    /// Such a tool saves a file, and does not sync it.
    Tool(PathBuf, Vec<u8>),
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c", "a b", "é\n", ".hidden", "...", "\u{1f5c2}", "-rf", "x.tmp"])
        .prop_map(str::to_owned)
}

fn path() -> impl Strategy<Value = PathBuf> {
    prop::collection::vec(name(), 1..4).prop_map(|parts| parts.iter().collect())
}

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 4000..70_000_usize).prop_map(|(byte, len)| vec![byte; len]),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        1 => Just(Node::Dir),
        4 => (content(), prop::sample::select(vec![0o644, 0o600, 0o755, 0o440])).prop_map(|(c, m)| Node::File(c, m)),
        1 => name().prop_map(Node::Link),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        5 => (path(), content()).prop_map(|(path, content)| Edit::Write(path, content)),
        1 => (path(), content()).prop_map(|(path, content)| Edit::Stream(path, content)),
        2 => path().prop_map(Edit::Dir),
        3 => path().prop_map(Edit::Remove),
        1 => Just(Edit::Expose),
        // Not deeper: a tool follows links on the way.
        1 => (name(), content()).prop_map(|(name, content)| Edit::Tool(name.into(), content)),
    ]
}

/// A tree of such nodes, where they fit.
pub(crate) fn tree(wanted: Vec<(PathBuf, Node)>) -> Tree {
    let mut tree = Tree::new();
    for (path, node) in wanted {
        let ancestors: Vec<&Path> = path.ancestors().skip(1).filter(|a| !a.as_os_str().is_empty()).collect();
        let fits = ancestors.iter().all(|a| tree.get(*a).is_none_or(|node| *node == Node::Dir));
        if fits && !tree.contains_key(&path) {
            for ancestor in ancestors {
                tree.insert(ancestor.to_owned(), Node::Dir);
            }
            tree.insert(path, node);
        }
    }
    tree
}

pub(crate) fn build(root: &Path, tree: &Tree) {
    fs::create_dir(root).unwrap();
    for (path, node) in tree {
        let path = root.join(path);
        match node {
            Node::Dir => fs::create_dir(&path).unwrap(),
            Node::File(content, mode) => {
                fs::write(&path, content).unwrap();
                chmod(&path, *mode);
            }
            Node::Link(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
        }
    }
}

pub(crate) fn read(root: &Path) -> Tree {
    let (mut tree, mut pending) = (Tree::new(), vec![root.to_owned()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let found = fs::symlink_metadata(&path).unwrap();
            let node = if found.is_dir() {
                pending.push(path.clone());
                Node::Dir
            } else if found.is_symlink() {
                Node::Link(fs::read_link(&path).unwrap().into_os_string().into_string().unwrap())
            } else {
                Node::File(fs::read(&path).unwrap(), mode(&path))
            };
            tree.insert(path.strip_prefix(root).unwrap().to_owned(), node);
        }
    }
    tree
}

/// What keeps a path from being written below: the first ancestor that is no directory.
fn obstacle(tree: &Tree, path: &Path) -> Option<ErrorKind> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    above.into_iter().find_map(|at| match tree.get(at)? {
        Node::Dir => None,
        Node::File(..) => Some(ErrorKind::NotADirectory),
        Node::Link(_) => Some(ErrorKind::InvalidPath),
    })
}

/// What an edit makes of the tree, or why it is refused.
pub(crate) fn apply(tree: &mut Tree, edit: &Edit, umasked: u32) -> Result<(), ErrorKind> {
    let make_way = |tree: &mut Tree, path: &Path| {
        for at in path.ancestors().skip(1).filter(|at| !at.as_os_str().is_empty()) {
            tree.insert(at.to_owned(), Node::Dir);
        }
    };
    match edit {
        Edit::Write(path, content) | Edit::Stream(path, content) | Edit::Tool(path, content) => {
            obstacle(tree, path).map_or(Ok(()), Err)?;
            let mode = match tree.get(path) {
                // The directories above exist then.
                Some(Node::Dir) => return Err(ErrorKind::IsADirectory),
                Some(Node::File(_, mode)) => *mode,
                Some(Node::Link(_)) | None => umasked,
            };
            make_way(tree, path);
            tree.insert(path.clone(), Node::File(content.clone(), mode));
        }
        Edit::Dir(path) => {
            obstacle(tree, path).map_or(Ok(()), Err)?;
            if tree.get(path).is_some_and(|node| *node != Node::Dir) {
                return Err(ErrorKind::AlreadyExists);
            }
            make_way(tree, path);
            tree.insert(path.clone(), Node::Dir);
        }
        Edit::Remove(path) => {
            if !tree.contains_key(path) {
                return Err(ErrorKind::NotFound);
            }
            tree.retain(|at, _| !at.starts_with(path));
        }
        Edit::Expose => {}
    }
    Ok(())
}

pub(crate) fn perform(next: &mut AtomicDir, edit: &Edit) -> Result<(), ErrorKind> {
    let done = match edit {
        Edit::Write(path, content) => next.write(path, content),
        Edit::Stream(path, content) => stream(next, path, content),
        Edit::Dir(path) => next.create_dir(path),
        Edit::Remove(path) => next.remove(path),
        Edit::Expose => {
            next.staging();
            Ok(())
        }
        // Recorded with the rest where a crash is tried.
        Edit::Tool(path, content) => {
            let options = WriteOptions::new().durability(Durability::None).create_parents(true);
            options.symlinks(Symlinks::Replace).write(next.staging().join(path), content).map(drop)
        }
    };
    done.map_err(|e| e.kind())
}

fn stream(next: &mut AtomicDir, path: &Path, content: &[u8]) -> durafile::Result<()> {
    let mut file = next.create_file(path)?;
    write_backwards(&mut file, content)?;
    file.finish()
}

/// The second half first.
pub(crate) fn write_backwards(file: &mut (impl Write + Seek), content: &[u8]) -> durafile::Result<()> {
    let half = content.len() / 2;
    let mut fill = || {
        file.seek(SeekFrom::Start(half as u64))?;
        file.write_all(&content[half..])?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&content[..half])
    };
    fill().map_err(|e: std::io::Error| e.downcast::<durafile::Error>().unwrap())
}

/// The mode of a new file.
pub(crate) fn umasked(dir: &Path) -> u32 {
    let probe = dir.join("probe");
    fs::write(&probe, "").unwrap();
    let found = mode(&probe);
    fs::remove_file(probe).unwrap();
    found
}

/// Versions of one directory, each edited from the one before.
#[derive(Clone, Debug)]
struct Version {
    edits: Vec<Edit>,
    keeps: bool,
    links: bool,
    commits: bool,
}

fn version() -> impl Strategy<Value = Version> {
    (
        prop::collection::vec(edit(), 0..12),
        prop::bool::weighted(0.8),
        any::<bool>(),
        prop::bool::weighted(0.85),
    )
        .prop_map(|(edits, keeps, links, commits)| Version { edits, keeps, links, commits })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_edits_of_random_trees_make_what_the_model_says(
        start in prop::collection::vec((path(), node()), 0..14),
        versions in prop::collection::vec(version(), 1..4),
    ) {
        let home = dir();
        let target = home.path().join("talk");
        let mut present = tree(start);
        build(&target, &present);
        let umasked = umasked(home.path());
        for version in versions {
            // Without syncs: what is tried is the content.
            let carry = if version.links { Carry::HardLink } else { Carry::Copy };
            let options = DirOptions::new().durability(Durability::None).carry(carry);
            let mut next = if version.keeps { options.update(&target) } else { options.create(&target) }.unwrap();
            let mut model = if version.keeps { present.clone() } else { Tree::new() };
            for edit in &version.edits {
                let (done, expected) = (perform(&mut next, edit), apply(&mut model, edit, umasked));
                prop_assert_eq!(done, expected, "{:?}", edit);
            }
            prop_assert_eq!(&read(&target), &present);
            if version.commits {
                let _ = next.commit().unwrap();
                present = model;
            } else {
                next.discard().unwrap();
            }
            prop_assert_eq!(&read(&target), &present);
            prop_assert_eq!(names(home.path()), ["talk"]);
        }
    }
}
