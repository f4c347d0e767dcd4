//! Goal: what only keeps metadata, or serves a recovery, may be refused without failing a save, as long as nobody
//! gains a right; and what is refused to a file without a name, or to one that is open, is tried in another
//! way. Method: strace refuses the call, or a child saves without the privilege.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use durafile::{AtomicDir, AtomicFile, Batch, ErrorKind, Symlinks, TargetState, Transaction, WriteOptions};
use fs_err as fs;
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat, setxattr};

use crate::support::strace::{Call, Trace, run, traced, works};
use crate::support::{
    as_user, best, chmod, chown, dir, expect_pass, has, is_root, job, mode, names, refused, rerun, skip,
    this_test,
};

/// Saves over a file whose mode the umask would not give.
fn save(dir: &Path, case: &str) {
    let path = dir.join("file");
    fs::write(&path, "old").unwrap();
    chmod(&path, 0o664);
    if case.contains("attribute") {
        setxattr(&path, "user.comment", b"kept", XattrFlags::empty()).unwrap();
    }
    if !case.contains("first") {
        durafile::write(dir.join("beside"), "").unwrap();
    }
    traced(|| durafile::write(&path, "new"));
}

fn outcome_of(trace: &Trace) -> (String, String, u32) {
    let path = trace.path().join("file");
    (trace.outcome.clone().unwrap(), fs::read_to_string(&path).unwrap(), mode(&path))
}

#[test]
fn what_is_refused_degrades() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    let call_and_errnos = [
        // The lock serves recovery.
        ("flock", &["EACCES", "EPERM", "EIO"][..]),
        // An ordinary file may have a name where this one may not.
        ("linkat", &["EPERM", "EACCES", "EXDEV", "EMLINK", "EINVAL", "EOPNOTSUPP", "ENOENT"]),
        // Attributes.
        ("flistxattr", &["EIO", "EPERM", "EINVAL"]),
        ("fsetxattr", &["EIO", "EPERM", "EOPNOTSUPP"]),
        // The mode is narrower than the old one then.
        ("fchmod", &["EPERM", "EOPNOTSUPP", "EIO"]),
    ];
    for (call, errnos) in call_and_errnos {
        for errno in errnos {
            let case = match call {
                "fsetxattr" => "attribute",
                // The next one remembers it.
                "linkat" => "first",
                _ => "",
            };
            let fault = format!("inject={call}:error={errno}");
            let Some(trace) = run(&test, case, &["-e", &fault], &save) else { return };
            let (outcome, content, mode) = outcome_of(&trace);
            let at = format!("{errno} from {call}: {:#?}", trace.text());
            assert_eq!(outcome, format!("Ok {:?}", best(trace.path())), "{at}");
            assert_eq!(content, "new", "{at}");
            assert!(mode == 0o664 || call == "fchmod" && mode & !0o664 == 0, "{mode:o} {at}");
            let left = names(trace.path()).into_iter().filter(|name| name != "beside");
            assert_eq!(left.collect::<Vec<_>>(), ["file"], "{at}");
            assert!(trace.count(call) > 0, "{at}");
        }
    }
}

#[test]
fn a_share_that_renames_no_open_file_gets_a_closed_one() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    for errno in ["ETXTBSY", "EBUSY", "EACCES"] {
        let Some(whole) = run(&test, "", &[], &save) else { return };
        let first = whole.calls.iter().find(|call| call.name == "renameat").unwrap().nth;
        let Some(trace) =
            run(&test, "", &["-e", &format!("inject=renameat:error={errno}:when={first}")], &save)
        else {
            return;
        };
        let (outcome, content, _) = outcome_of(&trace);
        assert_eq!((outcome, content.as_str()), (format!("Ok {:?}", best(trace.path())), "new"), "{errno}");
        let text = trace.text();
        let at = |wanted: &str| text.iter().position(|line| line.starts_with(wanted));
        assert!(at("renameat") < at("close DIR/UNNAMED").or(at("close DIR/STAGED")), "{text:#?}");
        assert_eq!(trace.count("renameat"), 2, "{errno}");

        // Where that is not the reason, the answer is as before, and nothing is left.
        let fault = format!("inject=renameat:error={errno}:when={first}+");
        let Some(trace) = run(&test, "", &["-e", &fault], &save) else { return };
        let (outcome, content, _) = outcome_of(&trace);
        assert!(outcome.contains(" Unchanged "), "{errno}: {outcome}");
        assert_eq!(
            (content.as_str(), names(trace.path())),
            ("old", vec!["beside".into(), "file".into()]),
            "{errno}"
        );
    }
}

#[test]
fn the_second_save_on_a_mount_that_refuses_links_begins_with_a_named_file() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    let fault = "inject=linkat:error=EPERM";
    let Some(trace) = run(&test, "", &["-e", fault], &save) else { return };
    // The first save, before the marks, has found it out.
    assert_eq!(trace.count("linkat"), 0, "{:#?}", trace.text());
    assert_eq!(outcome_of(&trace).1, "new");
}

