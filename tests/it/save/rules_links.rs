//! Goal: rule 15 (what a save does at a symbolic link) and rule 9 (mount points). Method: links
//! of every shape under each policy; other users' links in sticky directories; a bind mount in
//! a private mount namespace.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;

use durafile::{AtomicFile, ErrorKind, Symlinks, WriteOptions};
use fs_err as fs;

use crate::support::{
    as_user, best, chmod, chown, dir, in_child, in_private_mounts, mode, names, public_dir, refused,
    this_test,
};

fn with(symlinks: Symlinks) -> WriteOptions {
    WriteOptions::new().symlinks(symlinks)
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).unwrap().is_symlink()
}

#[test]
fn a_link_is_followed_and_the_file_is_staged_beside_its_referent() {
    let dir = dir();
    let home = dir.path();
    fs::create_dir_all(home.join("far/deep")).unwrap();
    fs::create_dir(home.join("links")).unwrap();
    let referent = home.join("far/deep/file");
    fs::write(&referent, "old").unwrap();
    chmod(&referent, 0o640);
    symlink("../far/deep/file", home.join("links/relative")).unwrap();
    symlink(&referent, home.join("links/absolute")).unwrap();
    symlink("relative", home.join("links/chain")).unwrap();
    symlink("./../links/./chain", home.join("links/longer")).unwrap();
    symlink("links", home.join("folder-link")).unwrap();
    let links = names(home.join("links"));

    for link in ["links/relative", "links/absolute", "links/chain", "links/longer", "folder-link/relative"] {
        let path = home.join(link);
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(link.as_bytes()).unwrap();
        assert_eq!(names(home.join("links")), links, "staged beside the link");
        let committed = file.commit().unwrap();
        assert_eq!(committed.durability(), best(home));
        assert!(is_link(&path));
        assert_eq!(fs::read_to_string(&referent).unwrap(), link);
        assert_eq!(mode(&referent), 0o640, "a link's own mode is never copied");
        assert_eq!(names(home.join("far/deep")), ["file"]);
        assert_eq!(names(home.join("links")), links);
    }
}

#[test]
fn a_dangling_link_creates_its_referent() {
    let dir = dir();
    let home = dir.path();
    fs::create_dir(home.join("sub")).unwrap();
    symlink("sub/file", home.join("link")).unwrap();
    symlink("link", home.join("chain")).unwrap();
    for link in ["link", "chain"] {
        durafile::write(home.join(link), link).unwrap();
        assert_eq!(fs::read_to_string(home.join("sub/file")).unwrap(), link);
        assert!(is_link(&home.join(link)));
        fs::remove_file(home.join("sub/file")).unwrap();
    }
    symlink("missing/file", home.join("lost")).unwrap();
    refused(durafile::write(home.join("lost"), "x"), ErrorKind::NotFound);
    assert_eq!(names(home), ["chain", "link", "lost", "sub"]);
    assert!(names(home.join("sub")).is_empty());
}

#[test]
fn a_loop_of_links_is_an_invalid_path() {
    let dir = dir();
    symlink("self", dir.path().join("self")).unwrap();
    symlink("b", dir.path().join("a")).unwrap();
    symlink("a", dir.path().join("b")).unwrap();
    let before = names(&dir);
    for name in ["self", "a", "b"] {
        let path = dir.path().join(name);
        refused(durafile::write(&path, "x"), ErrorKind::InvalidPath);
        refused(AtomicFile::create(&path), ErrorKind::InvalidPath);
    }
    assert_eq!(names(&dir), before);

    // A loop is no obstacle to replacing the link itself.
    with(Symlinks::Replace).write(dir.path().join("self"), "x").unwrap();
    assert!(!is_link(&dir.path().join("self")));
}

#[test]
fn refuse_refuses_every_link_and_nothing_else() {
    let dir = dir();
    let home = dir.path();
    fs::write(home.join("file"), "old").unwrap();
    for (link, to) in [("live", "file"), ("dangling", "missing"), ("loop", "loop"), ("folder", ".")] {
        symlink(to, home.join(link)).unwrap();
    }
    let before = names(home);
    for link in ["live", "dangling", "loop", "folder"] {
        let options = with(Symlinks::Refuse);
        let path = home.join(link);
        refused(options.clone().write(&path, "x"), ErrorKind::InvalidPath);
        refused(options.open(&path), ErrorKind::InvalidPath);
        assert!(is_link(&path));
    }
    assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "old");
    // Links among the parents are the caller's business.
    with(Symlinks::Refuse).write(home.join("folder/file"), "new").unwrap();
    assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "new");
    assert_eq!(names(home), before);
}

