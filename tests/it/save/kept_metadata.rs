//! Goal: `kept_metadata` says whether the new file has all of the old one's metadata, for single saves and for
//! sets, and an owner without a number here is not taken for the user who has the overflow number. Method: the
//! same save by who may keep everything and by who may not.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use durafile::{AtomicDir, Batch, Transaction, WriteOptions};
use fs_err as fs;

use crate::support::{after, as_user, chmod, chown, in_child, is_root, public_dir, skip, this_test};

/// The answer of every way to replace `dir/file`, from the same start each time.
fn answers(dir: &Path, prepare: impl Fn(&Path)) -> [bool; 4] {
    let path = dir.join("file");
    let restore = || {
        let _ = fs::remove_file(&path);
        fs::write(&path, "old").unwrap();
        prepare(&path);
    };
    restore();
    let single = durafile::write(&path, "new").unwrap().kept_metadata();
    restore();
    let mut batch = Batch::new();
    batch.write(&path, "superseded").unwrap();
    batch.write(&path, "new").unwrap();
    let set = batch.commit().unwrap();
    assert_eq!(set[0], set[1], "of two entries for one path the later one counts");
    restore();
    let mut transaction = Transaction::begin(dir).unwrap();
    transaction.write("file", "new").unwrap();
    let transaction = transaction.commit().unwrap().kept_metadata();
    restore();
    let mut version = AtomicDir::update(dir).unwrap();
    version.write("file", "new").unwrap();
    [single, set[1].kept_metadata(), transaction, version.commit().unwrap().kept_metadata()]
}

#[test]
fn whoever_may_keep_everything_does() {
    in_child(&this_test!(), "", |home| {
        let dir = home.join("dir");
        fs::create_dir(&dir).unwrap();
        assert_eq!(answers(&dir, |path| chmod(path, 0o640)), [true; 4]);
        // The setuid bit goes by intention, and a new file has nothing to keep.
        assert_eq!(answers(&dir, |path| chmod(path, 0o4755)), [true; 4]);
        assert!(durafile::write(dir.join("new"), "").unwrap().kept_metadata());
        let forget = WriteOptions::new().preserve_metadata(false);
        assert!(forget.write(dir.join("file"), "").unwrap().kept_metadata());
    });
}

#[test]
fn an_owner_or_a_group_that_is_refused_is_not_kept() {
    if !is_root() {
        return skip("only root can give files away");
    }
    for owner in [(1001, 1002), (1002, 1001)] {
        let home = public_dir();
        let (dir, path) = (home.path().join("dir"), home.path().join("dir/file"));
        fs::create_dir(&dir).unwrap();
        fs::write(&path, "old").unwrap();
        chown(&dir, 1001, 1001);
        chown(&path, owner.0, owner.1);
        chmod(&path, 0o644);
        as_user(1001, 1001, || {
            assert!(!durafile::write(&path, "new").unwrap().kept_metadata(), "{owner:?}");
        });
        as_user(1001, 1001, || {
            assert!(durafile::write(&path, "newer").unwrap().kept_metadata(), "now all of it is 1001's");
        });
        // What is only carried over counts, too.
        fs::write(dir.join("beside"), "").unwrap();
        chown(dir.join("beside"), owner.0, owner.1);
        chmod(dir.join("beside"), 0o644);
        let parent = home.path();
        chmod(parent, 0o777);
        as_user(1001, 1001, || {
            let mut version = AtomicDir::update(&dir).unwrap();
            version.write("file", "new").unwrap();
            assert!(!version.commit().unwrap().kept_metadata(), "{owner:?}");
        });
    }
}

/// A user namespace with numbers for root and for `nobody`, who is user 165534 outside, as in a container.
const CONTAINER: &str = r#"
mkdir -p "$DIR/dir"
cd "$DIR/dir"
touch theirs "their group's" "nobody's"
chown 1234:0 theirs
chown 0:1234 "their group's"
chown 165534:0 "nobody's"
chmod 660 *
unshare -U sh -c 'until grep -q 165534 /proc/self/uid_map && grep -q 165534 /proc/self/gid_map; do :; done
exec "$0" "$@"' "$0" "$@" &
for map in gid_map uid_map; do
    until printf '0 0 1\n65534 165534 1\n' >/proc/$!/$map; do :; done 2>"$DIR/refused"
done
wait $!
exit $?
"#;

#[test]
fn nobody_in_a_container_is_not_given_what_belongs_to_others_outside() {
    if !is_root() {
        return skip("only root can map users");
    }
    let test = this_test!();
    after(&test, &[], CONTAINER, |home| {
        let dir = home.join("dir");
        let save = |name: &str| durafile::write(dir.join(name), "new").unwrap().kept_metadata();
        // User 1234 and group 1234 have no number in here, and look like nobody's; user 165534 has one.
        for (name, is_kept, owner, mode) in [
            ("theirs", false, 0, 0o660),
            ("their group's", false, 0, 0o600),
            ("nobody's", true, 65534, 0o660),
        ] {
            assert_eq!(save(name), is_kept, "{name}");
            let found = fs::metadata(dir.join(name)).unwrap();
            assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (owner, 0, mode), "{name}");
        }
    });
}
