//! Goal: everything that replaces works where there are no extended attributes. Method: strace answers
//! each question for attributes with what such a file system, kernel or sandbox says.

use std::path::Path;

use durafile::{Batch, Carry, DirOptions, SyncStrategy, TransactionOptions};
use fs_err as fs;

use crate::support::strace::{run, traced, works};
use crate::support::{best, job, names, this_test};

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
