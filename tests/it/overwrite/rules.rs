//! Goal: what can't be replaced is overwritten, and only that; whatever makes no sense is refused before anything is
//! touched. Method: bind mounts, other users' directories, read-only and immutable ones.

use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use durafile::{CancelToken, Durability, ErrorKind, RecoveryOptions, Symlinks, WriteOptions};
use fs_err as fs;
use rustix::fs::{FlockOperation, flock};

use crate::overwrite::world::{USER, World, options};
use crate::support::{
    as_user, best, chmod, dir, forged, in_private_mounts, mode, names, public_dir, refused, this_test,
};

const OLD: [u8; 9000] = [b'o'; 9000];
const NEW: [u8; 5000] = [b'n'; 5000];

const BOUND: &str = "cd \"$DIR\"; mkdir etc; echo old >etc/file; echo old >other; chmod 640 other; mount --bind other etc/file";

#[test]
fn a_bind_mounted_file_is_overwritten_where_it_stands() {
    in_private_mounts(&this_test!(), BOUND, |home| {
        let (path, source) = (home.join("etc/file"), home.join("other"));
        refused(durafile::write(&path, "new"), ErrorKind::Busy);
        let before = fs::metadata(&path).unwrap();
        let committed = options().write(&path, "new").unwrap();
        assert!(committed.was_in_place() && committed.kept_metadata() && !committed.is_unchanged());
        assert_eq!(committed.durability(), best(home));
        assert_eq!(fs::read_to_string(&source).unwrap(), "new");
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.ino(), before.mode()), (after.ino(), after.mode()));

        let committed = options().write_json(&path, &[1, 2]).unwrap();
        assert!(committed.was_in_place());
        assert_eq!(fs::read_to_string(&source).unwrap(), "[1,2]");
        let committed = options().write_from(&path, io::repeat(b'n').take(300_000)).unwrap();
        assert!(committed.was_in_place());
        assert_eq!(fs::read(&source).unwrap(), vec![b'n'; 300_000]);
        let mut file = options().open(&path).unwrap();
        file.write_all(b"streamed").unwrap();
        assert!(file.commit().unwrap().was_in_place());
        assert_eq!(fs::read_to_string(&source).unwrap(), "streamed");
        assert_eq!(names(home.join("etc")), ["file"]);
        assert!(durafile::recover(home).unwrap().is_clean());
    });
}

#[test]
fn a_file_that_can_be_replaced_is_replaced() {
    let home = dir();
    let path = home.path().join("file");
    for content in ["one", "two"] {
        let before = fs::metadata(&path).ok().map(|found| found.ino());
        let committed = options().undo_dir(home.path()).write(&path, content).unwrap();
        assert!(!committed.was_in_place());
        assert_ne!(fs::metadata(&path).ok().map(|found| found.ino()), before);
    }
    assert_eq!(names(home.path()), ["file"]);
}

#[test]
fn anothers_file_in_a_sticky_directory_is_overwritten() {
    let home = dir();
    let world = World::make(home.path(), 0o1777, &OLD);
    let Some(plain) = world.write(&WriteOptions::new(), &NEW) else { return };
    refused(plain, ErrorKind::PermissionDenied);
    assert_eq!(world.content(), OLD);
    let before = fs::metadata(world.file()).unwrap();
    // The copy lies beside the file: no other directory is needed.
    let committed = world.write(&options(), &NEW).unwrap().unwrap();
    assert!(committed.was_in_place());
    assert_eq!(committed.durability(), best(home.path()));
    assert_eq!(world.content(), NEW);
    let after = fs::metadata(world.file()).unwrap();
    assert_eq!((before.ino(), before.uid(), before.mode()), (after.ino(), after.uid(), after.mode()));
    assert_eq!(names(&world.data), ["file"]);
}

#[test]
fn a_file_in_a_directory_without_the_right_to_write_needs_an_undo_dir() {
    let home = dir();
    let world = World::make(home.path(), 0o755, &OLD);
    let before = fs::metadata(world.file()).unwrap();
    let Some(without) = world.write(&options(), &NEW) else { return };
    let error = refused(without, ErrorKind::Unsupported);
    assert!(format!("{error:?}").contains("undo_dir"), "{error:?}");
    let stamp = |found: &fs::File| found.metadata().unwrap().mtime_nsec();
    let now = fs::File::open(world.file()).unwrap();
    assert_eq!((stamp(&now), world.content()), (before.mtime_nsec(), OLD.to_vec()));

    let committed = world.write(&world.options(), &NEW).unwrap().unwrap();
    assert!(committed.was_in_place());
    assert_eq!((world.content(), world.left().len()), (NEW.to_vec(), 0));
    let streamed = as_user(USER, USER, || {
        let mut file = world.options().size_limit(9000).open(world.file())?;
        file.write_all(&OLD).map_err(|e| e.downcast::<durafile::Error>().unwrap())?;
        file.commit()
    });
    assert!(streamed.unwrap().unwrap().was_in_place());
    assert_eq!((world.content(), world.left().len()), (OLD.to_vec(), 0));
    // A relative path, and a link, lead to the same copy.
    std::os::unix::fs::symlink("data/file", home.path().join("link")).unwrap();
    let linked = as_user(USER, USER, || world.options().write(home.path().join("link"), NEW));
    assert!(linked.unwrap().unwrap().was_in_place());
    assert_eq!(world.content(), NEW);
}

