//! Goal: nothing that a stranger made, changed or renamed is obeyed or removed, and what is left alone is
//! reported. Method: a stranger exchanges files under a recovery's eyes, gives directories of ours the
//! names of remnants, and makes remnants of every kind; ours lie beside them and have to go.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use durafile::{
    AtomicDir, Batch, DirOptions, DirSnapshot, ErrorKind, RecoveryOptions, SyncStrategy, Transaction, recover,
};
use fs_err as fs;
use rustix::fs::{CWD, Mode, RenameFlags, renameat_with};

use crate::hostile::strangers::while_meddling;
use crate::support::forged;
use crate::support::{as_user, chmod, chown, dir, is_root, job, mode, names, skip, strace, this_test};

const STRANGER: u32 = 65534;

/// A directory in which everybody may create and rename.
fn shared_dir(mode: u32) -> tempfile::TempDir {
    let home = dir();
    chmod(home.path(), mode);
    home
}

/// The record of a transaction that removes a file.
fn record_removing(home: &Path, target: &str) -> forged::Record {
    let mut record = forged::Record::new(b't');
    record.name("");
    record.name(&forged::name('p', 9));
    record.number(0);
    record.number(1);
    record.name(target);
    let found = fs::metadata(home.join(target)).unwrap();
    let was = [found.ino(), found.size(), found.mtime() as u64, found.mtime_nsec() as u64];
    [1].into_iter().chain(was).chain([2]).for_each(|number| record.number(number));
    record
}

/// Puts a record there, whole and its owner's from the first moment; it names the inode of its own file.
fn put_record(path: &Path, record: &forged::Record, owner: u32) {
    let hidden = dir();
    let made = hidden.path().join("made");
    put(&made, b"", owner);
    let mut sealed = record.0.clone();
    forged::seal(&mut sealed, fs::metadata(&made).unwrap().ino());
    fs::write(&made, sealed).unwrap();
    fs::rename(&made, path).unwrap();
}

fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Puts a file there that was its owner's from the first moment in which anybody could see it.
fn put(path: &Path, content: &[u8], owner: u32) {
    let hidden = dir();
    let made = hidden.path().join("made");
    fs::write(&made, content).unwrap();
    chmod(&made, 0o600);
    if is_root() {
        chown(&made, owner, owner);
    }
    fs::rename(&made, path).unwrap();
}

/// A stranger's record and one of ours exchange their names all the time while recoveries run. Ours is obeyed, and
/// goes; then there is another one.
fn exchange_during_recoveries(
    home: &Path,
    record: &Path,
    forged_record: &forged::Record,
    harmless: &forged::Record,
) {
    let own = home.join("own");
    put_record(record, forged_record, STRANGER);
    let flip = |_| {
        let _ = renameat_with(CWD, record, CWD, &own, RenameFlags::EXCHANGE);
    };
    while_meddling(2000, flip, |_| {
        for path in [record, own.as_path()] {
            if fs::symlink_metadata(path).is_err() {
                put_record(path, harmless, 0);
            }
        }
        let _ = recover(home);
    });
}

#[test]
fn a_record_that_is_exchanged_while_it_is_judged_is_not_obeyed() {
    if !is_root() {
        return skip("only root can give files away");
    }
    let home = shared_dir(0o777);
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("folder/file"), "dear to us").unwrap();
    let forged_record = record_removing(home.path(), "folder/file");
    // One of ours that says nothing: what counts is that it passes for trusted.
    let mut harmless = forged::Record::new(b't');
    ["", &forged::name('p', 8)].into_iter().for_each(|name| harmless.name(name));
    [0, 0].into_iter().for_each(|number| harmless.number(number));
    let journal = at(&forged::name('j', 1));
    exchange_during_recoveries(home.path(), &journal, &forged_record, &harmless);
    assert_eq!(fs::read_to_string(at("folder/file")).unwrap(), "dear to us");
}

#[test]
fn nor_is_the_record_of_a_swap() {
    if !is_root() {
        return skip("only root can give files away");
    }
    let home = shared_dir(0o777);
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("talk")).unwrap();
    fs::write(at("talk/file"), "dear to us").unwrap();
    let stage = forged::name('d', 1);
    fs::create_dir(at(&stage)).unwrap();
    let forged_record = forged::record_swapping("talk", &stage, Some(&at("talk")));
    let harmless = forged::record_swapping("talk", &forged::name('d', 7), Some(&at("talk")));
    let record = at(&forged::for_target('r', "talk"));
    exchange_during_recoveries(home.path(), &record, &forged_record, &harmless);
    assert_eq!(fs::read_to_string(at("talk/file")).unwrap(), "dear to us");
}

