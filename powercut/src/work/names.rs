//! Names that are made, moved and removed without any content being saved.

use std::fs;
use std::path::Path;

use durafile::{Committed, WriteOptions};

use crate::work::content::{self, Found};
use crate::work::operation::{Kind, Operation, Report, Story};
use crate::work::single::{TARGET, check_created, created, creating, nested, replacing, saving};

const NEXT: &str = "next";

pub fn operations() -> Vec<Operation> {
    vec![
        Operation {
            check: |root, story, report| check_created(root, story, report, nested),
            ..creating(
                "create_dir_all",
                saving(|root, version| {
                    let name = nested(version);
                    durafile::create_dir_all(root.join(&name).with_file_name(""))?;
                    save(root, &name, version)
                }),
            )
        },
        Operation {
            check: |root, story, report| {
                report.replaced(root, TARGET, story);
                check_moved(root, NEXT, TARGET, report, story);
            },
            ..replacing(
                "rename",
                saving(|root, version| {
                    durafile::write(root.join(NEXT), content::of(version, TARGET))?;
                    durafile::rename(root.join(NEXT), root.join(TARGET))
                }),
            )
        },
        Operation {
            prepare: |root| {
                Ok(["inbox", "done"].iter().try_for_each(|dir| fs::create_dir(root.join(dir)))?)
            },
            check: check_archived,
            ..creating(
                "rename_new, to another directory",
                saving(|root, version| {
                    let from = root.join("inbox").join(created(version));
                    durafile::write(&from, content::of(version, &created(version)))?;
                    durafile::rename_new(from, root.join("done").join(created(version)))
                }),
            )
        },
        Operation {
            check: |root, story, report| check_successor(root, story, report, created),
            ..creating(
                "remove_file",
                saving(|root, version| {
                    save(root, &created(version), version)?;
                    match version {
                        1 => durafile::sync(root),
                        _ => durafile::remove_file(root.join(created(version - 1))),
                    }
                }),
            )
        },
        Operation {
            check: |root, story, report| check_successor(root, story, report, nested),
            ..creating(
                "remove_dir_all",
                saving(|root, version| {
                    save(root, &nested(version), version)?;
                    match version {
                        1 => durafile::sync(root),
                        _ => durafile::remove_dir_all(root.join(format!("dir-{}", version - 1))),
                    }
                }),
            )
        },
        Operation {
            check: check_acknowledged,
            ..creating(
                "sync, after a careless program",
                saving(|root, version| {
                    let name = created(version);
                    fs::write(root.join(&name), content::of(version, &name))?;
                    durafile::sync(root.join(&name)).map_err(std::io::Error::from)
                }),
            )
        },
    ]
}

/// Before it is acknowledged, a file is the careless program's.
pub(crate) fn check_acknowledged(root: &Path, story: &Story, report: &mut Report) {
    for version in 1..=story.began {
        let name = created(version);
        report.expect(&name);
        if version <= story.full {
            report.created(root, &name, version, story);
        }
    }
}

fn save(root: &Path, name: &str, version: u32) -> durafile::Result<Committed> {
    WriteOptions::new().create_parents(true).write(root.join(name), content::of(version, name))
}

/// What is still under its old name is complete, and its move was not acknowledged.
fn check_moved(root: &Path, from: &str, name: &str, report: &mut Report, story: &Story) {
    report.expect(from);
    match content::find(&root.join(from), name) {
        Found::Missing => {}
        Found::Complete(version) if version > story.full => {}
        Found::Complete(version) => {
            report.add(Kind::Durability, format_args!("{from} is back, of version {version}"));
        }
        found => report.add(Kind::Atomicity, format_args!("{from} is {found:?}")),
    }
}

/// Before a move between two directories is acknowledged, btrfs may leave both names; never neither.
fn check_archived(root: &Path, story: &Story, report: &mut Report) {
    ["inbox", "done"].iter().for_each(|dir| report.expect(dir));
    for version in 1..=story.began {
        let name = created(version);
        let (from, to) = (format!("inbox/{name}"), format!("done/{name}"));
        [&from, &to].iter().for_each(|path| report.expect(path));
        let at = |path: &str| content::find(&root.join(path), &name);
        match (at(&from), at(&to)) {
            (Found::Missing, Found::Complete(found)) if found == version => {}
            (Found::Missing, Found::Missing) if version == story.began && version > story.full => {}
            (Found::Complete(found), Found::Missing) if found == version && version > story.full => {}
            (Found::Complete(one), Found::Complete(two))
                if (one, two) == (version, version) && version > story.full => {}
            (from, to) => {
                let text = format_args!("version {version}: {from:?} before and {to:?} after the move");
                report.add(if version > story.full { Kind::Atomicity } else { Kind::Durability }, text);
            }
        }
    }
}

/// Each version makes its own file and removes the one before, which never comes back.
fn check_successor(root: &Path, story: &Story, report: &mut Report, name: fn(u32) -> String) {
    for version in 1..=story.began {
        let name = name(version);
        // As long as it is not removed for certain.
        if version >= story.full {
            report.expect(&name);
        } else if root.join(&name).exists() {
            report.add(Kind::Durability, format_args!("{name} is back"));
        }
        match content::find(&root.join(&name), &name) {
            Found::Missing if version != story.full || story.began > story.full => {}
            Found::Complete(found) if found == version => {}
            found => report.add(Kind::Atomicity, format_args!("{name} is {found:?}")),
        }
    }
}
