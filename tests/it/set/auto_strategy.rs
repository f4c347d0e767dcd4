//! Goal: `SyncStrategy::Auto` makes a large set durable by one sync of the file system if nobody else has
//! much to write, by a sync of each file if somebody has, and never publishes anything else.
//!
//! Method: sets are saved under strace, beside a program that writes all the time or beside none. What a
//! crash may leave of them is looked at in `crash::auto_strategy`. A transaction goes the same way on btrfs only.

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use durafile::{AtomicDir, Batch};
use fs_err as fs;

use crate::set::syscalls::{Calls, has_syncfs, run, traced_job, where_syncfs_is_trusted};
use crate::support::strace::{self, marked};
use crate::support::{dir, job, names, skip, this_test};

/// So many that the set looks at what others have to write many times.
const FILES: usize = 800;

/// For one that is quiet, or busy, at the right time.
const TRIES: usize = 20;

/// The calls that are counted, and what the marks are made of: the child runs on at all others.
const COUNTED: [&str; 3] =
    ["--seccomp-bpf", "-e", "trace=statx,fsync,fdatasync,sync,msync,syncfs,sync_file_range"];

type Save = fn(&Path, &dyn Fn());

/// Each replaces `d`; `before_commit` is called in between.
const SAVES: [(&str, Save); 2] = [("Batch", batch), ("AtomicDir", directory)];

fn batch(home: &Path, before_commit: &dyn Fn()) {
    let mut batch = Batch::new();
    for n in 0..FILES {
        batch.write(home.join(format!("d/{n}")), "new").unwrap();
    }
    before_commit();
    batch.commit().unwrap();
}

fn directory(home: &Path, before_commit: &dyn Fn()) {
    let mut change = AtomicDir::create(home.join("d")).unwrap();
    for n in 0..FILES {
        change.write(n.to_string(), "new").unwrap();
    }
    before_commit();
    change.commit().unwrap();
}

/// Another program that always has so much to write that no large set waits for it.
struct Stranger {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    fn in_dir(dir: &Path) -> Stranger {
        let file = std::fs::File::create(dir.join("stranger")).unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        let (stop, block) = (Arc::clone(&enough), vec![7; 1 << 20]);
        let fill = move || {
            for n in 0..160 {
                file.write_all_at(&block, n << 20).unwrap();
            }
        };
        fill();
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                // Not all the time, which would be a lot of work: when the kernel has written a part of it.
                if unwritten() < 40 << 20 {
                    fill();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Stranger { enough, thread: Some(thread) }
    }
}

/// Other tests may be at work, and what they have written goes to the disk in its own time.
fn until_others_are_quiet() {
    for _ in 0..100 {
        rustix::fs::sync();
        if unwritten() < 4 << 20 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The bytes that all programs have written and the kernel has not.
fn unwritten() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let count = |name: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    };
    count("Dirty:") + count("Writeback:")
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Saves in a child that is traced, until its calls are as wanted.
fn until(
    test: &str,
    case: &str,
    busy: bool,
    work: &dyn Fn(&Path, &str),
    is_as_wanted: impl Fn(&Calls) -> bool,
) -> Option<()> {
    // The strangers of one test would disturb the others.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let place = dir();
    if !has_syncfs(place.path()) {
        skip("no file system whose syncfs is trusted");
        return None;
    }
    let mut seen = Vec::new();
    for _ in 0..TRIES {
        if !busy {
            until_others_are_quiet();
        }
        let stranger = (busy && traced_job(test).is_none()).then(|| Stranger::in_dir(place.path()));
        let (calls, home) = run(test, case, &COUNTED, work)?;
        drop(stranger);
        assert_eq!(names(home.path().join("d")).len(), FILES);
        if is_as_wanted(&calls) {
            return Some(());
        }
        seen.push(calls.syncs(&["/d"]));
    }
    panic!("{case}: (fsyncs of files, of the directory, syncfs) were {seen:?}");
}

fn save(home: &Path, case: &str, before_commit: &dyn Fn()) {
    fs::create_dir(home.join("d")).unwrap();
    let (_, save) = SAVES.iter().find(|(name, _)| *name == case).unwrap();
    save(home, before_commit);
}

#[test]
fn one_sync_of_the_file_system_will_do_while_nobody_else_writes() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    where_syncfs_is_trusted(&test, || {
        for (case, _) in SAVES {
            let work = |home: &Path, case: &str| marked(|| save(home, case, &|| ()));
            let calls = |calls: &Calls| {
                // While the first files were added somebody may have been busy.
                let (synced, _, whole) = calls.syncs(&["/d"]);
                synced + calls.waits_for_write_out() >= FILES && whole == 1
            };
            if until(&test, case, false, &work, calls).is_none() {
                return;
            }
        }
    });
}

#[test]
fn each_file_is_synced_while_others_write() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    where_syncfs_is_trusted(&test, || {
        for (case, _) in SAVES {
            let work = |home: &Path, case: &str| marked(|| save(home, case, &|| ()));
            let calls = |calls: &Calls| calls.count("fsync") >= FILES && calls.syncs(&["/d"]).2 == 0;
            if until(&test, case, true, &work, calls).is_none() {
                return;
            }
        }
    });
}

#[test]
fn each_file_is_opened_again_and_synced_when_others_began_to_write_before_the_commit() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    where_syncfs_is_trusted(&test, || {
        for (case, _) in SAVES {
            let work = |home: &Path, case: &str| {
                let place = tempfile::tempdir_in(home).unwrap();
                let stranger = Mutex::new(None);
                let begin = || {
                    *stranger.lock().unwrap() = Some(Stranger::in_dir(place.path()));
                };
                marked(|| save(home, case, &begin));
            };
            let calls = |calls: &Calls| {
                calls.waits_for_write_out() > 0
                    && calls.count("fsync") >= FILES
                    && calls.syncs(&["/d"]).2 == 0
            };
            if until(&test, case, false, &work, calls).is_none() {
                return;
            }
        }
    });
}

#[test]
fn each_file_is_synced_where_a_whole_file_system_may_not_be() {
    let test = this_test!();
    if job(&test).is_none() && !strace::works() {
        return;
    }
    where_syncfs_is_trusted(&test, || {
        for (case, _) in SAVES {
            let work = |home: &Path, case: &str| marked(|| save(home, case, &|| ()));
            let options = [COUNTED.as_slice(), &["-e", "inject=syncfs:error=EPERM"]].concat();
            let Some((calls, home)) = run(&test, case, &options, &work) else { return };
            assert_eq!(names(home.path().join("d")).len(), FILES);
            assert!(calls.count("fsync") >= FILES, "{case}: {} syncs", calls.count("fsync"));
        }
    });
}
