//! Goal: rules 6, 7 and 16: what a save does when the machine says no. Method: real refusals
//! (full disks, limits, rights, a hidden `/proc`), and after each the directory is listed
//! completely: the old content is whole and nothing else is there.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use durafile::{AtomicFile, Committed, Durability, ErrorKind, TargetState, WriteOptions};
use fs_err as fs;
use rustix::fs::{FlockOperation, statvfs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{
    as_user, best, chmod, chown, dir, in_child, in_private_mounts, names, public_dir, refused, this_test,
};

fn stream(path: &Path, length: usize) -> durafile::Result<Committed> {
    let mut file = AtomicFile::create(path)?;
    for _ in 0..length.div_ceil(4096) {
        if file.write_all(&[b'n'; 4096]).is_err() {
            break; // The commit says why.
        }
    }
    file.commit()
}

#[test]
fn a_full_disk_is_told_and_leaves_the_old_content_and_all_the_room() {
    let script = "mount -t tmpfs -o size=1m,nr_inodes=20 tmpfs \"$DIR\"";
    in_private_mounts(&this_test!(), script, |dir| {
        let path = dir.join("file");
        fs::write(&path, "old").unwrap();
        let free = statvfs(dir).unwrap().f_bfree;
        for target in ["file", "new"] {
            let target = dir.join(target);
            refused(durafile::write(&target, vec![0; 2 << 20]), ErrorKind::StorageFull);
            refused(WriteOptions::new().write_from(&target, std::io::repeat(0)), ErrorKind::StorageFull);
            refused(stream(&target, 2 << 20), ErrorKind::StorageFull);
            let rows = vec![["text"; 10]; 100_000];
            refused(durafile::write_json(&target, &rows), ErrorKind::StorageFull);
            assert_eq!(names(dir), ["file"]);
            assert_eq!(statvfs(dir).unwrap().f_bfree, free);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");

        // Out of inodes is a full disk too.
        let mut number = 0;
        while std::fs::write(dir.join(format!("filler-{number}")), "").is_ok() {
            number += 1;
        }
        let before = names(dir);
        refused(durafile::write(&path, "new"), ErrorKind::StorageFull);
        assert_eq!(names(dir), before);
        fs::remove_file(dir.join("filler-0")).unwrap();
        durafile::write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    });
}

#[test]
fn a_file_size_limit_of_the_process_is_an_error_and_not_its_death() {
    in_child(&this_test!(), "trap '' XFSZ", |dir| {
        let path = dir.join("file");
        fs::write(&path, "old").unwrap();
        let limit = Rlimit { current: Some(8192), ..getrlimit(Resource::Fsize) };
        setrlimit(Resource::Fsize, limit).unwrap();
        refused(durafile::write(&path, vec![0; 20_000]), ErrorKind::TooLarge);
        refused(stream(&path, 20_000), ErrorKind::TooLarge);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(dir), ["file"]);
        durafile::write(&path, vec![1; 8192]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), vec![1; 8192]);
    });
}

#[test]
fn running_out_of_descriptors_anywhere_in_a_save_is_clean_and_transient() {
    in_child(&this_test!(), "", |dir| {
        let (path, link) = (dir.join("file"), dir.join("link"));
        symlink("file", &link).unwrap();
        fs::write(&path, "old").unwrap();
        durafile::write(&link, "old").unwrap();
        let before = getrlimit(Resource::Nofile);
        let mut held = Vec::new();
        let (mut failed, mut saved) = (0, 0);
        let lowest = std::fs::File::open("/dev/null").unwrap();
        let lowest = std::os::fd::AsRawFd::as_raw_fd(&lowest) as u64;
        for spare in 0..8 {
            // Every descriptor below the limit is taken, except `spare` of them.
            let tight = Rlimit { current: Some(lowest + 20), ..before };
            setrlimit(Resource::Nofile, tight).unwrap();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                held.push(file);
            }
            held.truncate(held.len() - spare);
            let result = durafile::write(&link, format!("new {spare}"));
            let streamed = stream(&path, 100_000);
            held.clear();
            setrlimit(Resource::Nofile, before).unwrap();

            let seen = fs::read(&path).unwrap();
            match (&result, &streamed) {
                (Ok(_), Ok(_)) => {
                    saved += 1;
                    assert_eq!(seen.len(), 102_400);
                }
                _ => failed += 1,
            }
            for error in [result.err(), streamed.err()].into_iter().flatten() {
                assert_eq!(error.target(), TargetState::Unchanged, "{error:?}");
                assert!(error.is_transient(), "{error:?}");
            }
            assert_eq!(names(dir), ["file", "link"], "{spare} spare");
            fs::write(&path, "old").unwrap();
        }
        assert!(failed > 0 && saved > 0, "{failed} failed, {saved} saved");
    });
}

