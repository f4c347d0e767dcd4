//! Goal: no change that `update` or a save with `expect` has acknowledged is lost to another one, whoever is
//! killed meanwhile; what is refused changes nothing; no lock file stays. Method: numbers that many threads and
//! processes add to, and plain calls.

use std::error::Error as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use durafile::{
    CancelToken, Committed, Durability, ErrorKind, FileVersion, WriteOptions, read_version, recover, update,
};
use fs_err as fs;

use crate::support::{dir, job, names, refused, rerun, this_test};

/// Without syncs: they have nothing to do with who excludes whom.
fn quick() -> WriteOptions {
    WriteOptions::new().durability(Durability::None)
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).unwrap().parse().expect("torn")
}

fn add_one(path: &Path) {
    let added = quick().update(path, |old| Ok((old.map_or(0, number) + 1).to_string().into_bytes()));
    added.unwrap();
}

/// Under wine each attempt to get a lock costs milliseconds.
const ADDS: u64 = if cfg!(windows) { 25 } else { 250 };

fn start_adding(test: &str, home: &Path, adds: u64) -> Child {
    let mut child = rerun(&[], test, home, &adds.to_string());
    child.stdout(Stdio::piped()).spawn().unwrap()
}

/// How many adds a child has acknowledged.
fn acknowledged(child: &mut Child) -> u64 {
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    text.matches("ADDED").count() as u64
}

#[test]
fn many_threads_and_processes_add_to_a_number_and_some_are_killed() {
    let test = this_test!();
    if let Some((home, adds)) = job(&test) {
        for _ in 0..adds.parse::<u64>().unwrap() {
            add_one(&home.join("number"));
            println!("ADDED");
        }
        return;
    }
    let home = dir();
    let path = home.path().join("number");
    let (mut acked, mut uncertain) = (16 * ADDS, 0);
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| (0..ADDS).for_each(|_| add_one(&path)));
        }
        let mut whole: Vec<Child> = (0..4).map(|_| start_adding(&test, home.path(), ADDS)).collect();
        for round in 0..6 {
            let mut killed = start_adding(&test, home.path(), u64::MAX);
            let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
            for _ in 0..=round * 3 {
                while !lines.next().expect("the child ended").unwrap().contains("ADDED") {}
                acked += 1;
            }
            killed.kill().unwrap();
            killed.wait().unwrap();
            acked += lines.map_while(Result::ok).filter(|line| line.contains("ADDED")).count() as u64;
            // It may have been done, and not have said so any more.
            uncertain += 1;
        }
        for child in &mut whole {
            let added = acknowledged(child);
            assert_eq!(added, ADDS);
            acked += added;
        }
    });
    let found = number(&fs::read(&path).unwrap());
    assert!((acked..=acked + uncertain).contains(&found), "{acked} were acknowledged, and it is {found}");
    // A killed one's staged file may be there, where files have names from the start.
    let _ = recover(home.path()).unwrap();
    assert_eq!(names(home.path()), ["number"]);
}

#[test]
fn saves_with_expect_lose_nothing_either() {
    let home = dir();
    let path = home.path().join("number");
    fs::write(&path, "0").unwrap();
    let refusals = AtomicU64::new(0);
    let add = || {
        loop {
            let (text, version) = read_version(&path).unwrap();
            let next = (number(&text) + 1).to_string();
            match quick().expect(&version).write(&path, next) {
                Ok(_) => return,
                Err(e) => assert_eq!(e.kind(), ErrorKind::Changed, "{e:?}"),
            }
            refusals.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| (0..50).for_each(|_| add()));
        }
        scope.spawn(|| (0..100).for_each(|_| add_one(&path)));
    });
    println!("{} saves came too late", refusals.into_inner());
    assert_eq!(number(&fs::read(&path).unwrap()), 400);
    assert_eq!(names(home.path()), ["number"]);
}

#[test]
fn of_many_that_find_no_file_one_creates_it() {
    let home = dir();
    for round in 0..20 {
        let path = home.path().join(format!("new {round}"));
        let created = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let done = quick().update(&path, |old| {
                        created.fetch_add(u64::from(old.is_none()), Ordering::Relaxed);
                        Ok([old.unwrap_or_default(), b"x"].concat())
                    });
                    done.unwrap();
                });
            }
        });
        assert_eq!((created.into_inner(), fs::read(&path).unwrap()), (1, b"xxxxxxxx".to_vec()));
    }
    assert_eq!(names(home.path()).len(), 20);
}