#[test]
fn a_directory_of_ours_that_a_stranger_has_renamed_stays_whole_and_is_reported() {
    // Whoever may create names here may rename ours; the names of remnants can be computed.
    for mode in [0o777, 0o1777, 0o2775] {
        for letter in ['b', 'x', 'd', 'o'] {
            let home = shared_dir(mode);
            let given = home.path().join(forged::name(letter, 1));
            fs::create_dir(&given).unwrap();
            for name in ["file", &forged::name_of(1)] {
                fs::write(given.join(name), "dear to us").unwrap();
            }
            let recovery = recover(home.path()).unwrap();
            let case = format!("{mode:o} {letter}: {recovery:?}");
            assert_eq!(names(&given).len(), 2, "{case}");
            assert_eq!(recovery.untrusted(), std::slice::from_ref(&given), "{case}");
            assert!(recovery.removed().is_empty() && recovery.quarantined().is_empty(), "{case}");
            assert!(!recovery.is_clean(), "{case}");
            // Where nobody else can have renamed it, it is what its name says.
            chmod(home.path(), 0o755);
            let recovery = recover(home.path()).unwrap();
            assert!(!given.exists(), "{case}, then {recovery:?}");
        }
    }
}

#[test]
fn an_empty_directory_with_the_name_of_a_remnant_goes_everywhere() {
    for letter in ['b', 'x', 'd'] {
        let home = shared_dir(0o777);
        let given = home.path().join(forged::name(letter, 1));
        fs::create_dir(&given).unwrap();
        // A writer may have made it this moment: then nothing is said of it.
        let recovery = recover(home.path()).unwrap();
        assert!(recovery.is_clean() && !given.exists(), "{letter}: {recovery:?}");
        // One that no writer can be about to use any more is an orphan like another one.
        fs::create_dir(&given).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(recover(home.path()).unwrap().removed(), [given]);
    }
}

#[test]
fn a_staged_file_that_was_given_to_its_owner_goes_where_nobody_else_can_put_one() {
    if !is_root() {
        return skip("only root can give files away");
    }
    // Of a service that saves for its users and was killed between naming the file and renaming it.
    for (owner, expected) in [(0, true), (1234, false)] {
        let home = dir();
        chown(home.path(), owner, owner);
        let staged = home.path().join(forged::name('s', 1));
        put(&staged, b"of the user's", 1234);
        let recovery = recover(home.path()).unwrap();
        assert_eq!(recovery.removed() == [staged.clone()], expected, "{recovery:?}");
        assert_eq!(recovery.untrusted() == [staged.clone()], !expected, "{recovery:?}");
        assert_eq!(staged.exists(), !expected);
        assert!(!recovery.is_clean());
    }
}

/// What makes a record of ours one that is not believed.
fn spoil(how: &str, journal: &Path) {
    match how {
        "another owner" => chown(journal, STRANGER, STRANGER),
        "writable by its group" => chmod(journal, 0o620),
        "two names" => fs::hard_link(journal, journal.with_file_name("second")).unwrap(),
        _ => unreachable!(),
    }
}

const SPOILT: [&str; 3] = ["another owner", "writable by its group", "two names"];