/// Saves over a file of somebody else's, in a child that is root without some capability.
fn without_capability(test: &str, dropped: &str) {
    if let Some((home, _)) = job(test) {
        durafile::write(home.join("file"), "new").unwrap();
        return;
    }
    if !is_root() {
        skip("only root can give a file to somebody else");
        return;
    }
    if !has("setpriv", &["true"]) {
        return;
    }
    let home = dir();
    let path = home.path().join("file");
    for mode_before in [0o644, 0o664, 0o640, 0o777] {
        fs::write(&path, "old").unwrap();
        chown(&path, 1234, 1235);
        chmod(&path, mode_before);
        let prefix = ["setpriv", "--bounding-set", dropped, "--"].map(OsStr::new);
        expect_pass(&rerun(&prefix, test, home.path(), "save").output().unwrap());
        let now = fs::metadata(&path).unwrap();
        assert_eq!((now.uid(), now.gid()), (1234, 1235), "{mode_before:o}");
        assert_eq!(now.permissions().mode() & 0o7777, mode_before);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(home.path()), ["file"]);
    }
}

#[test]
fn root_without_the_right_to_change_files_of_others_saves_over_them() {
    without_capability(&this_test!(), "-fowner");
}

#[test]
fn permissions_that_are_not_reached_are_unsupported_before_anything_is_published() {
    if !is_root() {
        return skip("only root can make a directory of a group that the saver is no member of");
    }
    let home = dir();
    chmod(home.path(), 0o755);
    let shared = home.path().join("shared");
    fs::create_dir(&shared).unwrap();
    chown(&shared, 1001, 2002);
    chmod(&shared, 0o2777);
    let asked = |mode| WriteOptions::new().permissions(PermissionsExt::from_mode(mode));
    let path = shared.join("file");
    let saved = as_user(1001, 1001, || (asked(0o2750).write(&path, "new"), asked(0o750).write(&path, "new")));
    let Some((setgid, plain)) = saved else { return };
    let error = refused(setgid, ErrorKind::Unsupported);
    assert_eq!(error.target(), TargetState::Unchanged);
    plain.unwrap();
    assert_eq!(mode(&path), 0o750);
    assert_eq!(names(&shared), ["file"]);
}

#[test]
fn what_has_appeared_since_a_stream_was_opened_is_judged_too() {
    let home = dir();
    let path = home.path().join("file");
    let open = |options: &WriteOptions| {
        let mut file = options.clone().open(&path).unwrap();
        file.write_all(b"new").unwrap();
        file
    };
    let judged = |file: AtomicFile, kind| {
        let error = refused(file.commit(), kind);
        assert_eq!(error.target(), TargetState::Unchanged);
        assert_eq!(names(home.path()), ["file"]);
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
    };
    let file = open(&WriteOptions::new());
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap();
    judged(file, ErrorKind::InvalidPath);

    let file = open(&WriteOptions::new());
    fs::create_dir(&path).unwrap();
    judged(file, ErrorKind::IsADirectory);

    let file = open(&WriteOptions::new().symlinks(Symlinks::Refuse));
    symlink("elsewhere", &path).unwrap();
    judged(file, ErrorKind::InvalidPath);

    let file = open(&WriteOptions::new().create_new(true).skip_unchanged(true));
    fs::write(&path, "new").unwrap();
    judged(file, ErrorKind::AlreadyExists);
}

/// Another program's handle on a file makes an NFS client give it another name before it is replaced, and so does
/// ours.
#[test]
fn the_replaced_file_is_held_across_the_rename_on_ext4_only() {
    const EXT4: i64 = 0xef53;
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    let save_in = |home: &Path, case: &str| {
        let dir = if case.is_empty() { home } else { Path::new(case) };
        let dir = tempfile::tempdir_in(dir).unwrap();
        let path = dir.path().join("file");
        durafile::write(&path, "old").unwrap();
        traced(|| durafile::write(&path, "new"));
    };
    for place in ["", "/dev/shm"] {
        let Some(trace) = run(&test, place, &[], &save_in) else { return };
        let Ok(found) = rustix::fs::statfs(if place.is_empty() { trace.path() } else { Path::new(place) })
        else {
            skip("there is no tmpfs");
            return;
        };
        let at = |name: &str, ends: &str| {
            let is_it = |call: &Call| call.name == name && call.short().ends_with(ends);
            trace.calls.iter().position(is_it).unwrap_or_else(|| panic!("no {name}: {:#?}", trace.text()))
        };
        let is_held = at("close", "/file") > at("renameat", "/file");
        assert_eq!(is_held, found.f_type == EXT4, "{place}: {:#?}", trace.text());
    }
}

