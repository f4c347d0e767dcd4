//! Goal: what `Batch` says of itself holds. Method: each rule is tried through the public
//! interface on a real file system; `disks::filesystems` repeats it on others.

use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use durafile::{
    Batch, CancelToken, Durability, Error, ErrorKind, Symlinks, SyncStrategy, TargetState,
    TransactionOptions, WriteOptions,
};
use fs_err as fs;

use crate::support::{
    as_user, best, chmod, dir, in_child, in_private_mounts, is_root, limit_open_files, mode, names,
    public_dir, refused, skip, this_test,
};

const STRATEGIES: [SyncStrategy; 3] = [SyncStrategy::Auto, SyncStrategy::PerFile, SyncStrategy::FileSystem];

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path.as_ref()).unwrap()
}

#[test]
fn results_come_in_the_order_of_adding_new_and_replaced_mixed() {
    for strategy in STRATEGIES {
        let home = dir();
        let at = |name: &str| home.path().join(name);
        fs::create_dir(at("folder")).unwrap();
        fs::write(at("old"), "old").unwrap();
        fs::write(at("same"), "same").unwrap();
        let mut batch = Batch::new().options(WriteOptions::new().skip_unchanged(true)).sync(strategy);
        assert!(batch.is_empty());
        batch.write(at("new"), "1").unwrap();
        batch.write(at("same"), "same").unwrap();
        batch.write(at("folder/deep"), "2").unwrap();
        batch.write(at("old"), "3").unwrap();
        assert_eq!(batch.len(), 4);
        assert_eq!(read(at("old")), "old", "nothing is published before the commit");
        assert!(!at("new").exists());
        let committed = batch.commit().unwrap();
        let unchanged: Vec<bool> = committed.iter().map(|one| one.is_unchanged()).collect();
        assert_eq!(unchanged, [false, true, false, false]);
        assert!(committed.iter().all(|one| one.durability() == best(home.path())), "{committed:?}");
        assert_eq!([read(at("new")), read(at("folder/deep")), read(at("old"))], ["1", "2", "3"]);
        assert_eq!(names(home.path()), ["folder", "new", "old", "same"]);
        assert_eq!(names(at("folder")), ["deep"]);
    }
}

#[test]
fn an_empty_batch_commits_nothing() {
    assert!(Batch::new().commit().unwrap().is_empty());
}

#[test]
fn a_batch_that_is_dropped_or_discarded_leaves_nothing() {
    for discard in [false, true] {
        let home = dir();
        fs::write(home.path().join("old"), "old").unwrap();
        let mut batch = Batch::new();
        for n in 0..100 {
            batch.write(home.path().join(n.to_string()), "new").unwrap();
        }
        batch.write(home.path().join("old"), "new").unwrap();
        let open = batch.create_file(home.path().join("open")).unwrap();
        if discard {
            batch.discard().unwrap()
        } else {
            drop(batch)
        }
        drop(open);
        assert_eq!(names(home.path()), ["old"]);
        assert_eq!(read(home.path().join("old")), "old");
    }
}

#[test]
fn streams_are_finished_on_other_threads() {
    for strategy in STRATEGIES {
        let home = dir();
        let mut batch = Batch::new().sync(strategy);
        std::thread::scope(|scope| {
            for n in 0..20_u8 {
                let mut file = batch.create_file(home.path().join(n.to_string())).unwrap();
                scope.spawn(move || {
                    file.write_all(b"tail at 10").unwrap();
                    file.seek(SeekFrom::Start(10)).unwrap();
                    file.write_all(&vec![b'a' + n; 100_000]).unwrap();
                    file.flush().unwrap();
                    file.finish().unwrap();
                });
            }
        });
        assert_eq!(batch.commit().unwrap().len(), 20);
        for n in 0..20_u8 {
            let found = fs::read(home.path().join(n.to_string())).unwrap();
            assert_eq!(found.len(), 100_010);
            assert!(found.starts_with(b"tail at 10") && found.ends_with(&[b'a' + n]));
        }
    }
}