#[test]
fn a_record_that_is_not_believed_is_reported_and_stops_what_it_is_about_and_nothing_else() {
    for how in SPOILT {
        if how == "another owner" && !is_root() {
            skip("only root can give files away");
            continue;
        }
        let home = dir();
        fs::write(home.path().join("file"), "old").unwrap();
        let journal = home.path().join(forged::name('j', 1));
        put_record(&journal, &record_removing(home.path(), "file"), effective_uid());
        spoil(how, &journal);
        let recovery = recover(home.path()).unwrap();
        assert_eq!(recovery.untrusted(), std::slice::from_ref(&journal), "{how}");
        assert!(!recovery.is_clean(), "{how}");
        let refused = Transaction::begin(home.path()).unwrap_err();
        assert_eq!((refused.kind(), refused.path()), (ErrorKind::Untrusted, journal.as_path()), "{how}");
        assert_eq!(refused.kind().as_str(), "untrusted");
        assert!(!refused.is_transient());
        // What has another root or target goes on.
        let _ = durafile::write(home.path().join("other"), "new").unwrap();
        let _ = AtomicDir::create(home.path().join("talk")).unwrap().commit().unwrap();
        fs::create_dir(home.path().join("below")).unwrap();
        let _ = Transaction::begin(home.path().join("below")).unwrap().commit().unwrap();
        // Whoever may decide over the whole tree settles it.
        let recovery = RecoveryOptions::new().trust_others(true).run(home.path()).unwrap();
        assert_eq!(recovery.completed(), [home.path().join("file")], "{how}");
        assert!(!home.path().join("file").exists());
        let _ = Transaction::begin(home.path()).unwrap().commit().unwrap();
    }
}

/// Where a link led to the directory, the record is beside what it leads to.
#[test]
fn a_record_of_a_swap_that_is_not_believed_is_named_where_it_is() {
    let (home, elsewhere) = (dir(), dir());
    let (talk, link) = (elsewhere.path().join("talk"), home.path().join("link"));
    fs::create_dir(&talk).unwrap();
    std::os::unix::fs::symlink(&talk, &link).unwrap();
    let record = elsewhere.path().join(forged::for_target('r', "talk"));
    put_record(&record, &forged::record_swapping("talk", &forged::name('d', 1), None), effective_uid());
    chmod(&record, 0o620);
    for target in [&talk, &link] {
        let refused = AtomicDir::update(target).unwrap_err();
        assert_eq!((refused.kind(), refused.path()), (ErrorKind::Untrusted, record.as_path()));
    }
}

#[test]
fn a_stage_that_others_can_write_to_stops_its_transaction_too() {
    let home = dir();
    fs::write(home.path().join("file"), "old").unwrap();
    let stage = home.path().join(forged::name('x', 1));
    fs::create_dir(&stage).unwrap();
    chmod(&stage, 0o770);
    let journal = home.path().join(forged::name('j', 1));
    let mut record = forged::Record::new(b't');
    record.name(&forged::name('x', 1));
    record.name(&forged::name('p', 9));
    record.number(0);
    record.number(0);
    put_record(&journal, &record, effective_uid());
    assert_eq!(recover(home.path()).unwrap().untrusted(), std::slice::from_ref(&journal));
    let refused = Transaction::begin(home.path()).unwrap_err();
    assert_eq!((refused.kind(), refused.path()), (ErrorKind::Untrusted, journal.as_path()));
    chmod(&stage, 0o700);
    assert_eq!(recover(home.path()).unwrap().removed(), [journal]);
    assert!(recover(home.path()).unwrap().is_clean());
}

#[test]
fn what_is_planted_at_the_name_of_a_record_is_reported_and_not_opened() {
    let home = shared_dir(0o777);
    let plants: Vec<PathBuf> = ['j', 's', 'r'].map(|letter| home.path().join(forged::name(letter, 3))).into();
    for path in &plants {
        rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
            .unwrap();
    }
    let recovery = recover(home.path()).unwrap();
    assert_eq!(recovery.untrusted().len(), plants.len(), "{recovery:?}");
    assert!(plants.iter().all(|path| fs::symlink_metadata(path).is_ok()));
}

#[test]
fn a_directory_that_a_stranger_has_renamed_outlives_the_snapshots_of_it() {
    for mode in [0o777, 0o2775] {
        let home = shared_dir(mode);
        let site = home.path().join("site");
        fs::create_dir(&site).unwrap();
        fs::write(site.join("file"), "dear to us").unwrap();
        let snapshot = DirSnapshot::open(&site).unwrap();
        let given = home.path().join(forged::name('d', 1));
        fs::rename(&site, &given).unwrap();
        fs::create_dir(&site).unwrap();
        drop(snapshot);
        assert_eq!(fs::read_to_string(given.join("file")).unwrap(), "dear to us", "{mode:o}");
    }
}

