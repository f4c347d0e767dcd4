//! Goal: a set that can't remove what it staged says so, and a recovery removes it. Method: the kernel refuses to
//! remove anything, by strace.

use std::path::Path;

use durafile::{AtomicDir, Batch, Transaction};

use crate::set::syscalls::{inject, tell};
use crate::support::strace;
use crate::support::{job, names, this_test};

#[test]
fn discarding_tells_what_stays() {
    if job(&this_test!()).is_none() && !strace::works() {
        return;
    }
    let work = |home: &Path, case: &str| match case {
        "Batch" => {
            let mut batch = Batch::new();
            batch.write(home.join("file"), "new").unwrap();
            tell(batch.discard());
        }
        "Transaction" => {
            let mut change = Transaction::begin(home).unwrap();
            change.write("file", "new").unwrap();
            tell(change.discard());
        }
        _ => {
            let mut next = AtomicDir::create(home.join("dir")).unwrap();
            next.write("file", "new").unwrap();
            tell(next.discard());
        }
    };
    for case in ["Batch", "Transaction", "AtomicDir"] {
        let fault = "inject=unlinkat,unlink,rmdir:error=EIO";
        let Some((said, home)) = inject(&this_test!(), case, fault, &work) else { return };
        assert_eq!(said.trim(), "io Unchanged", "{case}");
        let left = names(home.path());
        assert!(!left.is_empty() && left.iter().all(durafile::is_remnant), "{case}: {left:?}");
        durafile::recover(home.path()).unwrap();
        assert!(names(home.path()).is_empty(), "{case}");
    }
}
