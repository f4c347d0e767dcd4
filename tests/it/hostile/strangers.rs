//! Goal: in a directory where strangers may do what they like, a save reads, writes and changes the
//! mode of nothing but its own, and hangs on nothing. Method: everything that can have a name is put
//! at the names that follow from a target's; links, FIFOs and other users' files stand at the target;
//! and another user's process renames, creates and deletes in the same directory while saves run.

use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use durafile::{
    AtomicDir, Batch, DirOptions, DirSnapshot, ErrorKind, Recovery, RecoveryOptions, Result, Symlinks,
    TargetState, Transaction, WriteOptions, is_remnant, recover,
};
use fs_err as fs;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::support::forged;
use crate::support::operations::{self, Operation, tree};
use crate::support::{as_user, chmod, chown, dir, is_root, mode, names, public_dir, refused, skip};

const STRANGER: u32 = 65534;

/// A file of somebody else's that must stay as it is.
struct Victim {
    path: PathBuf,
    before: (u64, u32, u32, i64, i64),
}

const SECRET: &str = "nobody may change this";

impl Victim {
    fn new(dir: &Path) -> Victim {
        let path = dir.join("victim");
        fs::write(&path, SECRET).unwrap();
        chmod(&path, 0o604);
        Victim { before: Victim::look(&path), path }
    }

    fn look(path: &Path) -> (u64, u32, u32, i64, i64) {
        let found = fs::symlink_metadata(path).unwrap();
        (found.ino(), found.mode(), found.uid(), found.mtime(), found.mtime_nsec())
    }

    #[track_caller]
    fn is_untouched(&self, case: &str) {
        assert_eq!(fs::read_to_string(&self.path).unwrap(), SECRET, "{case}");
        assert_eq!(Victim::look(&self.path), self.before, "{case}");
    }
}

/// Everything that can have a name.
const PLANTS: [&str; 9] = [
    "link to the victim",
    "dangling link",
    "loop",
    "second name of the victim",
    "FIFO",
    "socket",
    "directory",
    "a stranger's file",
    "file that everyone may write",
];

fn plant(what: &str, at: &Path, victim: &Path) {
    match what {
        "link to the victim" => symlink(victim, at).unwrap(),
        "dangling link" => symlink("nowhere", at).unwrap(),
        "loop" => symlink(at, at).unwrap(),
        "second name of the victim" => fs::hard_link(victim, at).unwrap(),
        "FIFO" => mknodat(CWD, at, FileType::Fifo, Mode::from_raw_mode(0o666), 0).unwrap(),
        "socket" => drop(UnixListener::bind(at).unwrap()),
        "directory" => fs::create_dir(at).unwrap(),
        "a stranger's file" => {
            fs::write(at, "mine").unwrap();
            chmod(at, 0o600);
            if is_root() {
                chown(at, STRANGER, STRANGER);
            }
        }
        _ => {
            fs::write(at, "").unwrap();
            chmod(at, 0o666);
        }
    }
}

