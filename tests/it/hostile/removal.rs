//! Goal: what is ours and goes takes nothing of anybody else's with it, and nobody sees more of it
//! than of its target. Method: others' directories and links are put at the names of stages, before they
//! go and while they do; everything that a save has open or has named is looked at all the time.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use durafile::{AtomicDir, Batch, Transaction, is_remnant, recover};
use fs_err as fs;
use rustix::fs::{CWD, Mode, RenameFlags, mkdirat, renameat_with};

use crate::hostile::strangers::while_meddling;
use crate::support::forged;
use crate::support::{as_user, chmod, chown, dir, mode, names, public_dir};

/// The one directory of ours that is there now, exchanged with another one. Where ours is now.
fn take_its_place(home: &Path, other: &Path) -> PathBuf {
    let is_stage = |path: &PathBuf| path.is_dir() && path.file_name().is_some_and(is_remnant);
    let all: Vec<_> = fs::read_dir(home).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [stage] = all.into_iter().filter(is_stage).collect::<Vec<_>>().try_into().unwrap();
    renameat_with(CWD, &stage, CWD, other, RenameFlags::EXCHANGE).unwrap();
    stage
}

#[test]
fn what_was_put_at_the_name_of_a_stage_stays_when_the_stage_goes() {
    type Staged = Box<dyn FnOnce()>;
    let batch = |home: &Path| -> Staged {
        let mut batch = Batch::new();
        batch.write(home.join("file"), "new").unwrap();
        Box::new(|| drop(batch))
    };
    let transaction = |home: &Path| -> Staged {
        let mut change = Transaction::begin(home).unwrap();
        change.write("file", "new").unwrap();
        Box::new(|| drop(change))
    };
    let tree = |home: &Path| -> Staged {
        let mut next = AtomicDir::create(home.join("folder")).unwrap();
        next.write("file", "new").unwrap();
        Box::new(|| drop(next))
    };
    let begin: [&dyn Fn(&Path) -> Staged; 3] = [&batch, &transaction, &tree];
    for (number, begin) in begin.into_iter().enumerate() {
        let home = public_dir();
        let other = home.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "dear to somebody").unwrap();
        let end = begin(home.path());
        let now_at = take_its_place(home.path(), &other);
        end();
        let kept = fs::read_to_string(now_at.join("file")).unwrap_or_else(|e| panic!("{number}: {e}"));
        assert_eq!(kept, "dear to somebody", "{number}");
        assert_eq!(names(&other).len(), 1, "{number}: what was moved away stays, too");
    }
}

#[test]
fn a_save_whose_parent_is_swapped_meanwhile_knows_one_of_the_two_only() {
    let (home, safe) = (dir(), dir());
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("real")).unwrap();
    symlink(safe.path(), at("link")).unwrap();
    let (real, linked) = (at("real/file"), safe.path().join("file"));
    for (path, mode) in [(&real, 0o640), (&linked, 0o604)] {
        fs::write(path, "old").unwrap();
        chmod(path, mode);
    }
    let flip = |_| renameat_with(CWD, at("real"), CWD, at("link"), RenameFlags::EXCHANGE).unwrap();
    while_meddling(2000, flip, |turn| {
        let options = durafile::WriteOptions::new().durability(durafile::Durability::None);
        let _ = options.write(&real, format!("{turn}")).unwrap();
        // What was read of one file would be seen on the other.
        let mut found = vec![mode(&linked)];
        found.extend(["real", "link"].map(|name| at(name).join("file")).iter().map(mode));
        assert!(found.iter().all(|mode| [0o640, 0o604].contains(mode)) && found[0] == 0o604, "{found:?}");
    });
    let kept = if fs::symlink_metadata(at("real")).unwrap().is_dir() { at("real") } else { at("link") };
    assert_eq!((mode(kept.join("file")), names(kept).len(), names(&safe).len()), (0o640, 1, 1));
}

#[test]
fn a_folder_that_turns_into_a_link_while_its_tree_is_removed_leads_nowhere() {
    let (home, safe) = (dir(), dir());
    fs::create_dir(safe.path().join("deep")).unwrap();
    fs::write(safe.path().join("deep/kept"), "kept").unwrap();
    let open = home.path().join(forged::name('d', 1)).join("open");
    let at = |name: usize, kind: &str| open.join(format!("{kind} {name}"));
    const PAIRS: usize = 20;
    let flip = |turn: usize| {
        let name = turn % PAIRS;
        let _ = renameat_with(CWD, at(name, "folder"), CWD, at(name, "link"), RenameFlags::EXCHANGE);
    };
    while_meddling(300, flip, |_| {
        fs::create_dir_all(&open).unwrap();
        chmod(&open, 0o777);
        chmod(open.parent().unwrap(), 0o700);
        for name in 0..PAIRS {
            fs::create_dir(at(name, "folder")).unwrap();
            symlink(safe.path(), at(name, "link")).unwrap();
        }
        // Something may have come back to a folder that was empty.
        recover_until_empty(&home);
    });
    assert_eq!(fs::read_to_string(safe.path().join("deep/kept")).unwrap(), "kept");
}

