//! Running one save of a child process under strace: what it called, in which order, and what
//! it did when strace made a call fail or killed it there.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use durafile::{Committed, Result};
use fs_err as fs;
use tempfile::TempDir;

use crate::support::{dir, has, job, rerun};

/// One system call inside the save.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// The arguments, with `DIR` for the test's directory and descriptors as `<path>`.
    pub(crate) args: String,
    /// Which call of that name it is in its thread, as strace's `when=` counts.
    pub(crate) nth: usize,
}

impl Call {
    /// The call and the paths it is about; random names become `STAGED`.
    pub(crate) fn short(&self) -> String {
        let mut words = Vec::new();
        let mut at = "";
        let takes_names = self.name.ends_with("at") || self.name == "renameat2";
        for arg in self.args.split(", ") {
            if let Some(open) = arg.split_once('<').map(|(_, path)| path) {
                at = open.split('>').next().unwrap();
                words.push(at.to_owned());
            } else if let Some(name) = arg.strip_prefix('"').filter(|_| takes_names) {
                if name == "\"" {
                    continue; // The descriptor itself.
                }
                let name = name.trim_end_matches("...").trim_end_matches('"');
                match words.last_mut() {
                    Some(last) if last.as_str() == at && !name.starts_with("DIR") => {
                        *last = format!("{at}/{name}");
                    }
                    Some(last) if last.as_str() == at => *last = name.to_owned(),
                    _ => words.push(name.to_owned()),
                }
            }
        }
        for flag in ["O_PATH", "O_TMPFILE", "O_EXCL", "F_OFD_SETLK"] {
            if self.args.contains(flag) {
                words.push(flag.to_owned());
            }
        }
        for word in &mut words {
            let name = word.rsplit('/').next().unwrap().to_owned();
            if durafile::is_remnant(&name) {
                word.truncate(word.len() - name.len());
                word.push_str("STAGED");
            }
        }
        format!("{} {}", self.name, words.join(" "))
    }
}

/// What a traced child did.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) home: TempDir,
    /// The calls between the marks, those that only manage memory left out.
    pub(crate) calls: Vec<Call>,
    /// What the save returned; none if the child was killed.
    pub(crate) outcome: Option<String>,
}

impl Trace {
    pub(crate) fn path(&self) -> &Path {
        self.home.path()
    }

    /// The calls in short form, one a line.
    pub(crate) fn text(&self) -> Vec<String> {
        self.calls.iter().map(Call::short).collect()
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.calls.iter().filter(|call| call.name == name).count()
    }
}

/// Where strace may trace; skips the calling test otherwise.
pub(crate) fn works() -> bool {
    has("strace", &["-o", "/dev/null", "true"])
}

/// The child of [`rerun`] under strace with these `-e` expressions; what it called is of no interest.
pub(crate) fn faulty(expressions: &[&str], test: &str, home: &Path, job: &str) -> Command {
    faulty_to(Path::new("/dev/null"), expressions, test, home, job)
}

/// The same with a log.
pub(crate) fn faulty_to(log: &Path, expressions: &[&str], test: &str, home: &Path, job: &str) -> Command {
    let mut words: Vec<&OsStr> = ["strace", "-f", "-o"].map(OsStr::new).to_vec();
    words.push(log.as_os_str());
    words.extend(expressions.iter().flat_map(|expression| ["-e", *expression]).map(OsStr::new));
    words.push(OsStr::new("--"));
    rerun(&words, test, home, job)
}

const BEGIN: &str = "/durafile-trace-begins";
const END: &str = "/durafile-trace-ends";

/// In the child: performs the save between the two marks that bound what is traced.
pub(crate) fn marked<T>(save: impl FnOnce() -> T) -> T {
    let mark = |path| assert!(std::fs::symlink_metadata(path).is_err());
    // strace counts the calls of each thread, but a fault strikes whichever thread gets so far:
    // this one must be ahead of the main thread, which made such calls at its start.
    for _ in 0..100 {
        let mut file = std::fs::File::open("/dev/null").unwrap();
        file.metadata().unwrap();
        file.read_at(&mut [0], 0).unwrap();
        rustix::fs::statat(&file, "", rustix::fs::AtFlags::EMPTY_PATH).unwrap();
        assert_eq!(file.read(&mut [0]).unwrap(), 0);
        rustix::rand::getrandom(&mut [0], rustix::rand::GetRandomFlags::NONBLOCK).unwrap();
    }
    mark(BEGIN);
    let saved = save();
    mark(END);
    saved
}

