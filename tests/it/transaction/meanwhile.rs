//! Goal: a recovery holds its promises while others decide, die and save. Method: strace holds the
//! recovery of a child up between two of its steps, and something happens meanwhile.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;

use crate::support::strace;
use crate::support::{as_user, chmod, chown, forged, is_root, job, names, skip, this_test};
use crate::transaction::record::{assert_complete, content, half_applied, killed_at_rename, remnant};

/// In the child that recovers.
pub(crate) fn recovers(test: &str) -> bool {
    let Some((home, _)) = job(test).filter(|(_, case)| case == "recover") else { return false };
    println!("\nBEGINS {}", std::process::id());
    let _ = durafile::recover(home).unwrap();
    true
}

/// Starts that child, with this fault, and comes back when it begins.
fn start(test: &str, home: &Path, fault: &str) -> Child {
    begin(strace::faulty(&[fault], test, home, "recover")).0
}

/// Also its process, which is not the one of strace.
pub(crate) fn begin(mut child: Command) -> (Child, i32) {
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map(Result::unwrap);
    let process = lines.find_map(|line| line.strip_prefix("BEGINS ")?.parse().ok());
    (child, process.unwrap())
}

#[test]
fn a_decision_that_appears_between_listing_and_locking_is_carried_out() {
    let test = this_test!();
    if recovers(&test) {
        return;
    }
    let Some(home) = half_applied(&test) else { return };
    let record = remnant(home.path(), "j");
    let elsewhere = tempfile::tempdir_in(home.path().parent().unwrap()).unwrap();
    let aside = elsewhere.path().join("record");
    fs::rename(&record, &aside).unwrap();
    let mut child = start(&test, home.path(), "inject=flock:delay_enter=1500000:when=1");
    std::thread::sleep(Duration::from_millis(500));
    fs::rename(&aside, &record).unwrap();
    assert!(child.wait().unwrap().success());
    assert_complete(&home);
}

#[test]
fn what_is_saved_while_a_recovery_reads_the_staged_content_stays() {
    let test = this_test!();
    if recovers(&test) {
        return;
    }
    let Some(home) = half_applied(&test) else { return };
    let stage = remnant(home.path(), "x");
    let mut child = start(&test, home.path(), "inject=pread64:delay_enter=400000");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !somebody_reads_in(&stage) {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it was not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    durafile::write(home.path().join("d/c"), "saved later").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(content(&home, "d/c"), "saved later");
    assert_eq!(names(home.path()), ["a", "b", "d"]);
    assert!(durafile::recover(home.path()).unwrap().is_clean());
}

/// Whether any process has the lock of this file. Asking for it would be in the way of others.
fn somebody_locks(path: &Path) -> bool {
    let Ok(found) = std::fs::metadata(path) else { return false };
    let inode = format!(":{}", std::os::unix::fs::MetadataExt::ino(&found));
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|lock| lock.contains("FLOCK") && lock.split(' ').any(|word| word.ends_with(&inode)))
}

/// Whether any process has a file open there.
fn somebody_reads_in(dir: &Path) -> bool {
    let dir = dir.canonicalize().unwrap();
    let entries = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
    let processes =
        entries("/proc".into()).filter(|entry| entry.file_name().as_encoded_bytes()[0].is_ascii_digit());
    let mut open = processes.flat_map(|process| entries(process.path().join("fd")));
    open.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|path| path != dir && path.starts_with(&dir)))
}

