//! Goal: a removal takes what its name leads to, and nothing else, whatever others do to that name. Method: strace holds a
//! child up between its look at a tree and the removal.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use durafile::{recover, remove_dir_all};
use fs_err as fs;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::strace;
use crate::support::{dir, job, names, this_test};

/// What comes of the removal of `talk` when it is exchanged with `other` after it was opened.
fn exchanged_meanwhile(test: &str, home: &Path) -> String {
    // A tree is locked after it was looked through, before it is renamed.
    let delay = "inject=flock:delay_enter=600000:when=1";
    let mut child = strace::faulty(&[delay], test, home, "remove");
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("REMOVING")), "it ended");
    std::thread::sleep(Duration::from_millis(150));
    renameat_with(CWD, home.join("talk"), CWD, home.join("other"), RenameFlags::EXCHANGE).unwrap();
    let said = lines.find_map(|line| line.strip_prefix("OUTCOME ").map(str::to_owned));
    assert!(child.wait().unwrap().success());
    said.unwrap()
}

#[test]
fn a_tree_that_is_exchanged_before_it_is_removed_is_not_left_under_another_name() {
    let test = this_test!();
    if let Some((home, _)) = job(&test) {
        println!("\nREMOVING");
        match remove_dir_all(home.join("talk")) {
            Ok(_) => println!("OUTCOME Ok"),
            Err(e) => println!("OUTCOME {} {:?}", e.kind().as_str(), e.target()),
        }
        return;
    }
    if !strace::works() {
        return;
    }
    for is_tree in [true, false] {
        let home = dir();
        let at = |name: &str| home.path().join(name);
        fs::create_dir_all(at("talk/first")).unwrap();
        if is_tree {
            fs::create_dir_all(at("other/second")).unwrap();
        } else {
            fs::write(at("other"), "second").unwrap();
        }
        let said = exchanged_meanwhile(&test, home.path());
        assert_eq!(names(at("other")), ["first"], "nobody has asked for its removal");
        if is_tree {
            assert_eq!((said.as_str(), names(&home)), ("Ok", vec!["other".into()]));
        } else {
            assert_eq!(said, "not_a_directory Unchanged");
            assert_eq!(fs::read_to_string(at("talk")).unwrap(), "second");
        }
        assert!(recover(home.path()).unwrap().is_clean());
    }
}