#[test]
fn an_undo_dir_that_takes_no_copy_is_no_undo_dir() {
    let home = dir();
    let world = World::make(home.path(), 0o755, &OLD);
    chmod(&world.undo, 0o755);
    crate::support::chown(&world.undo, 0, 0);
    for undo in [world.undo.clone(), home.path().join("absent"), world.file()] {
        let Some(saved) = world.write(&options().undo_dir(&undo), &NEW) else { return };
        refused(saved, ErrorKind::Unsupported);
        assert_eq!(world.content(), OLD);
    }
    assert!(world.left().is_empty());
}

#[test]
fn a_file_that_is_bound_into_a_read_only_directory_is_overwritten() {
    let script = "cd \"$DIR\"; mkdir data undo; echo old >data/file; echo old >other
        mount --bind data data; mount -o remount,ro,bind data; mount --bind other data/file";
    in_private_mounts(&this_test!(), script, |home| {
        let path = home.join("data/file");
        refused(options().write(&path, "new"), ErrorKind::Unsupported);
        let committed = options().undo_dir(home.join("undo")).write(&path, "new").unwrap();
        assert!(committed.was_in_place());
        assert_eq!(fs::read_to_string(home.join("other")).unwrap(), "new");
        assert!(names(home.join("undo")).is_empty());
    });
}

#[test]
fn a_file_in_an_immutable_directory_is_overwritten() {
    let home = dir();
    let (data, undo) = (home.path().join("data"), home.path().join("undo"));
    fs::create_dir(&data).unwrap();
    fs::create_dir(&undo).unwrap();
    fs::write(data.join("file"), OLD).unwrap();
    let mark = |sign: &str| {
        let words = [sign, data.to_str().unwrap()];
        Command::new("chattr").args(words).output().is_ok_and(|output| output.status.success())
    };
    if !mark("+i") {
        return crate::support::skip("`chattr +i` does not work here");
    }
    let saved = options().undo_dir(&undo).write(data.join("file"), NEW);
    assert!(mark("-i"));
    assert!(saved.unwrap().was_in_place());
    assert_eq!(fs::read(data.join("file")).unwrap(), NEW);
    assert!(names(&undo).is_empty());
}

#[test]
fn what_makes_no_sense_together_is_refused_before_anything_is_touched() {
    let home = dir();
    let path = home.path().join("new/file");
    let all = [
        options().create_new(true),
        options().keep_previous("before"),
        options().symlinks(Symlinks::Replace),
    ];
    for options in all {
        let options = options.create_parents(true);
        refused(options.write(&path, "new"), ErrorKind::Unsupported);
        refused(options.open(&path), ErrorKind::Unsupported);
        refused(options.write_from(&path, io::empty()), ErrorKind::Unsupported);
    }
    assert!(names(home.path()).is_empty());
}

#[test]
fn what_is_not_there_is_not_overwritten() {
    let home = dir();
    let world = World::make(home.path(), 0o755, &OLD);
    let created = as_user(USER, USER, || world.options().write(world.data.join("new"), NEW));
    let Some(created) = created else { return };
    refused(created, ErrorKind::PermissionDenied);
    assert_eq!(names(&world.data), ["file"]);
}

#[test]
fn a_file_without_the_right_to_write_stays_as_it_is() {
    let home = dir();
    let world = World::make(home.path(), 0o755, &OLD);
    chmod(world.file(), 0o644);
    let Some(saved) = world.write(&world.options(), &NEW) else { return };
    refused(saved, ErrorKind::PermissionDenied);
    assert_eq!((world.content(), world.left().len()), (OLD.to_vec(), 0));
}

#[test]
fn a_reader_a_limit_and_a_cancellation_end_the_save_before_the_file_is_touched() {
    let home = dir();
    let world = World::make(home.path(), 0o755, &OLD);
    let token = CancelToken::new();
    let Some(limited) =
        as_user(USER, USER, || world.options().size_limit(4999).write_from(world.file(), &NEW[..]))
    else {
        return;
    };
    refused(limited, ErrorKind::TooLarge);
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let failed = as_user(USER, USER, || world.options().write_from(world.file(), Failing)).unwrap();
    refused(failed, ErrorKind::Reader);
    token.cancel();
    refused(world.write(&world.options().cancel(&token), &NEW).unwrap(), ErrorKind::Cancelled);
    assert_eq!((world.content(), world.left().len()), (OLD.to_vec(), 0));
}

