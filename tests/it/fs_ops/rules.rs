//! Goal: each operation does what its counterpart in `std::fs` does, and its errors say what the target
//! is now. Method: plain calls, compared with what is on the disk.

use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use durafile::{
    Durability, ErrorKind, create_dir_all, remove_dir_all, remove_file, rename, rename_new, sync,
};
use fs_err as fs;

use crate::support::{
    as_user, best, chmod, dir, in_private_mounts, names, public_dir, refused, skip, this_test,
};

#[test]
fn directories_are_created_with_all_above_them() {
    let home = dir();
    let path = home.path().join("a/b/c/");
    let made = create_dir_all(&path).unwrap();
    assert!(path.is_dir());
    assert_eq!(made.durability(), best(home.path()));
    create_dir_all(&path).unwrap();

    fs::write(home.path().join("file"), "").unwrap();
    refused(create_dir_all(home.path().join("file")), ErrorKind::AlreadyExists);
    refused(create_dir_all(home.path().join("file/below")), ErrorKind::NotADirectory);
    symlink("nowhere", home.path().join("dangling")).unwrap();
    refused(create_dir_all(home.path().join("dangling")), ErrorKind::AlreadyExists);
    refused(create_dir_all(""), ErrorKind::InvalidPath);
}

#[test]
fn a_rename_replaces_files_and_moves_directories_and_links() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("from"), "new").unwrap();
    fs::write(at("to"), "old").unwrap();
    assert_eq!(rename(at("from"), at("to")).unwrap().durability(), best(home.path()));
    assert_eq!(fs::read_to_string(at("to")).unwrap(), "new");

    fs::create_dir_all(at("tree/below")).unwrap();
    fs::create_dir(at("elsewhere")).unwrap();
    rename(at("tree/"), at("elsewhere/tree/")).unwrap();
    assert!(at("elsewhere/tree/below").is_dir());

    symlink("nowhere", at("link")).unwrap();
    rename(at("link"), at("moved")).unwrap();
    assert_eq!(fs::read_link(at("moved")).unwrap(), Path::new("nowhere"));
    assert_eq!(names(home.path()), ["elsewhere", "moved", "to"]);
}

#[test]
fn what_can_not_be_renamed_stays_as_it_is() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("file"), "content").unwrap();
    fs::create_dir_all(at("full/below")).unwrap();
    fs::create_dir(at("tree")).unwrap();

    refused(rename(at("absent"), at("to")), ErrorKind::NotFound);
    refused(rename(at("file"), at("absent/to")), ErrorKind::NotFound);
    refused(rename(at("tree"), at("full")), ErrorKind::AlreadyExists);
    refused(rename(at("file"), at("tree")), ErrorKind::IsADirectory);
    refused(rename(at("tree"), at("file")), ErrorKind::NotADirectory);
    refused(rename(at("file/"), at("to")), ErrorKind::NotADirectory);
    refused(rename(at("file"), at("to/")), ErrorKind::NotADirectory);
    refused(rename("", at("to")), ErrorKind::InvalidPath);
    refused(rename(at("file"), ""), ErrorKind::InvalidPath);
    refused(rename(at("file"), at("..")), ErrorKind::InvalidPath);
    refused(rename(at("tree"), at("tree/inside")), ErrorKind::InvalidPath);
    assert_eq!(names(home.path()), ["file", "full", "tree"]);
}

#[test]
fn another_device_is_told_and_nothing_has_changed() {
    let (home, shm) = (dir(), Path::new("/dev/shm"));
    let other = shm.is_dir().then(|| tempfile::tempdir_in(shm).unwrap());
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    let Some(other) = other.filter(|other| device(other.path()) != device(home.path())) else {
        return skip("/dev/shm is no second file system");
    };
    fs::write(home.path().join("file"), "content").unwrap();
    refused(rename(home.path().join("file"), other.path().join("file")), ErrorKind::CrossDevice);
    assert_eq!((names(home.path()).len(), names(other.path()).len()), (1, 0));

    // What is kept in memory is not durable, and none of these says so.
    let at = |name: &str| other.path().join(name);
    assert_eq!(create_dir_all(at("a/b")).unwrap().durability(), Durability::None);
    fs::write(at("a/file"), "").unwrap();
    assert_eq!(sync(at("a")).unwrap().durability(), Durability::None);
    assert_eq!(rename(at("a/file"), at("file")).unwrap().durability(), Durability::None);
    assert_eq!(remove_file(at("file")).unwrap().durability(), Durability::None);
    assert_eq!(remove_dir_all(at("a")).unwrap().durability(), Durability::None);
}

#[test]
fn rename_new_takes_no_name_that_anything_has_and_one_of_many_wins() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("file"), "content").unwrap();
    fs::write(at("taken"), "old").unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    refused(rename_new(at("file"), at("taken")), ErrorKind::AlreadyExists);
    refused(rename_new(at("file"), at("dangling")), ErrorKind::AlreadyExists);
    rename_new(at("file"), at("free")).unwrap();
    assert_eq!(fs::read_to_string(at("free")).unwrap(), "content");

    for round in 0..20 {
        let goal = at(&format!("goal {round}"));
        let won = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|racer| {
                    let own = at(&format!("{round} {racer}"));
                    fs::write(&own, "").unwrap();
                    scope.spawn(|| rename_new(own, &goal).is_ok())
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).filter(|&won| won).count()
        });
        assert_eq!(won, 1);
    }
}

