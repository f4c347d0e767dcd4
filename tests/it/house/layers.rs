//! Goal: what a file needs stands below it, so that it can be read from the bottom up. Method: the picture
//! in ARCHITECTURE.md says which module stands on which; every name that a file takes from another one
//! is held against it.

use std::collections::{BTreeMap, BTreeSet};

use fs_err as fs;

use crate::house::imports::{Import, ROOT, Sources, top};
use crate::house::tidy::{none, root, sources};

/// The picture: which box each module stands in, and which boxes stand below each.
struct Picture {
    boxes: BTreeMap<String, String>,
    below: BTreeMap<String, BTreeSet<String>>,
}

impl Picture {
    /// Out of the first Mermaid picture of a page. A box is `id["module, module<br/>anything"]`, and
    /// `id --> id` says that the second one stands below the first one.
    fn of(page: &str) -> Picture {
        let (mut boxes, mut below) = (BTreeMap::new(), BTreeMap::<_, BTreeSet<String>>::new());
        let lines = page.lines().map(str::trim).skip_while(|line| *line != "```mermaid").skip(2);
        for line in lines.take_while(|line| *line != "```") {
            if let Some((upper, lower)) = line.split_once("-->") {
                below.entry(upper.trim().to_owned()).or_default().insert(lower.trim().to_owned());
            } else if let Some((id, label)) = line.split_once("[\"") {
                let label = label.split_once("\"]").map_or(label, |(label, _)| label);
                let modules = label.split("<br/>").next().unwrap_or(label);
                for module in modules.split(", ") {
                    let before = boxes.insert(module.to_owned(), id.to_owned());
                    assert!(before.is_none(), "{module} stands in two boxes");
                }
            } else {
                assert!(line.is_empty(), "neither a box nor an arrow: {line}");
            }
        }
        let known: BTreeSet<&String> = boxes.values().collect();
        let drawn: BTreeSet<&String> = below.iter().flat_map(|(id, more)| more.iter().chain([id])).collect();
        assert_eq!(known, drawn, "boxes, and those that arrows join");
        Picture { boxes, below }
    }

    fn is_below(&self, upper: &str, lower: &str) -> bool {
        let next = self.below.get(upper).into_iter().flatten();
        next.into_iter().any(|next| next == lower || self.is_below(next, lower))
    }

    fn may_use(&self, upper: &str, lower: &str) -> bool {
        let (upper, lower) = (self.boxes.get(upper), self.boxes.get(lower));
        upper.zip(lower).is_some_and(|(upper, lower)| self.is_below(upper, lower))
    }
}

/// What stands in the picture and not in `src`, or the other way round.
fn missing(picture: &Picture, sources: &Sources) -> Vec<String> {
    let tops = sources.tops();
    let drawn: BTreeSet<&str> = picture.boxes.keys().map(String::as_str).collect();
    let unknown = tops.difference(&drawn).map(|module| format!("{module}: not in the picture"));
    unknown.chain(drawn.difference(&tops).map(|module| format!("{module}: not in src"))).collect()
}

fn at(Import { from, line, path, .. }: &Import) -> String {
    format!("src/{from}:{line}: {path}")
}

/// Names that are taken from the same box or one above, and all that are taken through the root.
fn upward(picture: &Picture, imports: &[Import]) -> Vec<String> {
    let mut findings = Vec::new();
    for import in imports.iter().filter(|import| import.from != ROOT) {
        let (from, to) = (top(&import.from), top(&import.to));
        if import.to == ROOT {
            findings.push(format!("{}, through lib.rs: name the module that defines it", at(import)));
        } else if from != to && !picture.may_use(from, to) {
            findings.push(format!("{}: {to} is not below {from}", at(import)));
        }
    }
    findings
}

/// The door to the operating system is one whole: each platform brings handles and types of its own, which the
/// files of the others' folders take through it.
const DOOR: &str = "sys";

