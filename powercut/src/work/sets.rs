//! Saves of several files.

use std::fs;
use std::path::Path;
use std::time::Duration;

use durafile::{Batch, Durability, SyncStrategy, TransactionOptions, WriteOptions};

use crate::work::content;
use crate::work::operation::{Kind, Operation, Outcome, Report, Save, Setting, Story, What};

/// Replaced by each batch, in two directories.
const BATCH: [&str; 4] = ["a", "b", "dir/c", "dir/d"];
/// Replaced by each transaction.
const TRANSACTION: [&str; 3] = ["a", "b", "dir/c"];
/// So many that `Auto` prefers one sync of the file system, unless the machine is busy.
const MANY: u32 = 60;

pub fn operations() -> Vec<Operation> {
    use SyncStrategy::{Auto, FileSystem, PerFile};
    let flush = WriteOptions::new().single_flush(true);
    let data = WriteOptions::new().durability(Durability::Data);
    let plain = WriteOptions::new;
    let transact = TransactionOptions::new;
    let mut operations = vec![
        batch("Batch, Auto", Auto, plain()),
        many("Batch, Auto, of many files", batch_of_many, check_batch_of_many),
        batch("Batch, PerFile", PerFile, plain()),
        batch("Batch, FileSystem", FileSystem, plain()),
        batch("Batch, single_flush", Auto, flush),
        batch("Batch, Data", Auto, data),
        transaction("Transaction, Auto", transact()),
        many("Transaction, Auto, of many files", transaction_of_many, check_transaction_of_many),
        transaction("Transaction, PerFile", transact().sync(PerFile)),
        transaction("Transaction, FileSystem", transact().sync(FileSystem)),
        transaction("Transaction, single_flush", transact().single_flush(true)),
    ];
    let recovery =
        |name: &str, operation| Operation { name: name.to_owned(), what: What::Recovery, ..operation };
    operations.push(recovery("recover, after Batch", batch("", Auto, plain())));
    operations.push(recovery("recover, after Transaction", transaction("", transact())));
    operations
}

fn batch(name: &str, strategy: SyncStrategy, options: WriteOptions) -> Operation {
    let save: Save = Box::new(move |root, version| {
        let mut batch = Batch::new().options(options.clone()).sync(strategy);
        for name in BATCH {
            batch.write(root.join(name), content::of(version, name))?;
            pause();
        }
        let name = added(version);
        batch.write(root.join(&name), content::of(version, &name))?;
        let reached = batch.commit()?;
        Ok(reached.iter().map(durafile::Committed::durability).min().unwrap_or(Durability::None))
    });
    Operation {
        name: name.to_owned(),
        rounds: 12,
        prepare: |root| prepare(root, &BATCH),
        save,
        check: check_batch,
        what: What::Library,
        setting: Setting::Plain,
    }
}

fn check_batch(root: &Path, story: &Story, report: &mut Report) {
    for name in BATCH {
        report.replaced(root, name, story);
    }
    for version in 1..=story.began {
        report.created(root, &added(version), version, story);
    }
}

fn many_names() -> Vec<String> {
    (0..MANY).map(|n| format!("many/{n}")).collect()
}

fn many(
    name: &str,
    save: fn(&Path, u32) -> Outcome<Durability>,
    check: fn(&Path, &Story, &mut Report),
) -> Operation {
    Operation {
        name: name.to_owned(),
        rounds: 6,
        prepare: |root| prepare(root, &many_names()),
        save: Box::new(save),
        check,
        what: What::Library,
        setting: Setting::Plain,
    }
}

fn batch_of_many(root: &Path, version: u32) -> Outcome<Durability> {
    let mut batch = Batch::new();
    for name in many_names() {
        batch.write(root.join(&name), content::of(version, &name))?;
    }
    let reached = batch.commit()?;
    Ok(reached.iter().map(durafile::Committed::durability).min().unwrap_or(Durability::None))
}

fn check_batch_of_many(root: &Path, story: &Story, report: &mut Report) {
    for name in many_names() {
        report.replaced(root, &name, story);
    }
}

fn transaction_of_many(root: &Path, version: u32) -> Outcome<Durability> {
    let mut change = TransactionOptions::new().begin(root)?;
    for name in many_names() {
        change.write(&name, content::of(version, &name))?;
    }
    Ok(change.commit()?.durability())
}

fn check_transaction_of_many(root: &Path, story: &Story, report: &mut Report) {
    check_same(root, story, report, &many_names());
}

fn added(version: u32) -> String {
    format!("dir/added-{version}")
}

fn transaction(name: &str, options: TransactionOptions) -> Operation {
    let save: Save = Box::new(move |root, version| {
        let mut change = options.begin(root)?;
        for name in TRANSACTION {
            change.write(name, content::of(version, name))?;
            pause();
        }
        change.write(only(version), content::of(version, &only(version)))?;
        if version > 1 {
            change.remove(only(version - 1))?;
        }
        Ok(change.commit()?.durability())
    });
    Operation {
        name: name.to_owned(),
        rounds: 12,
        prepare: |root| prepare(root, &TRANSACTION),
        save,
        check: check_transaction,
        what: What::Library,
        setting: Setting::Plain,
    }
}

/// There in this version only.
fn only(version: u32) -> String {
    format!("only/in-{version}/file")
}

pub fn prepare(root: &Path, names: &[impl AsRef<str>]) -> Outcome<()> {
    for name in names.iter().map(AsRef::as_ref) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().ok_or("no parent")?)?;
        fs::write(path, content::of(0, name))?;
    }
    Ok(())
}

fn check_transaction(root: &Path, story: &Story, report: &mut Report) {
    check_same(root, story, report, &TRANSACTION);
    // Directories that a change needed stay.
    (1..=story.began).for_each(|version| report.expect(Path::new(&only(version)).parent().unwrap_or(root)));
    let versions: Vec<u32> = TRANSACTION.iter().filter_map(|name| version_of(root, name)).collect();
    for version in 1..=story.began {
        let name = only(version);
        let is_there = match content::find(&root.join(&name), &name) {
            content::Found::Missing => false,
            content::Found::Complete(found) if found == version => true,
            found => {
                report.add(Kind::Atomicity, format_args!("{name} is {found:?}"));
                true
            }
        };
        if is_there {
            report.expect(&name);
        }
        if is_there != versions.contains(&version) {
            report.add(Kind::Atomicity, format_args!("{name} is there: {is_there}; others: {versions:?}"));
        }
    }
}

fn version_of(root: &Path, name: &str) -> Option<u32> {
    match content::find(&root.join(name), name) {
        content::Found::Complete(version) => Some(version),
        _ => None,
    }
}

/// All of one version.
pub fn check_same(
    root: &Path,
    story: &Story,
    report: &mut Report,
    names: &[impl AsRef<str> + std::fmt::Debug],
) {
    let versions: Vec<_> = names.iter().map(|name| report.replaced(root, name.as_ref(), story)).collect();
    if versions.windows(2).any(|two| two[0] != two[1]) {
        report.add(Kind::Atomicity, format_args!("{names:?} are of versions {versions:?}"));
    }
}

/// Lets a commit of the journal fall between two files.
fn pause() {
    std::thread::sleep(Duration::from_micros(500));
}
