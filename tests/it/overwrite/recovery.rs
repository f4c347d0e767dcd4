//! Goal: an undo copy is obeyed only where it must be: for the file that it is of, as long as nobody saved later, and by
//! those whose copy it is. Method: copies and torn files that are forged, as a crash leaves them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use durafile::{AtomicDir, ErrorKind, RecoveryOptions, WriteOptions};
use fs_err as fs;
use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::overwrite::world::options;
use crate::support::forged::{Record, checksum, for_target, seal};
use crate::support::{chmod, dir, in_private_mounts, is_root, names, refused, skip, this_test};

/// Two sectors and a bit of each; in the torn file one sector is new.
const OLD: &[u8] = &[b'o'; 1100];
const NEW: &[u8] = &[b'n'; 1100];

struct Torn {
    home: TempDir,
    copy: PathBuf,
}

fn torn_content() -> Vec<u8> {
    [&NEW[..512], &OLD[512..]].concat()
}

/// A copy for `target`, which stands at `path`.
fn copy_of(target: &Path, path: &Path, is_mount_point: bool) -> Vec<u8> {
    let mut record = Record::new(b'u');
    record.name(target.to_str().unwrap());
    let found = fs::metadata(path).unwrap();
    let mode = u64::from(found.mode() & 0o7777);
    for number in [found.ino(), mode, is_mount_point.into(), 1100, checksum(OLD), 1100] {
        record.number(number);
    }
    let sums: Vec<u8> = NEW.chunks(512).flat_map(|piece| checksum(piece).to_le_bytes()).collect();
    record.number(sums.len() as u64);
    record.0.extend(sums);
    seal(&mut record.0, 0);
    [record.0, OLD.to_vec()].concat()
}

impl Torn {
    fn beside() -> Torn {
        Torn::with(false)
    }

    fn with(is_mount_point: bool) -> Torn {
        let home = dir();
        fs::create_dir(home.path().join("data")).unwrap();
        let copy = home.path().join("data").join(for_target('u', "file"));
        let torn = Torn { home, copy };
        fs::write(torn.file(), torn_content()).unwrap();
        fs::write(&torn.copy, copy_of(Path::new("file"), &torn.file(), is_mount_point)).unwrap();
        chmod(&torn.copy, 0o600);
        torn
    }

