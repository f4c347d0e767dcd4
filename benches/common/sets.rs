//! The ways of saving a set that the benches of sets compare.

use std::path::Path;

use durafile::{Batch, SyncStrategy, TransactionOptions, WriteOptions};
use rustix::fs::{Mode, OFlags};

use super::Outcome;

pub(crate) const CONTENT: [u8; 1024] = [b'x'; 1024];

/// The calls that the same promise takes by hand, file by file.
pub(crate) fn raw_loop(dir: &Path, files: usize) -> Outcome {
    for n in 0..files {
        raw_save(dir, &dir.join(n.to_string()), &dir.join(format!("temp-{n}")), &CONTENT)?;
    }
    Ok(())
}

pub(crate) fn raw_save(dir: &Path, target: &Path, temp: &Path, content: &[u8]) -> Outcome {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::open(temp, flags, Mode::from_raw_mode(0o666))?;
    rustix::io::write(&file, content)?;
    rustix::fs::fsync(&file)?;
    drop(file);
    rustix::fs::rename(temp, target)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::fsync(rustix::fs::open(dir, flags, Mode::empty())?)?;
    Ok(())
}

pub(crate) fn batch(dir: &Path, files: usize, strategy: SyncStrategy, single_flush: bool) -> Outcome {
    let options = WriteOptions::new().single_flush(single_flush);
    let mut batch = Batch::new().options(options).sync(strategy);
    for n in 0..files {
        batch.write(dir.join(n.to_string()), CONTENT)?;
    }
    assert_eq!(batch.commit()?.len(), files);
    Ok(())
}

pub(crate) fn transaction(dir: &Path, files: usize, strategy: SyncStrategy, single_flush: bool) -> Outcome {
    let options = TransactionOptions::new().sync(strategy).single_flush(single_flush);
    let mut transaction = options.begin(dir)?;
    for n in 0..files {
        transaction.write(n.to_string(), CONTENT)?;
    }
    Ok(transaction.commit().map(drop)?)
}