/// Goal: what is put at the name of a directory that was just made is not taken for it. Method: strace holds the child up
/// when it has made its staging directory, and the parent puts another directory there.
#[test]
fn another_directory_in_place_of_a_new_staging_directory_is_not_used() {
    let test = this_test!();
    if let Some((home, case)) = job(&test) {
        rustix::process::umask(Mode::from_bits_truncate(0o022));
        let look = || {
            // The other directory is still there if there is something in it.
            if case.ends_with("empty") {
                let staged = names(&home).into_iter().filter(|name| durafile::is_remnant(name));
                let dirs = staged.map(|name| home.join(name)).filter(|path| path.is_dir());
                let others_write = |path: &PathBuf| mode(path) & 0o022 != 0;
                assert_eq!(dirs.filter(others_write).count(), 0, "others may write where files are staged");
            }
        };
        if case.starts_with("batch") {
            let mut batch = Batch::new();
            batch.write(home.join("new"), "new").unwrap();
            look();
        } else {
            let next = AtomicDir::create(home.join("new")).unwrap();
            look();
            next.commit().unwrap();
            assert_eq!(mode(home.join("new")), 0o755);
        }
        return;
    }
    if !strace::works() {
        return;
    }
    for case in ["batch", "dir", "batch, empty", "dir, empty"] {
        let home = shared_dir(0o777);
        let dear = home.path().join("dear");
        fs::create_dir(&dear).unwrap();
        chmod(&dear, 0o777);
        let is_empty = case.ends_with("empty");
        if !is_empty {
            fs::write(dear.join("file"), "dear to us").unwrap();
        }
        let fault = "inject=mkdirat:delay_exit=5000000:when=1";
        let mut child = strace::faulty(&[fault], &test, home.path(), case).spawn().unwrap();
        let is_new =
            |name: &std::ffi::OsString| durafile::is_remnant(name) && home.path().join(name).is_dir();
        let made = loop {
            if let Some(made) = names(home.path()).into_iter().find(is_new) {
                break home.path().join(made);
            }
            assert!(child.try_wait().unwrap().is_none(), "{case}: it was not seen");
            std::thread::sleep(Duration::from_millis(1));
        };
        renameat_with(CWD, &made, CWD, &dear, RenameFlags::EXCHANGE).unwrap();
        let ended = child.wait().unwrap();
        assert!(ended.success(), "{case}");
        if !is_empty {
            assert_eq!(fs::read_to_string(made.join("file")).unwrap(), "dear to us", "{case}");
        }
    }
}

/// Goal: a removal that was killed anywhere is finished by recoveries that are killed, too, also where others can create
/// names, and of a tree that its owner may not write to. Method: strace kills each at every removal of a name.
#[test]
fn a_removal_that_is_killed_again_and_again_is_finished_in_a_shared_directory() {
    let test = this_test!();
    const OWNER: u32 = 1234;
    if let Some((home, case)) = job(&test) {
        as_user(OWNER, OWNER, || match case.as_str() {
            "recover" => drop(recover(home).unwrap()),
            _ => drop(durafile::remove_dir_all(home.join("tree")).unwrap()),
        });
        return;
    }
    if !is_root() {
        return skip("only root can become another user");
    }
    if !strace::works() {
        return;
    }
    for mode in [0o755, 0o775, 0o555] {
        for nth in 1..=4 {
            let home = shared_dir(0o775);
            let tree = home.path().join("tree");
            fs::create_dir(&tree).unwrap();
            for name in ["a", "b", "c"] {
                fs::write(tree.join(name), "dear").unwrap();
            }
            [home.path(), &tree].iter().for_each(|dir| chown(dir, OWNER, OWNER));
            chmod(&tree, mode);
            let kill = format!("inject=unlinkat:signal=KILL:when={nth}");
            let killed = |case| strace::faulty(&[&kill], &test, home.path(), case).output().unwrap();
            assert!(!killed("remove").status.success(), "{nth}");
            assert!(!tree.exists(), "{nth}: the name goes in one step");
            let _ = killed("recover");
            let recovery = as_user(OWNER, OWNER, || recover(home.path()).unwrap()).unwrap();
            assert!(recovery.untrusted().is_empty(), "{mode:o} {nth}: {recovery:?}");
            assert!(names(home.path()).is_empty(), "{mode:o} {nth}: {:?}", names(home.path()));
        }
    }
}

