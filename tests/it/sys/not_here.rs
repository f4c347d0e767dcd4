//! Goal: wherever a kernel, a mount or a sandbox refuses a system call, an operation works without it, or fails
//! with its target as it says, without a remnant that stays, and without a root in which nobody can save any
//! more. Method: strace answers each call of each operation with each errno that some system has for "not here":
//! each call once, and all of one name. What comes of it is judged by the tree, before and after a recovery, and by
//! the same operation without faults.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::sync::Mutex;

use durafile::{
    AtomicDir, Batch, Carry, DirOptions, InPlace, Result, SyncStrategy, TransactionOptions, WriteOptions,
    recover,
};
use fs_err as fs;

use super::interrupted::tree;
use crate::support::strace::{Call, marked, run, works};
use crate::support::{dir, job, long, rerun, this_test};

const ERRNOS: [&str; 10] =
    ["EPERM", "EACCES", "EINVAL", "ENOSYS", "EOPNOTSUPP", "ENOTTY", "EXDEV", "EROFS", "EBUSY", "EIO"];

/// They belong to threads and to the standard library, which gives up the process without them. `uname` can't fail
/// by its documentation, and rustix relies on that.
const NOT_OURS: [&str; 9] = [
    "futex",
    "geteuid",
    "getpid",
    "clock_gettime",
    "prctl",
    "rt_sigprocmask",
    "sched_getaffinity",
    "rseq",
    "uname",
];

/// Without random numbers the standard library makes no `HashMap`; it knows these two answers.
const WITHOUT_RANDOM: [&str; 2] = ["EPERM", "ENOSYS"];

const CASES: [&str; 24] = [
    "new",
    "replace",
    "create_new",
    "parents",
    "named at the end",
    "keep_previous",
    "keep_previous over another",
    "update",
    IN_PLACE,
    "batch",
    "batch, tried again",
    "transaction",
    "transaction, tried again",
    "new directory",
    "copied directory",
    "copied directory, tried again",
    "linked directory",
    "remove_file",
    "remove_dir_all",
    "rename",
    "rename_new",
    "create_dir_all",
    "sync",
    "recover",
];

/// A step of a set that fails is done once more, with the same set.
const TRIED_AGAIN: &str = ", tried again";

/// Names that have to be compared, or not, as the directory does it.
const SPELLINGS: [&str; 2] = ["\u{e9}", "\u{c9}"];

/// No name can be replaced there, whatever else is refused.
const IN_PLACE: &str = "in place";
const READ_ONLY: &str = "inject=renameat:error=EROFS";

/// With a remnant only in a child: this process lives on, and so would its lock.
fn prepare(dir: &Path, is_child: bool, case: &str) {
    fs::create_dir_all(dir.join("talk/files")).unwrap();
    for name in ["file", "gone", "talk/metadata", "talk/files/mine"] {
        fs::write(dir.join(name), "old").unwrap();
    }
    fs::write(dir.join("other"), "other").unwrap();
    fs::write(dir.join("talk/files").join(SPELLINGS[0]), "spelled").unwrap();
    if is_child && case == "recover" {
        let staged = WriteOptions::new().open(dir.join("file")).unwrap();
        std::mem::forget(staged);
    }
}

