//! Goal: everything that replaces works where there are no extended attributes, or where something else that a save
//! can do without is refused. Method: strace answers with what such a file system, kernel or sandbox says.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use durafile::{Batch, Carry, DirOptions, Durability, SyncStrategy, TransactionOptions};
use fs_err as fs;

use crate::save::refusals::set_acl;
use crate::support::strace::{run, traced, works};
use crate::support::{best, chmod, dir, job, mode, names, skip, this_test};

fn act(dir: &Path, case: &str) {
    let case = case.split(' ').next().unwrap();
    fs::create_dir(dir.join("talk")).unwrap();
    for name in ["one", "talk/one", "talk/two"] {
        fs::write(dir.join(name), "old").unwrap();
    }
    match case {
        "save" => traced(|| durafile::write(dir.join("one"), "new")),
        "batch" => traced(|| {
            let mut batch = Batch::new().sync(SyncStrategy::PerFile);
            batch.write(dir.join("one"), "new")?;
            batch.write(dir.join("two"), "new")?;
            batch.commit().map(|mut all| all.pop().unwrap())
        }),
        "transaction" => traced(|| {
            let mut transaction = TransactionOptions::new().sync(SyncStrategy::PerFile).begin(dir)?;
            transaction.write("one", "new")?;
            transaction.commit()
        }),
        _ => traced(|| {
            let carry = if case == "link" { Carry::HardLink } else { Carry::Copy };
            let mut next =
                DirOptions::new().carry(carry).sync(SyncStrategy::PerFile).update(dir.join("talk"))?;
            next.write("one", "new")?;
            next.commit()
        }),
    }
}

#[test]
fn whatever_replaces_works_without_extended_attributes() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    for errno in ["EOPNOTSUPP", "ENOSYS", "EPERM"] {
        let fault = |calls: &str| format!("inject={calls}:error={errno}");
        let list = fault("listxattr,flistxattr,llistxattr");
        let values = fault("getxattr,fgetxattr,setxattr,fsetxattr");
        for case in ["save", "batch", "transaction", "copy", "link"] {
            let case = format!("{case} {errno}");
            let Some(trace) = run(&test, &case, &["-e", &list, "-e", &values], &act) else { return };
            let expected = format!("Ok {:?}", best(trace.path()));
            assert_eq!(trace.outcome.as_ref(), Some(&expected), "{case}");
            let replaced = if case.starts_with(['c', 'l']) { "talk/one" } else { "one" };
            assert_eq!(fs::read_to_string(trace.path().join(replaced)).unwrap(), "new", "{case}");
            assert!(!names(trace.path()).iter().any(durafile::is_remnant), "{case}");
        }
    }
}

/// What is carried over keeps what it can, and what can't be told or set is lost. The group gains nothing.
fn carry(dir: &Path, case: &str) {
    let target = dir.join("talk");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("mine"), "mine").unwrap();
    chmod(target.join("mine"), 0o664);
    if case.starts_with("acl") {
        assert!(set_acl(&target.join("mine")));
    }
    traced(|| {
        let mut next = DirOptions::new().sync(SyncStrategy::PerFile).update(&target)?;
        next.write("metadata", "new")?;
        next.commit()
    });
}

#[test]
fn a_copy_in_a_new_version_gives_the_group_nothing_where_the_acl_can_t_be_read() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    let probe = dir();
    fs::write(probe.path().join("file"), "").unwrap();
    if !set_acl(&probe.path().join("file")) {
        return skip("the file system has no ACLs");
    }
    for (case, fault, expected) in [
        ("plain", "flistxattr:error=EIO", 0o664),
        ("acl", "flistxattr:error=EIO", 0o660),
        ("plain", "flistxattr,fgetxattr:error=EIO", 0o604),
        ("acl", "flistxattr,fgetxattr:error=EIO", 0o600),
        ("acl", "flistxattr,fgetxattr:error=EPERM", 0o600),
        ("acl", "fgetxattr:error=EACCES", 0o600),
    ] {
        let options = ["-e", &format!("inject={fault}")];
        let Some(trace) = run(&test, &format!("{case} {fault}"), &options, &carry) else { return };
        let kept = trace.path().join("talk/mine");
        assert_eq!(trace.outcome, Some(format!("Ok {:?}", best(trace.path()))), "{case}, {fault}");
        assert_eq!(
            (fs::read_to_string(&kept).unwrap(), mode(&kept)),
            ("mine".to_owned(), expected),
            "{case}, {fault}"
        );
    }
}

#[test]
fn a_new_version_does_without_times_and_early_write_back() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    for errno in ["EPERM", "EACCES", "ENOSYS", "EINVAL", "EIO"] {
        for call in ["utimensat", "sync_file_range"] {
            if (call, errno) == ("sync_file_range", "EIO") {
                continue; // The disk failed.
            }
            let options = ["-e", &format!("inject={call}:error={errno}")];
            let Some(trace) = run(&test, call, &options, &carry) else { return };
            assert_eq!(trace.outcome, Some(format!("Ok {:?}", best(trace.path()))), "{call}, {errno}");
            assert_eq!(fs::read_to_string(trace.path().join("talk/mine")).unwrap(), "mine");
        }
    }
}

/// The kind of the file system can't be told: what is on a disk all the same is durable.
#[test]
fn whatever_saves_works_where_the_file_system_is_not_told() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    for errno in ["EPERM", "EACCES", "ENOSYS"] {
        for case in ["save", "batch", "transaction", "copy"] {
            let case = format!("{case} {errno}");
            let fault = format!("inject=fstatfs:error={errno}");
            let Some(trace) = run(&test, &case, &["-e", &fault], &act) else { return };
            let is_disk = rustix::fs::major(fs::metadata(trace.path()).unwrap().dev()) != 0;
            let expected = if is_disk { Durability::Full } else { Durability::None };
            assert_eq!(trace.outcome, Some(format!("Ok {expected:?}")), "{case}");
            assert!(trace.count("fsync") > 1, "{case}: {:#?}", trace.text());
        }
    }
}
