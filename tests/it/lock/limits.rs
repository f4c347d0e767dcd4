//! Goal: a lock that can't be had says why, and asking for one harms nothing. Method: every kind of
//! thing at the path, rights, full disks, and a kernel that refuses to lock.

use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use durafile::{ErrorKind, LockFile, Result};
use fs_err as fs;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use crate::support::strace;
use crate::support::{
    as_user, chmod, chown, dir, expect_pass, has, in_child, in_private_mounts, job, mode, names, public_dir,
    refused, this_test,
};

type Take = fn(&Path) -> Result<LockFile>;

const WAYS: [Take; 4] = [
    |path| LockFile::lock(path),
    |path| LockFile::try_lock(path),
    |path| LockFile::lock_shared(path),
    |path| LockFile::lock_timeout(path, Duration::from_secs(1)),
];

#[test]
fn what_is_no_regular_file_is_refused_and_not_touched() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("file"), "").unwrap();
    symlink("file", at("link")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    let fifo = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), fifo, mode, 0).unwrap();
    let _listener = UnixListener::bind(at("socket")).unwrap();
    let before = names(&home);
    let cases = [
        ("dir", ErrorKind::IsADirectory),
        ("link", ErrorKind::InvalidPath),
        ("dangling", ErrorKind::InvalidPath),
        ("fifo", ErrorKind::InvalidPath),
        ("socket", ErrorKind::InvalidPath),
        ("file/x", ErrorKind::NotADirectory),
        ("file/", ErrorKind::InvalidPath),
        ("..", ErrorKind::InvalidPath),
        ("missing/x", ErrorKind::NotFound),
    ];
    for (name, kind) in cases {
        for take in WAYS {
            let error = refused(take(&at(name)), kind);
            assert!(!error.is_transient(), "{name}");
        }
        if kind != ErrorKind::NotFound {
            assert_eq!(LockFile::holder(at(name)).unwrap_err().kind(), kind, "{name}");
        }
    }
    for take in WAYS {
        refused(take(Path::new("")), ErrorKind::InvalidPath);
        refused(take(Path::new("/dev/null")), ErrorKind::InvalidPath);
    }
    for missing in ["missing", "missing/x"] {
        assert_eq!(LockFile::holder(at(missing)).unwrap(), None);
    }
    assert_eq!(names(&home), before);
}

#[test]
fn a_file_with_other_content_can_be_locked_and_keeps_it() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("settings.toml"), "theme = 'dark'\n").unwrap();
    fs::write(at("number"), "42\n").unwrap();
    fs::hard_link(at("number"), at("also a number")).unwrap();
    for (name, content) in [("settings.toml", "theme = 'dark'\n"), ("also a number", "42\n")] {
        let lock = LockFile::lock(at(name)).unwrap();
        refused(LockFile::try_lock(at(name)), ErrorKind::Locked);
        assert_eq!(LockFile::holder(at(name)).unwrap(), None, "it can't leave its name");
        drop(lock);
        assert_eq!(fs::read_to_string(at(name)).unwrap(), content);
    }
}

#[test]
fn the_file_is_its_owner_s_unless_somebody_made_it_for_others() {
    in_child(&this_test!(), "umask 0", |home| {
        drop(LockFile::lock(home.join("new")).unwrap());
        assert_eq!(mode(home.join("new")), 0o600);
        fs::write(home.join("shared"), "").unwrap();
        chmod(home.join("shared"), 0o666);
        drop(LockFile::lock(home.join("shared")).unwrap());
        assert_eq!(mode(home.join("shared")), 0o666);
    });
}

#[test]
fn rights_decide_who_may_lock_and_a_reader_may_share() {
    let home = dir();
    let at = |name: &str| home.path().join(name);
    for (name, mode) in [("private", 0o600), ("readable", 0o644), ("public", 0o666)] {
        fs::write(at(name), "").unwrap();
        chmod(at(name), mode);
    }
    as_user(1001, 1001, || {
        for take in WAYS {
            refused(take(&at("private")), ErrorKind::PermissionDenied);
            refused(take(&at("new")), ErrorKind::PermissionDenied);
            drop(take(&at("public")).unwrap());
        }
        assert_eq!(LockFile::holder(at("private")).unwrap_err().kind(), ErrorKind::PermissionDenied);
        refused(LockFile::lock(at("readable")), ErrorKind::PermissionDenied);
        let shared = LockFile::lock_shared(at("readable")).unwrap();
        assert_eq!(LockFile::holder(at("readable")).unwrap(), None);
        drop(shared);
    });
    assert_eq!(names(&home), ["private", "public", "readable"]);
}