fn act(dir: &Path, case: &str) -> Result<()> {
    let sync = SyncStrategy::PerFile;
    let (case, tries) = case.strip_suffix(TRIED_AGAIN).map_or((case, 1), |case| (case, 2));
    let step =
        |step: &mut dyn FnMut() -> Result<()>| (1..tries).fold(step(), |done, _| done.or_else(|_| step()));
    match case {
        "new" => durafile::write(dir.join("fresh"), "new").map(drop),
        "replace" => durafile::write(dir.join("file"), "new").map(drop),
        "create_new" => WriteOptions::new().create_new(true).write(dir.join("fresh"), "new").map(drop),
        "parents" => WriteOptions::new().create_parents(true).write(dir.join("a/b/fresh"), "new").map(drop),
        "named at the end" => {
            let mut file = WriteOptions::new().open_in(dir)?;
            std::io::Write::write_all(&mut file, b"new").unwrap();
            file.commit_as(dir.join("fresh")).map(drop)
        }
        "keep_previous" | "keep_previous over another" => {
            let name = if case == "keep_previous" { "before" } else { "other" };
            WriteOptions::new().keep_previous(name).write(dir.join("file"), "new").map(drop)
        }
        "update" => durafile::update(dir.join("file"), |_| Ok(b"new".to_vec())).map(drop),
        IN_PLACE => WriteOptions::new().in_place(InPlace::Fallback).write(dir.join("file"), "new").map(drop),
        "batch" => {
            let mut batch = Batch::new().sync(sync);
            let spelled = if tries > 1 { &SPELLINGS[..] } else { &[] };
            for name in ["file", "other", "fresh"].iter().chain(spelled) {
                step(&mut || batch.write(dir.join(name), "new").map(drop))?;
            }
            batch.commit().map(drop)
        }
        "transaction" => {
            let mut transaction = TransactionOptions::new().sync(sync).begin(dir)?;
            for name in ["file", "talk/metadata", "a/fresh"] {
                step(&mut || transaction.write(name, "new"))?;
            }
            if tries > 1 {
                for name in SPELLINGS {
                    step(&mut || transaction.write(Path::new("talk").join(name), "new"))?;
                }
            }
            step(&mut || transaction.remove("gone"))?;
            transaction.commit().map(drop)
        }
        "new directory" => {
            let mut made = AtomicDir::create(dir.join("fresh"))?;
            made.write("metadata", "new")?;
            made.commit().map(drop)
        }
        "copied directory" | "linked directory" => {
            let carry = if case == "linked directory" { Carry::HardLink } else { Carry::Copy };
            let mut next = DirOptions::new().carry(carry).sync(sync).update(dir.join("talk"))?;
            step(&mut || next.write("metadata", "new"))?;
            step(&mut || next.write("files/fresh", "new"))?;
            if tries > 1 {
                step(&mut || next.write(Path::new("files").join(SPELLINGS[1]), "new"))?;
            }
            next.commit().map(drop)
        }
        "remove_file" => durafile::remove_file(dir.join("gone")).map(drop),
        "remove_dir_all" => durafile::remove_dir_all(dir.join("talk")).map(drop),
        "rename" => durafile::rename(dir.join("gone"), dir.join("file")).map(drop),
        "rename_new" => durafile::rename_new(dir.join("gone"), dir.join("fresh")).map(drop),
        "sync" => durafile::sync(dir.join("talk")).map(drop),
        "create_dir_all" => durafile::create_dir_all(dir.join("a/b")).map(drop),
        _ => recover(dir).map(drop),
    }
}

/// In the child: what came of it, in one line.
fn tell(dir: &Path, case: &str) {
    prepare(dir, true, case);
    match marked(|| act(dir, case)) {
        Ok(()) => println!("\nOUTCOME Ok"),
        Err(e) => {
            let states: Vec<String> = e.files().iter().map(|(_, state)| format!("{state:?}")).collect();
            println!("\nOUTCOME {:?} {} {} {e}", e.target(), e.kind(), states.join(","));
        }
    }
}

type Tree = Vec<(String, String)>;

fn is_remnant(entry: &(String, String)) -> bool {
    Path::new(&entry.0).components().any(durafile::is_remnant)
}

fn without_remnants(dir: &Path) -> Tree {
    tree(dir).into_iter().filter(|entry| !is_remnant(entry)).collect()
}

/// What one fault is to be judged by.
struct Sweep<'s> {
    test: &'s str,
    case: &'s str,
    before: Tree,
    after: Tree,
}