#[test]
fn a_stream_that_is_not_finished_fails_the_commit() {
    for drop_it in [true, false] {
        let home = dir();
        let mut batch = Batch::new();
        batch.write(home.path().join("whole"), "whole").unwrap();
        let mut file = batch.create_file(home.path().join("half")).unwrap();
        file.write_all(b"half").unwrap();
        let still_open = (!drop_it).then_some(file);
        let error = refused(batch.commit(), ErrorKind::Reader);
        let expected = ["whole", "half"].map(|name| (home.path().join(name), TargetState::Unchanged));
        assert_eq!(error.files(), expected);
        drop(still_open);
        assert!(names(home.path()).is_empty());
    }
}

#[test]
fn after_a_write_that_failed_the_commit_fails_with_that_error_and_tells_of_every_file() {
    let home = dir();
    let mut batch = Batch::new().options(WriteOptions::new().size_limit(10));
    batch.write(home.path().join("fine"), "fine").unwrap();
    refused(batch.write(home.path().join("long"), "longer than ten"), ErrorKind::TooLarge);
    let mut file = batch.create_file(home.path().join("stream")).unwrap();
    // The caller keeps the error, and with it the details that the commit tells of.
    let kept = file.write_all(b"longer than ten").unwrap_err();
    drop(file);
    let error = refused(batch.commit(), ErrorKind::TooLarge);
    assert_eq!(error.files().len(), 2, "{error:?}");
    let kept = kept.downcast::<Error>().unwrap();
    assert_eq!((kept.kind(), kept.files().len()), (ErrorKind::TooLarge, 0));
    assert!(names(home.path()).is_empty());
}

#[test]
fn what_was_refused_is_not_part_of_the_batch() {
    let home = dir();
    let mut batch = Batch::new();
    refused(batch.write(home.path().join("missing/file"), "x"), ErrorKind::NotFound);
    refused(batch.write(home.path(), "x"), ErrorKind::IsADirectory);
    refused(batch.write("", "x"), ErrorKind::InvalidPath);
    batch.write(home.path().join("fine"), "x").unwrap();
    assert_eq!(batch.commit().unwrap().len(), 1);
}

#[test]
fn what_could_not_be_staged_can_be_tried_again() {
    let home = public_dir();
    let folder = home.path().join("folder");
    as_user(1001, 1001, || {
        fs::create_dir(&folder).unwrap();
        let mut batch = Batch::new();
        chmod(&folder, 0o555);
        for _ in 0..2 {
            refused(batch.write(folder.join("file"), "x"), ErrorKind::PermissionDenied);
        }
        chmod(&folder, 0o755);
        batch.write(folder.join("file"), "x").unwrap();
        assert_eq!(batch.commit().unwrap().len(), 1);
        assert_eq!(names(&folder), ["file"]);
    });
}

#[test]
fn of_two_entries_for_one_path_the_later_wins_however_it_is_spelled() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    std::os::unix::fs::symlink("folder/file", at("link")).unwrap();
    std::os::unix::fs::symlink("folder", at("alias")).unwrap();
    let mut batch = Batch::new();
    batch.write(at("folder/file"), "first").unwrap();
    batch.write(at("alias/file"), "second").unwrap();
    batch.write(at("other"), "other").unwrap();
    batch.write(at("link"), "third").unwrap();
    assert_eq!(batch.commit().unwrap().len(), 4);
    assert_eq!(read(at("folder/file")), "third");
    assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
    assert_eq!(names(home.path()), ["alias", "folder", "link", "other"]);
}

