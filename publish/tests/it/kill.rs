//! The program, killed at points spread over its run.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use durafile::DirSnapshot;

use crate::common::{commit, noise, remnants, tree};

const KILLS: u32 = 30;

fn program(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_durafile-publish"))
        .args(args)
        .arg("--quiet")
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn succeeds(args: &[&str]) {
    assert!(program(args).wait().unwrap().success(), "{args:?}");
}

/// Kills it after this part of the time that it takes, which is corrected if it is done before: then something new is made
/// for it to do.
fn kill_at(part: f64, takes: &mut Duration, mut args: impl FnMut() -> Vec<String>) {
    loop {
        let args = args();
        let mut child = program(&args.iter().map(String::as_str).collect::<Vec<_>>());
        std::thread::sleep(takes.mul_f64(part));
        let done = child.try_wait().unwrap().is_some();
        let _ = child.kill();
        child.wait().unwrap();
        if !done {
            return;
        }
        *takes = takes.mul_f64(0.8);
    }
}

fn content(dir: &Path, version: u64) {
    let files: Vec<(String, Vec<u8>)> = (0..30)
        .map(|number| (format!("d/file-{number}"), noise(version * 1000 + number, 300_000)))
        .chain([
            ("big".to_owned(), noise(version, 20 << 20)),
            ("which".to_owned(), version.to_string().into()),
        ])
        .collect();
    let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    commit(dir, &files);
}

#[test]
fn killed_publishers_leave_whole_versions_and_killed_pullers_old_or_new() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (from, to, seen) = (path("from"), path("to"), path("seen"));
    let url = format!("file://{}", path("store"));
    let publish = || vec!["publish".to_owned(), from.clone(), url.clone()];
    let pull = || vec!["pull".to_owned(), url.clone(), to.clone()];
    let mut made = 0;
    let mut new_content = || {
        made += 1;
        content(from.as_ref(), made);
    };
    new_content();
    let mut publishing = time(|| succeeds(&["publish", &from, &url]));
    let mut pulling = time(|| succeeds(&["pull", &url, &to]));

    let mut shares = [0; 2];
    for number in 1..=KILLS {
        let part = f64::from(number) / f64::from(KILLS + 1);
        // The publisher: whatever is the newest afterwards can be pulled, and is the old or the new.
        kill_at(part, &mut publishing, || {
            new_content();
            publish()
        });
        succeeds(&["pull", &url, &seen]);
        let which = DirSnapshot::open(&seen).unwrap().read("which").unwrap();
        let which: u64 = String::from_utf8(which).unwrap().parse().unwrap();
        let expected = path("expected");
        content(expected.as_ref(), which);
        assert_eq!(tree(seen.as_ref()), tree(expected.as_ref()));
        shares[0] += u32::from(tree(seen.as_ref()) == tree(from.as_ref()));
        // The puller: the target is the old or the new.
        let mut before = tree(to.as_ref());
        succeeds(&["publish", &from, &url]);
        let mut again = false;
        kill_at(part, &mut pulling, || {
            if std::mem::replace(&mut again, true) {
                before = tree(to.as_ref());
                new_content();
                succeeds(&["publish", &from, &url]);
            }
            pull()
        });
        let now = tree(to.as_ref());
        assert!(now == before || now == tree(from.as_ref()), "half a version after kill {number}");
        shares[1] += u32::from(now == tree(from.as_ref()));
        if number % 3 == 0 {
            succeeds(&["pull", &url, &to]);
            assert_eq!(tree(to.as_ref()), tree(from.as_ref()));
        }
    }
    println!("of {KILLS} killed publishers {} had committed, of {KILLS} pullers {}", shares[0], shares[1]);
    // What the killed left goes.
    durafile::recover(dir.path()).unwrap();
    assert_eq!(remnants(dir.path()), [] as [std::path::PathBuf; 0]);
    succeeds(&["collect", &url, "--keep", "1", "--grace", "0"]);
    fs::remove_dir_all(&to).unwrap();
    succeeds(&["pull", &url, &to]);
    assert_eq!(tree(to.as_ref()), tree(from.as_ref()));
}

fn time(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}
