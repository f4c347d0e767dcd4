//! Goal: a record that a killed writer left is carried out exactly once and exactly as meant, or, if
//! it can't be trusted, not at all. Method: a child is killed by strace in the middle of applying a
//! transaction; then the record, or what it is about, is changed, and a recovery runs.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use durafile::{ErrorKind, Recovery, RecoveryOptions, SyncStrategy, Transaction, TransactionOptions};
use fs_err as fs;
use tempfile::TempDir;

use crate::crash::case::look;
use crate::support::strace;
use crate::support::{chmod, dir, forged, job, names, refused, this_test};

/// A transaction of which `a` and `b` are applied, `d/c` and the removal of `gone` are not.
pub(crate) fn half_applied(test: &str) -> Option<TempDir> {
    let home = killed_at_rename(test, 2)?;
    assert_eq!(content(&home, "a"), "new a", "the decision came first");
    assert_eq!(content(&home, "d/c"), "old");
    Some(home)
}

/// The same, killed before the first file is replaced, or at another one.
pub(crate) fn killed_at_rename(test: &str, nth: usize) -> Option<TempDir> {
    if let Some((home, _)) = job(test) {
        let mut change = TransactionOptions::new().sync(SyncStrategy::PerFile).begin(home).unwrap();
        for (path, content) in [("a", "new a"), ("b", "new b"), ("d/c", "new c")] {
            change.write(path, content).unwrap();
        }
        change.remove("gone").unwrap();
        change.commit().unwrap();
        unreachable!("it was to be killed");
    }
    if !strace::works() {
        return None;
    }
    let home = dir();
    fs::create_dir(home.path().join("d")).unwrap();
    for name in ["a", "gone", "d/c"] {
        fs::write(home.path().join(name), "old").unwrap();
    }
    let kill = format!("inject=renameat:signal=KILL:when={nth}");
    let output = strace::faulty(&[&kill], test, home.path(), "").output().unwrap();
    assert!(!output.status.success());
    Some(home)
}

pub(crate) fn content(home: &TempDir, name: &str) -> String {
    fs::read_to_string(home.path().join(name)).unwrap()
}

pub(crate) fn remnant(home: &Path, letter: &str) -> PathBuf {
    let prefix = format!(".durafile-{letter}-");
    let name = names(home).into_iter().find(|name| name.to_str().unwrap().starts_with(&prefix));
    home.join(name.unwrap_or_else(|| panic!("no {prefix} in {:?}", names(home))))
}

fn recover(home: &TempDir) -> Recovery {
    durafile::recover(home.path()).unwrap()
}

pub(crate) fn assert_complete(home: &TempDir) {
    assert_eq!(["a", "b", "d/c"].map(|name| content(home, name)), ["new a", "new b", "new c"]);
    assert_eq!(names(home.path()), ["a", "b", "d"]);
    assert_eq!(names(home.path().join("d")), ["c"]);
    assert!(recover(home).is_clean());
}

#[test]
fn recovery_completes_what_was_decided_and_a_dry_run_only_says_so() {
    let Some(home) = half_applied(&this_test!()) else { return };
    // The lock of the dead writer goes as soon as anybody takes it.
    fs::remove_file(remnant(home.path(), "l")).unwrap();
    let before = look(home.path());
    let touched = || fs::metadata(home.path()).unwrap().modified().unwrap();
    let time = touched();
    let dry = RecoveryOptions::new().dry_run(true).run(home.path()).unwrap();
    assert_eq!((look(home.path()), touched()), (before.clone(), time), "not even a lock was made");
    let young = RecoveryOptions::new().min_age(Duration::from_secs(3600)).run(home.path()).unwrap();
    assert!(young.is_clean() && !young.in_use().is_empty(), "{young:?}");
    assert_eq!(look(home.path()), before);
    let recovery = recover(&home);
    assert_eq!(recovery.completed(), ["d/c", "gone"].map(|name| home.path().join(name)));
    assert_eq!(dry.completed(), recovery.completed());
    assert!(recovery.quarantined().is_empty() && recovery.rolled_back().is_empty());
    assert_complete(&home);
}