#[test]
fn a_name_that_recovery_would_remove_is_refused() {
    let home = dir();
    let file = home.path().join("file");
    fs::write(&file, "precious").unwrap();
    let remnant = home.path().join(crate::support::forged::name('s', 7));
    refused(rename(&file, &remnant), ErrorKind::InvalidPath);
    refused(rename_new(&file, &remnant), ErrorKind::InvalidPath);
}

#[test]
fn files_and_links_are_removed_and_directories_are_not() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("file"), "").unwrap();
    symlink("file", at("link")).unwrap();
    fs::create_dir(at("tree")).unwrap();
    assert_eq!(remove_file(at("link")).unwrap().durability(), best(home.path()));
    assert!(at("file").exists());
    refused(remove_file(at("file/")), ErrorKind::NotADirectory);
    refused(remove_file(at("tree")), ErrorKind::IsADirectory);
    remove_file(at("file")).unwrap();
    refused(remove_file(at("file")), ErrorKind::NotFound);
    refused(remove_file(at("absent/file")), ErrorKind::NotFound);
    refused(remove_file(""), ErrorKind::InvalidPath);
    assert_eq!(names(home.path()), ["tree"]);
}

#[test]
fn a_tree_is_removed_whatever_its_modes_and_links_lead_out_unharmed() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir_all(at("tree/a/b")).unwrap();
    fs::write(at("tree/a/file"), "").unwrap();
    fs::write(at("outside"), "stays").unwrap();
    symlink("../outside", at("tree/link")).unwrap();
    symlink("..", at("tree/up")).unwrap();
    chmod(at("tree/a/b"), 0o000);
    chmod(at("tree/a"), 0o500);
    assert_eq!(remove_dir_all(at("tree/")).unwrap().durability(), best(home.path()));
    assert_eq!(names(home.path()), ["outside"]);

    symlink(home.path(), at("link")).unwrap();
    remove_dir_all(at("link")).unwrap();
    assert_eq!(names(home.path()), ["outside"]);
    refused(remove_dir_all(at("outside")), ErrorKind::NotADirectory);
    refused(remove_dir_all(at("absent")), ErrorKind::NotFound);
    refused(remove_dir_all(""), ErrorKind::InvalidPath);
    refused(remove_dir_all(at(".")), ErrorKind::InvalidPath);
}

#[test]
fn an_owner_removes_closed_directories_however_deep_they_are() {
    const OWNER: u32 = 65534;
    for mode in [0o555, 0o000, 0o300] {
        let home = public_dir();
        as_user(OWNER, OWNER, || {
            let tree = home.path().join("tree");
            let chain: Vec<_> = (0..60).map(|depth| tree.join("d/".repeat(depth))).collect();
            for dir in &chain {
                fs::create_dir(dir).unwrap();
                fs::write(dir.join("file"), "").unwrap();
            }
            chain.iter().rev().for_each(|dir| chmod(dir, mode));
            remove_dir_all(&tree).unwrap_or_else(|e| panic!("{mode:o}: {e}"));
        });
        assert!(names(&home).is_empty(), "{mode:o}");
    }
}

/// Without `/proc` a closed directory can be opened up by its name only, which is done where nobody else can put a link there.
#[test]
fn an_owner_removes_closed_directories_without_proc_where_no_stranger_can_name_anything() {
    const OWNER: u32 = 65534;
    in_private_mounts(&this_test!(), "mount -t tmpfs tmpfs /proc && chmod 1777 $DIR", |home| {
        as_user(OWNER, OWNER, || {
            let (own, tree) = (home.join("own"), home.join("tree"));
            for dir in [&own, &own.join("tree"), &tree] {
                fs::create_dir(dir).unwrap();
            }
            chmod(&own, 0o700);
            chmod(own.join("tree"), 0);
            chmod(&tree, 0);
            remove_dir_all(own.join("tree")).unwrap();
            assert!(names(&own).is_empty());
            refused(remove_dir_all(&tree), ErrorKind::PermissionDenied);
            assert_eq!(fs::metadata(&tree).unwrap().mode() & 0o777, 0);
        });
    });
}

#[test]
fn a_mount_inside_is_busy_and_nothing_is_touched() {
    let script = "mkdir -p $DIR/one/deep/mount $DIR/two && echo stays | tee $DIR/one/file $DIR/two/bound \
        && mount --bind /etc $DIR/one/deep/mount && mount --bind /etc/hostname $DIR/two/bound";
    in_private_mounts(&this_test!(), script, |home| {
        let at = |name: &str| home.join(name);
        refused(remove_dir_all(at("one")), ErrorKind::Busy);
        refused(remove_dir_all(at("two")), ErrorKind::Busy);
        refused(remove_dir_all(at("one/deep/mount")), ErrorKind::Busy);
        let error = refused(remove_file(at("two/bound")), ErrorKind::Busy);
        assert!(!error.is_transient(), "a mount point stays one");
        refused(rename(at("two/bound"), at("new")), ErrorKind::Busy);
        refused(rename(at("one/file"), at("two/bound")), ErrorKind::Busy);
        assert_eq!(fs::read_to_string(at("one/file")).unwrap(), "stays\n");
        assert_eq!(names(home), ["one", "two"]);
    });
}

