//! One row of the table: something to save again and again, and what must be found afterwards.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use durafile::Durability;

use crate::work::content::{self, Found};

pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Saves a version below a directory, and says what the save promised.
pub type Save = Box<dyn Fn(&Path, u32) -> Outcome<Durability> + Send + Sync>;

pub struct Operation {
    pub name: String,
    /// How often it is repeated in one recording.
    pub rounds: u32,
    /// Makes version 0, which is made durable before anything is recorded.
    pub prepare: fn(&Path) -> Outcome<()>,
    pub save: Save,
    pub check: Check,
    pub what: What,
    pub setting: Setting,
}

pub type Check = fn(&Path, &Story, &mut Report);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Of the library: nothing must be found, and nothing be left.
    Library,
    /// The library's `recover`, on disks that this operation left and the power cut spoiled.
    Recovery,
    /// By hand and right: shows that the checks are not too strict.
    Control,
    /// By hand and wrong: must be caught.
    Broken,
}

/// Where it runs, and is recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Plain,
    /// The kernel refuses `RENAME_EXCHANGE`.
    NoExchange,
    /// The kernel refuses every rename.
    NoRename,
    /// On an overlay, of which the file system has both layers. What is prepared is in the lower one.
    Overlay,
}

/// What had happened when the power went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Story {
    /// The last version whose save had begun.
    pub began: u32,
    /// The last that was acknowledged as durable.
    pub full: u32,
    /// The last that was acknowledged at all.
    pub acknowledged: u32,
}

impl Story {
    /// As the marks in a recording tell it.
    pub fn of<'a>(marks: impl Iterator<Item = &'a str>) -> Story {
        let mut story = Story::default();
        for mark in marks {
            let mut words = mark.split(' ');
            let (word, version) =
                (words.next(), words.next().and_then(|word| word.parse().ok()).unwrap_or(0));
            match word {
                Some("begin") => story.began = story.began.max(version),
                Some("full") => {
                    story.full = story.full.max(version);
                    story.acknowledged = story.acknowledged.max(version);
                }
                Some("data") => story.acknowledged = story.acknowledged.max(version),
                _ => {}
            }
        }
        story
    }

    /// Which versions of something that is replaced again and again may be there.
    pub fn allowed(&self) -> std::ops::RangeInclusive<u32> {
        self.full..=self.began
    }

    /// Older than the save before the last that was acknowledged. With `Data` only the last one is
    /// undone where an fsync of any file commits the renames before it; elsewhere more of them may be.
    pub fn goes_far_back(&self, version: u32) -> bool {
        version + 1 < self.acknowledged
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Torn, missing, or a mixture of versions.
    Atomicity,
    /// An acknowledged save is gone.
    Durability,
    /// Something is left after `recover`, or a second one finds work.
    Left,
    /// `recover` fails, or doesn't know what to do.
    Recovery,
    /// Several saves at `Data` are undone. No violation: the level promises no more than some
    /// complete version.
    Back,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Atomicity, Kind::Durability, Kind::Left, Kind::Recovery, Kind::Back];

    pub fn letter(self) -> char {
        match self {
            Kind::Atomicity => 'A',
            Kind::Durability => 'D',
            Kind::Left => 'L',
            Kind::Recovery => 'R',
            Kind::Back => 'B',
        }
    }
}

/// What is wrong with one state.
#[derive(Debug, Default)]
pub struct Report {
    pub findings: Vec<(Kind, String)>,
    /// What may be there; all else is left over.
    pub expected: BTreeSet<PathBuf>,
}

impl Report {
    pub fn add(&mut self, kind: Kind, text: impl fmt::Display) {
        self.findings.push((kind, text.to_string()));
    }

    /// A file that is replaced again and again.
    pub fn replaced(&mut self, root: &Path, name: &str, story: &Story) -> Option<u32> {
        let found = content::find(&root.join(name), name);
        self.judge(name, found, story)
    }

    pub fn judge(&mut self, name: &str, found: Found, story: &Story) -> Option<u32> {
        self.expect(name);
        let allowed = story.allowed();
        match found {
            Found::Missing => self.add(Kind::Atomicity, format_args!("{name} is missing")),
            Found::Torn(how) => self.add(Kind::Atomicity, format_args!("{name} is torn: {how}")),
            Found::Complete(version) if version < *allowed.start() => {
                self.add(
                    Kind::Durability,
                    format_args!("{name} is of version {version}, acknowledged was {}", story.acknowledged),
                );
                return Some(version);
            }
            Found::Complete(version) if version > *allowed.end() => {
                self.add(Kind::Atomicity, format_args!("{name} is of version {version}, never saved"));
            }
            Found::Complete(version) => {
                if story.goes_far_back(version) {
                    self.add(
                        Kind::Back,
                        format_args!(
                            "{name} is of version {version}, not durably acknowledged was {}",
                            story.acknowledged
                        ),
                    );
                }
                return Some(version);
            }
        }
        None
    }

    /// A file that only the save of this version made.
    pub fn created(&mut self, root: &Path, name: &str, version: u32, story: &Story) -> bool {
        self.expect(name);
        match content::find(&root.join(name), name) {
            Found::Missing if version <= story.full => {
                self.add(Kind::Durability, format_args!("{name} is missing, though acknowledged"));
                false
            }
            Found::Missing => false,
            Found::Complete(found) if found == version => true,
            found => {
                self.add(
                    Kind::Atomicity,
                    format_args!("{name} should be version {version}, and is {found:?}"),
                );
                true
            }
        }
    }

    /// This may be there, and so may the directories that it is in.
    pub fn expect(&mut self, name: impl AsRef<Path>) {
        let ancestors = name.as_ref().ancestors().filter(|path| !path.as_os_str().is_empty());
        self.expected.extend(ancestors.map(Path::to_owned));
    }

    /// Finds what else is there.
    pub fn look_for_leftovers(&mut self, root: &Path) {
        let mut pending = vec![root.to_owned()];
        while let Some(dir) = pending.pop() {
            let entries = match fs::read_dir(&dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
                Ok(entries) => entries,
                Err(e) => {
                    self.add(Kind::Atomicity, format_args!("{}: {e}", dir.display()));
                    continue;
                }
            };
            for entry in entries {
                let path = entry.path();
                let name = path.strip_prefix(root).unwrap_or(&path);
                if !self.expected.contains(name) {
                    self.findings.push((Kind::Left, format!("{} is left", name.display())));
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(path);
                }
            }
        }
    }
}