/// Every way to save with a condition.
fn each_save(expected: &FileVersion, path: &Path, content: &str) -> Vec<durafile::Result<Committed>> {
    let options = quick().expect(expected);
    let streamed = || {
        let mut file = options.open(path)?;
        file.write_all(content.as_bytes()).map_err(|e| e.downcast::<durafile::Error>().unwrap())?;
        file.commit()
    };
    vec![
        options.write(path, content),
        options.write_from(path, content.as_bytes()),
        streamed(),
        options.clone().skip_unchanged(true).write(path, content),
        options.clone().skip_unchanged(true).write_from(path, content.as_bytes()),
        options.update(path, |_| Ok(content.as_bytes().to_vec())),
        #[cfg(feature = "json")]
        options.write_json(path, content),
    ]
}

#[test]
fn what_was_saved_since_is_not_overwritten() {
    let home = dir();
    let path = home.path().join("file");
    durafile::write(&path, "old").unwrap();
    let (text, version) = read_version(&path).unwrap();
    assert_eq!(text, b"old");
    // As long as the old one, and perhaps in the same tick of the clock.
    for other in ["new", "longer"] {
        durafile::write(&path, other).unwrap();
        for save in each_save(&version, &path, "mine") {
            let error = refused(save, ErrorKind::Changed);
            assert!(!error.is_transient());
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), other);
        // What it would be anyway is no excuse.
        for save in each_save(&version, &path, other) {
            refused(save, ErrorKind::Changed);
        }
    }
    fs::remove_file(&path).unwrap();
    for save in each_save(&version, &path, "mine") {
        refused(save, ErrorKind::NotFound);
    }
    refused(read_version(&path), ErrorKind::NotFound);
    assert!(names(home.path()).is_empty());
}

#[test]
fn the_same_content_is_the_same_version_and_each_save_tells_the_next() {
    let home = dir();
    let path = home.path().join("file");
    durafile::write(&path, "old").unwrap();
    let (_, first) = read_version(&path).unwrap();
    // Saved again, by another program: another inode and another time.
    fs::remove_file(&path).unwrap();
    fs::write(&path, "old").unwrap();
    assert!(quick().write(&path, "plain").unwrap().version().is_none());
    durafile::write(&path, "old").unwrap();
    let mut version = quick().expect(&first).write(&path, "0").unwrap().version().unwrap();
    for round in 1..5 {
        let text = round.to_string();
        for save in 0..each_save(&first, &path, "none").len() {
            assert_eq!(version, read_version(&path).unwrap().1, "save {save}");
            let nested = home.path().join("other");
            fs::write(&nested, &text).unwrap();
            // One of them succeeds, and after that the version is another one.
            let mut saved = each_save_but_one(&version, &path, &text, save);
            version = saved.pop().unwrap().unwrap().version().unwrap();
            fs::remove_file(nested).unwrap();
        }
    }
    assert_eq!(names(home.path()), ["file"]);
}

/// Only one of them, since each one ends the version that it expects.
fn each_save_but_one(
    version: &FileVersion,
    path: &Path,
    text: &str,
    only: usize,
) -> Vec<durafile::Result<Committed>> {
    let options = quick().expect(version);
    let saved = match only {
        0 => options.write(path, text),
        1 => options.write_from(path, text.as_bytes()),
        2 => options.skip_unchanged(true).write(path, text),
        3 => options.skip_unchanged(true).write_from(path, text.as_bytes()),
        _ => options.update(path, |_| Ok(text.as_bytes().to_vec())),
    };
    vec![saved]
}

#[test]
fn what_the_closure_fails_with_is_the_source_and_nothing_is_saved() {
    #[derive(Debug, thiserror::Error)]
    #[error("no such account")]
    struct NoSuchAccount;

    let home = dir();
    let path = home.path().join("file");
    for there in [false, true] {
        let error = refused(update(&path, |_| Err(NoSuchAccount.into())), ErrorKind::Reader);
        let source = error.source().unwrap();
        assert!(source.downcast_ref::<NoSuchAccount>().is_some(), "{source:?}");
        assert_eq!(error.path(), path);
        let error = refused(update(&path, |_| Err("in words".into())), ErrorKind::Reader);
        assert_eq!(error.source().unwrap().to_string(), "in words");

        let panicked = std::panic::catch_unwind(|| {
            let _ = update(&path, |_| panic!("the closure gives up"));
        });
        assert!(panicked.is_err());
        assert_eq!(names(home.path()).len(), usize::from(there));
        // The lock is free.
        durafile::update(&path, |_| Ok(b"saved".to_vec())).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), b"saved");
    refused(WriteOptions::new().size_limit(3).update(&path, |_| Ok(b"long".to_vec())), ErrorKind::TooLarge);
    assert_eq!(fs::read(&path).unwrap(), b"saved");
}