#[test]
fn replace_replaces_the_link_itself_and_never_with_the_links_own_mode() {
    in_child(&this_test!(), "umask 027", |home| {
        fs::write(home.join("file"), "old").unwrap();
        chmod(home.join("file"), 0o600);
        fs::create_dir(home.join("folder")).unwrap();
        let table = [
            ("live", "file"),
            ("dangling", "missing"),
            ("loop", "loop"),
            ("to-folder", "folder"),
            ("to-device", "/dev/null"),
        ];
        for (link, to) in table {
            let path = home.join(link);
            symlink(to, &path).unwrap();
            with(Symlinks::Replace).write(&path, link).unwrap();
            assert!(!is_link(&path));
            assert_eq!(fs::read_to_string(&path).unwrap(), link);
            assert_eq!(mode(&path), 0o640, "a link has no mode to keep");
        }
        assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "old");
        assert!(names(home.join("folder")).is_empty());
        assert!(!home.join("missing").exists());
        assert_eq!(names(home).len(), table.len() + 2);
    });
}

#[test]
fn a_link_to_what_cannot_be_saved_is_refused_like_the_thing_itself() {
    let dir = dir();
    let home = dir.path();
    fs::create_dir(home.join("folder")).unwrap();
    fs::write(home.join("file"), "old").unwrap();
    for (link, to, kind) in [
        ("to-folder", "folder", ErrorKind::IsADirectory),
        ("to-device", "/dev/null", ErrorKind::InvalidPath),
        ("under-file", "file/x", ErrorKind::NotADirectory),
    ] {
        symlink(to, home.join(link)).unwrap();
        refused(durafile::write(home.join(link), "x"), kind);
        assert!(is_link(&home.join(link)));
    }
    assert_eq!(fs::read_to_string(home.join("file")).unwrap(), "old");
    assert!(names(home.join("folder")).is_empty());
}

#[test]
fn a_link_of_a_stranger_in_a_sticky_shared_directory_is_not_followed() {
    const ALICE: u32 = 1001;
    const BOB: u32 = 1002;
    // (directory's mode and owner, link's owner, who saves, does the save go through)
    let table = [
        (0o1777, 0, ALICE, BOB, false),
        (0o1777, 0, ALICE, 0, false),
        (0o1777, 0, BOB, BOB, true),
        (0o1777, 0, 0, BOB, true),
        (0o1777, ALICE, ALICE, BOB, true),
        (0o1777, ALICE, 0, BOB, false),
        (0o0777, 0, ALICE, BOB, true),
        (0o1775, 0, ALICE, 0, true),
    ];
    for (number, (mode, dir_owner, link_owner, caller, allowed)) in table.into_iter().enumerate() {
        // Root keeps its right to read; other users get what anyone has.
        let shared = public_dir();
        let safe = public_dir();
        let referent = safe.path().join("referent");
        let link = shared.path().join("link");
        let outer = safe.path().join("outer");
        let done = as_user(0, 0, || {
            fs::write(&referent, "old").unwrap();
            chmod(&referent, 0o666);
            symlink(&referent, &link).unwrap();
            symlink(&link, &outer).unwrap();
            chown(&outer, caller, caller);
            chown(&link, link_owner, link_owner);
            chown(shared.path(), dir_owner, dir_owner);
            chmod(shared.path(), mode);
        });
        if done.is_none() {
            return;
        }
        as_user(caller, caller, || {
            for path in [&link, &outer] {
                for done in [durafile::sync(path), durafile::write(path, "new")] {
                    if allowed {
                        done.unwrap_or_else(|error| panic!("case {number}: {error:?}"));
                    } else {
                        refused(done, ErrorKind::PermissionDenied);
                    }
                }
            }
        });
        let expected = if allowed { "new" } else { "old" };
        assert_eq!(fs::read_to_string(&referent).unwrap(), expected, "case {number}");
        assert_eq!(names(&shared), ["link"], "case {number}");
        assert_eq!(names(&safe), ["outer", "referent"], "case {number}");
    }
}

#[test]
fn a_dangling_link_of_a_stranger_in_a_sticky_directory_creates_nothing() {
    let shared = public_dir();
    let link = shared.path().join("link");
    let prepared = as_user(0, 0, || {
        symlink("planted", &link).unwrap();
        chown(&link, 1001, 1001);
        chmod(shared.path(), 0o1777);
    });
    if prepared.is_none() {
        return;
    }
    refused(durafile::write(&link, "x"), ErrorKind::PermissionDenied);
    assert_eq!(names(&shared), ["link"]);
    with(Symlinks::Replace).write(&link, "x").unwrap();
    assert!(!is_link(&link));
}

#[test]
fn a_mount_point_is_busy_and_the_message_says_so() {
    in_private_mounts(
        &this_test!(),
        "cd \"$DIR\"; echo old >other; echo old >file; mount --bind other file; ln -s file link",
        |dir| {
            for name in ["file", "link"] {
                let path = dir.join(name);
                let error = refused(durafile::write(&path, "new"), ErrorKind::Busy);
                assert!(!error.is_transient());
                let told = format!("{error} {}", error.hint());
                assert!(told.contains("mount"), "{told}");
                assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
            }
            assert_eq!(names(dir), ["file", "link", "other"]);
            // A link beside the mount point is free.
            with(Symlinks::Replace).write(dir.join("link"), "new").unwrap();
        },
    );
}