#[test]
fn skip_unchanged_keeps_inode_and_time_of_bytes_streams_and_json() {
    for strategy in STRATEGIES {
        let home = dir();
        let at = |name: &str| home.path().join(name);
        for (name, text) in [("bytes", "same"), ("stream", "same"), ("json", "[1]"), ("differs", "old")] {
            fs::write(at(name), text).unwrap();
        }
        let id = |name: &str| {
            let found = fs::metadata(at(name)).unwrap();
            (found.ino(), found.modified().unwrap())
        };
        let before = ["bytes", "stream", "json"].map(id);
        let mut batch = Batch::new().options(WriteOptions::new().skip_unchanged(true)).sync(strategy);
        batch.write(at("bytes"), "same").unwrap();
        let mut file = batch.create_file(at("stream")).unwrap();
        file.write_all(b"same").unwrap();
        file.finish().unwrap();
        #[cfg(feature = "json")]
        batch.write_json(at("json"), &[1]).unwrap();
        #[cfg(not(feature = "json"))]
        batch.write(at("json"), "[1]").unwrap();
        let mut file = batch.create_file(at("differs")).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        let unchanged: Vec<bool> = batch.commit().unwrap().iter().map(|one| one.is_unchanged()).collect();
        assert_eq!(unchanged, [true, true, true, false]);
        assert_eq!(["bytes", "stream", "json"].map(id), before);
        assert_eq!(read(at("differs")), "new");
        assert_eq!(names(home.path()).len(), 4);
    }
}

#[test]
fn an_error_in_the_middle_gives_each_files_own_state() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("a"), "old").unwrap();
    let mut batch = Batch::new();
    for name in ["a", "b", "c", "d"] {
        batch.write(at(name), "new").unwrap();
    }
    // Something else has come into the way since it was looked at.
    fs::create_dir(at("c")).unwrap();
    let error = batch.commit().unwrap_err();
    assert_eq!((error.kind(), error.target()), (ErrorKind::IsADirectory, TargetState::Unchanged));
    assert_eq!(error.path(), at("c"));
    use TargetState::{Replaced, Unchanged};
    let states = [("a", Replaced), ("b", Replaced), ("c", Unchanged), ("d", Unchanged)];
    assert_eq!(error.files(), states.map(|(name, state)| (at(name), state)));
    assert_eq!([read(at("a")), read(at("b"))], ["new", "new"]);
    assert_eq!(names(home.path()), ["a", "b", "c"]);
}

#[test]
fn create_new_refuses_what_exists_and_what_appears_before_the_commit() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("there"), "old").unwrap();
    std::os::unix::fs::symlink("nowhere", at("dangling")).unwrap();
    let mut batch = Batch::new().options(WriteOptions::new().create_new(true));
    refused(batch.write(at("there"), "new"), ErrorKind::AlreadyExists);
    refused(batch.write(at("dangling"), "new"), ErrorKind::AlreadyExists);
    batch.write(at("fresh"), "new").unwrap();
    batch.write(at("raced"), "new").unwrap();
    fs::write(at("raced"), "theirs").unwrap();
    let error = refused(batch.commit(), ErrorKind::AlreadyExists);
    let states = [("fresh", TargetState::Replaced), ("raced", TargetState::Unchanged)];
    assert_eq!(error.files(), states.map(|(name, state)| (at(name), state)));
    assert_eq!([read(at("there")), read(at("fresh")), read(at("raced"))], ["old", "new", "theirs"]);
    assert_eq!(names(home.path()), ["dangling", "fresh", "raced", "there"]);
}

#[test]
fn replaced_files_keep_their_metadata_and_new_ones_honour_the_options() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("old"), "old").unwrap();
    chmod(at("old"), 0o4750);
    if is_root() {
        std::os::unix::fs::chown(at("old"), Some(1001), Some(1002)).unwrap();
        chmod(at("old"), 0o640);
    }
    std::os::unix::fs::symlink("old", at("link")).unwrap();
    let mut batch = Batch::new();
    batch.write(at("link"), "new").unwrap();
    batch.commit().unwrap();
    let found = fs::metadata(at("old")).unwrap();
    match is_root() {
        true => assert_eq!((found.uid(), found.gid(), mode(at("old"))), (1001, 1002, 0o640)),
        false => assert_eq!(mode(at("old")), 0o750),
    }
    use std::os::unix::fs::PermissionsExt;
    let options = WriteOptions::new()
        .permissions(std::fs::Permissions::from_mode(0o604))
        .symlinks(Symlinks::Replace)
        .create_parents(true);
    let mut batch = Batch::new().options(options);
    batch.write(at("a/b/new"), "new").unwrap();
    batch.write(at("link"), "no link").unwrap();
    batch.commit().unwrap();
    assert_eq!([mode(at("a/b/new")), mode(at("link"))], [0o604, 0o604]);
    assert!(fs::symlink_metadata(at("link")).unwrap().is_file());
}