/// Goal: what an AtomicDir leaves that was killed while it synced its content is removed, also where others can create
/// names and the umask lets the group write. Method: strace kills it at the syncs of a file and of a folder; from the sync
/// of the root on, nothing may tie the directory to its name any more.
#[test]
fn an_atomic_dir_that_is_killed_while_it_syncs_leaves_nothing_in_a_shared_directory() {
    let test = this_test!();
    const OWNER: u32 = 1234;
    if let Some((home, case)) = job(&test) {
        let save = || {
            // In turn, so that the syncs can be counted.
            let options = DirOptions::new().sync(SyncStrategy::PerFile);
            let mut next = options.create(home.join("tree")).unwrap();
            next.write("folder/file", "new").unwrap();
            // Other programs write there, too.
            let is_shared = case == "exposed";
            let _ = is_shared.then(|| fs::write(next.staging().join("other"), "new").unwrap());
            next.commit().unwrap();
        };
        as_user(OWNER, OWNER, || {
            rustix::process::umask(Mode::from_bits_truncate(0o002));
            save();
        });
        return;
    }
    if !is_root() {
        return skip("only root can become another user");
    }
    if !strace::works() {
        return;
    }
    for (case, has_old) in [("new", false), ("new", true), ("exposed", false), ("exposed", true)] {
        let prepare = || {
            let home = shared_dir(0o775);
            chown(home.path(), OWNER, OWNER);
            if has_old {
                let tree = home.path().join("tree");
                fs::create_dir(&tree).unwrap();
                chown(&tree, OWNER, OWNER);
                chmod(&tree, 0o775);
            }
            home
        };
        for nth in 1..=2 {
            let home = prepare();
            let kill = format!("inject=fsync:signal=KILL:when={nth}");
            let killed = strace::faulty(&[&kill], &test, home.path(), case).output().unwrap();
            assert!(!killed.status.success(), "{case} {nth}");
            let recovery = as_user(OWNER, OWNER, || recover(home.path()).unwrap()).unwrap();
            assert!(recovery.untrusted().is_empty(), "{case} {has_old} {nth}: {recovery:?}");
            let left = names(home.path());
            assert_eq!(left.len(), usize::from(has_old), "{case} {has_old} {nth}: {left:?}");
        }
        let home = prepare();
        let saved = strace::faulty(&[], &test, home.path(), case).output().unwrap();
        assert!(saved.status.success(), "{saved:?}");
        let tree = home.path().join("tree");
        assert_eq!(mode(&tree), 0o775, "{case} {has_old}");
        assert_eq!(names(&tree).len(), 1 + usize::from(case == "exposed"), "{:?}", names(&tree));
    }
}

/// The swap was killed between its two renames, so that nobody has tied the old version to the name that it goes from.
#[cfg(feature = "crash_testing")]
#[test]
fn the_old_version_that_a_record_tells_goes_with_it_where_others_can_create_names() {
    let test = this_test!();
    for nth in [2, 3] {
        let Some(home) = crate::dir::meanwhile::swap_killed_at(&test, "EINVAL", ("renameat", nth)) else {
            return;
        };
        chmod(home.path(), 0o777);
        let recovery = recover(home.path()).unwrap();
        assert_eq!(recovery.completed(), [home.path().join("talk")], "{nth}: {recovery:?}");
        assert!(recovery.untrusted().is_empty(), "{nth}: {recovery:?}");
        assert_eq!(names(home.path()), ["talk"], "{nth}");
        assert!(recover(home.path()).unwrap().is_clean(), "{nth}");
    }
}

/// A stranger has put a directory of ours at the name from which the old version is deleted.
#[cfg(feature = "crash_testing")]
#[test]
fn what_a_stranger_puts_in_the_place_of_the_old_version_is_reported_at_once() {
    let test = this_test!();
    let Some(home) = crate::dir::meanwhile::swap_killed_at(&test, "EINVAL", ("renameat", 3)) else { return };
    chmod(home.path(), 0o777);
    let kept = crate::transaction::record::remnant(home.path(), "o");
    fs::rename(&kept, home.path().join("old")).unwrap();
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("file"), "dear to us").unwrap();
    let recovery = recover(home.path()).unwrap();
    assert_eq!(recovery.untrusted().len(), 1, "{recovery:?}");
    assert_eq!(fs::read_to_string(recovery.untrusted()[0].join("file")).unwrap(), "dear to us");
    assert_eq!(recover(home.path()).unwrap().untrusted(), recovery.untrusted());
}