    fn in_undo_dir() -> Torn {
        let torn = Torn::beside();
        fs::remove_file(&torn.copy).unwrap();
        let real = fs::canonicalize(torn.file()).unwrap();
        let undo = torn.home.path().join("undo");
        fs::create_dir(&undo).unwrap();
        let copy = undo.join(for_target('u', real.to_str().unwrap()));
        fs::write(&copy, copy_of(&real, &real, false)).unwrap();
        chmod(&copy, 0o600);
        Torn { copy, ..torn }
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    fn file(&self) -> PathBuf {
        self.data().join("file")
    }

    fn content(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }

    /// The copy is out of the way, under the one name that recoveries leave alone, and the file as it was.
    #[track_caller]
    fn is_quarantined(&self, recovery: &durafile::Recovery, content: &[u8]) {
        let [aside] = recovery.quarantined() else { panic!("{recovery:?}") };
        assert!(fs::read(aside).unwrap().ends_with(OLD));
        assert_eq!(self.content(), content);
        assert!(!self.copy.exists() && durafile::recover(self.home.path()).unwrap().is_clean());
    }
}

#[test]
fn a_torn_file_gets_its_old_content_back() {
    let torn = Torn::beside();
    let recovery = durafile::recover(torn.home.path()).unwrap();
    assert_eq!(recovery.rolled_back(), [torn.file()]);
    assert!(!recovery.is_clean());
    assert_eq!((torn.content(), names(torn.data())), (OLD.to_vec(), vec!["file".into()]));
    assert!(durafile::recover(torn.home.path()).unwrap().is_clean());
}

#[test]
fn a_copy_in_an_undo_dir_is_found_by_the_option_or_below_the_root() {
    let torn = Torn::in_undo_dir();
    assert!(durafile::recover(torn.data()).unwrap().is_clean());
    assert_eq!(torn.content(), torn_content());
    let undo = torn.copy.parent().unwrap();
    let recovery = RecoveryOptions::new().undo_dir(undo).run(torn.data()).unwrap();
    assert_eq!(recovery.rolled_back(), [torn.file()]);
    assert_eq!((torn.content(), names(undo).len()), (OLD.to_vec(), 0));

    let torn = Torn::in_undo_dir();
    let recovery = durafile::recover(torn.home.path()).unwrap();
    assert_eq!(recovery.rolled_back(), [torn.file()]);
    assert_eq!(torn.content(), OLD);
}

#[test]
fn a_copy_of_a_file_outside_of_the_root_is_left_to_others() {
    let torn = Torn::in_undo_dir();
    let other = dir();
    let undo = torn.copy.parent().unwrap();
    assert!(RecoveryOptions::new().undo_dir(undo).run(other.path()).unwrap().is_clean());
    assert!(torn.copy.exists());
    assert_eq!(torn.content(), torn_content());
}

#[test]
fn the_next_save_restores_the_old_content_first() {
    for torn in [Torn::beside(), Torn::in_undo_dir()] {
        let options = options().undo_dir(torn.home.path().join("undo"));
        // This one fails later, and the file is whole already.
        refused(options.clone().size_limit(1).write_from(torn.file(), &b"long"[..]), ErrorKind::TooLarge);
        assert_eq!((torn.content(), torn.copy.exists()), (OLD.to_vec(), false));
        options.write(torn.file(), "new").unwrap();
        assert_eq!(torn.content(), b"new");
    }
    // New content that is all there is not decided: acknowledged now, it would be undone later.
    let torn = Torn::beside();
    fs::write(torn.file(), NEW).unwrap();
    let saved = options().skip_unchanged(true).write(torn.file(), NEW).unwrap();
    assert!(!saved.is_unchanged());
    let _ = durafile::recover(torn.home.path()).unwrap();
    assert_eq!(torn.content(), NEW);
}

#[test]
fn what_was_saved_later_stays_and_the_copy_is_moved_aside() {
    let mut changed = torn_content();
    changed[700] = b'x';
    for later in [changed, torn_content()[..1000].to_vec(), [torn_content(), b"more".to_vec()].concat()] {
        let torn = Torn::beside();
        fs::write(torn.file(), &later).unwrap();
        let recovery = durafile::recover(torn.home.path()).unwrap();
        torn.is_quarantined(&recovery, &later);
    }
    // By a rename: another inode, with the very content.
    let torn = Torn::beside();
    fs::write(torn.data().join("new"), torn_content()).unwrap();
    fs::rename(torn.data().join("new"), torn.file()).unwrap();
    let recovery = durafile::recover(torn.home.path()).unwrap();
    torn.is_quarantined(&recovery, &torn_content());
    // By the next save, which goes on.
    let torn = Torn::beside();
    fs::write(torn.file(), "later").unwrap();
    options().write(torn.file(), "last").unwrap();
    assert_eq!((torn.content(), torn.copy.exists()), (b"last".to_vec(), false));
    assert_eq!(names(torn.data()).len(), 2);
}

#[test]
fn without_the_mount_the_copy_waits_for_it() {
    let torn = Torn::with(true);
    let recovery = durafile::recover(torn.home.path()).unwrap();
    assert_eq!(recovery.unreadable(), [&*torn.copy]);
    assert!(!recovery.is_clean());
    assert_eq!((torn.content(), torn.copy.exists()), (torn_content(), true));
}

#[test]
fn with_the_mount_the_old_content_comes_back() {
    in_private_mounts(&this_test!(), "", |_| {
        let torn = Torn::with(true);
        let path = torn.file();
        assert!(Command::new("mount").arg("--bind").args([&path, &path]).status().unwrap().success());
        let recovery = durafile::recover(torn.home.path()).unwrap();
        assert_eq!(recovery.rolled_back(), [&*path]);
        assert_eq!((torn.content(), torn.copy.exists()), (OLD.to_vec(), false));
        assert!(Command::new("umount").arg(&path).status().unwrap().success());
    });
}

#[test]
fn a_damaged_copy_is_moved_aside_and_one_of_another_version_is_left() {
    let torn = Torn::beside();
    let mut copy = fs::read(&torn.copy).unwrap();
    let last = copy.len() - 1;
    copy[last] ^= 1;
    fs::write(&torn.copy, &copy).unwrap();
    let recovery = durafile::recover(torn.home.path()).unwrap();
    assert_eq!(recovery.quarantined().len(), 1, "{recovery:?}");
    assert_eq!(torn.content(), torn_content());

    let torn = Torn::beside();
    let mut copy = fs::read(&torn.copy).unwrap();
    copy[8] = 2;
    fs::write(&torn.copy, &copy).unwrap();
    let recovery = durafile::recover(torn.home.path()).unwrap();
    assert_eq!(recovery.unreadable(), [&*torn.copy]);
    refused(options().write(torn.file(), "new"), ErrorKind::Unsupported);
    assert_eq!(torn.content(), torn_content());
}

#[test]
fn a_live_writer_and_a_dry_run_are_left_alone() {
    let torn = Torn::beside();
    let recovery = RecoveryOptions::new().dry_run(true).run(torn.home.path()).unwrap();
    assert_eq!(recovery.rolled_back(), [torn.file()]);
    assert_eq!(torn.content(), torn_content());
    let writer = fs::File::open(torn.file()).unwrap();
    flock(&writer, FlockOperation::LockExclusive).unwrap();
    let recovery = durafile::recover(torn.home.path()).unwrap();
    assert_eq!(recovery.in_use(), [&*torn.copy]);
    assert!(recovery.is_clean());
    assert_eq!((torn.content(), torn.copy.exists()), (torn_content(), true));
}

#[test]
fn only_a_copy_of_mine_that_nobody_else_can_write_to_is_obeyed_whatever_the_options_say() {
    type Spoil = fn(&Torn);
    let spoil: [(&str, Spoil); 3] = [
        ("writable by others", |torn| chmod(&torn.copy, 0o622)),
        ("a second name", |torn| fs::hard_link(&torn.copy, torn.home.path().join("second")).unwrap()),
        ("somebody else's", |torn| crate::support::chown(&torn.copy, 1001, 1001)),
    ];
    for (what, spoil) in spoil {
        if what.starts_with("somebody") && !is_root() {
            return skip("only root can give a file away");
        }
        let torn = Torn::beside();
        spoil(&torn);
        let recovery = RecoveryOptions::new().trust_others(true).run(torn.home.path()).unwrap();
        assert_eq!(recovery.untrusted(), [&*torn.copy], "{what}");
        let error = refused(options().write(torn.file(), "new"), ErrorKind::Untrusted);
        assert_eq!(error.path(), torn.copy, "{what}");
        assert_eq!((torn.content(), torn.copy.exists()), (torn_content(), true), "{what}");
        // Others don't need it.
        WriteOptions::new().write(torn.file(), "new").unwrap();
    }
}

#[test]
fn a_directory_is_not_replaced_over_a_torn_file() {
    let torn = Torn::beside();
    let mut next = AtomicDir::update(torn.data()).unwrap();
    next.write("other", "new").unwrap();
    next.commit().unwrap();
    assert_eq!(torn.content(), OLD);
    assert_eq!(names(torn.data()), ["file", "other"]);
}
