//! Manifests: what is in a version, and where each file's content is.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::hash::{Hash, Identity};
use crate::keys::DataKey;
use crate::paths::Names;
use crate::record::FORMAT;

/// No manifest is longer, in bytes; enough for some 700,000 files.
pub(crate) const MAX_MANIFEST: u64 = 128 << 20;

/// The content of one object `manifest-<base>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u32,
    /// Every directory but the root, sorted.
    pub(crate) dirs: Vec<String>,
    /// Sorted by path.
    pub(crate) links: Vec<Link>,
    /// Sorted by path.
    pub(crate) files: Vec<File>,
    /// The objects with the files' content.
    pub(crate) objects: Vec<DataKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) path: String,
    pub(crate) target: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) hash: Hash,
    /// The hashes of its parts, if it is longer than one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) parts: Vec<Hash>,
    /// The object that holds its content, by its place in `objects`. An empty file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) object: Option<u32>,
    /// Where its content begins in that object.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) offset: u64,
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) executable: bool,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Where content is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) key: DataKey,
    pub(crate) offset: u64,
}

/// What a version consists of, wherever the content is: equal for two versions that a reader can't tell apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) dirs: Vec<String>,
    pub(crate) links: Vec<Link>,
    pub(crate) files: Vec<Leaf>,
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) identity: Identity,
    pub(crate) executable: bool,
}

impl Manifest {
    /// What nothing was published in yet has.
    pub(crate) fn empty() -> Manifest {
        Manifest {
            format: FORMAT,
            dirs: Vec::new(),
            links: Vec::new(),
            files: Vec::new(),
            objects: Vec::new(),
        }
    }

    /// A tree whose content is where `locate` says.
    pub(crate) fn new<'l>(tree: Tree, locate: impl Fn(&Hash) -> Option<&'l Location>) -> Manifest {
        let (mut objects, mut numbers) = (Vec::new(), HashMap::new());
        let mut number_of = |key: &DataKey| {
            *numbers.entry(key.clone()).or_insert_with(|| {
                objects.push(key.clone());
                objects.len() as u32 - 1
            })
        };
        let place = |Leaf { path, size, identity: Identity { hash, parts }, executable }| {
            let location = if size == 0 { None } else { locate(&hash) };
            let object = location.map(|at| number_of(&at.key));
            File { path, size, hash, parts, object, offset: location.map_or(0, |at| at.offset), executable }
        };
        let files = tree.files.into_iter().map(place).collect();
        Manifest { format: FORMAT, dirs: tree.dirs, links: tree.links, files, objects }
    }

    pub(crate) fn location(&self, file: &File) -> Option<Location> {
        let key = self.objects.get(file.object? as usize)?.clone();
        Some(Location { key, offset: file.offset })
    }

    /// Where each content is.
    pub(crate) fn locations(&self) -> HashMap<Hash, Location> {
        self.files.iter().filter_map(|file| Some((file.hash, self.location(file)?))).collect()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Does it hold this tree, wherever the content is?
    pub(crate) fn holds(&self, tree: &Tree) -> bool {
        let same = |file: &File, leaf: &Leaf| {
            (&file.path, file.size, file.executable) == (&leaf.path, leaf.size, leaf.executable)
                && file.hash == leaf.identity.hash
        };
        self.dirs == tree.dirs
            && self.links == tree.links
            && self.files.len() == tree.files.len()
            && self.files.iter().zip(&tree.files).all(|(file, leaf)| same(file, leaf))
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Strings, numbers and lists always can be written as JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// A manifest that may have come from anybody. What is wrong is said as the error.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Manifest, String> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("its format is {}, and this program reads format {FORMAT}", manifest.format));
        }
        manifest.check_names().map_err(|(path, why)| format!("{path:?}: {why}"))?;
        let mut total: u64 = 0;
        for file in &manifest.files {
            let fail = |why: &str| format!("{:?}: {why}", file.path);
            file.check(manifest.objects.len()).map_err(fail)?;
            total = total.checked_add(file.size).ok_or_else(|| fail("the sizes are impossible"))?;
        }
        Ok(manifest)
    }

    fn check_names(&self) -> Result<(), (&str, &'static str)> {
        let mut names = Names::default();
        self.dirs.iter().try_for_each(|path| names.add_dir(path))?;
        self.links.iter().try_for_each(|link| names.add_link(&link.path, &link.target))?;
        self.files.iter().try_for_each(|file| names.add_file(&file.path))?;
        names.finish()?;
        let unsorted = (".", "the entries are not in order");
        let in_order = self.dirs.is_sorted()
            && self.links.is_sorted_by(|a, b| a.path < b.path)
            && self.files.is_sorted_by(|a, b| a.path < b.path);
        if in_order { Ok(()) } else { Err(unsorted) }
    }
}

impl File {
    pub(crate) fn identity(&self) -> Identity {
        Identity { hash: self.hash, parts: self.parts.clone() }
    }

    fn check(&self, objects: usize) -> Result<(), &'static str> {
        if !self.identity().fits(self.size) {
            return Err("its hashes don't fit its size");
        }
        if self.size == 0 {
            let empty = self.hash == Hash::of(b"") && self.object.is_none();
            return if empty { Ok(()) } else { Err("an empty file has no content") };
        }
        if self.object.is_none_or(|object| object as usize >= objects) {
            return Err("it names no object");
        }
        self.offset.checked_add(self.size).map(drop).ok_or("its place is impossible")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Session;

    fn tree() -> Tree {
        let leaf = |path: &str, content: &[u8]| Leaf {
            path: path.to_owned(),
            size: content.len() as u64,
            identity: Identity::of(content),
            executable: path.ends_with("run"),
        };
        let links = vec![Link { path: "l".into(), target: "a/x".into() }];
        Tree {
            dirs: vec!["a".into()],
            links,
            files: vec![leaf("a/run", b"go"), leaf("a/x", b"x"), leaf("empty", b"")],
        }
    }

    fn manifest() -> Manifest {
        let key = DataKey::content(&Session::of([1; 16]), 0);
        let at = Location { key, offset: 5 };
        Manifest::new(tree(), |_| Some(&at))
    }

    #[test]
    fn what_is_written_is_read_again_and_holds_its_tree() {
        let manifest = manifest();
        assert_eq!(Manifest::parse(&manifest.to_bytes()), Ok(manifest.clone()));
        assert!(manifest.holds(&tree()));
        assert_eq!(manifest.objects.len(), 1);
        let mut other = tree();
        other.files[0].executable = false;
        assert!(!manifest.holds(&other));
    }

    #[test]
    fn a_hostile_manifest_is_refused() {
        type Change = fn(&mut Manifest);
        let changes: [Change; 12] = [
            |m| m.format = 2,
            |m| m.files[1].path = "../x".into(),
            |m| m.files[1].path = "/etc/passwd".into(),
            |m| m.files[1].path = "a/run".into(),
            |m| m.files[1].path = "l/x".into(),
            |m| m.links[0].target = "../../etc".into(),
            |m| m.files[1].size = u64::MAX,
            |m| m.files[1].object = Some(7),
            |m| m.files[1].offset = u64::MAX,
            |m| m.files[2].object = Some(0),
            |m| m.files[2].hash = Hash::of(b"x"),
            |m| m.files.swap(0, 1),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut manifest = manifest();
            change(&mut manifest);
            assert!(Manifest::parse(&manifest.to_bytes()).is_err(), "{number}");
        }
        assert!(Manifest::parse(b"{}").is_err());
        assert!(Manifest::parse(b"").is_err());
    }
}