/// In the child: performs the save and prints what came of it.
pub(crate) fn traced(save: impl FnOnce() -> Result<Committed>) {
    let saved = marked(save);
    match saved {
        Ok(committed) if committed.is_unchanged() => println!("\nOUTCOME unchanged"),
        Ok(committed) => println!("\nOUTCOME Ok {:?}", committed.durability()),
        Err(error) => {
            let errno = error.io_error().and_then(std::io::Error::raw_os_error);
            let errno = errno.unwrap_or(0);
            let (kind, target) = (error.kind(), error.target());
            println!("\nOUTCOME {} {target:?} {errno}", kind.as_str());
        }
    }
}

/// Runs `body` in a child under strace with these extra options, in a new directory; it is told
/// the case, which the child knows by nothing else. None in the child itself, whose test is then
/// over.
pub(crate) fn run(test: &str, case: &str, options: &[&str], body: &dyn Fn(&Path, &str)) -> Option<Trace> {
    if let Some((dir, case)) = job(test) {
        body(&dir, &case);
        return None;
    }
    let home = dir();
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("log");
    let mut prefix: Vec<&OsStr> = ["strace", "-f", "-y", "-s", "64", "-o"].map(OsStr::new).to_vec();
    prefix.push(log.as_os_str());
    prefix.extend(options.iter().map(OsStr::new));
    prefix.push(OsStr::new("--"));
    let output = rerun(&prefix, test, home.path(), case).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let outcome = stdout.lines().find_map(|line| line.strip_prefix("OUTCOME ")).map(str::to_owned);
    let killed = options.iter().any(|option| option.contains("signal=KILL"));
    assert!(
        outcome.is_some() || killed,
        "the traced child did not end its save ({}):\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let calls = parse(&fs::read_to_string(log).unwrap(), home.path());
    Some(Trace { home, calls, outcome })
}

/// Allocation is no matter of the save; its calls depend on what ran before.
const MEMORY: [&str; 6] = ["mmap", "munmap", "mremap", "brk", "madvise", "mprotect"];

fn parse(log: &str, home: &Path) -> Vec<Call> {
    let home = fs::canonicalize(home).unwrap();
    let home = home.to_str().unwrap();
    let begin = log.lines().find(|line| line.contains(BEGIN));
    let thread = begin.and_then(|line| line.split_whitespace().next());
    let thread = thread.unwrap_or_else(|| panic!("no mark in the trace:\n{log}"));
    let mut calls: Vec<Call> = Vec::new();
    let mut counted = std::collections::HashMap::<&str, usize>::new();
    let mut inside = false;
    for line in log.lines() {
        let Some((id, rest)) = line.split_once(char::is_whitespace) else {
            continue;
        };
        let Some((name, rest)) = rest.trim_start().split_once('(') else {
            continue; // Signals and exits.
        };
        if id != thread || name.contains(' ') {
            continue;
        }
        let nth = counted.entry(name).or_default();
        *nth += 1;
        if rest.contains(END) {
            break;
        }
        // In debug builds the standard library looks at a descriptor before it closes it.
        let ours = !MEMORY.contains(&name) && !rest.contains("F_GETFD");
        // The mark of the process is made with its first save, and asked for by what it drops.
        let ours = ours && name != "memfd_create" && !rest.contains("memfd:durafile");
        if inside && ours {
            let end = rest.rfind(" = ").or_else(|| rest.rfind(" <unfinished"));
            let args = rest[..end.unwrap_or(rest.len())].trim_end();
            let args = args.strip_suffix(')').unwrap_or(args);
            calls.push(Call {
                name: name.to_owned(),
                args: without_numbers(&args.replace(home, "DIR")),
                nth: *nth,
            });
        }
        inside |= rest.contains(BEGIN);
    }
    calls
}

/// Drops descriptor numbers (`3<path>` becomes `<path>`), inode numbers and random names.
fn without_numbers(args: &str) -> String {
    let mut out = String::new();
    for part in args.split_inclusive('<') {
        let Some(head) = part.strip_suffix('<') else {
            out.push_str(part);
            continue;
        };
        out.push_str(head.trim_end_matches(|c: char| c.is_ascii_digit()));
        out.push('<');
    }
    while let Some(start) = out.find("/#") {
        let end = out[start..].find('>').map_or(out.len(), |end| start + end);
        out.replace_range(start..end, "/UNNAMED");
    }
    out
}