#[test]
fn the_next_begin_completes_it_too() {
    let Some(home) = half_applied(&this_test!()) else { return };
    Transaction::begin(home.path()).unwrap().discard().unwrap();
    assert_complete(&home);
}

#[test]
fn what_was_saved_later_survives() {
    let Some(home) = half_applied(&this_test!()) else { return };
    durafile::write(home.path().join("d/c"), "later").unwrap();
    durafile::write(home.path().join("a"), "later").unwrap();
    fs::remove_file(home.path().join("gone")).unwrap();
    fs::write(home.path().join("gone"), "back").unwrap();
    let recovery = recover(&home);
    assert!(recovery.quarantined().is_empty(), "{recovery:?}");
    assert_eq!(
        ["a", "b", "d/c", "gone"].map(|name| content(&home, name)),
        ["later", "new b", "later", "back"]
    );
    assert_eq!(names(home.path()), ["a", "b", "d", "gone"]);
    assert!(recover(&home).is_clean());
}

#[test]
fn what_was_written_in_place_survives() {
    let Some(home) = half_applied(&this_test!()) else { return };
    fs::write(home.path().join("d/c"), "edited").unwrap();
    let _ = recover(&home);
    assert_eq!(content(&home, "d/c"), "edited");
    assert!(!home.path().join("gone").exists());
    assert!(recover(&home).is_clean());
}

#[test]
fn a_target_whose_place_is_gone_or_taken_keeps_nobody_from_recovering() {
    for spoil in [
        (|dir: &Path| fs::remove_dir_all(dir.join("d")).unwrap()) as fn(&Path),
        |dir| {
            fs::remove_dir_all(dir.join("d")).unwrap();
            fs::write(dir.join("d"), "a file now").unwrap();
        },
        |dir| {
            fs::remove_file(dir.join("d/c")).unwrap();
            fs::create_dir(dir.join("d/c")).unwrap();
        },
        |dir| fs::remove_file(dir.join("a")).unwrap(),
    ] {
        let Some(home) = half_applied(&this_test!()) else { return };
        spoil(home.path());
        let recovery = recover(&home);
        assert!(recovery.quarantined().is_empty(), "{recovery:?}");
        assert!(!home.path().join("gone").exists() && content(&home, "b") == "new b");
        assert!(recover(&home).is_clean());
        assert!(names(home.path()).iter().all(|name| !durafile::is_remnant(name)));
    }
}

/// Puts what was moved aside back to where it was.
fn put_back(home: &Path, record: &Path, stage: &Path) {
    for name in names(home).iter().filter(|name| name.to_str().unwrap().starts_with(".durafile-q-")) {
        let path = home.join(name);
        let to = if fs::metadata(&path).unwrap().is_dir() { stage } else { record };
        fs::rename(path, to).unwrap();
    }
}

#[test]
fn a_record_with_any_byte_flipped_or_cut_off_changes_nothing_and_stops_writers_until_it_is_moved_aside() {
    let Some(home) = half_applied(&this_test!()) else { return };
    let (record, stage) = (remnant(home.path(), "j"), remnant(home.path(), "x"));
    let whole = fs::read(&record).unwrap();
    // A record of another version is not damaged.
    let places = (0..8).chain(12..whole.len());
    let mut damage: Vec<(usize, Vec<u8>)> = places.map(|at| (at, whole.clone())).collect();
    damage.iter_mut().for_each(|(at, bytes)| bytes[*at] ^= 1 << (*at % 8));
    damage.extend(
        [0, 1, 20, 21, 29, 37, whole.len() - 8, whole.len() - 1].map(|len| (len, whole[..len].to_vec())),
    );
    damage.push((whole.len(), [&whole[..], b"\0"].concat()));
    for (at, bytes) in damage {
        fs::write(&record, &bytes).unwrap();
        for _ in 0..2 {
            let error = refused(Transaction::begin(home.path()), ErrorKind::Corrupt);
            assert_eq!(error.path(), record, "byte {at}");
        }
        let recovery = recover(&home);
        assert_eq!(recovery.quarantined().len(), 2, "byte {at}: {recovery:?}");
        assert!(recovery.quarantined().iter().all(|path| path.exists()));
        let again = recover(&home);
        assert!(again.quarantined().is_empty() && again.completed().is_empty(), "byte {at}: {again:?}");
        Transaction::begin(home.path()).unwrap().discard().unwrap();
        assert_eq!([content(&home, "d/c"), content(&home, "gone")], ["old", "old"], "byte {at}");
        put_back(home.path(), &record, &stage);
    }
    fs::write(&record, &whole).unwrap();
    let _ = recover(&home);
    assert_complete(&home);
}