/// An ACL that gives user 3000 what the owning group does not have: under it the group bits of the mode are its mask.
pub(crate) fn set_acl(path: &Path) -> bool {
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [(1u16, 6u16, !0u32), (2, 6, 3000), (4, 0, !0), (16, 6, !0), (32, 0, !0)] {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    setxattr(path, "system.posix_acl_access", &acl, XattrFlags::empty()).is_ok()
}

#[test]
fn where_attributes_can_t_be_listed_or_read_the_group_gains_nothing() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    let probe = dir();
    fs::write(probe.path().join("file"), "").unwrap();
    if !set_acl(&probe.path().join("file")) {
        return skip("the file system has no ACLs");
    }
    let save = |home: &Path, case: &str| {
        let path = home.join("file");
        fs::write(&path, "old").unwrap();
        chmod(&path, 0o664);
        if case == "acl" {
            assert!(set_acl(&path));
        }
        traced(|| durafile::write(&path, "new"));
    };
    let unlisted = ["-e", "inject=listxattr:error=EIO"];
    let unread = ["-e", "inject=listxattr,getxattr:error=EIO"];
    let denied = ["-e", "inject=getxattr:error=EACCES"];
    for (case, faults, expected, keeps_acl) in [
        ("plain", &unlisted, 0o664, false),
        ("acl", &unlisted, 0o660, true),
        ("plain", &unread, 0o604, false),
        ("acl", &unread, 0o600, false),
        ("acl", &denied, 0o600, false),
    ] {
        let Some(trace) = run(&test, case, faults, &save) else { return };
        let at = format!("{case}, {faults:?}: {:#?}", trace.text());
        let (outcome, content, mode) = outcome_of(&trace);
        assert_eq!((outcome, content.as_str()), (format!("Ok {:?}", best(trace.path())), "new"), "{at}");
        assert_eq!(mode, expected, "{at}");
        let mut value = [0; 256];
        let acl = rustix::fs::getxattr(trace.path().join("file"), "system.posix_acl_access", &mut value[..]);
        assert_eq!(acl.is_ok(), keeps_acl, "{at}");
    }
}

/// What the kernel answers about the target is changed on its way, since no file system here encrypts: the
/// first fields of `struct statx` are its mask, the size of a block, and attributes with `STATX_ATTR_ENCRYPTED`.
#[test]
fn an_encrypted_file_is_not_replaced_by_a_plain_one() {
    let test = this_test!();
    if let Some((home, case)) = job(&test) {
        return match case.as_str() {
            "save" => traced(|| durafile::write(home.join("talk/file"), "new")),
            "batch" => traced(|| {
                let mut batch = Batch::new();
                batch.write(home.join("talk/file"), "new")?;
                batch.commit().map(|mut all| all.pop().unwrap())
            }),
            "transaction" => traced(|| {
                let mut transaction = Transaction::begin(&home)?;
                transaction.write("talk/file", "new")?;
                transaction.commit()
            }),
            _ => traced(|| {
                let mut next = AtomicDir::update(home.join("talk"))?;
                next.write("beside", "new")?;
                next.commit()
            }),
        };
    }
    if !works() {
        return;
    }
    const REFUSED: &str = "unsupported Unchanged 0";
    let encrypted = |case: &str, attributes: &str, is_dir_too: bool, expected: &str| {
        let home = dir();
        let talk = home.path().join("talk");
        fs::create_dir(&talk).unwrap();
        let target = talk.join("file");
        fs::write(&target, "old").unwrap();
        let also = if is_dir_too { &talk } else { &target };
        let fault = format!("inject=statx:poke_exit=@arg5=ff47000000100000{attributes}000000000000");
        let paths = [&target, also].map(|path| path.to_str().unwrap());
        let words = ["strace", "-f", "-o", "/dev/null", "-e", &fault, "-P", paths[0], "-P", paths[1], "--"];
        let output = rerun(&words.map(OsStr::new), &test, home.path(), case).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let outcome = said.lines().find_map(|line| line.strip_prefix("OUTCOME ")).unwrap_or(&said);
        assert!(outcome.starts_with(expected), "{case}, {attributes}, {is_dir_too}: {outcome}");
        let content = if expected == "Ok" && case != "directory" { "new" } else { "old" };
        assert_eq!(fs::read_to_string(&target).unwrap(), content, "{case}");
        assert_eq!(names(home.path()), ["talk"], "{case}");
        assert!(!names(&talk).iter().any(durafile::is_remnant), "{case}");
    };
    for case in ["save", "batch", "transaction", "directory"] {
        encrypted(case, "0008", false, REFUSED);
        encrypted(case, "0000", false, "Ok");
        // The directory encrypts what is put into it. One in a plain directory can't be swapped.
        encrypted(case, "0008", true, if case == "directory" { REFUSED } else { "Ok" });
    }
}
