//! Goal: the lock belongs to the file that will be replaced, stays nowhere, and is done without nowhere. Method: looks
//! at the directory from within the closure, and file systems and users that refuse something.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicUsize, Ordering};

use durafile::{ErrorKind, Symlinks, WriteOptions, is_remnant, read_version, update};
use fs_err as fs;
use rustix::fs::{CWD, FileType, FlockOperation, Mode, flock, mknodat};

use crate::support::{as_user, chmod, chown, dir, is_root, mode, names, refused, skip};

fn remnants(dir: &std::path::Path) -> Vec<OsString> {
    names(dir).into_iter().filter(|name| is_remnant(name)).collect()
}

#[test]
fn the_lock_is_beside_what_the_links_lead_to() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("far")).unwrap();
    fs::write(at("far/file"), "old").unwrap();
    chmod(at("far/file"), 0o640);
    symlink("far/file", at("link")).unwrap();
    symlink("link", at("second")).unwrap();
    for path in ["second", "far/file"] {
        update(at(path), |old| {
            assert_eq!(remnants(home.path()), Vec::<OsString>::new());
            assert_eq!(remnants(&at("far")).len(), 1);
            Ok([old.unwrap(), b"."].concat())
        })
        .unwrap();
    }
    assert_eq!(fs::read(at("far/file")).unwrap(), b"old..");
    assert_eq!(mode(at("far/file")), 0o640);

    // By whatever path: one at a time.
    let inside = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for path in ["second", "link", "far/file", "far/../far/file"] {
            let (inside, path) = (&inside, at(path));
            scope.spawn(move || {
                for _ in 0..10 {
                    update(&path, |old| {
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        Ok([old.unwrap(), b"."].concat())
                    })
                    .unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read(at("far/file")).unwrap().len(), 3 + 2 + 40);
    assert!(at("link").is_symlink());

    symlink("far/new", at("dangling")).unwrap();
    refused(read_version(at("dangling")), ErrorKind::NotFound);
    update(at("dangling"), |old| Ok(vec![b'0' + u8::from(old.is_some())])).unwrap();
    assert_eq!(fs::read(at("far/new")).unwrap(), b"0");
    assert_eq!((remnants(home.path()).len(), remnants(&at("far")).len()), (0, 0));
}

#[test]
fn a_link_is_not_replaced_on_a_condition_that_is_about_something_else() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("file"), "old").unwrap();
    symlink("file", at("link")).unwrap();
    let (text, version) = read_version(at("link")).unwrap();
    assert_eq!(text, b"old");
    let replace = WriteOptions::new().symlinks(Symlinks::Replace);
    refused(replace.update(at("link"), |_| unreachable!()), ErrorKind::Unsupported);
    refused(replace.clone().expect(&version).write(at("link"), "new"), ErrorKind::Unsupported);
    let refuse = WriteOptions::new().symlinks(Symlinks::Refuse);
    refused(refuse.update(at("link"), |_| unreachable!()), ErrorKind::InvalidPath);
    refused(refuse.expect(&version).write(at("link"), "new"), ErrorKind::InvalidPath);
    // A plain file is replaced with any of these.
    replace.expect(&version).write(at("file"), "new").unwrap();
    // A link that came while the stream was open is no version of the file.
    let (_, version) = read_version(at("file")).unwrap();
    let stream = WriteOptions::new().expect(&version).open(at("file")).unwrap();
    fs::rename(at("file"), at("moved")).unwrap();
    symlink("moved", at("file")).unwrap();
    refused(stream.commit(), ErrorKind::Changed);
    assert_eq!(names(home.path()), ["file", "link", "moved"]);
}

#[test]
fn what_is_no_file_is_neither_read_nor_waited_for() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    refused(read_version(at("fifo")), ErrorKind::InvalidPath);
    refused(update(at("fifo"), |_| unreachable!()), ErrorKind::InvalidPath);
    symlink("round", at("round")).unwrap();
    refused(read_version(at("round")), ErrorKind::InvalidPath);
    refused(read_version(at("absent/file")), ErrorKind::NotFound);
    // A file that doesn't know how long it is.
    assert!(!read_version("/proc/self/status").unwrap().0.is_empty());
}

#[test]
fn names_that_differ_in_case_only_share_a_lock() {
    let home = dir();
    let lock_of = |name: &str| {
        let mut locks = Vec::new();
        update(home.path().join(name), |_| {
            locks = remnants(home.path());
            Ok(Vec::new())
        })
        .unwrap();
        locks
    };
    assert_eq!(lock_of("file"), lock_of("FILE"));
    assert_ne!(lock_of("file"), lock_of("other"));
}

#[test]
fn where_no_file_can_be_created_the_file_itself_is_locked() {
    if !is_root() {
        return skip("giving files away needs root");
    }
    const OTHER: u32 = 65534;
    let home = dir();
    let path = home.path().join("file");
    fs::write(&path, "old").unwrap();
    chown(&path, OTHER, OTHER);
    as_user(OTHER, OTHER, || {
        let mut is_locked = false;
        let error = update(&path, |old| {
            assert_eq!(old, Some(&b"old"[..]));
            assert_eq!(names(home.path()), ["file"]);
            let another = std::fs::File::open(&path).unwrap();
            is_locked = flock(&another, FlockOperation::NonBlockingLockExclusive).is_err();
            Ok(b"new".to_vec())
        });
        // It could not be replaced after all.
        refused(error, ErrorKind::PermissionDenied);
        assert!(is_locked);
        let another = std::fs::File::open(&path).unwrap();
        flock(&another, FlockOperation::NonBlockingLockExclusive).expect("the lock is given up");
        refused(update(home.path().join("new"), |_| unreachable!()), ErrorKind::PermissionDenied);
    });
    assert_eq!(names(home.path()), ["file"]);
}

#[cfg(feature = "crash_testing")]
#[test]
fn without_locks_it_is_unsupported_and_nothing_is_left() {
    use durafile::crash_testing::{CrashTest, Fault};
    use rustix::io::Errno;

    for named in [false, true] {
        let save = |dir: &std::path::Path| {
            let path = dir.join("file");
            let (_, version) = read_version(&path)?;
            refused(update(&path, |_| unreachable!()), ErrorKind::Unsupported);
            refused(WriteOptions::new().expect(&version).write(&path, "new"), ErrorKind::Unsupported);
            assert_eq!(names(dir), ["file"]);
            Ok(())
        };
        let mut test = CrashTest::new(save)
            .initial(|dir| std::fs::write(dir.join("file"), "old"))
            .fault(Fault::Refuse { name: "lock", errno: Errno::NOLCK.raw_os_error() });
        if named {
            test = test.fault(Fault::Refuse { name: "create unnamed", errno: Errno::NOTSUP.raw_os_error() });
        }
        test.record().unwrap().result().as_ref().unwrap();
    }
}