#[test]
fn a_recovery_takes_no_lock_from_another_recovery() {
    let test = this_test!();
    if recovers(&test) {
        return;
    }
    // A recovery that takes long: it finishes a transaction, and is held up while it removes something.
    let Some(home) = half_applied(&test) else { return };
    let fault = "inject=unlinkat:delay_enter=15000000:when=1";
    let mut child = strace::faulty(&[fault], &test, home.path(), "recover").spawn().unwrap();
    // It takes its own lock first, and then that of the writers, whose file the dead one has left.
    let lock = home.path().join(forged::for_target('l', "/recovery"));
    let writers = home.path().join(forged::for_target('l', ""));
    while !lock.exists() || !somebody_locks(&writers) {
        assert!(child.try_wait().unwrap().is_none(), "it was not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = durafile::recover(home.path()).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it was too fast");
    assert!(lock.exists());
    // A writer waits for the recovery, whatever another one has seen meanwhile.
    durafile::Transaction::begin(home.path()).unwrap().discard().unwrap();
    // The recovery gives up the writers' lock first, and its own right after that.
    let deadline = Instant::now() + Duration::from_secs(5);
    while lock.exists() {
        assert!(Instant::now() < deadline, "the recovery is still at work");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(child.wait().unwrap().success());
}

/// Goal: whoever may write in one folder of a transaction stops its recovery by nothing that he puts at the name by which
/// files pass there. Method: a link stands at it, whose text is as long as the content, or a file of the same size that
/// only its owner may read.
#[test]
fn what_a_stranger_puts_at_the_name_that_files_pass_by_stops_no_recovery() {
    const OWNER: u32 = 1234;
    const STRANGER: u32 = 65534;
    if !is_root() {
        return skip("only root can give files away");
    }
    let plants: [fn(&Path); 2] = [
        |at| symlink("other", at).unwrap(),
        |at| {
            fs::write(at, "other").unwrap();
            chmod(at, 0o600);
        },
    ];
    for (number, plant) in plants.into_iter().enumerate() {
        for begins in [false, true] {
            let Some(home) = half_applied(&this_test!()) else { return };
            let case = format!("plant {number}, begins: {begins}");
            let passing = remnant(&home.path().join("d"), "p");
            fs::remove_file(&passing).unwrap();
            let found = Command::new("find").arg(home.path()).output().unwrap().stdout;
            for path in String::from_utf8(found).unwrap().lines() {
                chown(path, OWNER, OWNER);
            }
            plant(&passing);
            chown(&passing, STRANGER, STRANGER);
            let recovered = as_user(OWNER, OWNER, || match begins {
                true => durafile::Transaction::begin(home.path()).and_then(durafile::Transaction::discard),
                false => durafile::recover(home.path()).map(|recovery| {
                    assert!(recovery.quarantined().is_empty(), "{case}: {recovery:?}");
                }),
            });
            recovered.unwrap().unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_eq!(
                ["a", "b", "d/c"].map(|name| content(&home, name)),
                ["new a", "new b", "new c"],
                "{case}"
            );
            assert_eq!(names(home.path()), ["a", "b", "d"], "{case}");
            assert_eq!(names(home.path().join("d")).len(), 2, "{case}: what is a stranger's stays");
        }
    }
}

/// What happens in one folder while a recovery is at work costs no change elsewhere.
#[test]
fn a_directory_that_appears_between_look_and_step_stops_no_other_change() {
    let test = this_test!();
    if recovers(&test) {
        return;
    }
    let Some(home) = half_applied(&test) else { return };
    let passing = remnant(&home.path().join("d"), "p");
    fs::remove_file(&passing).unwrap();
    let mut child = start(&test, home.path(), "inject=renameat:delay_enter=1500000");
    let deadline = Instant::now() + Duration::from_secs(60);
    // It is there again once the target has been looked at.
    while !passing.exists() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it was not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::remove_file(home.path().join("d/c")).unwrap();
    fs::create_dir(home.path().join("d/c")).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(names(home.path()), ["a", "b", "d"], "the other changes are made, and nothing is moved aside");
    assert_eq!(names(home.path().join("d")), ["c"]);
    assert!(durafile::recover(home.path()).unwrap().is_clean());
}

/// Where links are refused, or nothing can be moved between two directories, nothing that was saved meanwhile is
/// replaced either. The child's links fail a second after it has looked at their target.
#[test]
fn what_is_saved_during_a_recovery_stays_where_links_are_refused() {
    let test = this_test!();
    if recovers(&test) {
        return;
    }
    for refusal in ["EPERM", "EXDEV"] {
        let Some(home) = killed_at_rename(&test, 1) else { return };
        let fault = format!("inject=linkat:error={refusal}:delay_enter=1000000");
        let mut child = start(&test, home.path(), &fault);
        let deadline = Instant::now() + Duration::from_secs(60);
        // The next one is looked at right after that.
        while content(&home, "a") != "new a" {
            assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "it was not seen");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(200));
        fs::write(home.path().join("b"), "saved meanwhile").unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(content(&home, "b"), "saved meanwhile", "{refusal}");
        assert_eq!(content(&home, "d/c"), "new c", "{refusal}");
        assert_eq!(names(home.path()), ["a", "b", "d"], "{refusal}");
    }
}

/// Goal: of two recoveries that find the lock file of a dead writer, the later one does not remove the file that a new
/// writer has locked meanwhile. Method: one is held up where it is about to remove the file.
#[test]
fn two_recoveries_do_not_remove_the_lock_of_a_new_writer() {
    let test = this_test!();
    if recovers(&test) {
        return;
    }
    if !strace::works() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let lock = home.path().join(forged::for_target('l', ""));
    fs::write(&lock, "").unwrap();
    let fault = "inject=unlinkat:delay_enter=3000000:when=1";
    let (mut child, _) = begin(strace::faulty(&[fault], &test, home.path(), "recover"));
    let file = fs::File::open(&lock).unwrap();
    while file.file().try_lock().is_ok() {
        file.file().unlock().unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it was not seen");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(500));
    let _ = durafile::recover(home.path()).unwrap();
    assert!(child.try_wait().unwrap().is_none(), "it was too fast");
    let options = durafile::TransactionOptions::new().lock_timeout(Duration::from_secs(20));
    let writer = options.begin(home.path()).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(lock.exists(), "the lock of a live writer was removed");
    let refused = durafile::Transaction::begin(home.path()).unwrap_err();
    assert_eq!(refused.kind(), durafile::ErrorKind::Locked, "{refused}");
    writer.discard().unwrap();
    assert!(names(home.path()).is_empty());
}

/// Goal: a writer that gets no answer about locks leaves the lock file of another writer. Method: strace refuses it the
/// link of an unnamed lock file, and then every lock.
#[test]
fn a_writer_that_can_not_lock_leaves_the_lock_of_another_one() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        println!("\nBEGINS {}", std::process::id());
        let refused = durafile::Transaction::begin(home).unwrap_err();
        assert_eq!(refused.kind(), durafile::ErrorKind::Unsupported, "{refused}");
        return;
    }
    if !strace::works() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let writer = durafile::Transaction::begin(home.path()).unwrap();
    let lock = home.path().join(forged::for_target('l', ""));
    assert!(lock.exists());
    let faults = ["inject=linkat:error=EPERM", "inject=flock:error=ENOLCK:when=2+"];
    let (mut child, _) = begin(strace::faulty(&faults, &test, home.path(), "begin"));
    assert!(child.wait().unwrap().success());
    assert!(lock.exists(), "the lock of a live writer was removed");
    let refused = durafile::Transaction::begin(home.path()).unwrap_err();
    assert_eq!(refused.kind(), durafile::ErrorKind::Locked, "{refused}");
    drop(writer);
}
