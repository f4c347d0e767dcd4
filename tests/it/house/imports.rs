//! Which file of a library names what of which other file: its `use`s, and paths that are written out
//! where they are needed. Read as text, for all platforms and features at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::house::shipped::shipped;

/// The files of `src`, by their paths below it, with `/` between the names.
pub(crate) struct Sources(BTreeMap<String, String>);

/// A module's path from the root of the crate.
type Module = Vec<String>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: String,
    pub(crate) line: usize,
    /// The file of the module in which the name is looked up.
    pub(crate) to: String,
    pub(crate) path: String,
}

/// The file at the root of the crate.
pub(crate) const ROOT: &str = "lib.rs";

/// The module at the top to which a file belongs.
pub(crate) fn top(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn module_of(file: &str) -> Module {
    let stem = file.strip_suffix(".rs").unwrap_or(file);
    let stem = stem.strip_suffix("/mod").unwrap_or(stem);
    if file == ROOT { Module::new() } else { stem.split('/').map(str::to_owned).collect() }
}

impl Sources {
    /// Files that are only tests are left out.
    pub(crate) fn new(files: impl IntoIterator<Item = (String, String)>) -> Sources {
        let is_test = |file: &str| file.rsplit('/').next() == Some("tests.rs");
        Sources(files.into_iter().filter(|(file, _)| !is_test(file)).collect())
    }

    pub(crate) fn tops(&self) -> BTreeSet<&str> {
        self.0.keys().map(|file| top(file)).collect()
    }

    /// Each name that a file takes from another one, in the order in which they stand there.
    pub(crate) fn imports(&self) -> Vec<Import> {
        let modules: BTreeMap<Module, &str> =
            self.0.keys().map(|file| (module_of(file), file.as_str())).collect();
        let mut found = Vec::new();
        for (file, text) in &self.0 {
            let own = module_of(file);
            for (line, path) in paths(&tokens(text)) {
                let Some(to) = lookup(&modules, &own, &path) else { continue };
                if to != file {
                    let (from, to, path) = (file.clone(), to.to_owned(), path.join("::"));
                    found.push(Import { from, line, to, path });
                }
            }
        }
        found
    }
}

/// The file of the last module on the path; none if the path begins outside of the crate.
fn lookup<'m>(modules: &BTreeMap<Module, &'m str>, own: &Module, path: &[String]) -> Option<&'m str> {
    let mut at = own.clone();
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => at.clear(),
        "self" => {}
        "super" => drop(at.pop()),
        child => {
            at.push(child.to_owned());
            modules.get(&at)?;
        }
    }
    rest = &rest[1..];
    for name in rest {
        if name == "super" {
            at.pop();
            continue;
        }
        at.push(name.clone());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
    }
    modules.get(&at).copied()
}

/// Words and punctuation with their lines, without comments and without tests.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in shipped(text) {
        let code = line.split("//").next().unwrap_or_default();
        let mut word = String::new();
        for letter in code.chars().chain([' ']) {
            if letter.is_alphanumeric() || letter == '_' {
                word.push(letter);
                continue;
            }
            if !word.is_empty() {
                found.push((number, std::mem::take(&mut word)));
            }
            if !letter.is_whitespace() {
                found.push((number, letter.to_string()));
            }
        }
    }
    found
}

/// All paths of more than one name, and all that are used.
fn paths(tokens: &[(usize, String)]) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if word(tokens, at) == "use" {
            at = used(tokens, at + 1, &[], &mut found);
            continue;
        }
        let (path, next) = names(tokens, at);
        let is_visibility = at >= 2 && word(tokens, at - 1) == "in" && word(tokens, at - 2) == "(";
        if path.len() > 1 && !is_visibility {
            found.push((tokens[at].0, path));
        }
        at = next.max(at + 1);
    }
    found
}

fn word(tokens: &[(usize, String)], at: usize) -> &str {
    tokens.get(at).map_or("", |(_, word)| word)
}

fn is_separator(tokens: &[(usize, String)], at: usize) -> bool {
    word(tokens, at) == ":" && word(tokens, at + 1) == ":"
}

fn is_name(word: &str) -> bool {
    word.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}

/// The names from here on that `::` joins, and where they end.
fn names(tokens: &[(usize, String)], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while is_name(word(tokens, at)) {
        path.push(word(tokens, at).to_owned());
        at += 1;
        if !is_separator(tokens, at) || !is_name(word(tokens, at + 2)) {
            break;
        }
        at += 2;
    }
    (path, at)
}

/// One tree of a `use`: each of its leaves with the line where that stands. Where the tree ends.
fn used(
    tokens: &[(usize, String)],
    at: usize,
    before: &[String],
    found: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let (more, mut next) = names(tokens, at);
    let path = [before, &more].concat();
    let line = tokens.get(at).map_or(0, |(line, _)| *line);
    if is_separator(tokens, next) {
        next += 2;
    }
    if word(tokens, next) != "{" {
        let is_itself = path.len() > 1 && path.last().is_some_and(|last| last == "self");
        found.push((line, path[..path.len() - usize::from(is_itself)].to_vec()));
        // A `*`, or another name for it.
        while !["", ",", "}", ";"].contains(&word(tokens, next)) {
            next += 1;
        }
        return next;
    }
    next += 1;
    while !["", "}"].contains(&word(tokens, next)) {
        next = used(tokens, next, &path, found);
        if word(tokens, next) == "," {
            next += 1;
        }
    }
    next + 1
}

#[test]
fn names_are_found_where_they_are_used_and_where_they_are_written_out() {
    let text = "//! crate::never\n\
        use std::io;\n\
        use crate::leaf::{\n    self, One,\n    deep::{Two, Three as Four},\n};\n\
        pub(crate) use child::*;\n\
        pub(in crate::leaf) fn f() -> super::Five { crate::leaf::deep::six::<u8>() } // crate::no\n\
        fn g() { child::seven(); other::eight() }\n\
        enum E {\n    #[cfg(test)]\n    Never(crate::never::Never),\n    Ten(crate::leaf::Ten),\n}\n\
        #[cfg(test)]\nmod tests {\n    use crate::never;\n}\n";
    let files = ["lib.rs", "leaf/mod.rs", "leaf/deep.rs", "a/mod.rs", "a/child.rs", "a/tests.rs"];
    let text_of = |file: &str| if file == "a/mod.rs" { text } else { "use crate::Error;" }.to_owned();
    let sources = Sources::new(files.map(|file| (file.to_owned(), text_of(file))));
    let imports = sources.imports();
    let of_a: Vec<_> = imports
        .iter()
        .filter(|import| import.from == "a/mod.rs")
        .map(|import| (import.line, import.to.as_str(), import.path.as_str()))
        .collect();
    assert_eq!(
        of_a,
        [
            (4, "leaf/mod.rs", "crate::leaf"),
            (4, "leaf/mod.rs", "crate::leaf::One"),
            (5, "leaf/deep.rs", "crate::leaf::deep::Two"),
            (5, "leaf/deep.rs", "crate::leaf::deep::Three"),
            (7, "a/child.rs", "child"),
            (8, "lib.rs", "super::Five"),
            (8, "leaf/deep.rs", "crate::leaf::deep::six"),
            (9, "a/child.rs", "child::seven"),
            // After an item that is only for tests.
            (13, "leaf/mod.rs", "crate::leaf::Ten"),
        ]
    );
    assert!(imports.iter().all(|import| import.from != "a/tests.rs"), "{imports:?}");
    assert!(imports.iter().any(|import| import.from == "leaf/deep.rs" && import.to == ROOT));
}
