//! Goal: rule 14: whoever saves at the same time, in threads or in processes, every reader sees
//! one complete version, the name is never missing, and the last commit wins. Method: readers
//! loop until all writers are through; each version is checkable by itself.

use std::io::Write;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use durafile::{AtomicFile, Durability, ErrorKind, WriteOptions};
use fs_err as fs;

use crate::support::{dir, expect_pass, job, names, rerun, this_test};

/// A version says who wrote it, and has a length and bytes that follow from that.
fn version(writer: u64, number: u64) -> Vec<u8> {
    let mut bytes = format!("{writer} {number}\n").into_bytes();
    let length = 100 + (writer * 7919 + number * 104_729) % 30_000;
    let fill = (writer * 31 + number) as u8;
    bytes.resize(bytes.len() + length as usize, fill);
    bytes
}

/// Fails unless the bytes are exactly one version; returns which.
fn check(seen: &[u8]) -> (u64, u64) {
    let head = seen.split(|byte| *byte == b'\n').next().unwrap();
    let head = std::str::from_utf8(head).unwrap();
    let (writer, number) =
        head.split_once(' ').unwrap_or_else(|| panic!("torn, {} bytes: {head}", seen.len()));
    let (writer, number) = (writer.parse().unwrap(), number.parse().unwrap());
    assert!(seen == version(writer, number), "torn: {head}");
    (writer, number)
}

fn save(path: &Path, writer: u64, number: u64) {
    let bytes = version(writer, number);
    let levels = [Durability::Full, Durability::Data, Durability::None];
    let options = WriteOptions::new().durability(levels[number as usize % 3]);
    let at_once = || options.write(path, &bytes).map(drop);
    let streamed = || {
        let mut file = options.open(path)?;
        for piece in bytes.chunks(5000) {
            file.write_all(piece).unwrap();
        }
        file.commit().map(drop)
    };
    until_nobody_is_in_the_way(if number % 2 == 0 { &at_once } else { &streamed });
}

/// Readers without a pause can be in the way of every attempt where a file that is open can't be
/// replaced; see `replaces_open_files`.
fn until_nobody_is_in_the_way(save: &dyn Fn() -> durafile::Result<()>) {
    loop {
        match save() {
            Err(e) if cfg!(windows) && e.kind() == ErrorKind::Busy => assert!(e.is_transient()),
            saved => return saved.unwrap(),
        }
    }
}

/// Reads until `over`, checking each version; the name must be there every time.
fn read_until(path: &Path, over: &AtomicBool, seen: &AtomicU64) {
    let mut last = None;
    while !over.load(Ordering::Relaxed) {
        let now = check(&std::fs::read(path).expect("the name must never be missing"));
        if last != Some(now) {
            seen.fetch_add(1, Ordering::Relaxed);
        }
        last = Some(now);
        if cfg!(windows) {
            // Else the file may be open all the time, and nobody able to replace it.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn threads_that_save_one_path_never_show_a_reader_anything_but_a_complete_version() {
    const WRITERS: u64 = 6;
    const SAVES: u64 = 40;
    let dir = dir();
    let path = dir.path().join("file");
    save(&path, 0, 0);
    let (over, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let reader = || read_until(&path, &over, &seen);
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let writers: Vec<_> = (1..=WRITERS)
            .map(|writer| {
                let path = &path;
                scope.spawn(move || (1..=SAVES).for_each(|number| save(path, writer, number)))
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        over.store(true, Ordering::Relaxed);
        for thread in ended.into_iter().chain(readers.map(|reader| reader.join())) {
            thread.unwrap();
        }
    });
    // Whoever was last had nothing left to save.
    assert_eq!(check(&fs::read(&path).unwrap()).1, SAVES);
    assert!(seen.into_inner() > 1, "the readers saw nothing happen");
    assert_eq!(names(&dir), ["file"]);
}

#[test]
fn processes_that_save_one_path_never_show_a_reader_anything_but_a_complete_version() {
    const WRITERS: u64 = 4;
    const SAVES: u64 = 60;
    let test = this_test!();
    if let Some((dir, writer)) = job(&test) {
        let writer = writer.parse().unwrap();
        (1..=SAVES).for_each(|number| save(&dir.join("file"), writer, number));
        return;
    }
    let dir = dir();
    let path = dir.path().join("file");
    save(&path, 0, 0);
    let (over, seen) = (AtomicBool::new(false), AtomicU64::new(0));
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_until(&path, &over, &seen));
        let writers: Vec<_> = (1..=WRITERS)
            .map(|writer| {
                let mut child = rerun(&[], &test, dir.path(), &writer.to_string());
                scope.spawn(move || child.output())
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        over.store(true, Ordering::Relaxed);
        reader.join().unwrap();
        ended
    })
    .into_iter()
    .map(|output| output.unwrap().unwrap())
    .collect();
    outputs.iter().for_each(expect_pass);
    assert_eq!(check(&fs::read(&path).unwrap()).1, SAVES);
    assert!(seen.into_inner() > 1, "the reader saw nothing happen");
    assert_eq!(names(&dir), ["file"]);
}

#[test]
fn the_last_to_commit_wins_whoever_opened_first() {
    let dir = dir();
    let path = dir.path().join("file");
    for old in [false, true] {
        if old {
            fs::write(&path, "old").unwrap();
        }
        let open = |text: &str| {
            let mut file = AtomicFile::create(&path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        };
        let (first, second, third) = (open("first"), open("second"), open("third"));
        second.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        durafile::write(&path, "between").unwrap();
        third.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "third");
        first.commit().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(names(&dir), ["file"]);
    }
}

#[test]
fn a_reader_that_holds_the_old_file_open_keeps_reading_it() {
    let dir = dir();
    let path = dir.path().join("file");
    save(&path, 1, 1);
    if !crate::support::replaces_open_files(dir.path()) {
        return;
    }
    let mut held = std::fs::File::open(&path).unwrap();
    for number in 2..10 {
        save(&path, 2, number);
    }
    let mut seen = Vec::new();
    std::io::Read::read_to_end(&mut held, &mut seen).unwrap();
    assert_eq!(check(&seen), (1, 1));
}

#[test]
fn a_file_that_others_remove_and_create_all_the_time_is_saved_every_time() {
    let dir = dir();
    let path = dir.path().join("file");
    let over = AtomicBool::new(false);
    let start = Barrier::new(2);
    std::thread::scope(|scope| {
        let remover = scope.spawn(|| {
            start.wait();
            while !over.load(Ordering::Relaxed) {
                let _ = std::fs::remove_file(&path);
                let _ = std::fs::write(&path, "theirs");
            }
        });
        start.wait();
        let saved = std::panic::catch_unwind(|| {
            for number in 0..200 {
                let options = WriteOptions::new().durability(Durability::None);
                until_nobody_is_in_the_way(&|| options.write(&path, version(1, number)).map(drop));
            }
        });
        over.store(true, Ordering::Relaxed);
        remover.join().unwrap();
        saved.unwrap();
    });
    let left = names(&dir);
    assert_eq!(left, ["file"]);
}