#[test]
fn damaged_content_is_moved_aside_and_never_put_in_place() {
    let Some(home) = half_applied(&this_test!()) else { return };
    let stage = remnant(home.path(), "x");
    let staged = fs::OpenOptions::new().write(true).open(stage.join(format!("{:0>48}", 3))).unwrap();
    staged.file().write_all_at(b"X", 0).unwrap();
    let recovery = recover(&home);
    assert_eq!(recovery.quarantined().len(), 2, "{recovery:?}");
    assert_eq!([content(&home, "d/c"), content(&home, "gone")], ["old", "old"]);
    assert!(recover(&home).is_clean());
}

/// What is not applied yet exists in the staging directory only, which without its record would be an
/// orphan.
#[test]
fn a_quarantine_that_is_cut_short_loses_nothing() {
    let test = this_test!();
    if let Some((home, _)) = job(&test).filter(|(_, case)| case == "recover") {
        let _ = durafile::recover(home);
        return;
    }
    for fault in ["inject=renameat:error=ENOSPC:when=2+", "inject=renameat:signal=KILL:when=2"] {
        let Some(home) = half_applied(&test) else { return };
        let record = fs::OpenOptions::new().write(true).open(remnant(home.path(), "j")).unwrap();
        record.file().write_all_at(b"?", 40).unwrap();
        strace::faulty(&[fault], &test, home.path(), "recover").output().unwrap();
        let _ = recover(&home);
        let kept = look(home.path()).into_iter().any(|entry| format!("{entry:?}").contains("new c"));
        assert!(kept, "{fault}: {:?}", look(home.path()));
        assert!(recover(&home).is_clean(), "{fault}");
    }
}

/// Ends a record again whose body was changed.
fn seal(mut body: Vec<u8>) -> Vec<u8> {
    let sum = forged::checksum(&body);
    body.extend(sum.to_le_bytes());
    body
}

#[test]
fn a_record_of_another_version_is_left_alone_and_said_so() {
    let Some(home) = half_applied(&this_test!()) else { return };
    let record = remnant(home.path(), "j");
    let whole = fs::read(&record).unwrap();
    let mut body = whole[..whole.len() - 8].to_vec();
    assert_eq!(seal(body.clone()), whole, "the checksum is not the one of this test");
    body[8] = 200;
    fs::write(&record, seal(body)).unwrap();
    // What belongs to no record goes: the dead writer's lock, and a second name on its way to a target.
    let _ = recover(&home);
    let before = look(home.path());
    for _ in 0..2 {
        let error = refused(Transaction::begin(home.path()), ErrorKind::Unsupported);
        assert_eq!(error.path(), record);
        let recovery = recover(&home);
        assert_eq!(recovery.unreadable(), std::slice::from_ref(&record));
        assert!(!recovery.is_clean(), "it is left unsettled");
        assert_eq!(look(home.path()), before);
    }
    fs::write(&record, whole).unwrap();
    let _ = recover(&home);
    assert_complete(&home);
}

