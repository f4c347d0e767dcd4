//! Goal: a forked child is no writer: what it drops stays its parent's. Method: real forks, in a nested name
//! space of process numbers, too, where the child has the number that its parent has outside.

use std::io::Write;
use std::path::Path;

use durafile::{AtomicDir, AtomicFile, Batch, ErrorKind, LockFile, Transaction};
use fork::Fork;
use fs_err as fs;

use crate::support::{after, dir, has, job, names, this_test};

/// Forks; the child drops or discards its copy of everything, and the parent goes on.
fn end_in_child(home: &Path, discard: bool) {
    let at = |name: &str| home.join(name);
    fs::create_dir(at("set")).unwrap();
    let mut stream = AtomicFile::create(at("streamed")).unwrap();
    stream.write_all(b"new").unwrap();
    let mut batch = Batch::new();
    batch.write(at("in a batch"), "new").unwrap();
    let mut change = Transaction::begin(at("set")).unwrap();
    change.write("one", "new").unwrap();
    change.write("two", "new").unwrap();
    let mut next = AtomicDir::create(at("talk")).unwrap();
    next.write("file", "new").unwrap();
    let lock = LockFile::try_lock(at("lock")).unwrap();
    let before = names(home);
    match fork::fork().unwrap() {
        Fork::Child if discard => {
            batch.discard().unwrap();
            change.discard().unwrap();
            next.discard().unwrap();
            std::process::exit(0);
        }
        Fork::Child => {
            drop((stream, batch, change, next, lock));
            std::process::exit(0);
        }
        Fork::Parent(pid) => assert_eq!(fork::waitpid(pid).unwrap(), 0),
    }
    assert_eq!(names(home), before);
    assert_eq!(Transaction::begin(at("set")).unwrap_err().kind(), ErrorKind::Locked);
    assert_eq!(LockFile::try_lock(at("lock")).unwrap_err().kind(), ErrorKind::Locked);
    let _ = stream.commit().unwrap();
    let _ = batch.commit().unwrap();
    let _ = change.commit().unwrap();
    let _ = next.commit().unwrap();
    lock.unlock().unwrap();
    for name in ["streamed", "in a batch", "set/one", "set/two", "talk/file"] {
        assert_eq!(fs::read(at(name)).unwrap(), b"new", "{name}");
    }
    assert_eq!(names(home).len(), 5);
}

#[test]
fn a_forked_child_that_drops_its_copies_destroys_nothing() {
    crate::support::in_child(&this_test!(), "", |home| end_in_child(home, false));
}

#[test]
fn nor_does_one_that_discards_them() {
    crate::support::in_child(&this_test!(), "", |home| end_in_child(home, true));
}

#[test]
fn nor_does_one_that_has_its_parent_s_number() {
    if job(&this_test!()).is_some() || has("unshare", &["-p", "-f", "true"]) {
        // The first process of one name space; what it forks next is the first of another one.
        after(&this_test!(), &["unshare", "-p", "-f"], "", |home| {
            assert_eq!(std::process::id(), 1);
            #[expect(deprecated, reason = "of all its flags, this one is without danger")]
            rustix::thread::unshare(rustix::thread::UnshareFlags::NEWPID).unwrap();
            end_in_child(home, false);
        });
    }
}

#[test]
fn a_child_s_own_saves_are_its_own() {
    crate::support::in_child(&this_test!(), "", |home| {
        let _ = Transaction::begin(home).unwrap().commit().unwrap();
        match fork::fork().unwrap() {
            Fork::Child => {
                drop(Transaction::begin(home).unwrap());
                let mut batch = Batch::new();
                batch.write(home.join("file"), "new").unwrap();
                drop(batch);
                std::process::exit(names(home).len() as i32);
            }
            Fork::Parent(pid) => assert_eq!(fork::waitpid(pid).unwrap(), 0),
        }
        assert!(names(home).is_empty());
        drop(dir());
    });
}