/// Before Linux 5.8, and where a sandbox knows no `statx`, nothing says of a name that something is mounted on it.
#[test]
fn a_mount_that_the_system_does_not_tell_is_busy_and_nothing_is_touched() {
    let script = "cd $DIR; mkdir -p one/deep/mount two three/mount remnants/tree/mount elsewhere
        for file in one/file two/bound elsewhere/file; do echo stays >$file; done
        mount --bind elsewhere one/deep/mount; mount --bind /etc/hostname two/bound
        mount -t tmpfs tmpfs three/mount; echo stays >three/mount/file; mount --bind elsewhere remnants/tree/mount
        exec strace -f -o /dev/null -e inject=statx:error=ENOSYS -- \"$0\" \"$@\"";
    let test = this_test!();
    if crate::support::job(&test).is_none() && !crate::support::strace::works() {
        return;
    }
    in_private_mounts(&test, script, |home| {
        let at = |name: &str| home.join(name);
        for path in ["one", "one/deep/mount", "two", "three", "three/mount"] {
            refused(remove_dir_all(at(path)), ErrorKind::Busy);
        }
        for file in ["one/file", "one/deep/mount/file", "three/mount/file"] {
            assert_eq!(fs::read_to_string(at(file)).unwrap(), "stays\n", "{file}");
        }
        // A recovery deletes a tree that waits for that, but nothing that is mounted in it.
        let remnant = at("remnants").join(crate::support::forged::name('d', 1));
        fs::rename(at("remnants/tree"), &remnant).unwrap();
        let recovery = durafile::recover(at("remnants")).unwrap();
        assert_eq!(recovery.unreadable(), std::slice::from_ref(&remnant), "{recovery:?}");
        assert_eq!(fs::read_to_string(remnant.join("mount/file")).unwrap(), "stays\n");
        // Where nothing is mounted, all goes.
        fs::create_dir_all(at("four/deep")).unwrap();
        fs::write(at("four/deep/file"), "").unwrap();
        let _ = remove_dir_all(at("four")).unwrap();
        assert!(!at("four").exists());
    });
}

/// A tree that can't be looked through might have a mount in it.
#[test]
fn a_tree_that_can_t_be_looked_through_for_mounts_stays_whole() {
    crate::support::in_child(&this_test!(), "", |home| {
        let tree = home.join("tree");
        fs::create_dir_all(tree.join("deep")).unwrap();
        fs::write(tree.join("file"), "stays").unwrap();
        let next = std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open(home).unwrap());
        // One for the directory of the tree and one for the tree itself; and one that a listing takes.
        for more in 2..4 {
            crate::support::limit_open_files(next as u64 + more);
            let refused = remove_dir_all(&tree).unwrap_err();
            crate::support::limit_open_files(1000);
            assert_eq!(refused.target(), durafile::TargetState::Unchanged, "{more}: {refused}");
            assert!(refused.is_transient(), "{more}: {refused}");
            assert_eq!(names(&tree), ["deep", "file"], "{more}");
        }
        let _ = remove_dir_all(&tree).unwrap();
    });
}

/// No path reaches to the end of it.
#[test]
fn a_tree_deeper_than_any_path_is_removed() {
    let home = dir();
    let name = "d".repeat(250);
    let mut deep = fs_err::File::open(home.path()).unwrap().into_parts().0;
    for name in std::iter::once("tree").chain(std::iter::repeat_n(name.as_str(), 40)) {
        use rustix::fs::{Mode, OFlags, mkdirat, openat};
        mkdirat(&deep, name, Mode::RWXU).unwrap();
        deep = openat(&deep, name, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap().into();
    }
    let _ = remove_dir_all(home.path().join("tree")).unwrap();
    assert!(names(&home).is_empty());
}

#[test]
fn files_links_and_whole_trees_are_synced() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir_all(at("tree/a/b")).unwrap();
    for file in ["tree/one", "tree/a/two", "tree/a/b/three"] {
        fs::write(at(file), file).unwrap();
    }
    symlink("tree", at("link")).unwrap();
    symlink("missing", at("tree/dangling")).unwrap();
    symlink("round", at("round")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at("tree/fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    for path in ["tree", "tree/", "tree/.", "link", "tree/one", "tree/fifo"] {
        assert_eq!(sync(at(path)).unwrap().durability(), best(home.path()), "{path}");
    }
    refused(sync(at("absent")), ErrorKind::NotFound);
    refused(sync(at("tree/dangling")), ErrorKind::NotFound);
    refused(sync(at("tree/one/")), ErrorKind::NotADirectory);
    refused(sync(at("round")), ErrorKind::InvalidPath);
    refused(sync(""), ErrorKind::InvalidPath);
}
