//! Many files at once, in one directory.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use cap_std_ext::prelude::CapStdExtDirExt as _;
use durafile::{Batch, SyncStrategy, TransactionOptions, WriteOptions};
use fs_transaction::{ChangeSet, OrderedBatch, StdFs, exec::block_on, fs::Durability};

use crate::Outcome;
use crate::saves::{Side, commit_lock, gix_lock_write, raw};

/// What to save; the content of each file is its own.
#[derive(Clone, Debug)]
pub(crate) struct Files(Vec<(String, Vec<u8>)>);

impl Files {
    pub(crate) fn new(count: usize, len: usize, version: u8) -> Self {
        let content = |n: usize| {
            let mut content = vec![version; len];
            content[..8].copy_from_slice(&(n as u64).to_le_bytes());
            content
        };
        Self((0..count).map(|n| (format!("{n:06}"), content(n))).collect())
    }

    pub(crate) fn write_plainly(&self, dir: &Path) -> Outcome {
        self.iter().try_for_each(|(name, content)| Ok(std::fs::write(dir.join(name), content)?))
    }

    /// Everything is there, and nothing else.
    pub(crate) fn check(&self, dir: &Path) -> Outcome {
        for (name, content) in self.iter() {
            if std::fs::read(dir.join(name))? != content {
                return Err(format!("{name} has other content").into());
            }
        }
        let mut found = 0;
        for entry in std::fs::read_dir(dir)? {
            // fstx keeps its lock there.
            found += usize::from(entry?.file_name() != ".fstx");
        }
        match found == self.0.len() {
            true => Ok(()),
            false => Err(format!("{found} entries instead of {}", self.0.len()).into()),
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, content)| (name.as_str(), content.as_slice()))
    }

    fn each(&self, dir: &Path, mut save: impl FnMut(&Path, &[u8]) -> Outcome) -> Outcome {
        self.iter().try_for_each(|(name, content)| save(&dir.join(name), content))
    }
}

/// Saves a whole set into a directory.
pub(crate) type SaveSet = Box<dyn FnMut(&Path, &Files) -> Outcome>;

/// A way to save many files.
#[derive(Clone, Copy)]
pub(crate) struct SetSaver {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    /// All or none across crashes, not only each by itself.
    pub(crate) all_or_none: bool,
    pub(crate) prepare: fn() -> Outcome<SaveSet>,
}

const fn saver(name: &'static str, side: Side, prepare: fn() -> Outcome<SaveSet>) -> SetSaver {
    SetSaver { name, side, all_or_none: false, prepare }
}

const fn all_or_none(name: &'static str, side: Side, prepare: fn() -> Outcome<SaveSet>) -> SetSaver {
    SetSaver { name, side, all_or_none: true, prepare }
}