/// Names that a file takes from another one which, by whatever way round, needs this one. Between the
/// modules at the top the picture forbids that.
fn circular(imports: &[Import]) -> Vec<String> {
    let mut needs = BTreeMap::<&str, BTreeSet<&str>>::new();
    let inside = |import: &&Import| top(&import.from) == top(&import.to) && top(&import.from) != DOOR;
    for import in imports.iter().filter(inside) {
        needs.entry(&import.from).or_default().insert(&import.to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        needs.keys().map(|file| (*file, all_needs(&needs, file))).collect();
    let circles = |import: &&Import| {
        reached.get(import.to.as_str()).is_some_and(|reached| reached.contains(import.from.as_str()))
    };
    let circular = imports.iter().filter(inside).filter(circles);
    circular.map(|import| format!("{}: src/{} needs this file", at(import), import.to)).collect()
}

/// What a file needs, and what that needs, and so on.
fn all_needs<'f>(needs: &BTreeMap<&'f str, BTreeSet<&'f str>>, file: &'f str) -> BTreeSet<&'f str> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![file]);
    while let Some(file) = next.pop() {
        next.extend(needs.get(file).into_iter().flatten().filter(|needed| seen.insert(**needed)));
    }
    seen
}

/// The sources as they are.
fn library() -> Sources {
    let is_source = |path: &std::path::Path| path.strip_prefix("src").ok().map(std::path::Path::to_owned);
    Sources::new(sources().into_iter().filter_map(|(path, text)| {
        let path = is_source(&path)?;
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        Some((names.join("/"), text))
    }))
}

fn picture() -> Picture {
    Picture::of(&fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap())
}

#[test]
fn the_picture_of_the_layers_shows_every_module() {
    none(&missing(&picture(), &library()), "the picture in ARCHITECTURE.md, and src");
}

#[test]
fn every_file_needs_only_what_is_below_it() {
    let (picture, imports) = (picture(), library().imports());
    assert!(imports.len() > 300, "only {} imports were found", imports.len());
    none(&upward(&picture, &imports), "upward, against the picture in ARCHITECTURE.md");
}

#[test]
fn no_file_needs_one_that_needs_it() {
    none(&circular(&library().imports()), "these files need each other");
}

#[test]
fn violations_that_are_planted_are_found() {
    let page = "words\n```mermaid\nflowchart TD\n    lib[\"lib\"]\n    up[\"write, save<br/>what users call\"]\n    \
        core[\"core\"]\n    leaf[\"error\"]\n\n    lib --> up\n    up --> core\n    core --> leaf\n```\nmore\n";
    let picture = Picture::of(page);
    let planted = |changed: &[(&str, &str)]| {
        let mut files = BTreeMap::from([
            ("lib.rs", "pub use write::write;"),
            ("write.rs", "use crate::core::one::One;\nuse crate::error::Error;"),
            ("save.rs", "use crate::core::mode;"),
            ("core/mod.rs", "pub(crate) use one::One;"),
            ("core/one.rs", "use crate::core::two::Two;\nuse crate::error::Error;"),
            ("core/two.rs", ""),
            ("error.rs", ""),
        ]);
        files.extend(changed.iter().copied());
        let sources = Sources::new(files.into_iter().map(|(file, text)| (file.into(), text.into())));
        let imports = sources.imports();
        [missing(&picture, &sources), upward(&picture, &imports), circular(&imports)].concat()
    };
    assert!(planted(&[]).is_empty(), "{:?}", planted(&[]));
    let found = [
        // Upward; beside; through the root, whether used or written out.
        (
            ("error.rs", "\nfn f() { crate::write::write() }"),
            "src/error.rs:2: crate::write::write: write is not below error",
        ),
        (
            ("save.rs", "use crate::write::write;"),
            "src/save.rs:1: crate::write::write: write is not below save",
        ),
        (
            ("write.rs", "use crate::{\n    Error,\n};"),
            "src/write.rs:2: crate::Error, through lib.rs: name the module that defines it",
        ),
        (("note.rs", ""), "note: not in the picture"),
    ];
    for (planting, finding) in found {
        assert_eq!(planted(&[planting]), [finding]);
    }
    // A circle of two, and one by way of the folder.
    assert_eq!(
        planted(&[("core/two.rs", "use super::one::One;")]),
        [
            "src/core/one.rs:1: crate::core::two::Two: src/core/two.rs needs this file",
            "src/core/two.rs:1: super::one::One: src/core/one.rs needs this file",
        ]
    );
    assert_eq!(
        planted(&[("core/two.rs", "use super::One;")]),
        [
            "src/core/mod.rs:1: one::One: src/core/one.rs needs this file",
            "src/core/one.rs:1: crate::core::two::Two: src/core/two.rs needs this file",
            "src/core/two.rs:1: super::One: src/core/mod.rs needs this file",
        ]
    );
}
