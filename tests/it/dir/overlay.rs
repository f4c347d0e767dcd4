//! Goal: directories that can't be exchanged are swapped all the same, and a crash in the middle
//! is put right. Method: an overlay, whose lower layer gives directories that can't be renamed, and
//! strace, which takes the exchange away; a child is killed at each system call of a commit.

use std::path::{Path, PathBuf};

use durafile::{AtomicDir, Carry, DirOptions, DirSnapshot, ErrorKind, recover};
use fs_err as fs;

use crate::support::forged;
use crate::support::strace::{self, Call, Trace, traced};
use crate::support::{chmod, in_private_mounts, is_root, job, long, mode, names, refused, skip, this_test};

/// Mounts an overlay at `$DIR/mnt` with a directory in its lower layer.
const OVERLAY: &str = "cd \"$DIR\"; mkdir mnt layers; mount -t tmpfs tmpfs layers
    mkdir -p layers/lower/talk/files layers/upper layers/work
    echo -n old >layers/lower/talk/metadata; echo -n mine >layers/lower/talk/files/mine
    chmod 750 layers/lower/talk; ln -s files/mine layers/lower/talk/link
    mount -t overlay -o lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work overlay mnt";

fn update(options: &DirOptions, target: &Path, text: &str) -> durafile::Result<durafile::Committed> {
    let mut next = options.update(target)?;
    next.write("metadata", text)?;
    next.commit()
}

#[track_caller]
fn holds(target: &Path, text: &str) {
    assert_eq!(fs::read_to_string(target.join("metadata")).unwrap(), text);
    assert_eq!(fs::read_to_string(target.join("files/mine")).unwrap(), "mine");
    assert_eq!(names(target), ["files", "link", "metadata"]);
    assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("files/mine"));
    assert_eq!(mode(target), 0o750);
}

fn may_mount() -> bool {
    if !is_root() {
        skip("only root can mount an overlay");
    }
    is_root()
}

#[test]
fn a_directory_of_an_overlays_lower_layer_is_replaced() {
    if !may_mount() {
        return;
    }
    in_private_mounts(&this_test!(), OVERLAY, |home| {
        let (mount, target) = (home.join("mnt"), home.join("mnt/talk"));
        let options = DirOptions::new();
        refused(update(&options.clone().allow_fallback(false), &target, "new"), ErrorKind::Unsupported);
        holds(&target, "old");
        assert_eq!(names(&mount), ["talk"]);
        // What is read can't be kept aside here.
        let snapshot = DirSnapshot::open(&target).unwrap();
        refused(update(&options, &target, "new"), ErrorKind::Locked);
        assert_eq!(snapshot.read("metadata").unwrap(), b"old");
        assert_eq!(names(&mount), ["talk"]);
        drop(snapshot);
        let part = DirSnapshot::open(target.join("files")).unwrap();
        refused(update(&options, &target, "new"), ErrorKind::Locked);
        assert_eq!(part.read("mine").unwrap(), b"mine");
        assert_eq!(names(&mount), ["talk"]);
        drop(part);
        for (carry, text) in [(Carry::HardLink, "1"), (Carry::Copy, "2"), (Carry::HardLink, "3")] {
            update(&options.clone().carry(carry), &target, text).unwrap();
            holds(&target, text);
            assert_eq!(names(&mount), ["talk"]);
        }
        // From then on it lies in the upper layer, and is exchanged.
        let snapshot = DirSnapshot::open(&target).unwrap();
        update(&options.allow_fallback(false), &target, "4").unwrap();
        assert_eq!(snapshot.read("metadata").unwrap(), b"3");
        assert_eq!(fs::read_to_string(home.join("layers/lower/talk/metadata")).unwrap(), "old");
    });
}

/// Deeper than directories are held open at once: no directory of the lower layer can be moved up on the way.
const DEEP: &str = "cd \"$DIR\"; mkdir mnt layers; mount -t tmpfs tmpfs layers
    deep=$(printf 'd/%.0s' $(seq 60)); mkdir -p layers/upper layers/work
    for tree in talk tree; do mkdir -p layers/lower/$tree/$deep; touch layers/lower/$tree/${deep}file; done
    mount -t overlay -o redirect_dir=off,lowerdir=layers/lower,upperdir=layers/upper,workdir=layers/work overlay mnt";