#[test]
fn skip_unchanged_levels_and_permissions_work() {
    let home = dir();
    let world = World::make(home.path(), 0o755, &OLD);
    let unchanged = world.options().skip_unchanged(true);
    let Some(saved) = world.write(&unchanged, &OLD) else { return };
    assert!(saved.as_ref().unwrap().is_unchanged() && !saved.unwrap().was_in_place());
    assert!(world.write(&unchanged, &NEW).unwrap().unwrap().was_in_place());
    for level in [Durability::None, Durability::Data, Durability::Full] {
        let saved = world.write(&world.options().durability(level), &OLD).unwrap().unwrap();
        assert_eq!(saved.durability(), level.min(best(home.path())));
    }
    // Only its owner may change the mode of a file.
    let permissions = std::fs::Permissions::from_mode(0o600);
    let asked = world.options().permissions(permissions.clone());
    refused(world.write(&asked, &NEW).unwrap(), ErrorKind::PermissionDenied);
    assert_eq!((world.content(), world.left().len()), (OLD.to_vec(), 0));
    crate::support::chown(world.file(), USER, USER);
    assert!(world.write(&asked, &NEW).unwrap().unwrap().was_in_place());
    assert_eq!((mode(world.file()), world.content()), (0o600, NEW.to_vec()));
}

#[test]
fn setuid_was_given_to_the_old_content() {
    in_private_mounts(&this_test!(), BOUND, |home| {
        let path = home.join("etc/file");
        chmod(&path, 0o6755);
        assert!(options().write(&path, "new").unwrap().was_in_place());
        assert_eq!(mode(&path), 0o755);
    });
}

#[test]
fn saves_exclude_each_other_and_a_reader_that_locks_sees_no_mixture() {
    let home = public_dir();
    let world = World::make(home.path(), 0o1777, &[b'0'; 20_000]);
    let works = as_user(USER, USER, || {
        std::thread::scope(|scope| {
            for digit in b'1'..b'5' {
                let world = &world;
                scope.spawn(move || {
                    for _ in 0..10 {
                        options()
                            .write(world.file(), vec![digit; 10_000 + 2000 * usize::from(digit - b'0')])
                            .unwrap();
                    }
                });
            }
            for _ in 0..50 {
                let mut file = fs::File::open(world.file()).unwrap();
                flock(&file, FlockOperation::LockShared).unwrap();
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                assert!(content.iter().all(|byte| *byte == content[0]), "a mixture");
            }
        });
    });
    if works.is_some() {
        assert!(world.left().is_empty());
    }
}

#[test]
fn waiting_for_the_lock_ends_with_the_token() {
    in_private_mounts(&this_test!(), BOUND, |home| {
        let path = home.join("etc/file");
        let held = fs::File::open(&path).unwrap();
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let token = CancelToken::new();
        std::thread::scope(|scope| {
            let saving = scope.spawn(|| options().cancel(&token).write(&path, "new"));
            token.cancel();
            refused(saving.join().unwrap(), ErrorKind::Cancelled);
        });
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
        assert_eq!(names(home.join("etc")), ["file"]);
    });
}

#[test]
fn where_the_undo_copy_is_in_memory_a_power_cut_may_tear_the_file() {
    let script = format!(
        "{BOUND}; mkdir undo; mount -t tmpfs none undo; mount --bind etc etc; mount -o remount,ro,bind etc; mount --bind other etc/file"
    );
    in_private_mounts(&this_test!(), &script, |home| {
        let committed = options().undo_dir(home.join("undo")).write(home.join("etc/file"), "new").unwrap();
        assert!(committed.was_in_place());
        assert_eq!(committed.durability(), Durability::None);
    });
}

#[test]
fn a_full_disk_is_told_before_the_file_is_touched() {
    let script = "cd \"$DIR\"; mkdir etc full; mount -t tmpfs -o size=64k none full
        echo old >full/file; echo >etc/file; mount --bind full/file etc/file";
    in_private_mounts(&this_test!(), script, |home| {
        let path = home.join("etc/file");
        let before = fs::metadata(&path).unwrap();
        refused(options().write(&path, vec![b'n'; 100_000]), ErrorKind::StorageFull);
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.mtime_nsec(), before.ino()), (after.mtime_nsec(), after.ino()));
        assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
        assert_eq!(names(home.join("etc")), ["file"]);
        assert!(options().write(&path, vec![b'n'; 30_000]).unwrap().was_in_place());
    });
}

#[test]
fn an_undo_dir_that_is_not_there_holds_nothing() {
    let home = dir();
    let options = RecoveryOptions::new().undo_dir(home.path().join("absent"));
    assert!(options.run(home.path()).unwrap().is_clean());
}

#[test]
fn an_undo_dir_that_can_not_be_listed_is_reported_with_all_the_rest() {
    let home = dir();
    let rest = home.path().join(forged::name('s', 1));
    fs::write(&rest, "rest").unwrap();
    let recovery = RecoveryOptions::new().undo_dir("/etc/passwd").run(home.path()).unwrap();
    assert_eq!(recovery.removed(), [rest]);
    assert_eq!(recovery.unreadable(), [Path::new("/etc/passwd")]);
}