#[test]
fn another_user_s_lock_file_in_a_sticky_directory_can_be_locked() {
    let home = public_dir();
    chmod(home.path(), 0o1777);
    let path = home.path().join("shared.lock");
    fs::write(&path, "").unwrap();
    chmod(&path, 0o666);
    if as_user(0, 0, || chown(&path, 1002, 1002)).is_some() {
        // Where `fs.protected_regular` is on, opening it with O_CREAT would be refused.
        as_user(1001, 1001, || LockFile::try_lock(&path).unwrap().unlock().unwrap());
    }
}

#[test]
fn a_full_disk_can_be_locked_but_not_named() {
    let script = "mount -t tmpfs -o size=64k tmpfs \"$DIR\"";
    in_private_mounts(&this_test!(), script, |dir| {
        let path = dir.join("service.lock");
        fs::write(&path, "").unwrap();
        assert!(fs::write(dir.join("filler"), vec![1; 1 << 20]).is_err());
        let lock = LockFile::lock(&path).unwrap();
        refused(LockFile::try_lock(&path), ErrorKind::Locked);
        assert_eq!(LockFile::holder(&path).unwrap(), None);
        drop(lock);
        assert_eq!(fs::read(&path).unwrap(), b"");
    });
}

#[test]
fn a_read_only_file_system_can_be_locked_shared() {
    let script = "mount -t tmpfs tmpfs \"$DIR\"; : > \"$DIR/lock\"; mount -o remount,ro \"$DIR\"";
    in_private_mounts(&this_test!(), script, |dir| {
        refused(LockFile::lock(dir.join("lock")), ErrorKind::ReadOnlyFilesystem);
        refused(LockFile::lock_shared(dir.join("new")), ErrorKind::ReadOnlyFilesystem);
        LockFile::lock_shared(dir.join("lock")).unwrap().unlock().unwrap();
    });
}

#[test]
fn it_says_where_the_file_system_can_t_lock() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        for take in WAYS {
            assert!(!refused(take(&dir.join("lock")), ErrorKind::Unsupported).is_transient());
        }
        return;
    }
    if !strace::works() || !has("strace", &["-e", "inject=flock:error=ENOLCK", "-o", "/dev/null", "true"]) {
        return;
    }
    for errno in ["ENOLCK", "EOPNOTSUPP", "ENOSYS"] {
        let home = dir();
        let inject = format!("inject=flock:error={errno}");
        let mut child = strace::faulty(&["trace=flock", &inject], &test, home.path(), "refused");
        expect_pass(&child.output().unwrap());
    }
}

#[test]
fn no_descriptor_stays_open_whether_a_lock_is_had_or_not() {
    in_child(&this_test!(), "", |dir| {
        let path = dir.join("lock");
        drop(LockFile::lock(&path).unwrap());
        let before = names("/proc/self/fd");
        for _ in 0..20 {
            let lock = LockFile::lock(&path).unwrap();
            assert!(LockFile::try_lock(&path).is_err());
            assert!(LockFile::holder(&path).unwrap().is_some());
            lock.unlock().unwrap();
            assert!(LockFile::lock(dir).is_err());
        }
        assert_eq!(names("/proc/self/fd"), before);
    });
}

/// Goal: nothing but a regular file is ever a lock. Method: a FIFO and a file change places at the path all the time; what a
/// lock holds open tells which of the two it is. strace makes each look take a while.
#[test]
fn a_fifo_that_comes_between_look_and_open_is_no_lock() {
    let test = this_test!();
    let Some((home, _)) = job(&test) else {
        if strace::works() {
            let slowly = "inject=statx:delay_exit=500";
            expect_pass(&strace::faulty(&[slowly], &test, dir().path(), "lock").output().unwrap());
        }
        return;
    };
    let home = fs::canonicalize(home).unwrap();
    let (path, fifo) = (home.join("lock"), home.join("fifo"));
    fs::write(&path, "").unwrap();
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, &fifo, FileType::Fifo, mode, 0).unwrap();
    let holds_fifo = || {
        let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
        let mut ours = open.filter(|fd| std::fs::read_link(fd).is_ok_and(|at| at.starts_with(&home)));
        ours.any(|fd| std::fs::metadata(fd).is_ok_and(|found| found.file_type().is_fifo()))
    };
    let (is_done, mut taken) = (AtomicBool::new(false), 0);
    let of_fifos = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                renameat_with(CWD, &path, CWD, &fifo, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let locks = (0..500).filter_map(|_| LockFile::try_lock(&path).ok());
        let of_fifos = locks.filter(|_| {
            taken += 1;
            holds_fifo()
        });
        let of_fifos = of_fifos.count();
        is_done.store(true, Ordering::Relaxed);
        of_fifos
    });
    assert!(of_fifos == 0 && taken > 0, "{of_fifos} of {taken}");
}