#[test]
fn a_closed_folder_that_turns_into_a_link_while_its_tree_is_removed_opens_nothing_else() {
    // Nothing is closed to root.
    const OWNER: u32 = 65534;
    let (home, safe) = (dir(), dir());
    [&home, &safe].iter().for_each(|dir| chown(dir, OWNER, OWNER));
    chmod(&safe, 0o500);
    let tree = home.path().join(forged::name('d', 1));
    let at = |name: usize, kind: &str| tree.join(format!("{kind} {name}"));
    const PAIRS: usize = 20;
    let flip = |turn: usize| {
        let name = turn % PAIRS;
        let _ = renameat_with(CWD, at(name, "folder"), CWD, at(name, "link"), RenameFlags::EXCHANGE);
    };
    as_user(OWNER, OWNER, || {
        while_meddling(300, flip, |turn| {
            mkdirat(CWD, &tree, Mode::RWXU).unwrap();
            for name in 0..PAIRS {
                mkdirat(CWD, at(name, "folder"), Mode::empty()).unwrap();
                symlink(safe.path(), at(name, "link")).unwrap();
            }
            recover_until_empty(&home);
            assert_eq!(mode(&safe), 0o500, "in turn {turn}");
        });
    });
}

/// Modes of what is below a directory, with or without a name: of this process's open files, too.
fn look_at_all(home: &Path, look: &dyn Fn(&Path, &std::fs::Metadata)) {
    let mut pending = vec![home.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            look(&entry.path(), &found);
            if found.is_dir() {
                pending.push(entry.path());
            }
        }
    }
    for entry in std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
        let leads_to = std::fs::read_link(entry.path()).unwrap_or_default();
        // Another descriptor may have its number by then.
        if leads_to.starts_with(home) && leads_to != home {
            if let Ok(found) = std::fs::metadata(entry.path()) {
                let is_still = std::fs::read_link(entry.path()).is_ok_and(|now| now == leads_to);
                if is_still && found.is_file() {
                    look(&leads_to, &found);
                }
            }
        }
    }
}

fn save_in_every_way(home: &Path, turn: usize) -> durafile::Result<()> {
    let path = home.join("file");
    let _ = durafile::write(&path, format!("{turn}"))?;
    let mut batch = Batch::new();
    batch.write(&path, format!("{turn} in a batch"))?;
    let _ = batch.commit()?;
    let mut change = Transaction::begin(home)?;
    change.write("file", format!("{turn} in a transaction"))?;
    let _ = change.commit()?;
    let mut next = AtomicDir::update(home.join("folder"))?;
    next.write("file", format!("{turn} in a directory"))?;
    next.commit().map(drop)
}

fn private_home() -> tempfile::TempDir {
    let home = dir();
    fs::create_dir(home.path().join("folder")).unwrap();
    chmod(home.path().join("folder"), 0o700);
    for name in ["file", "folder/file"] {
        fs::write(home.path().join(name), "old").unwrap();
        chmod(home.path().join(name), 0o600);
    }
    home
}

fn never_wider(home: &Path, turns: usize, body: impl Fn(usize)) {
    let looks = AtomicUsize::new(0);
    let watch = |_| {
        look_at_all(home, &|path, found| {
            looks.fetch_add(1, Ordering::Relaxed);
            let allowed = if found.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(found.mode() & 0o7777 & !allowed, 0, "{path:?}: {:o}", found.mode());
        });
    };
    while_meddling(turns, watch, body);
    assert!(looks.into_inner() > 1000);
}

#[test]
fn a_private_file_is_never_seen_with_a_wider_mode() {
    let home = private_home();
    never_wider(home.path(), 300, |turn| save_in_every_way(home.path(), turn).unwrap());
}

/// Where there are no files without a name, the staged one can be seen by all.
#[cfg(feature = "crash_testing")]
#[test]
fn nor_is_one_that_is_staged_under_a_name() {
    use durafile::crash_testing::{CrashTest, Fault};
    let home = private_home();
    never_wider(home.path(), 1, |_| {
        let all = CrashTest::new(|dir| (0..100).try_for_each(|turn| Ok(save_in_every_way(dir, turn)?)));
        let errno = rustix::io::Errno::NOTSUP.raw_os_error();
        let all = all.fault(Fault::Refuse { name: "create unnamed", errno });
        all.record_in(home.path()).unwrap();
    });
}

fn recover_until_empty(home: &tempfile::TempDir) {
    for _ in 0..1000 {
        let done = recover(home);
        if names(home).is_empty() {
            return;
        }
        done.map(drop).unwrap_or_default();
    }
    panic!("it stays: {:?}", recover(home));
}