#[test]
fn no_descriptor_stays_open_after_a_save_whether_it_works_or_not() {
    in_child(&this_test!(), "", |dir| {
        let path = dir.join("file");
        let dangling = dir.join("dangling");
        symlink("nowhere/file", &dangling).unwrap();
        durafile::write(&path, "x").unwrap();
        // What marks this process, so that forked children can be told from it, stays open.
        drop(durafile::LockFile::try_lock(&path).unwrap());
        let before = names("/proc/self/fd");
        for _ in 0..20 {
            durafile::write(&path, "x").unwrap();
            assert!(durafile::write(&dangling, "x").is_err());
            assert!(durafile::write(dir, "x").is_err());
            assert!(WriteOptions::new().size_limit(0).write(&path, "x").is_err());
            let new = WriteOptions::new().create_new(true);
            assert!(new.write(&path, "x").is_err());
            let same = WriteOptions::new().skip_unchanged(true);
            assert!(same.write(&path, "x").unwrap().is_unchanged());
            drop(AtomicFile::create(&path).unwrap());
            AtomicFile::create(&path).unwrap().discard().unwrap();
        }
        assert_eq!(names("/proc/self/fd"), before);
    });
}

#[test]
fn a_directory_that_may_not_be_written_refuses_and_stays_as_it_was() {
    let dir = dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    chmod(&path, 0o666);
    chmod(dir.path(), 0o755);
    let done = as_user(1001, 1001, || {
        for target in ["file", "new", "sub/new"] {
            let target = dir.path().join(target);
            let options = WriteOptions::new().create_parents(true);
            let error = refused(options.clone().write(&target, "new"), ErrorKind::PermissionDenied);
            assert!(!error.is_transient());
            refused(options.open(&target), ErrorKind::PermissionDenied);
        }
    });
    if done.is_some() {
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(names(&dir), ["file"]);
    }
}

#[test]
fn a_directory_closed_to_writing_during_a_save_refuses_the_commit() {
    let dir = public_dir();
    let path = dir.path().join("file");
    let prepared = as_user(0, 0, || {
        fs::write(&path, "old").unwrap();
        chown(&path, 1001, 1001);
    });
    if prepared.is_none() {
        return;
    }
    for target in ["file", "new"] {
        let file = as_user(1001, 1001, || {
            let mut file = AtomicFile::create(dir.path().join(target)).unwrap();
            file.write_all(b"new").unwrap();
            file
        });
        chmod(dir.path(), 0o755);
        as_user(1001, 1001, || {
            refused(file.unwrap().commit(), ErrorKind::PermissionDenied);
        });
        chmod(dir.path(), 0o777);
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    }
}

#[test]
fn a_directory_that_may_not_be_read_gets_the_file_and_says_what_was_reached() {
    let dir = public_dir();
    chmod(dir.path(), 0o333);
    let done = as_user(1001, 1001, || {
        let path = dir.path().join("file");
        let expected = match best(&dir) {
            Durability::Full => Durability::Data,
            other => other,
        };
        for contents in ["new", "replaced"] {
            let committed = durafile::write(&path, contents).unwrap();
            assert_eq!(committed.durability(), expected);
            assert_eq!(fs::read_to_string(&path).unwrap(), contents);
        }
        let nested = WriteOptions::new().create_parents(true);
        nested.write(dir.path().join("sub/file"), "x").unwrap();
    });
    chmod(dir.path(), 0o755);
    if done.is_some() {
        assert_eq!(names(&dir), ["file", "sub"]);
    }
}

#[test]
fn a_directory_that_may_not_be_entered_is_permission_denied() {
    let dir = public_dir();
    fs::create_dir(dir.path().join("closed")).unwrap();
    chmod(dir.path().join("closed"), 0o700);
    as_user(1001, 1001, || {
        for path in ["closed/file", "closed/sub/file"] {
            let path = dir.path().join(path);
            let options = WriteOptions::new().create_parents(true);
            refused(options.write(path, "x"), ErrorKind::PermissionDenied);
        }
    });
    assert!(names(dir.path().join("closed")).is_empty());
}

