//! One save: the same file, replaced again and again.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cap_std_ext::prelude::CapStdExtDirExt as _;
use durafile::WriteOptions;
use fs_transaction::{Storage as _, exec::block_on};
use rustix::fs::{Mode, OFlags};

use crate::Outcome;

/// On whose side a method is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Ours,
    Peer,
    /// What everything is compared with.
    Raw,
    /// Faster, but promises less than an atomic and durable save.
    Floor,
}

/// Saves content to the one target it was made for.
pub(crate) type Save = Box<dyn FnMut(&[u8]) -> Outcome>;

/// A way to save one file.
#[derive(Clone, Copy)]
pub(crate) struct Saver {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    /// Opens what a program would keep open between saves.
    pub(crate) prepare: fn(&Path) -> Outcome<Save>,
}

const fn saver(name: &'static str, side: Side, prepare: fn(&Path) -> Outcome<Save>) -> Saver {
    Saver { name, side, prepare }
}

pub(crate) const ALL: [Saver; 15] = [
    saver("raw loop", Side::Raw, |target| {
        let (target, mut count) = (target.to_owned(), 0);
        Ok(Box::new(move |content| {
            // A fresh name each time, as any safe writer needs.
            count += 1;
            raw(&target, &format!("temp-{count}"), content)
        }))
    }),
    saver("durafile", Side::Ours, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| Ok(durafile::write(&target, content).map(drop)?)))
    }),
    saver("durafile, single_flush", Side::Ours, |target| {
        let (target, options) = (target.to_owned(), WriteOptions::new().single_flush(true));
        Ok(Box::new(move |content| Ok(options.clone().write(&target, content).map(drop)?)))
    }),
    saver("atomicwrites", Side::Peer, |target| {
        let file = atomicwrites::AtomicFile::new(target, atomicwrites::AllowOverwrite);
        Ok(Box::new(move |content| Ok(file.write(|file| file.write_all(content))?)))
    }),
    saver("atomic-write-file", Side::Peer, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| {
            let mut file = atomic_write_file::AtomicWriteFile::open(&target)?;
            file.write_all(content)?;
            Ok(file.commit()?)
        }))
    }),
    saver("atomic-write-file 0.2, unnamed", Side::Peer, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| {
            let mut file = atomic_write_file_unnamed::AtomicWriteFile::open(&target)?;
            file.write_all(content)?;
            Ok(file.commit()?)
        }))
    }),
    saver("tempfile + syncs", Side::Peer, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| {
            let dir = parent(&target);
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            file.write_all(content)?;
            file.as_file().sync_all()?;
            file.persist(&target)?;
            Ok(File::open(dir)?.sync_all()?)
        }))
    }),
    saver("cap-std-ext", Side::Peer, |target| {
        let dir = cap_std::fs::Dir::open_ambient_dir(parent(target), cap_std::ambient_authority())?;
        let name = PathBuf::from(target.file_name().ok_or("no name")?);
        Ok(Box::new(move |content| Ok(dir.atomic_write(&name, content)?)))
    }),
    saver("gix-lock + syncs", Side::Peer, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| {
            commit_lock(gix_lock_write(&target, content)?)?;
            Ok(File::open(parent(&target))?.sync_all()?)
        }))
    }),
    saver("fsys", Side::Peer, |target| {
        let (handle, target) = (fsys::with(fsys::Method::Data)?, target.to_owned());
        Ok(Box::new(move |content| Ok(handle.write(&target, content)?)))
    }),
    saver("fs-transaction", Side::Peer, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| Ok(block_on(fs_transaction::StdFs.write_atomic(&target, content))?)))
    }),
    saver("fstx", Side::Peer, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| {
            let mut change = fstx::Transaction::begin(parent(&target))?;
            change.write(target.file_name().ok_or("no name")?, content)?;
            Ok(change.commit()?)
        }))
    }),
    saver("no directory sync", Side::Floor, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| {
            let temp = target.with_extension("temp");
            let mut file = File::create_new(&temp)?;
            file.write_all(content)?;
            file.sync_all()?;
            Ok(std::fs::rename(&temp, &target)?)
        }))
    }),
    saver("pwrite + fdatasync in place", Side::Floor, |target| {
        let file = File::options().write(true).open(target)?;
        Ok(Box::new(move |content| {
            file.write_all_at(content, 0)?;
            Ok(file.sync_data()?)
        }))
    }),
    saver("temp + rename, no sync", Side::Floor, |target| {
        let target = target.to_owned();
        Ok(Box::new(move |content| {
            let temp = target.with_extension("temp");
            std::fs::write(&temp, content)?;
            Ok(std::fs::rename(&temp, &target)?)
        }))
    }),
];

pub(crate) fn parent(target: &Path) -> &Path {
    target.parent().unwrap_or(Path::new("."))
}

/// The least that an atomic and durable save takes by hand: eight system calls, two of them syncs.
pub(crate) fn raw(target: &Path, temp: &str, content: &[u8]) -> Outcome {
    let dir = parent(target);
    let temp = dir.join(temp);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::open(&temp, flags, Mode::from_raw_mode(0o666))?;
    let written = rustix::io::write(&file, content)?;
    assert_eq!(written, content.len(), "a regular file takes it in one go");
    rustix::fs::fsync(&file)?;
    drop(file);
    rustix::fs::rename(&temp, target)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Mode::empty())?;
    rustix::fs::fsync(&dir)?;
    Ok(())
}

/// Content written and synced under the lock's name, to be committed.
pub(crate) fn gix_lock_write(target: &Path, content: &[u8]) -> Outcome<gix_lock::File> {
    let now = gix_lock::acquire::Fail::Immediately;
    let mut file = gix_lock::File::acquire_to_update_resource(target, now, None, 0)
        .map_err(|error| error.to_string())?;
    file.with_mut(|file| {
        file.write_all(content)?;
        file.sync_all()
    })?;
    Ok(file)
}

pub(crate) fn commit_lock(lock: gix_lock::File) -> Outcome {
    lock.commit().map(drop).map_err(|error| error.error.into())
}