#[test]
fn a_record_that_means_something_outside_of_its_root_is_corrupt() {
    let Some(home) = half_applied(&this_test!()) else { return };
    let record = remnant(home.path(), "j");
    let whole = fs::read(&record).unwrap();
    let at = whole.windows(3).position(|found| found == b"d/c").unwrap();
    for bad in [b"../", b"/d/", b"d//", b"./c"] {
        let mut body = whole[..whole.len() - 8].to_vec();
        body[at..at + 3].copy_from_slice(bad);
        fs::write(&record, seal(body)).unwrap();
        let stage = remnant(home.path(), "x");
        refused(Transaction::begin(home.path()), ErrorKind::Corrupt);
        assert_eq!(recover(&home).quarantined().len(), 2);
        assert_eq!([content(&home, "d/c"), content(&home, "gone")], ["old", "old"]);
        put_back(home.path(), &record, &stage);
    }
}

#[test]
fn a_record_that_somebody_else_could_have_written_is_not_carried_out() {
    let Some(home) = half_applied(&this_test!()) else { return };
    let record = remnant(home.path(), "j");
    let mut spoils: Vec<Box<dyn Fn()>> = vec![
        Box::new(|| chmod(&record, 0o622)),
        Box::new(|| fs::hard_link(&record, home.path().join("second")).unwrap()),
    ];
    if crate::support::is_root() {
        spoils.push(Box::new(|| crate::support::chown(&record, 1001, 1001)));
    }
    for spoil in spoils {
        spoil();
        let _ = recover(&home);
        assert_eq!([content(&home, "d/c"), content(&home, "gone")], ["old", "old"]);
        assert!(remnant(home.path(), "x").exists(), "what it may be about is kept");
        chmod(&record, 0o600);
        let _ = std::fs::remove_file(home.path().join("second"));
        if crate::support::is_root() {
            crate::support::chown(&record, 0, 0);
        }
    }
    assert_eq!(fs::metadata(&record).unwrap().nlink(), 1);
    let _ = recover(&home);
    assert_complete(&home);
}

/// In a child: the same changes each time.
fn change_everything(home: &Path, _: &str) {
    // Ahead of the main thread in the count of this call, too; see `marked`.
    for _ in 0..100 {
        rustix::fs::statat(rustix::fs::CWD, "/dev/null", rustix::fs::AtFlags::empty()).unwrap();
    }
    strace::traced(|| {
        let mut change = TransactionOptions::new().sync(SyncStrategy::PerFile).begin(home)?;
        change.write("a", "new a")?;
        change.write("d/c", "new c")?;
        change.write("e/f", "new f")?;
        change.remove("gone")?;
        change.commit()
    });
}

fn prepared(home: &Path, case: &str) {
    fs::create_dir(home.join("d")).unwrap();
    for name in ["a", "gone", "d/c"] {
        fs::write(home.join(name), "old").unwrap();
    }
    change_everything(home, case);
}

#[test]
fn killed_at_any_system_call_all_changes_are_there_or_none() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    let Some(whole) = strace::run(&this_test!(), "", &[], &prepared) else { return };
    let new = look(whole.path());
    let mut seen = [0, 0];
    // Calls that are about no file come at other times in each process.
    for call in whole.calls.iter().filter(|call| call.args.contains("DIR")) {
        let inject = format!("inject={}:signal=KILL:when={}", call.name, call.nth);
        let Some(killed) = strace::run(&this_test!(), "", &["-e", &inject], &prepared) else { return };
        let recovery = durafile::recover(killed.path()).unwrap();
        assert!(recovery.quarantined().is_empty() && recovery.in_use().is_empty(), "{recovery:?}");
        let found = look(killed.path());
        let is_old = ["a", "gone", "d/c"]
            .iter()
            .all(|name| fs::read(killed.path().join(name)).is_ok_and(|text| text == b"old"));
        assert!(found == new || (is_old && found.len() == 4), "killed at {}: {found:#?}", call.short());
        seen[usize::from(found == new)] += 1;
        assert!(durafile::recover(killed.path()).unwrap().is_clean(), "killed at {}", call.short());
    }
    assert!(seen[0] > 20 && seen[1] > 10, "{seen:?}");
}