#[test]
fn what_is_staged_is_private() {
    let home = dir();
    let mut batch = Batch::new();
    batch.write(home.path().join("file"), "secret").unwrap();
    for name in names(home.path()) {
        assert!(durafile::is_remnant(&name));
        assert_eq!(mode(home.path().join(name)) & 0o077, 0);
    }
    batch.discard().unwrap();
}

#[test]
fn a_weaker_durability_is_what_comes_back() {
    for durability in [Durability::None, Durability::Data] {
        let home = dir();
        let mut batch = Batch::new().options(WriteOptions::new().durability(durability));
        batch.write(home.path().join("a"), "a").unwrap();
        let committed = batch.commit().unwrap();
        assert_eq!(committed[0].durability(), durability.min(best(home.path())));
    }
}

#[test]
fn once_cancelled_nothing_is_published() {
    let home = dir();
    let token = CancelToken::new();
    let mut batch = Batch::new().options(WriteOptions::new().cancel(&token));
    batch.write(home.path().join("a"), "a").unwrap();
    token.cancel();
    refused(batch.write(home.path().join("b"), "b"), ErrorKind::Cancelled);
    refused(batch.commit(), ErrorKind::Cancelled);
    assert!(names(home.path()).is_empty());
}

#[test]
fn a_live_batch_is_in_use_and_a_dead_one_is_removed() {
    let home = dir();
    let mut batch = Batch::new();
    batch.write(home.path().join("a"), "a").unwrap();
    let recovery = durafile::recover(home.path()).unwrap();
    assert!(recovery.is_clean() && recovery.in_use().len() == 1, "{recovery:?}");
    // As if its process had died: nobody holds the lock of the copy.
    let staged = names(home.path()).remove(0);
    batch.commit().unwrap();
    fs::create_dir(home.path().join(&staged)).unwrap();
    chmod(home.path().join(&staged), 0o700);
    fs::write(home.path().join(&staged).join("1"), "half").unwrap();
    let recovery = durafile::recover(home.path()).unwrap();
    assert_eq!(recovery.removed(), [home.path().join(staged)]);
    assert_eq!(names(home.path()), ["a"]);
}

/// So many descriptors of this process as it can have.
fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn at_most_128_files_are_open_at_any_size() {
    const BUDGET: usize = 128;
    in_child(&this_test!(), "", |home| {
        // What marks this process, so that forked children can be told from it, stays open.
        drop(durafile::LockFile::try_lock(home.join("lock")).unwrap());
        let (most, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let before = open_files();
        // Whoever opens more gets an error.
        limit_open_files((before + BUDGET) as u64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    most.fetch_max(open_files(), Ordering::Relaxed);
                }
            });
            for (strategy, size) in [(SyncStrategy::Auto, 1000), (SyncStrategy::FileSystem, 150)] {
                let folder = home.join(format!("{strategy:?}"));
                for n in 0..size {
                    fs::create_dir_all(folder.join(n.to_string())).unwrap();
                }
                let mut batch = Batch::new().sync(strategy);
                for n in 0..size {
                    batch.write(folder.join(format!("{n}/file")), "one").unwrap();
                    batch.write(folder.join(format!("file-{n}")), "two").unwrap();
                }
                batch.commit().unwrap();
                assert_eq!(fs::read_dir(&folder).unwrap().count(), 2 * size);
                assert_eq!(names(folder.join((size - 1).to_string())), ["file"]);
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(open_files(), before, "nothing stays open");
        println!("{} open at most", most.into_inner() - before);
    });
}