#[test]
fn a_file_that_may_not_be_read_can_still_be_replaced() {
    let dir = public_dir();
    let path = dir.path().join("file");
    let prepared = as_user(0, 0, || {
        fs::write(&path, "old").unwrap();
        chmod(&path, 0o600);
    });
    if prepared.is_none() {
        return;
    }
    as_user(1001, 1001, || {
        durafile::write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    });
    assert_eq!(names(&dir), ["file"]);
}

#[test]
fn a_file_system_mounted_read_only_says_so() {
    let script = "mount -t tmpfs tmpfs \"$DIR\"; echo old >\"$DIR/file\"
        mount -o remount,ro \"$DIR\"";
    in_private_mounts(&this_test!(), script, |dir| {
        for name in ["file", "new"] {
            refused(durafile::write(dir.join(name), "new"), ErrorKind::ReadOnlyFilesystem);
        }
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "old\n");
        assert_eq!(names(dir), ["file"]);
    });
}

#[test]
fn a_file_system_in_memory_promises_no_durability() {
    in_private_mounts(&this_test!(), "mount -t tmpfs tmpfs \"$DIR\"", |dir| {
        let path = dir.join("file");
        for asked in [Durability::Full, Durability::Data, Durability::None] {
            for contents in ["new", "replaced"] {
                let options = WriteOptions::new().durability(asked);
                let committed = options.write(&path, contents).unwrap();
                assert_eq!(committed.durability(), Durability::None);
                assert_eq!(fs::read_to_string(&path).unwrap(), contents);
            }
            fs::remove_file(&path).unwrap();
        }
        assert!(names(dir).is_empty());
    });
}

#[test]
fn saves_work_without_proc() {
    for script in ["umount -l /proc", "mount -t tmpfs tmpfs /proc"] {
        in_private_mounts(&this_test!(), script, |home| {
            assert!(!Path::new("/proc/self/fd").exists());
            chmod(home, 0o777);
            let everyone = home.join(std::process::id().to_string());
            fs::create_dir(&everyone).unwrap();
            chmod(&everyone, 0o777);
            for uid in [0, 1001] {
                let dir = everyone.join(uid.to_string());
                let done = as_user(uid, uid, || {
                    fs::create_dir(&dir).unwrap();
                    let path = dir.join("file");
                    for contents in ["new", "replaced"] {
                        let committed = durafile::write(&path, contents).unwrap();
                        assert_eq!(fs::read_to_string(&path).unwrap(), contents);
                        assert_eq!(committed.durability(), best(&dir));
                    }
                    stream(&path, 100_000).unwrap();
                    let new = WriteOptions::new().create_new(true);
                    new.clone().write(dir.join("once"), "x").unwrap();
                    refused(new.write(&path, "x"), ErrorKind::AlreadyExists);
                });
                if done.is_some() {
                    assert_eq!(names(&dir), ["file", "once"]);
                }
            }
            fs::remove_dir_all(&everyone).unwrap();
        });
    }
}

#[test]
fn a_directory_removed_during_a_save_takes_the_save_with_it() {
    let dir = dir();
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let mut file = AtomicFile::create(folder.join("file")).unwrap();
    file.write_all(b"new").unwrap();
    fs::remove_dir_all(&folder).unwrap();
    refused(file.commit(), ErrorKind::NotFound);
    assert!(names(&dir).is_empty());
}

#[test]
fn a_directory_that_took_the_targets_name_refuses_the_commit_again_and_again() {
    let dir = dir();
    let path = dir.path().join("file");
    for round in 0..3 {
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"new").unwrap();
        fs::create_dir(&path).unwrap();
        refused(file.commit(), ErrorKind::IsADirectory);
        // Each failed commit used to leak its staged file in some crates.
        assert_eq!(names(&dir), ["file"], "round {round}");
        fs::remove_dir(&path).unwrap();
    }
}

/// Another test may be starting a program: until it runs, its copy of the descriptor that the save has closed keeps
/// the lock, for microseconds.
fn becomes_free(file: &std::fs::File) -> bool {
    (0..1000).any(|_| {
        let locked = rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if !locked {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        locked
    })
}

#[test]
fn an_applications_own_lock_on_the_target_is_not_in_the_way() {
    let dir = dir();
    let path = dir.path().join("file");
    durafile::write(&path, "old").unwrap();
    let held = std::fs::File::open(&path).unwrap();
    assert!(becomes_free(&held), "the lock of the save outlived it");
    durafile::write(&path, "new").unwrap();
    for _ in 0..20 {
        durafile::write(&path, "newer").unwrap();
        let now = std::fs::File::open(&path).unwrap();
        assert!(becomes_free(&now), "the lock of the save outlived it");
    }
}