fn remove(path: &Path) {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// How much a recovery has done.
pub(crate) fn settled(recovery: &Recovery) -> usize {
    let all = [recovery.removed(), recovery.completed(), recovery.rolled_back(), recovery.quarantined()];
    all.map(<[PathBuf]>::len).iter().sum()
}

/// Beside a target, and in the root of a transaction.
fn predictable_names() -> [String; 3] {
    [forged::for_target('l', "folder"), forged::for_target('r', "folder"), forged::for_target('l', "")]
}

#[test]
fn what_is_planted_at_a_name_that_can_be_worked_out_is_not_used() {
    let mut refusals = 0;
    for what in PLANTS {
        for name in predictable_names() {
            for operation in operations::all() {
                let (home, safe) = (public_dir(), dir());
                let victim = Victim::new(safe.path());
                let place = home.path().join("place");
                Operation::prepare(&place);
                let before = tree(&place);
                plant(what, &place.join(&name), &victim.path);
                let case = format!("{what} at {name}: {}", operation.name);
                let result = operation.run(&place);
                victim.is_untouched(&case);
                assert!(!place.join("nowhere").exists(), "{case}");
                remove(&place.join(&name));
                if let Err(e) = result {
                    let is_record = name == forged::for_target('r', "folder");
                    let expected = if is_record { ErrorKind::Untrusted } else { ErrorKind::PermissionDenied };
                    assert_eq!(e.kind(), expected, "{case}: {e}");
                    assert_eq!(e.target(), TargetState::Unchanged, "{case}: {e}");
                    assert!(!e.is_transient(), "{case}");
                    assert_eq!(tree(&place), before, "{case}");
                    refusals += 1;
                }
            }
        }
    }
    assert!(refusals > 10 * PLANTS.len(), "{refusals}");
}

#[test]
fn a_plant_beside_one_target_keeps_recovery_from_nothing_else() {
    for what in PLANTS {
        let home = public_dir();
        let victim = Victim::new(home.path());
        let shared = home.path().join("a shared folder");
        fs::create_dir_all(shared.join("folder")).unwrap();
        for letter in forged::LETTERS {
            plant(what, &shared.join(forged::name(letter, 1)), &victim.path);
        }
        for name in predictable_names() {
            plant(what, &shared.join(name), &victim.path);
        }
        // One that makes it take the locks there, and one elsewhere that is to go.
        fs::create_dir(shared.join(forged::name('x', 2))).unwrap();
        fs::create_dir(home.path().join("z")).unwrap();
        fs::write(home.path().join("z").join(forged::name('s', 3)), "rest").unwrap();
        let recovery = recover(home.path()).unwrap_or_else(|e| panic!("{what}: {e}: {:?}", e.io_error()));
        assert!(names(home.path().join("z")).is_empty(), "{what}: {recovery:?}");
        let _ =
            RecoveryOptions::new().dry_run(true).run(home.path()).unwrap_or_else(|e| panic!("{what}: {e}"));
        victim.is_untouched(what);
        let again = recover(home.path()).unwrap();
        assert_eq!(settled(&again), 0, "{what}: {again:?}");
    }
}

#[test]
fn a_target_that_is_another_s_name_for_a_file_is_replaced_and_that_file_stays() {
    let (home, safe) = (public_dir(), dir());
    let victim = Victim::new(safe.path());
    for operation in operations::all() {
        let place = home.path().join("place");
        Operation::prepare(&place);
        fs::remove_file(place.join("folder/kept")).unwrap();
        // With the content that is expected, so that an unchanged one is not written either.
        for name in ["file", "folder/kept", "folder/new"] {
            let _ = fs::remove_file(place.join(name));
            fs::hard_link(&victim.path, place.join(name)).unwrap();
        }
        if operation.name.contains("HardLink") {
            // It keeps the link: that is what it is asked for.
            fs::remove_file(place.join("folder/kept")).unwrap();
        }
        operation.run(&place).unwrap_or_else(|e| panic!("{}: {e}", operation.name));
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(fs::read_to_string(&victim.path).unwrap(), SECRET, "{}", operation.name);
        assert_eq!(mode(&victim.path), 0o604, "{}", operation.name);
    }
}

#[test]
fn a_fifo_at_a_target_is_refused_by_every_operation_and_nobody_waits_for_it() {
    for operation in operations::all() {
        let home = dir();
        let place = home.path().join("place");
        Operation::prepare(&place);
        for name in ["file", "folder/kept"] {
            fs::remove_file(place.join(name)).unwrap();
            plant("FIFO", &place.join(name), &place);
        }
        if let Err(e) = operation.run(&place) {
            assert_eq!(e.kind(), ErrorKind::InvalidPath, "{}: {e}", operation.name);
            assert_eq!(names(&place), ["file", "folder"], "{}", operation.name);
        } else {
            assert!(
                operation.name.contains("new") || operation.name.contains("create"),
                "{}",
                operation.name
            );
        }
        let is_fifo =
            |name: &str| fs::symlink_metadata(place.join(name)).unwrap().mode() & 0o170_000 == 0o010_000;
        assert!(is_fifo("file") && is_fifo("folder/kept"), "{}", operation.name);
    }
}

/// Runs the body again and again while `meddle` does, until the body has had so many turns.
pub(crate) fn while_meddling(
    turns: usize,
    meddle: impl Fn(usize) + Send + Sync,
    body: impl Fn(usize),
) -> usize {
    let (stop, meddled) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let meddler = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                meddle(meddled.fetch_add(1, Ordering::Relaxed));
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..turns).for_each(&body)));
        stop.store(true, Ordering::Relaxed);
        meddler.join().unwrap();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    meddled.into_inner()
}

