//! Goal: directories that are deep, large or swapped very often cost no descriptors and no reader
//! its name.

use std::os::fd::OwnedFd;
use std::path::Path;

use durafile::{AtomicDir, DirOptions, DirSnapshot, Durability};
use fs_err as fs;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, flock, openat};

use crate::support::{dir, in_child, limit_open_files, long, names, this_test};

#[test]
fn a_deep_tree_and_many_files_are_carried_and_deleted_with_few_descriptors() {
    let home = dir();
    let target = home.path().join("talk");
    let mut deep = target.clone();
    for _ in 0..100 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("f"), "deep").unwrap();
    for n in 0..300 {
        fs::create_dir(target.join(format!("{n}"))).unwrap();
        fs::write(target.join(format!("{n}/f")), "x").unwrap();
    }
    let before = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert!(before.current.is_none_or(|limit| limit > 200));
    let mut next = AtomicDir::update(&target).unwrap();
    next.write("0/f", "y").unwrap();
    next.commit().unwrap();
    assert_eq!(fs::read_to_string(deep.join("f")).unwrap(), "deep");
    assert_eq!(fs::read_to_string(target.join("0/f")).unwrap(), "y");
    assert_eq!(names(home.path()), ["talk"]);
}

/// A chain of folders at `top` whose path is longer than any that the system takes. The last one, open.
fn far_below(top: &Path) -> OwnedFd {
    const HALF: usize = 15;
    let name = "d".repeat(200);
    let chain = |top: &Path| (0..HALF).fold(top.to_owned(), |path, _| path.join(&name));
    let lower = top.with_extension("lower");
    fs::create_dir_all(chain(top)).unwrap();
    fs::create_dir_all(chain(&lower)).unwrap();
    fs::rename(&lower, chain(top).join("lower")).unwrap();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let middle = openat(CWD, chain(top), flags, Mode::empty()).unwrap();
    openat(middle, chain(Path::new("lower")), flags, Mode::empty()).unwrap()
}

#[test]
fn an_old_version_of_many_folders_goes_with_few_descriptors() {
    in_child(&this_test!(), "", |home| {
        let target = home.join("talk");
        let commit = || AtomicDir::create(&target).unwrap().commit().unwrap();
        for n in 0..300 {
            fs::create_dir_all(target.join(format!("{n}/below"))).unwrap();
        }
        limit_open_files(64);
        commit();
        assert_eq!(names(home), ["talk"], "wide");

        // A reader is found where no path leads, and nothing is in the way of the deletion after it.
        let reader = far_below(&target.join("far"));
        flock(&reader, FlockOperation::LockShared).unwrap();
        commit();
        assert_eq!(names(home).len(), 2, "it is read");
        drop(reader);
        commit();
        assert_eq!(names(home), ["talk"], "far");
    });
}

#[test]
fn readers_never_miss_the_name_over_ten_thousand_swaps() {
    let swaps = long::count(1_000, 10_000, "swaps") as usize;
    let home = dir();
    let target = home.path().join("talk");
    // Without syncs: what is tried is the name, and ten thousand flushes take minutes.
    let options = DirOptions::new().durability(Durability::None);
    let commit = |n: usize| {
        let mut new = options.create(&target).unwrap();
        new.write("n", n.to_string()).unwrap();
        new.commit().unwrap();
    };
    commit(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    let looks = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut looks, mut last) = (0, 0);
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(std::fs::metadata(&target).unwrap().is_dir());
                let snapshot = DirSnapshot::open(&target).unwrap();
                let n: usize = String::from_utf8(snapshot.read("n").unwrap()).unwrap().parse().unwrap();
                assert!(n >= last, "an older version came back");
                (looks, last) = (looks + 1, n);
            }
            looks
        });
        (1..=swaps).for_each(commit);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(looks > 100, "{looks}");
    commit(swaps + 1);
    let _ = durafile::recover(home.path()).unwrap();
    assert_eq!(names(home.path()), ["talk"]);
}
