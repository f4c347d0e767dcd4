//! Goal: directories that are deep, large or swapped very often cost no descriptors and no reader
//! its name.

use durafile::{AtomicDir, DirOptions, DirSnapshot, Durability};
use fs_err as fs;

use crate::support::{dir, long, names};

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