#[test]
fn a_folder_that_turns_into_a_link_at_any_moment_leads_no_transaction_and_no_recovery_out_of_its_root() {
    let (home, safe) = (dir(), dir());
    let victim = Victim::new(safe.path());
    let own_stage = safe.path().join(forged::name('s', 5));
    fs::write(&own_stage, "not for this recovery").unwrap();
    let root = home.path();
    Operation::prepare(&root.join("root"));
    let root = root.join("root");
    symlink(safe.path(), root.join("link")).unwrap();
    let before = names(&safe);
    let flipped = AtomicUsize::new(0);
    // A folder and a link to elsewhere exchange their names all the time.
    let flip = |_| {
        let done = renameat_with(CWD, root.join("folder"), CWD, root.join("link"), RenameFlags::EXCHANGE);
        // Between the two the root itself may be swapped.
        flipped.fetch_add(usize::from(done.is_ok()), Ordering::Relaxed);
    };
    while_meddling(150, flip, |turn| {
        let change = |turn: usize| -> Result<()> {
            let mut change = Transaction::begin(&root)?;
            change.write("folder/victim", format!("{turn}"))?;
            change.write("folder/deeper/new", "new")?;
            change.remove("folder/kept")?;
            change.commit().map(drop)
        };
        // It may fail: where it leads is all that counts.
        let _ = change(turn);
        let _ = recover(&root);
        let update = DirOptions::new().update(&root).and_then(|mut next| {
            next.write("folder/victim", "new")?;
            next.commit()
        });
        drop(update);
        if let Ok(snapshot) = DirSnapshot::open(&root) {
            assert_ne!(snapshot.read("folder/victim").ok().as_deref(), Some(SECRET.as_bytes()));
        }
    });
    victim.is_untouched("flipped");
    assert_eq!(names(&safe), before);
    assert!(flipped.load(Ordering::Relaxed) > 20, "{flipped:?}");
}

#[test]
fn a_parent_swapped_for_a_link_during_a_save_gets_the_whole_save_or_none() {
    // What the caller names may be a link: then the save is there. It is never in both places.
    let (home, safe) = (dir(), dir());
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("real")).unwrap();
    let victim = Victim::new(safe.path());
    symlink(safe.path(), at("link")).unwrap();
    fs::write(at("real/victim"), "old").unwrap();
    let flip = |_| renameat_with(CWD, at("real"), CWD, at("link"), RenameFlags::EXCHANGE).unwrap();
    while_meddling(1500, flip, |turn| {
        let options = WriteOptions::new().create_new(true).durability(durafile::Durability::None);
        // The victim's name is taken in both: nothing at all may happen.
        refused(options.write(at("real").join("victim"), "new"), ErrorKind::AlreadyExists);
        let mut batch = Batch::new().options(WriteOptions::new().create_new(true));
        let put = batch.write(at("real").join("victim"), "new").and_then(|()| batch.commit().map(drop));
        assert_eq!(put.unwrap_err().kind(), ErrorKind::AlreadyExists, "{turn}");
    });
    victim.is_untouched("flipped");
    assert_eq!(names(&safe), ["victim"]);
    let staged = at("real");
    let kept = if fs::symlink_metadata(&staged).unwrap().is_dir() { staged } else { at("link") };
    assert_eq!(names(kept), ["victim"]);
}

/// What a stranger does in a directory that all may write to.
fn meddle(dir: &Path, turn: usize) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let (from, name) = (entry.path(), entry.file_name());
        match (turn + name.len() + usize::from(is_remnant(&name))) % 5 {
            0 => drop(std::fs::rename(&from, dir.join(format!("stolen-{}", turn % 7)))),
            1 => drop(std::fs::remove_file(&from)),
            2 => drop(std::fs::hard_link(&from, dir.join(format!("second-{}", turn % 7)))),
            3 if is_remnant(&name) => {
                let _ = std::fs::remove_file(&from);
                let _ = symlink("/etc/passwd", &from);
            }
            _ => {
                let _ = std::fs::write(
                    dir.join(forged::name(forged::LETTERS[turn % forged::LETTERS.len()], turn as u128 % 5)),
                    "fake",
                );
                let _ = std::fs::create_dir(dir.join(forged::name('d', turn as u128 % 3)));
            }
        }
    }
}

