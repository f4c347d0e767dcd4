//! Goal: rule 3, mode and ownership: a new file honours the umask, a replaced one stays who it
//! was, and neither is ever open to more people than it should be. Method: tables of modes and
//! owners, saved as root and as other users; the umask is set in children, for it is global.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use durafile::{AtomicFile, WriteOptions};
use fs_err as fs;
use rustix::fs::Mode;

use crate::support::{
    as_user, chmod, chown, dir, in_child, is_root, mode, public_dir, skip, staged_in, this_test,
};

fn exactly(mode: u32) -> WriteOptions {
    WriteOptions::new().permissions(std::fs::Permissions::from_mode(mode))
}

/// Mode, owner and group of one path, for comparing.
fn identity(path: impl AsRef<Path>) -> (String, u32, u32) {
    let found = fs::metadata(path.as_ref()).unwrap();
    let mode = format!("{:o}", found.mode() & 0o7777);
    (mode, found.uid(), found.gid())
}

fn save_both_ways(options: &WriteOptions, path: &Path, check: impl Fn(&Path)) {
    options.clone().write(path, "one call").unwrap();
    check(path);
    let mut file = options.clone().open(path).unwrap();
    file.write_all(b"streamed").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read_to_string(path).unwrap(), "streamed");
    check(path);
}

#[test]
fn a_new_file_honours_the_umask() {
    in_child(&this_test!(), "", |home| {
        for (umask, expected) in [(0o022, 0o644), (0o077, 0o600), (0o027, 0o640), (0, 0o666)] {
            rustix::process::umask(Mode::from_raw_mode(umask));
            let dir = home.join(format!("{umask:o}"));
            let parents = WriteOptions::new().create_parents(true);
            parents.write(dir.join("whole"), "x").unwrap();
            AtomicFile::create(dir.join("streamed")).unwrap().commit().unwrap();
            assert_eq!(mode(dir.join("whole")), expected);
            assert_eq!(mode(dir.join("streamed")), expected);
            assert_eq!(mode(dir), 0o777 & !umask);
        }
    });
}

#[test]
fn a_replaced_file_keeps_its_mode_but_not_setuid() {
    // A umask must not matter to a replacement.
    in_child(&this_test!(), "umask 077", |dir| {
        for (before, after) in [
            (0o600, 0o600),
            (0o644, 0o644),
            (0o640, 0o640),
            (0o666, 0o666),
            (0o755, 0o755),
            (0o400, 0o400),
            (0o444, 0o444),
            (0o777, 0o777),
            (0o000, 0o000),
            (0o604, 0o604),
            (0o4755, 0o755),
            (0o2755, 0o755),
            (0o6711, 0o711),
            (0o2644, 0o644),
        ] {
            let path = dir.join(format!("{before:o}"));
            fs::write(&path, "old").unwrap();
            chmod(&path, before);
            if mode(&path) != before {
                continue; // This user may not set such a mode.
            }
            WriteOptions::new().write(&path, "new").unwrap();
            assert_eq!(mode(&path), after, "{before:o}");
            AtomicFile::create(&path).unwrap().commit().unwrap();
            assert_eq!(mode(&path), after, "{before:o}, streamed");
        }
    });
}

#[test]
fn permissions_asked_for_are_exact_and_win_over_preservation() {
    in_child(&this_test!(), "umask 077", |dir| {
        for asked in [0o644, 0o666, 0o600, 0o000, 0o777, 0o4755, 0o2755, 0o6750, 0o1644] {
            let new = dir.join(format!("new-{asked:o}"));
            save_both_ways(&exactly(asked), &new, |path| {
                assert_eq!(format!("{:o}", mode(path)), format!("{asked:o}"));
            });
            let old = dir.join(format!("old-{asked:o}"));
            fs::write(&old, "old").unwrap();
            chmod(&old, 0o640);
            save_both_ways(&exactly(asked), &old, |path| {
                assert_eq!(format!("{:o}", mode(path)), format!("{asked:o}"));
            });
        }
        // What `std::fs::metadata` returned carries the file type as well.
        let from = dir.join("from");
        fs::write(&from, "").unwrap();
        chmod(&from, 0o751);
        let asked = fs::metadata(&from).unwrap().permissions();
        let path = dir.join("copied");
        let options = WriteOptions::new().permissions(asked);
        options.write(&path, "x").unwrap();
        assert_eq!(mode(&path), 0o751);
    });
}

#[test]
fn without_preservation_a_replaced_file_is_like_a_new_one() {
    in_child(&this_test!(), "umask 026", |dir| {
        let path = dir.join("file");
        for before in [0o600, 0o777, 0o4755] {
            fs::write(&path, "old").unwrap();
            chmod(&path, before);
            let options = WriteOptions::new().preserve_metadata(false);
            save_both_ways(&options, &path, |path| assert_eq!(mode(path), 0o640));
        }
    });
}