impl Sweep<'_> {
    /// The error is what is wrong with what this fault led to.
    fn try_fault(&self, fault: &str) -> std::result::Result<(), String> {
        let home = dir();
        let words =
            ["timeout", "20", "strace", "-f", "-o", "/dev/null", "-e", fault, "-e", always(self.case), "--"];
        let output = rerun(&words.map(std::ffi::OsStr::new), self.test, home.path(), self.case).output();
        let said = said(&output.unwrap())?;
        self.judge(home.path(), &said).map_err(|wrong| format!("{said}: {wrong}"))
    }

    /// Directories that were made on the way stay, as those of `std::fs` do.
    fn without_parents(&self, mut found: Tree, state: &str) -> Tree {
        let made = match self.case {
            "parents" if state == "Unchanged" => &["a", "a/b"][..],
            "create_dir_all" if state == "Unchanged" => &["a"],
            _ => &[],
        };
        found.retain(|entry| !made.contains(&entry.0.as_str()));
        found
    }

    /// Files that do not belong together may be new one by one: each is as the error says of it.
    fn judge_batch(&self, found: &Tree, states: &str) -> std::result::Result<(), String> {
        for (name, state) in ["file", "other", "fresh"].iter().zip(states.split(',')) {
            let [now, before, after] =
                [found, &self.before, &self.after].map(|tree| tree.iter().find(|entry| entry.0 == *name));
            let is_right = match state {
                "Unchanged" => now == before,
                "Replaced" => now == after,
                _ => now == before || now == after,
            };
            if !is_right {
                return Err(format!("{name} is not {state}: {found:?}"));
            }
        }
        Ok(())
    }

    fn judge(&self, home: &Path, said: &str) -> std::result::Result<(), String> {
        let state = said.split(' ').next().unwrap_or_default();
        let expect = |what: &str, found: &Tree, allowed: &[&Tree]| match allowed.contains(&found) {
            true => Ok(()),
            false => Err(format!("{what}: {found:?}")),
        };
        let of_state: &[&Tree] = match state {
            "Ok" | "Replaced" => &[&self.after],
            "Unchanged" => &[&self.before],
            "Pending" | "Unknown" => &[&self.before, &self.after],
            _ => return Err("no state".into()),
        };
        let is_mixed = self.case.starts_with("batch") && state != "Ok";
        if is_mixed {
            self.judge_batch(&without_remnants(home), said.split(' ').nth(2).unwrap_or_default())?;
        } else if state != "Pending" {
            expect("the tree", &self.without_parents(without_remnants(home), state), of_state)?;
        }
        let recovery = recover(home).map_err(|e| format!("the recovery: {e}"))?;
        let recovered = tree(home);
        if let Some(left) = recovered.iter().find(|entry| is_remnant(entry)) {
            return Err(format!("{} stays: {recovery:?}", left.0));
        }
        let pending = if self.case == IN_PLACE { &self.before } else { &self.after };
        let settled: &[&Tree] = if state == "Pending" { &[pending] } else { of_state };
        if !is_mixed {
            expect("after the recovery", &self.without_parents(recovered, state), settled)?;
        }
        for entry in fs::read_dir(home).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        prepare(home, false, self.case);
        act(home, self.case).map_err(|e| format!("the next time: {e}"))?;
        expect("the next time", &tree(home), &[&self.after])
    }
}

/// What is refused in all runs of a case; else nothing.
fn always(case: &str) -> &'static str {
    if case == IN_PLACE { READ_ONLY } else { "inject=acct:error=EPERM" }
}

fn said(output: &Output) -> std::result::Result<String, String> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let said = stdout.lines().find_map(|line| line.strip_prefix("OUTCOME "));
    let broken =
        || format!("no outcome: {}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr));
    said.map(str::to_owned).ok_or_else(broken)
}

/// Each call once, and all of one name.
fn faults(case: &str, calls: &[Call]) -> Vec<String> {
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for call in calls
        .iter()
        .filter(|call| !NOT_OURS.contains(&call.name.as_str()) && !always(case).contains(&call.name))
    {
        named.entry(&call.name).or_default().push(call.nth);
    }
    let mut faults = Vec::new();
    for errno in ERRNOS {
        for (name, nth) in &named {
            if *name == "getrandom" && !WITHOUT_RANDOM.contains(&errno) {
                continue;
            }
            let (first, last) = (nth[0], nth[nth.len() - 1]);
            let fault = |when: String| format!("inject={name}:error={errno}:when={when}");
            faults.extend(nth.iter().map(|nth| fault(nth.to_string())));
            if nth.len() > 1 {
                faults.push(fault(format!("{first}..{last}")));
            }
        }
    }
    faults
}

#[test]
fn no_call_that_is_refused_leads_to_a_wrong_state_or_a_remnant_that_stays() {
    let test = this_test!();
    if job(&test).is_none() && !works() {
        return;
    }
    let mut wrong = Vec::new();
    for case in CASES {
        let Some(whole) = run(&test, case, &["-e", always(case)], &tell) else { return };
        assert_eq!(whole.outcome.as_deref(), Some("Ok"), "{case}");
        let before = dir();
        prepare(before.path(), false, case);
        let sweep =
            Sweep { test: &test, case, before: tree(before.path()), after: without_remnants(whole.path()) };
        let changes_nothing = ["sync", "recover"].contains(&case);
        assert_eq!(sweep.before == sweep.after, changes_nothing, "{case}");
        let all = faults(case, &whole.calls);
        let tried = Mutex::new(long::each(40, all, "faults").into_iter());
        let told = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
                scope.spawn(|| {
                    loop {
                        let Some(fault) = tried.lock().unwrap().next() else { return };
                        let came = sweep.try_fault(&fault);
                        told.lock().unwrap().push((fault, came));
                    }
                });
            }
        });
        let told = told.into_inner().unwrap().into_iter();
        wrong.extend(told.filter_map(|(fault, came)| Some(format!("{case}, {fault}: {}", came.err()?))));
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