#[test]
fn another_user_s_process_may_spoil_saves_but_gets_nothing_else() {
    if !is_root() {
        return skip("only root can become another user");
    }
    for sticky in [false, true] {
        let (home, safe) = (public_dir(), dir());
        let victim = Victim::new(safe.path());
        let shared = home.path().join("shared");
        fs::create_dir(&shared).unwrap();
        chmod(&shared, if sticky { 0o1777 } else { 0o777 });
        let path = shared.join("file");
        durafile::write(&path, "old").unwrap();
        chmod(&path, 0o600);
        let (saved, refusals) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let (stop, shared) = (&stop, &shared);
            let stranger = scope.spawn(move || {
                as_user(STRANGER, STRANGER, || {
                    let mut turn = 0;
                    while !stop.load(Ordering::Relaxed) {
                        meddle(shared, turn);
                        turn += 1;
                    }
                    turn
                })
                .unwrap()
            });
            for turn in 0..400 {
                let options = WriteOptions::new().symlinks(Symlinks::Replace);
                let options = options.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600));
                let result = options.write(&path, format!("{turn}"));
                let counter = if result.is_ok() { &saved } else { &refusals };
                counter.fetch_add(1, Ordering::Relaxed);
                if turn % 10 == 0 {
                    let _ = recover(&home);
                    let _ = DirOptions::new().create(shared.join("folder")).and_then(AtomicDir::commit);
                }
            }
            stop.store(true, Ordering::Relaxed);
            assert!(stranger.join().unwrap() > 20);
        });
        if sticky {
            // There nobody can take away what is not theirs.
            assert_eq!(saved.load(Ordering::Relaxed), 400, "{refusals:?} refused");
        }
        assert!(saved.into_inner() > 0);
        victim.is_untouched("meddled");
        for name in names(&shared) {
            let found = fs::symlink_metadata(shared.join(&name)).unwrap();
            // A lock file is for everybody who may write here, and empty.
            let is_private = found.mode() & 0o077 == 0 || found.size() == 0;
            assert!(found.uid() != 0 || !found.is_file() || is_private, "{name:?} {:o}", found.mode());
        }
    }
}

#[test]
fn recovery_leaves_alone_what_another_user_made_to_look_like_ours() {
    if !is_root() {
        return skip("only root can become another user");
    }
    let home = public_dir();
    let place = home.path().join("place");
    Operation::prepare(&place);
    chmod(&place, 0o777);
    // A record that would remove a file of ours, as the stranger's own transaction makes it.
    let mut record = forged::Record::new(b't');
    record.name("");
    record.name(&forged::name('p', 9));
    record.number(0);
    record.number(1);
    record.name("file");
    let found = fs::metadata(place.join("file")).unwrap();
    let was = [found.ino(), found.size(), found.mtime() as u64, found.mtime_nsec() as u64];
    [1].into_iter().chain(was).chain([2]).for_each(|number| record.number(number));
    let journal = place.join(forged::name('j', 1));
    let own = fs::File::create_new(&journal).unwrap().metadata().unwrap().ino();
    forged::seal(&mut record.0, own);
    chown(&journal, STRANGER, STRANGER);
    as_user(STRANGER, STRANGER, || {
        fs::write(&journal, &record.0).unwrap();
        for letter in forged::LETTERS.into_iter().filter(|letter| *letter != 'j') {
            fs::write(place.join(forged::name(letter, 1)), "mine").unwrap();
            fs::create_dir(place.join(forged::name(letter, 2))).unwrap();
            fs::write(place.join(forged::name(letter, 2)).join("file"), "mine").unwrap();
        }
    });
    let before = tree(&place);
    let recovery = recover(&home).unwrap();
    assert_eq!(settled(&recovery), 0, "{recovery:?}");
    assert!(recovery.untrusted().contains(&journal) && !recovery.is_clean(), "{recovery:?}");
    assert_eq!(tree(&place), before);
    // The same record, had we written it, counts: so it is its owner that decides.
    chown(&journal, 0, 0);
    assert_eq!(recover(&home).unwrap().completed(), [place.join("file")]);
    assert!(!place.join("file").exists());
}

#[test]
fn names_that_the_tests_forge_are_what_the_library_makes() {
    for letter in forged::LETTERS {
        assert!(durafile::is_remnant(forged::name(letter, 7)));
    }
    let home = dir();
    let held = durafile::AtomicDir::create(home.path().join("folder")).unwrap();
    let lock = std::ffi::OsString::from(forged::for_target('l', "folder"));
    assert!(names(&home).contains(&lock));
    drop(held);
}
