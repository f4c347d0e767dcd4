//! Goal: on a mount that shows another owner, or one mode for everything, what a crash left is settled as
//! elsewhere, and nobody else is believed for it. Method: bindfs shows a directory in that way; what was
//! left there is looked at through it, and beside it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use durafile::{AtomicDir, RecoveryOptions, Transaction, recover};
use fs_err as fs;

use crate::support::forged;
use crate::support::{chmod, chown, has, in_private_mounts, is_root, job, names, skip, this_test};

/// Through a mount with these options.
fn through(test: &str, options: &str) {
    if job(test).is_none() && !has("bindfs", &["--version"]) {
        return;
    }
    if !is_root() {
        return skip("only root can mount");
    }
    let script = format!("mkdir $DIR/source $DIR/mnt; bindfs {options} $DIR/source $DIR/mnt");
    in_private_mounts(test, &script, |home| settles_as_elsewhere(&home.join("mnt")));
}

/// The record of a transaction that has nothing left to do, and what another one staged.
fn leave_remnants(mount: &Path) -> [std::path::PathBuf; 2] {
    let mut record = forged::Record::new(b't');
    ["", &forged::name('p', 9)].into_iter().for_each(|name| record.name(name));
    [0, 0].into_iter().for_each(|number| record.number(number));
    let journal = mount.join(forged::name('j', 1));
    fs::write(&journal, "").unwrap();
    // A record names the inode of its own file.
    forged::seal(&mut record.0, fs::metadata(&journal).unwrap().ino());
    fs::write(&journal, &record.0).unwrap();
    let _ = fs::set_permissions(&journal, std::os::unix::fs::PermissionsExt::from_mode(0o600));
    let tree = mount.join(forged::name('d', 1));
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("file"), "old").unwrap();
    [journal, tree]
}

fn settles_as_elsewhere(mount: &Path) {
    let mut change = Transaction::begin(mount).unwrap();
    for name in ["one", "two"] {
        change.write(name, "new").unwrap();
    }
    let _ = change.commit().unwrap();
    let mut next = AtomicDir::create(mount.join("talk")).unwrap();
    next.write("file", "new").unwrap();
    let _ = next.commit().unwrap();
    assert_eq!(names(mount), ["one", "talk", "two"]);
    let left = leave_remnants(mount);
    // Nothing is made to see what a file of ours looks like: so nothing is believed.
    let dry = RecoveryOptions::new().dry_run(true).run(mount).unwrap();
    assert!(dry.untrusted().contains(&left[0]), "{dry:?}");
    let recovery = recover(mount).unwrap();
    assert_eq!((recovery.removed().len(), recovery.untrusted().len()), (2, 0), "{recovery:?}");
    assert!(recover(mount).unwrap().is_clean());
    assert_eq!(names(mount), ["one", "talk", "two"]);
}

#[test]
fn another_owner_for_everything() {
    through(&this_test!(), "--force-user=nobody --force-group=nogroup");
}

#[test]
fn one_mode_for_everything() {
    through(&this_test!(), "--perms=0777");
}

#[test]
fn a_directory_for_everybody_looks_no_different_by_a_file_of_ours() {
    // On an ordinary file system the probe must not make anything trusted.
    let home = crate::support::public_dir();
    let [journal, tree] = leave_remnants(home.path());
    chmod(&journal, 0o620);
    if is_root() {
        chown(&tree, 1234, 1234);
    }
    let recovery = recover(home.path()).unwrap();
    assert_eq!(recovery.untrusted().len(), 1 + usize::from(is_root()), "{recovery:?}");
    assert!(journal.exists() && tree.exists());
    assert_eq!(names(home.path()).len(), 2, "the file that was looked at is gone");
}