pub(crate) const ALL: [SetSaver; 20] = [
    saver("raw loop", Side::Raw, || {
        Ok(Box::new(|dir, files| {
            let mut count = 0;
            files.each(dir, |path, content| {
                count += 1;
                raw(path, &format!("temp-{count}"), content)
            })
        }))
    }),
    saver("durafile, loop of write", Side::Ours, || {
        Ok(Box::new(|dir, files| {
            files.each(dir, |path, content| Ok(durafile::write(path, content).map(drop)?))
        }))
    }),
    saver("Batch, Auto", Side::Ours, || {
        Ok(Box::new(|dir, files| batch(SyncStrategy::Auto, false, dir, files)))
    }),
    saver("Batch, PerFile", Side::Ours, || {
        Ok(Box::new(|dir, files| batch(SyncStrategy::PerFile, false, dir, files)))
    }),
    saver("Batch, FileSystem", Side::Ours, || {
        Ok(Box::new(|dir, files| batch(SyncStrategy::FileSystem, false, dir, files)))
    }),
    saver("Batch, single_flush", Side::Ours, || {
        Ok(Box::new(|dir, files| batch(SyncStrategy::Auto, true, dir, files)))
    }),
    all_or_none("Transaction, Auto", Side::Ours, || {
        Ok(Box::new(|dir, files| transaction(SyncStrategy::Auto, false, dir, files)))
    }),
    all_or_none("Transaction, FileSystem", Side::Ours, || {
        Ok(Box::new(|dir, files| transaction(SyncStrategy::FileSystem, false, dir, files)))
    }),
    all_or_none("Transaction, single_flush", Side::Ours, || {
        Ok(Box::new(|dir, files| transaction(SyncStrategy::Auto, true, dir, files)))
    }),
    saver("atomicwrites, loop", Side::Peer, || {
        Ok(Box::new(|dir, files| {
            files.each(dir, |path, content| {
                let file = atomicwrites::AtomicFile::new(path, atomicwrites::AllowOverwrite);
                Ok(file.write(|file| file.write_all(content))?)
            })
        }))
    }),
    saver("atomic-write-file, loop", Side::Peer, || {
        Ok(Box::new(|dir, files| {
            files.each(dir, |path, content| {
                let mut file = atomic_write_file::AtomicWriteFile::open(path)?;
                file.write_all(content)?;
                Ok(file.commit()?)
            })
        }))
    }),
    saver("tempfile + syncs, one of the directory", Side::Peer, || {
        Ok(Box::new(|dir, files| {
            files.each(dir, |path, content| {
                let mut file = tempfile::NamedTempFile::new_in(dir)?;
                file.write_all(content)?;
                file.as_file().sync_all()?;
                Ok(file.persist(path).map(drop)?)
            })?;
            Ok(File::open(dir)?.sync_all()?)
        }))
    }),
    saver("cap-std-ext, loop", Side::Peer, || {
        Ok(Box::new(|dir, files| {
            let dir = cap_std::fs::Dir::open_ambient_dir(dir, cap_std::ambient_authority())?;
            files.iter().try_for_each(|(name, content)| Ok(dir.atomic_write(name, content)?))
        }))
    }),
    saver("gix-lock + syncs, one of the directory", Side::Peer, || {
        Ok(Box::new(|dir, files| {
            files.each(dir, |path, content| commit_lock(gix_lock_write(path, content)?))?;
            Ok(File::open(dir)?.sync_all()?)
        }))
    }),
    saver("fsys, commit_grouped", Side::Peer, || {
        let handle = fsys::with(fsys::Method::Data)?;
        Ok(Box::new(move |dir, files| {
            let mut batch = handle.batch();
            for (name, content) in files.iter() {
                batch.write(dir.join(name), content);
            }
            Ok(batch.commit_grouped()?)
        }))
    }),
    saver("fs-transaction, OrderedBatch", Side::Peer, || {
        Ok(Box::new(|dir, files| {
            let mut batch = OrderedBatch::new();
            for (name, content) in files.iter() {
                batch.write(name, content);
            }
            Ok(block_on(batch.apply(&StdFs, dir, Durability::Durable))?)
        }))
    }),
    all_or_none("fs-transaction, ChangeSet", Side::Peer, || {
        Ok(Box::new(|dir, files| {
            let mut change = ChangeSet::new();
            for (name, content) in files.iter() {
                change.write(name, content);
            }
            Ok(block_on(change.apply(&StdFs, dir))?)
        }))
    }),
    all_or_none("fstx", Side::Peer, || {
        Ok(Box::new(|dir, files| {
            let mut change = fstx::Transaction::begin(dir)?;
            files.iter().try_for_each(|(name, content)| change.write(name, content))?;
            Ok(change.commit()?)
        }))
    }),
    saver("final names, one syncfs", Side::Floor, || {
        Ok(Box::new(|dir, files| {
            files.write_plainly(dir)?;
            Ok(rustix::fs::syncfs(File::open(dir)?)?)
        }))
    }),
    saver("final names, no sync", Side::Floor, || Ok(Box::new(|dir, files| files.write_plainly(dir)))),
];

pub(crate) fn batch(strategy: SyncStrategy, single_flush: bool, dir: &Path, files: &Files) -> Outcome {
    let mut batch = Batch::new().sync(strategy).options(WriteOptions::new().single_flush(single_flush));
    files.iter().try_for_each(|(name, content)| batch.write(dir.join(name), content))?;
    Ok(batch.commit().map(drop)?)
}

fn transaction(strategy: SyncStrategy, single_flush: bool, dir: &Path, files: &Files) -> Outcome {
    let options = TransactionOptions::new().sync(strategy).single_flush(single_flush);
    let mut change = options.begin(dir)?;
    files.iter().try_for_each(|(name, content)| change.write(name, content))?;
    Ok(change.commit().map(drop)?)
}