#[test]
fn a_deep_directory_of_an_overlays_lower_layer_is_deleted_where_it_is() {
    if !may_mount() {
        return;
    }
    in_private_mounts(&this_test!(), DEEP, |home| {
        let mount = home.join("mnt");
        let mut new = AtomicDir::create(mount.join("talk")).unwrap();
        new.write("metadata", "new").unwrap();
        let _ = new.commit().unwrap();
        assert_eq!(names(mount.join("talk")), ["metadata"]);
        let _ = durafile::remove_dir_all(mount.join("tree")).unwrap();
        assert_eq!(names(&mount), ["talk"]);
        assert!(recover(&mount).unwrap().is_clean());
    });
}

/// What a writer leaves that is killed before or while it deletes the old version at the target.
fn leave_swap(mount: &Path) {
    let stage = forged::name('d', 1);
    fs::create_dir(mount.join(&stage)).unwrap();
    fs::write(mount.join(&stage).join("metadata"), "new").unwrap();
    let mut record = forged::record_swapping("talk", &stage, None).0;
    let path = mount.join(forged::for_target('r', "talk"));
    fs::write(&path, "").unwrap();
    forged::seal(&mut record, std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap()));
    fs::write(&path, record).unwrap();
    chmod(&path, 0o600);
}

#[test]
fn what_is_restored_while_the_old_version_was_deleted_stays_and_the_rest_of_that_one_goes() {
    if !may_mount() {
        return;
    }
    in_private_mounts(&this_test!(), OVERLAY, |home| {
        let (mount, target) = (home.join("mnt"), home.join("mnt/talk"));
        leave_swap(&mount);
        fs::remove_file(target.join("metadata")).unwrap();
        // Nobody may lose what he reads.
        let part = DirSnapshot::open(target.join("files")).unwrap();
        let recovery = recover(&mount).unwrap();
        assert_eq!(
            (recovery.in_use(), recovery.completed().len()),
            (&[target.clone()][..], 0),
            "{recovery:?}"
        );
        refused(AtomicDir::update(&target), ErrorKind::Locked);
        assert_eq!(part.read("mine").unwrap(), b"mine");
        drop(part);
        let recovery = recover(&mount).unwrap();
        assert_eq!(recovery.completed(), std::slice::from_ref(&target), "{recovery:?}");
        assert_eq!(names(&target), ["metadata"]);
        assert!(recover(&mount).unwrap().is_clean());
    });
}

#[test]
fn a_directory_that_was_restored_in_the_place_of_the_old_version_stays() {
    if !may_mount() {
        return;
    }
    in_private_mounts(&this_test!(), OVERLAY, |home| {
        let (mount, target) = (home.join("mnt"), home.join("mnt/talk"));
        leave_swap(&mount);
        fs::remove_dir_all(&target).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(target.join("metadata"), "restored").unwrap();
        refused(AtomicDir::update(&target), ErrorKind::Corrupt);
        let recovery = recover(&mount).unwrap();
        assert!(recovery.completed().is_empty(), "{recovery:?}");
        // The new version and the record.
        assert_eq!(recovery.quarantined().len(), 2, "{recovery:?}");
        assert_eq!(fs::read_to_string(target.join("metadata")).unwrap(), "restored");
        assert!(recover(&mount).unwrap().is_clean());
        let _ = AtomicDir::update(&target).unwrap().commit().unwrap();
        assert_eq!(fs::read_to_string(target.join("metadata")).unwrap(), "restored");
    });
}

/// A commit in the child, at the first argument's way of carrying over.
fn commit(home: &Path, case: &str) {
    let target = target(home);
    if !home.join("mnt").exists() {
        prepare(&target);
    }
    // Warms up the library's probes.
    AtomicDir::create(target.with_file_name("beside")).unwrap().discard().unwrap();
    let carry = if case == "link" { Carry::HardLink } else { Carry::Copy };
    // One after the other, so that all is done by this thread, which strace counts.
    let options = DirOptions::new().carry(carry).sync(durafile::SyncStrategy::PerFile);
    traced(|| update(&options, &target, "new"));
}

