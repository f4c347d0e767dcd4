//! Directories that are replaced as a whole.

use std::fs;
use std::path::Path;
use std::time::Duration;

use durafile::{AtomicDir, Carry, DirOptions, DirSnapshot, Durability, SyncStrategy};

use crate::work::content::{self, Found};
use crate::work::operation::{Kind, Operation, Outcome, Report, Save, Setting, Story, What};
use crate::work::sets::{check_same, prepare};

/// What each version writes.
const FILES: [&str; 3] = ["a", "b", "sub/c"];
const LIVE: [&str; 3] = ["live/a", "live/b", "live/sub/c"];
/// What no version mentions, and each must have.
const CARRIED: [&str; 2] = ["live/carried", "live/sub/carried"];
/// Saves in one recording.
const ROUNDS: u32 = 12;

pub fn operations() -> Vec<Operation> {
    use SyncStrategy::{FileSystem, PerFile};
    let plain = DirOptions::new;
    let without_exchange = |operation| Operation { setting: Setting::NoExchange, ..operation };
    vec![
        updating("AtomicDir, update", plain()),
        updating("AtomicDir, update, hard links", plain().carry(Carry::HardLink)),
        updating("AtomicDir, update, PerFile", plain().sync(PerFile)),
        updating("AtomicDir, update, FileSystem", plain().sync(FileSystem)),
        updating("AtomicDir, update, single_flush", plain().single_flush(true)),
        updating("AtomicDir, update, Data", plain().durability(Durability::Data)),
        Operation {
            save: Box::new(update_beside_a_reader),
            ..updating("AtomicDir, update, beside a reader", plain())
        },
        Operation {
            save: Box::new(update_by_tools),
            ..updating("AtomicDir, filled by other tools", plain())
        },
        replacing("AtomicDir, create over old", plain()),
        creating("AtomicDir, create new", plain()),
        creating("AtomicDir, create new, single_flush", plain().single_flush(true)),
        without_exchange(updating("AtomicDir, two renames, update", plain())),
        without_exchange(replacing("AtomicDir, two renames, create", plain())),
        over_lower_layer("AtomicDir, on an overlay's lower layer"),
        recovery(updating("recover, after AtomicDir", plain())),
        recovery(without_exchange(updating("recover, after AtomicDir by two renames", plain()))),
        recovery(over_lower_layer("recover, after AtomicDir on a lower layer")),
    ]
}

fn recovery(operation: Operation) -> Operation {
    Operation { what: What::Recovery, ..operation }
}

fn updating(name: &str, options: DirOptions) -> Operation {
    Operation {
        name: name.to_owned(),
        rounds: ROUNDS,
        prepare: |root| {
            prepare(root, &LIVE)?;
            prepare(root, &CARRIED)
        },
        save: Box::new(move |root, version| update(&options, root, version)),
        check: |root, story, report| {
            CARRIED.iter().for_each(|name| check_carried(root, name, report));
            check_live(root, story, report);
        },
        what: What::Library,
        setting: Setting::Plain,
    }
}

/// Only what the new version says.
fn replacing(name: &str, options: DirOptions) -> Operation {
    Operation {
        prepare: |root| prepare(root, &LIVE),
        save: Box::new(move |root, version| {
            let mut dir = options.create(root.join("live"))?;
            fill(&mut dir, version)?;
            Ok(dir.commit()?.durability())
        }),
        check: check_live,
        ..updating(name, DirOptions::new())
    }
}

/// A new directory each time.
fn creating(name: &str, options: DirOptions) -> Operation {
    let save: Save = Box::new(move |root, version| {
        let target = format!("new-{version}");
        let mut dir = options.create(root.join(&target))?;
        for name in FILES {
            dir.write(name, content::of(version, &format!("{target}/{name}")))?;
            pause();
        }
        Ok(dir.commit()?.durability())
    });
    Operation {
        prepare: |_| Ok(()),
        save,
        check: |root, story, report| {
            for version in 1..=story.began {
                let names = FILES.map(|name| format!("new-{version}/{name}"));
                let there: Vec<bool> =
                    names.iter().map(|name| report.created(root, name, version, story)).collect();
                if there.contains(&true) != root.join(format!("new-{version}")).exists()
                    || there.contains(&true) && there.contains(&false)
                {
                    report.add(Kind::Atomicity, format_args!("of {names:?} there are {there:?}"));
                }
            }
        },
        ..updating(name, DirOptions::new())
    }
}

