//! Saves of one file.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use durafile::{Durability, InPlace, WriteOptions};

use crate::work::content::{self, Found};
use crate::work::names::check_acknowledged;
use crate::work::operation::{Kind, Operation, Outcome, Report, Save, Setting, Story, What};

pub(crate) const TARGET: &str = "target";
const PREVIOUS: &str = "previous";
const MODE: u32 = 0o640;

pub fn operations() -> Vec<Operation> {
    let plain = WriteOptions::new;
    let flush = || WriteOptions::new().single_flush(true);
    vec![
        replacing("write, replace", save_with(plain())),
        creating("write, new", create_with(plain())),
        creating("create_new", create_with(plain().create_new(true))),
        Operation {
            check: |root, story, report| check_created(root, story, report, nested),
            ..creating(
                "create_parents",
                saving(|root, version| {
                    let name = nested(version);
                    let options = WriteOptions::new().create_parents(true);
                    options.write(root.join(&name), content::of(version, &name))
                }),
            )
        },
        Operation {
            prepare: |root| Ok(fs::write(root.join(TARGET), content::json_of(0, TARGET))?),
            check: |root, story, report| {
                report.judge(TARGET, content::find_json(&root.join(TARGET), TARGET), story);
            },
            ..replacing(
                "write_json",
                saving(|root, version| {
                    durafile::write_json(root.join(TARGET), &content::json_value(version, TARGET))
                }),
            )
        },
        replacing("AtomicFile, streamed", stream_with(plain())),
        replacing(
            "write_from a slow reader",
            saving(|root, version| {
                let content = content::of(version, TARGET);
                WriteOptions::new().write_from(root.join(TARGET), Slow(&content))
            }),
        ),
        Operation {
            prepare: |root| {
                fs::create_dir(root.join("far"))?;
                fs::write(root.join("far/target"), content::of(0, "far/target"))?;
                Ok(symlink("far/target", root.join("link"))?)
            },
            check: |root, story, report| {
                report.expect("link");
                report.replaced(root, "far/target", story);
            },
            ..replacing(
                "write through a link",
                saving(|root, version| {
                    durafile::write(root.join("link"), content::of(version, "far/target"))
                }),
            )
        },
        Operation {
            check: check_acknowledged,
            ..creating(
                "skip_unchanged, after a careless program",
                saving(|root, version| {
                    let (path, content) =
                        (root.join(created(version)), content::of(version, &created(version)));
                    fs::write(&path, &content)?;
                    let committed = WriteOptions::new().skip_unchanged(true).write(&path, content)?;
                    assert!(committed.is_unchanged());
                    Ok::<_, io::Error>(committed)
                }),
            )
        },
        replacing(
            "update",
            saving(|root, version| durafile::update(root.join(TARGET), |_| Ok(content::of(version, TARGET)))),
        ),
        creating(
            "AtomicFile, named at the end",
            Box::new(|root, version| {
                let name = created(version);
                let mut file = WriteOptions::new().open_in(root)?;
                file.write_all(&content::of(version, &name))?;
                Ok(file.commit_as(root.join(&name))?.durability())
            }),
        ),
        Operation {
            check: |root, story, report| {
                let version = report.replaced(root, TARGET, story);
                report.expect(PREVIOUS);
                match (version, content::find(&root.join(PREVIOUS), TARGET)) {
                    (None | Some(0), Found::Missing) => {}
                    // A cut between the two renames leaves the same version under both names.
                    (Some(version), Found::Complete(kept)) if kept == version || kept + 1 == version => {}
                    (version, kept) => {
                        let text = format_args!("of version {version:?}, the version before is {kept:?}");
                        report.add(Kind::Atomicity, text);
                    }
                }
            },
            ..replacing("write, keep_previous", save_with(plain().keep_previous(PREVIOUS)))
        },
        // The undo copy is all that the recovery needs, which runs where nothing can be renamed, either.
        Operation {
            setting: Setting::NoRename,
            ..replacing(
                "write, in_place",
                saving(|root, version| {
                    let options = WriteOptions::new().in_place(InPlace::Fallback);
                    let committed = options.write(root.join(TARGET), content::of(version, TARGET))?;
                    assert!(committed.was_in_place());
                    Ok::<_, durafile::Error>(committed)
                }),
            )
        },
        replacing("write, Data", save_with(plain().durability(Durability::Data))),
        replacing("single_flush, replace", save_with(flush())),
        creating("single_flush, new", create_with(flush())),
        replacing("single_flush, streamed", stream_with(flush())),
    ]
}

pub(crate) fn replacing(name: &str, save: Save) -> Operation {
    Operation {
        name: name.to_owned(),
        rounds: 30,
        prepare: |root| {
            let target = root.join(TARGET);
            fs::write(&target, content::of(0, TARGET))?;
            Ok(fs::set_permissions(target, fs::Permissions::from_mode(MODE))?)
        },
        save,
        check: |root, story, report| {
            report.replaced(root, TARGET, story);
            let mode = fs::metadata(root.join(TARGET)).map(|found| found.permissions().mode() & 0o7777);
            if mode.as_ref().is_ok_and(|mode| *mode != MODE) {
                report.add(Kind::Atomicity, format_args!("the mode is {mode:?}"));
            }
        },
        what: What::Library,
        setting: Setting::Plain,
    }
}

pub(crate) fn creating(name: &str, save: Save) -> Operation {
    Operation {
        prepare: |_| Ok(()),
        check: |root, story, report| check_created(root, story, report, created),
        ..replacing(name, save)
    }
}

pub(crate) fn check_created(root: &Path, story: &Story, report: &mut Report, name: fn(u32) -> String) {
    for version in 1..=story.began {
        report.created(root, &name(version), version, story);
    }
}

pub(crate) fn created(version: u32) -> String {
    format!("file-{version}")
}

pub(crate) fn nested(version: u32) -> String {
    format!("dir-{version}/inner/file")
}

/// What a save reports is what it is held to.
pub(crate) fn saving<E>(
    save: impl Fn(&Path, u32) -> Result<durafile::Committed, E> + Send + Sync + 'static,
) -> Save
where
    E: std::error::Error + Send + Sync + 'static,
{
    Box::new(move |root, version| Ok(save(root, version)?.durability()))
}

fn save_with(options: WriteOptions) -> Save {
    saving(move |root, version| options.write(root.join(TARGET), content::of(version, TARGET)))
}

fn create_with(options: WriteOptions) -> Save {
    saving(move |root, version| {
        let name = created(version);
        options.write(root.join(&name), content::of(version, &name))
    })
}

/// In pieces, with pauses in which other programs' syncs commit what is there so far; the first
/// bytes come last.
fn stream_with(options: WriteOptions) -> Save {
    Box::new(move |root, version| stream(&options, &root.join(TARGET), &content::of(version, TARGET)))
}

fn stream(options: &WriteOptions, path: &Path, content: &[u8]) -> Outcome<Durability> {
    let mut file = options.open(path)?;
    let (head, tail) = content.split_at(content.len() / 8);
    file.seek(SeekFrom::Start(head.len() as u64))?;
    for part in tail.chunks(tail.len() / 4 + 1) {
        file.write_all(part)?;
        file.flush()?;
        std::thread::sleep(PAUSE);
    }
    file.rewind()?;
    file.write_all(head)?;
    Ok(file.commit()?.durability())
}

const PAUSE: Duration = Duration::from_micros(700);

struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        std::thread::sleep(PAUSE);
        let most = buffer.len().min(9_000);
        self.0.read(&mut buffer[..most])
    }
}