fn target(home: &Path) -> PathBuf {
    let mount = home.join("mnt");
    if mount.exists() { mount.join("talk") } else { home.join("talk") }
}

fn prepare(target: &Path) {
    fs::create_dir_all(target.join("files")).unwrap();
    fs::write(target.join("metadata"), "old").unwrap();
    fs::write(target.join("files/mine"), "mine").unwrap();
    std::os::unix::fs::symlink("files/mine", target.join("link")).unwrap();
    chmod(target, 0o750);
}

fn inject(call: &Call, what: &str) -> String {
    format!("inject={}:{what}:when={}", call.name, call.nth)
}

/// Kills the child at each call of the commit; what it leaves is put right by a recovery, or by the
/// next writer.
///
/// None in the child.
fn kill_everywhere(test: &str, case: &str, faults: &[&str], skipped: &str) -> Option<()> {
    let whole = strace::run(test, case, faults, &commit)?;
    assert!(whole.outcome.as_ref().unwrap().starts_with("Ok"), "{whole:#?}");
    holds(&target(whole.path()), "new");
    let (mut old, mut new) = (0, 0);
    // It only looks, and the main thread makes such a call at its start.
    let may_be_killed = |call: &&Call| call.name != skipped && call.name != "newfstatat";
    for call in long::each(3, whole.calls.iter().filter(may_be_killed), "system calls") {
        let kill = inject(call, "signal=KILL");
        let options: Vec<&str> = faults.iter().copied().chain(["-e", &kill]).collect();
        let killed = strace::run(test, case, &options, &commit)?;
        let at = format!("killed at {} {}", call.short(), call.nth);
        assert_eq!(killed.outcome, None, "{at}");
        match settle(&killed, old + new) {
            true => new += 1,
            false => {
                assert_eq!(new, 0, "{at}: the old version came back");
                old += 1;
            }
        }
    }
    assert!(old > 5 && new > 0, "{old} old, {new} new");
    Some(())
}

/// Whether the new version is there then.
fn settle(killed: &Trace, number: usize) -> bool {
    let target = target(killed.path());
    if number % 2 == 0 {
        let recovery = recover(killed.path()).unwrap();
        assert!(recovery.quarantined().is_empty() && recovery.in_use().is_empty(), "{recovery:?}");
        assert!(recover(killed.path()).unwrap().is_clean());
    } else {
        AtomicDir::update(&target).unwrap().commit().unwrap();
        let _ = recover(killed.path()).unwrap();
    }
    let is_new = fs::read_to_string(target.join("metadata")).unwrap() == "new";
    holds(&target, if is_new { "new" } else { "old" });
    assert_eq!(names(killed.path()), ["talk"]);
    is_new
}

#[test]
fn a_commit_killed_at_any_system_call_leaves_old_or_new() {
    let test = this_test!();
    if job(&test).is_some() || strace::works() {
        let _ = ["copy", "link"].into_iter().try_for_each(|case| kill_everywhere(&test, case, &[], ""));
    }
}

#[test]
fn a_commit_without_the_exchange_killed_at_any_system_call_is_put_right() {
    let test = this_test!();
    if job(&test).is_some() || strace::works() {
        // One rule for each system call: this one can't be killed at as well.
        let _ = kill_everywhere(&test, "link", &["-e", "inject=renameat2:error=EINVAL"], "renameat2");
    }
}

#[test]
fn a_directory_that_cannot_be_renamed_killed_at_any_system_call_is_put_right() {
    let test = this_test!();
    if job(&test).is_some() || strace::works() {
        // Only the exchange, which comes first, is refused.
        let Some(whole) = strace::run(&test, "link", &[], &commit) else { return };
        let exchange = whole.calls.iter().find(|call| call.args.contains("RENAME_EXCHANGE")).unwrap();
        let fault = inject(exchange, "error=EXDEV");
        let _ = kill_everywhere(&test, "link", &["-e", &fault], "renameat2");
    }
}