/// Directories of the lower layer can't be renamed; each is replaced once, since the new one is in
/// the upper layer.
fn over_lower_layer(name: &str) -> Operation {
    Operation {
        prepare: |root| {
            (1..=ROUNDS).try_for_each(|version| prepare(root, &lower(version).each_ref().map(String::as_str)))
        },
        save: Box::new(|root, version| {
            let mut dir = AtomicDir::create(root.join(format!("lower-{version}")))?;
            for name in FILES {
                dir.write(name, content::of(version, &format!("lower-{version}/{name}")))?;
                pause();
            }
            Ok(dir.commit()?.durability())
        }),
        check: |root, story, report| {
            for version in 1..=ROUNDS {
                let (names, mut found) = (lower(version), Vec::new());
                names.iter().for_each(|name| report.expect(name));
                for name in &names {
                    found.push(content::find(&root.join(name), name));
                }
                let is_old = found.iter().all(|found| *found == Found::Complete(0));
                let is_new = found.iter().all(|found| *found == Found::Complete(version));
                if is_old && version <= story.full {
                    report.add(Kind::Durability, format_args!("lower-{version} is old, though acknowledged"));
                }
                if !is_old && (!is_new || version > story.began) {
                    report.add(Kind::Atomicity, format_args!("{names:?} are {found:?}"));
                }
            }
        },
        setting: Setting::Overlay,
        ..updating(name, DirOptions::new())
    }
}

fn lower(version: u32) -> [String; 3] {
    FILES.map(|name| format!("lower-{version}/{name}"))
}

fn only(version: u32) -> String {
    format!("live/only-in-{version}")
}

fn fill(dir: &mut AtomicDir, version: u32) -> Outcome<()> {
    for name in FILES {
        dir.write(name, content::of(version, &format!("live/{name}")))?;
        pause();
    }
    Ok(dir.write(format!("only-in-{version}"), content::of(version, &only(version)))?)
}

fn update(options: &DirOptions, root: &Path, version: u32) -> Outcome<Durability> {
    let mut dir = options.update(root.join("live"))?;
    fill(&mut dir, version)?;
    if version > 1 {
        dir.remove(format!("only-in-{}", version - 1))?;
    }
    Ok(dir.commit()?.durability())
}

/// The old version can't be deleted by the commit, and is by its reader.
fn update_beside_a_reader(root: &Path, version: u32) -> Outcome<Durability> {
    let reader = DirSnapshot::open(root.join("live"))?;
    let reached = update(&DirOptions::new(), root, version)?;
    let old = reader.read("a")?;
    if old != content::of(version - 1, "live/a") {
        return Err("a reader saw its version change".into());
    }
    Ok(reached)
}

/// With plain writes, which the commit has to find and to sync.
fn update_by_tools(root: &Path, version: u32) -> Outcome<Durability> {
    let mut dir = AtomicDir::update(root.join("live"))?;
    let staging = dir.staging().to_owned();
    for name in FILES {
        fs::write(staging.join(name), content::of(version, &format!("live/{name}")))?;
        pause();
    }
    if version > 1 {
        dir.remove(format!("only-in-{}", version - 1))?;
    }
    fs::write(staging.join(format!("only-in-{version}")), content::of(version, &only(version)))?;
    Ok(dir.commit()?.durability())
}

fn check_live(root: &Path, story: &Story, report: &mut Report) {
    check_same(root, story, report, &LIVE);
    let versions: Vec<_> = LIVE.iter().map(|name| content::find(&root.join(name), name)).collect();
    for version in 1..=story.began {
        let found = content::find(&root.join(only(version)), &only(version));
        let wanted = if versions.contains(&Found::Complete(version)) {
            Found::Complete(version)
        } else {
            Found::Missing
        };
        if found != wanted {
            report.add(Kind::Atomicity, format_args!("{} is {found:?} beside {versions:?}", only(version)));
        }
        if wanted != Found::Missing {
            report.expect(only(version));
        }
    }
}

fn check_carried(root: &Path, name: &str, report: &mut Report) {
    report.expect(name);
    match content::find(&root.join(name), name) {
        Found::Complete(0) => {}
        found => report.add(Kind::Atomicity, format_args!("{name}, which was carried over, is {found:?}")),
    }
}

fn pause() {
    std::thread::sleep(Duration::from_micros(500));
}