#[test]
fn root_keeps_owner_and_group_and_drops_setuid_whoever_owns_it() {
    if !is_root() {
        return skip("only root can give files away");
    }
    let dir = dir();
    for (number, (uid, gid, before, after)) in [
        (1001, 1002, 0o640, "640"),
        (1001, 0, 0o664, "664"),
        (0, 1002, 0o660, "660"),
        // chmod before chown would lose these silently; keeping them would be a hole.
        (1001, 1002, 0o4755, "755"),
        (1001, 1002, 0o2755, "755"),
        (0, 1002, 0o2775, "775"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = dir.path().join(number.to_string());
        fs::write(&path, "old").unwrap();
        chown(&path, uid, gid);
        chmod(&path, before);
        save_both_ways(&WriteOptions::new(), &path, |path| {
            assert_eq!(identity(path), (after.to_owned(), uid, gid));
        });
    }
    // Asked for, setuid survives the change of owner: the owner is set first.
    let path = dir.path().join("0");
    save_both_ways(&exactly(0o6755), &path, |path| {
        assert_eq!(identity(path), ("6755".to_owned(), 1001, 1002));
    });
}

#[test]
fn a_group_that_cannot_be_kept_loses_the_rights_that_others_do_not_have() {
    for (before, after) in [
        (0o660, "600"),
        (0o664, "644"),
        (0o640, "600"),
        (0o644, "644"),
        (0o675, "655"),
        (0o670, "600"),
        (0o606, "606"),
        (0o2771, "711"),
    ] {
        let dir = public_dir();
        let path = dir.path().join("file");
        fs::write(&path, "old").unwrap();
        let saved = as_user(0, 0, || {
            chown(&path, 1001, 2002);
            chmod(&path, before);
        });
        if saved.is_none() {
            return;
        }
        as_user(1001, 1001, || {
            save_both_ways(&WriteOptions::new(), &path, |path| {
                assert_eq!(identity(path), (after.to_owned(), 1001, 1001));
            });
        });
    }
}

#[test]
fn an_owner_that_cannot_be_kept_is_no_reason_to_fail() {
    let dir = public_dir();
    let path = dir.path().join("file");
    fs::write(&path, "old").unwrap();
    let prepared = as_user(0, 0, || {
        chown(&path, 1001, 2002);
        chmod(&path, 0o664);
    });
    if prepared.is_none() {
        return;
    }
    // Bob is in Alice's file's group by his primary group: that much is kept.
    as_user(1002, 2002, || {
        WriteOptions::new().write(&path, "new").unwrap();
        assert_eq!(identity(&path), ("664".to_owned(), 1002, 2002));
    });
}

#[test]
fn a_group_given_by_a_setgid_directory_does_not_replace_the_files_own() {
    if !is_root() {
        return skip("only root can give files away");
    }
    let dir = dir();
    chown(dir.path(), 0, 2002);
    chmod(dir.path(), 0o2755);
    let path = dir.path().join("new");
    save_both_ways(&WriteOptions::new(), &path, |path| {
        assert_eq!(identity(path).2, 2002);
    });
    fs::write(dir.path().join("old"), "").unwrap();
    let path = dir.path().join("old");
    chown(&path, 0, 2003);
    save_both_ways(&WriteOptions::new(), &path, |path| {
        assert_eq!(identity(path).2, 2003);
    });
}

#[test]
fn the_staged_file_is_never_readable_by_more_people_than_the_target() {
    in_child(&this_test!(), "umask 000", |dir| {
        for target in [0o600, 0o640, 0o604, 0o400, 0o000, 0o644] {
            let path = dir.join(format!("{target:o}"));
            fs::write(&path, "old").unwrap();
            chmod(&path, target);
            for options in [WriteOptions::new(), exactly(target)] {
                let mut file = options.open(&path).unwrap();
                file.write_all(&[b's'; 200_000]).unwrap();
                file.flush().unwrap();
                let staged = staged_in(dir).mode() & 0o7777;
                assert_eq!(staged & 0o077 & !target, 0, "{staged:o} for {target:o}");
                file.commit().unwrap();
                assert_eq!(mode(&path), target);
            }
            // A new file that is to be private is private from the first byte on.
            fs::remove_file(&path).unwrap();
            let mut file = exactly(target).open(&path).unwrap();
            file.write_all(&[b's'; 200_000]).unwrap();
            let staged = staged_in(dir).mode() & 0o7777;
            assert_eq!(staged & 0o077 & !target, 0, "{staged:o} for new {target:o}");
            file.discard().unwrap();
        }
    });
}
