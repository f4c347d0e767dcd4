//! Files that a user may write to and not replace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use durafile::{Committed, InPlace, Recovery, RecoveryOptions, Result, WriteOptions};
use fs_err as fs;

use crate::support::{as_user, chmod, chown, names};

pub(crate) const USER: u32 = 1001;

pub(crate) fn options() -> WriteOptions {
    WriteOptions::new().in_place(InPlace::Fallback)
}

/// A directory with somebody else's file in it, and an undo directory of the user's.
pub(crate) struct World {
    pub(crate) data: PathBuf,
    pub(crate) undo: PathBuf,
}

impl World {
    pub(crate) fn at(dir: &Path) -> World {
        World { data: dir.join("data"), undo: dir.join("undo") }
    }

    /// In this directory, whose owner lets others only write what is there (0755), or also create what only they may
    /// remove (1777).
    pub(crate) fn make(dir: &Path, mode: u32, old: &[u8]) -> World {
        let world = World::at(dir);
        fs::create_dir_all(&world.data).unwrap();
        fs::create_dir_all(&world.undo).unwrap();
        chown(&world.undo, USER, USER);
        chmod(&world.undo, 0o700);
        fs::write(world.file(), old).unwrap();
        // By its group: what everybody can write to, a recovery believes nobody.
        chown(world.file(), 0, USER);
        chmod(world.file(), 0o664);
        chmod(&world.data, mode);
        world
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.data.join("file")
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }

    pub(crate) fn options(&self) -> WriteOptions {
        options().undo_dir(&self.undo)
    }

    /// As the user. None, and a skip, where nobody can become one.
    pub(crate) fn write(&self, options: &WriteOptions, content: &[u8]) -> Option<Result<Committed>> {
        as_user(USER, USER, || options.write(self.file(), content))
    }

    pub(crate) fn recover(&self) -> Recovery {
        self.recover_with(RecoveryOptions::new())
    }

    pub(crate) fn recover_with(&self, options: RecoveryOptions) -> Recovery {
        as_user(USER, USER, || options.undo_dir(&self.undo).run(&self.data)).unwrap().unwrap()
    }

    /// What saves and recoveries left in both directories.
    pub(crate) fn left(&self) -> Vec<OsString> {
        let all = [names(&self.data), names(&self.undo)].concat();
        all.into_iter().filter(|name| durafile::is_remnant(name)).collect()
    }
}