#[test]
fn at_most_128_files_are_open_while_every_sync_is_slow() {
    let slow = "if command -v strace >/dev/null; then
            exec strace -f --seccomp-bpf -o /dev/null -e trace=fsync -e inject=fsync:delay_enter=50000 -- \"$0\" \"$@\"
        fi";
    in_child(&this_test!(), slow, |home| {
        limit_open_files(open_files() as u64 + 128);
        let mut batch = Batch::new();
        for n in 0..300 {
            batch.write(home.join(n.to_string()), "x").unwrap();
        }
        assert_eq!(batch.commit().unwrap().len(), 300);
        // Some that stay as they are, each synced by itself, before those that are gathered.
        let mut batch = Batch::new().options(WriteOptions::new().skip_unchanged(true));
        for n in 0..300 {
            let content = if n % 150 < 87 { "x" } else { "y" };
            batch.write(home.join(n.to_string()), content).unwrap();
        }
        assert_eq!(batch.commit().unwrap().iter().filter(|done| done.is_unchanged()).count(), 174);
    });
}

#[test]
fn far_directories_are_found_again_or_said_to_be_gone() {
    let home = dir();
    for n in 0..12 {
        fs::create_dir(home.path().join(format!("d{n:02}"))).unwrap();
    }
    let mut batch = Batch::new();
    for n in 0..12 {
        batch.write(home.path().join(format!("d{n:02}/file")), "new").unwrap();
    }
    fs::rename(home.path().join("d11"), home.path().join("elsewhere")).unwrap();
    fs::create_dir(home.path().join("d11")).unwrap();
    let error = refused(batch.commit(), ErrorKind::NotFound);
    assert_eq!(error.path(), home.path().join("d11/file"));
    assert_eq!(error.files().len(), 12);
    assert!(names(home.path().join("d11")).is_empty() && names(home.path().join("elsewhere")).is_empty());
}

#[test]
fn each_further_subvolume_costs_one_descriptor() {
    const SUBVOLUMES: usize = 150;
    if !is_root() {
        return skip("only root can mount");
    }
    let script = format!(
        "cd \"$DIR\"; mkdir mnt; truncate -s 256M image; mkfs.btrfs -q image >notes 2>&1
        mount -o loop image mnt
        for n in $(seq {SUBVOLUMES}); do btrfs -q subvolume create mnt/$n; done; cd /"
    );
    in_private_mounts(&this_test!(), &script, |home| {
        // The mark of the process stays open.
        drop(durafile::LockFile::try_lock(home.join("lock")).unwrap());
        let before = open_files();
        let mut batch = Batch::new();
        for n in 1..=SUBVOLUMES {
            batch.write(home.join(format!("mnt/{n}/file")), "new").unwrap();
            assert!(open_files() <= before + 128 + n.saturating_sub(32), "{n}: {}", open_files() - before);
        }
        limit_open_files((before + 128 + SUBVOLUMES - 32) as u64);
        batch.commit().unwrap();
        assert_eq!(read(home.join("mnt/150/file")), "new");
        assert_eq!(names(home.join("mnt/150")), ["file"]);
        assert_eq!(open_files(), before);
    });
}

/// A settings file that is saved at every change takes the room of one, not of all that it was.
#[test]
fn what_is_saved_again_takes_no_more_room() {
    const MIB: usize = 1 << 20;
    let script = "cd \"$DIR\"; mkdir mnt; mount -t tmpfs -o size=8m none mnt; mkdir mnt/dir; cd /";
    in_private_mounts(&this_test!(), script, |home| {
        let home = home.join("mnt");
        for strategy in STRATEGIES {
            let mut batch = Batch::new().sync(strategy);
            let mut change = TransactionOptions::new().sync(strategy).begin(home.join("dir")).unwrap();
            for n in 0..40 {
                batch.write(home.join("file"), vec![n; MIB]).unwrap();
                change.write("file", vec![n; MIB]).unwrap();
            }
            assert_eq!(batch.commit().unwrap().len(), 40);
            change.commit().unwrap();
            assert_eq!(fs::read(home.join("file")).unwrap(), vec![39; MIB]);
            assert_eq!(fs::read(home.join("dir/file")).unwrap(), vec![39; MIB]);
        }
    });
}