#[test]
fn a_plain_save_that_comes_while_the_closure_runs_is_not_overwritten() {
    let home = dir();
    let path = home.path().join("file");
    let interrupted = |what: &dyn Fn()| {
        let done = update(&path, |_| {
            what();
            Ok(b"mine".to_vec())
        });
        refused(done, ErrorKind::Changed);
    };
    let save = |text| {
        durafile::write(&path, text).unwrap();
    };
    interrupted(&|| save("another's"));
    interrupted(&|| save("something"));
    assert_eq!(fs::read(&path).unwrap(), b"something");
    interrupted(&|| fs::remove_file(&path).unwrap());
    assert!(names(home.path()).is_empty());
}

#[test]
fn conditions_that_can_not_be_met_together_are_refused() {
    let home = dir();
    let path = home.path().join("file");
    durafile::write(&path, "old").unwrap();
    let (_, version) = read_version(&path).unwrap();
    let both = WriteOptions::new().create_new(true).expect(&version);
    refused(both.write(&path, "new"), ErrorKind::Unsupported);
    refused(both.open(&path), ErrorKind::Unsupported);
    refused(both.update(&path, |_| unreachable!()), ErrorKind::Unsupported);
    let new = WriteOptions::new().create_new(true);
    refused(new.update(&path, |_| unreachable!()), ErrorKind::AlreadyExists);
    fs::remove_file(&path).unwrap();
    let created = new.update(&path, |old| Ok(old.map_or(b"none".to_vec(), <[u8]>::to_vec))).unwrap();
    assert_eq!(created.version().unwrap(), read_version(&path).unwrap().1);
    refused(read_version(home.path()), ErrorKind::IsADirectory);
    refused(update(home.path(), |_| unreachable!()), ErrorKind::IsADirectory);
    refused(update("", |_| unreachable!()), ErrorKind::InvalidPath);
    refused(read_version(""), ErrorKind::InvalidPath);
}

#[test]
fn an_update_that_waits_for_another_can_be_cancelled() {
    let home = dir();
    let path = home.path().join("file");
    let token = CancelToken::new();
    update(&path, |_| {
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                // Ends only because of the token.
                WriteOptions::new().cancel(&token).update(&path, |_| unreachable!("it is locked"))
            });
            let expecting = scope.spawn(|| {
                fs::write(home.path().join("other"), "old").unwrap();
                let (_, version) = read_version(home.path().join("other")).unwrap();
                WriteOptions::new().cancel(&token).expect(&version).write(&path, "new")
            });
            token.cancel();
            refused(waiting.join().unwrap(), ErrorKind::Cancelled);
            refused(expecting.join().unwrap(), ErrorKind::Cancelled);
        });
        Ok(b"mine".to_vec())
    })
    .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"mine");
    assert_eq!(names(home.path()), ["file", "other"]);
}

#[test]
fn a_killed_update_keeps_nobody_out_and_leaves_what_recover_settles() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        let _ = update(home.join("file"), |_| {
            println!("INSIDE");
            std::thread::park();
            unreachable!("it is killed")
        });
    }
    for recovered in [false, true] {
        let home = dir();
        fs::write(home.path().join("file"), "old").unwrap();
        let mut child = rerun(&[], &test, home.path(), "hold").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("INSIDE")));
        let token = CancelToken::new();
        token.cancel();
        let meanwhile =
            WriteOptions::new().cancel(&token).update(home.path().join("file"), |_| unreachable!());
        refused(meanwhile, ErrorKind::Cancelled);
        // Somebody is at work there.
        assert!(recover(home.path()).unwrap().is_clean());
        assert_eq!(names(home.path()).len(), 2);
        child.kill().unwrap();
        child.wait().unwrap();
        if recovered {
            assert_eq!(recover(home.path()).unwrap().removed().len(), 1);
        } else {
            update(home.path().join("file"), |old| Ok([old.unwrap(), b", new"].concat())).unwrap();
            assert_eq!(fs::read(home.path().join("file")).unwrap(), b"old, new");
        }
        assert_eq!(names(home.path()), ["file"]);
    }
}

#[test]
fn what_is_the_same_already_is_left_alone_and_its_version_told() {
    let home = dir();
    let path = home.path().join("file");
    durafile::write(&path, "text").unwrap();
    let (_, version) = read_version(&path).unwrap();
    let skip = quick().skip_unchanged(true);
    let expecting = skip.clone().expect(&version);
    for saved in [
        skip.update(&path, |old| Ok(old.unwrap().to_vec())),
        expecting.write(&path, "text"),
        expecting.write_from(&path, &b"text"[..]),
        expecting.update(&path, |old| Ok(old.unwrap().to_vec())),
    ] {
        let saved = saved.unwrap();
        assert!(saved.is_unchanged());
        // Inode and time, too.
        assert_eq!(saved.version().unwrap(), version);
        assert_eq!(read_version(&path).unwrap().1, version);
    }
    assert_eq!(names(home.path()), ["file"]);
}
