//! Goal: a program that waits for finished files in a directory hears of each one under its own name. Method:
//! inotify, asked for names that are moved in and for ends of writing, as such programs do.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use durafile::{AtomicFile, Batch, Durability, Transaction, WriteOptions};
use fs_err as fs;
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use crate::support::dir;

fn watch(dir: &Path) -> OwnedFd {
    let watcher = inotify::init(CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watcher, dir, WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE).unwrap();
    watcher
}

/// The names that were told; those of files without a name begin with `#`.
fn heard(watcher: &OwnedFd) -> Vec<String> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(watcher, &mut buffer);
    let mut names = Vec::new();
    while let Ok(event) = reader.next() {
        names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    names.retain(|name| !name.starts_with('#') && !durafile::is_remnant(name));
    // Where the staged file has a name, the end of writing is told after the move, under the new one.
    names.dedup();
    names
}

#[test]
fn a_watcher_of_finished_files_hears_of_every_new_file() {
    type Save = fn(&Path) -> durafile::Result<()>;
    let ways: [(&str, Save); 8] = [
        ("write", |path| durafile::write(path, "new").map(drop)),
        ("create_new", |path| WriteOptions::new().create_new(true).write(path, "new").map(drop)),
        ("no sync", |path| WriteOptions::new().durability(Durability::None).write(path, "new").map(drop)),
        ("read-only", |path| {
            let read_only = std::fs::Permissions::from_mode(0o444);
            WriteOptions::new().permissions(read_only).write(path, "new").map(drop)
        }),
        ("read-only, create_new", |path| {
            let read_only = std::fs::Permissions::from_mode(0o444);
            WriteOptions::new().create_new(true).permissions(read_only).write(path, "new").map(drop)
        }),
        ("stream", |path| AtomicFile::create(path)?.commit().map(drop)),
        ("Batch", |path| {
            let mut batch = Batch::new();
            batch.write(path, "new")?;
            batch.commit().map(drop)
        }),
        ("Transaction", |path| {
            let mut change = Transaction::begin(path.parent().unwrap())?;
            change.write(path.file_name().unwrap(), "new")?;
            change.commit().map(drop)
        }),
    ];
    for (way, save) in ways {
        let home = dir();
        fs::write(home.path().join("old"), "old").unwrap();
        let watcher = watch(home.path());
        for name in ["new", "old"] {
            if name == "old" && way.contains("create_new") {
                continue;
            }
            save(&home.path().join(name)).unwrap();
            assert_eq!(heard(&watcher), [name], "{way}");
        }
    }
}
