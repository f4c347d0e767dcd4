//! System calls, counted one by one: strace runs this program for a single job.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::saves::{self, Side};
use crate::sets::{self, Files};
use crate::{Outcome, ground};

/// What one job took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calls {
    pub(crate) total: usize,
    /// fsync, fdatasync and syncfs.
    pub(crate) syncs: usize,
}

/// The system call that marks begin and end of the job: no method here makes it.
const MARK: &str = "getppid";
const SYNCS: [&str; 4] = ["fsync", "fdatasync", "syncfs", "sync"];

/// `None` where strace is missing or not permitted.
pub(crate) fn count(job: &str, method: usize, dir: &Path) -> Option<Calls> {
    let log = tempfile::NamedTempFile::new().ok()?;
    let method = method.to_string();
    let program = std::env::current_exe().ok()?;
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-e", "signal=none", "-o"]).arg(log.path());
    strace.arg(program).args(["--trace", job, &method]).arg(dir).stdout(Stdio::null());
    if let Err(error) = ground::succeed(&mut strace) {
        println!("system calls not counted: {error}");
        return None;
    }
    let text = std::fs::read_to_string(log.path()).ok()?;
    Some(between_marks(text.lines().filter_map(called)))
}

fn between_marks<'a>(names: impl Iterator<Item = &'a str>) -> Calls {
    let job: Vec<&str> =
        names.skip_while(|name| *name != MARK).skip(1).take_while(|name| *name != MARK).collect();
    let syncs = job.iter().filter(|name| SYNCS.contains(name)).count();
    Calls { total: job.len(), syncs }
}

/// The name of the system call that begins in this line: `<thread> <name>(...`.
fn called(line: &str) -> Option<&str> {
    let (_thread, call) = line.split_once(' ')?;
    let (name, _) = call.trim_start().split_once('(')?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// The other side: warms up, then does the job once between two marks.
pub(crate) fn traced_job(job: &str, method: &str, dir: &Path) -> Outcome {
    let method: usize = method.parse()?;
    match job {
        "save" => one_save(saves::ALL.get(method).ok_or("no such method")?, dir),
        set => one_set(sets::ALL.get(method).ok_or("no such method")?, set.parse()?, dir),
    }
}

fn one_save(saver: &saves::Saver, dir: &Path) -> Outcome {
    let target = dir.join("target");
    std::fs::write(&target, [0; 4096])?;
    let mut save = (saver.prepare)(&target)?;
    for _ in 0..3 {
        save(&[1; 4096])?;
    }
    let _ = rustix::process::getppid();
    save(&[2; 4096])?;
    let _ = rustix::process::getppid();
    Ok(())
}

fn one_set(saver: &sets::SetSaver, len: usize, dir: &Path) -> Outcome {
    let files = Files::new(len, 1024, 1);
    let mut save = (saver.prepare)()?;
    if saver.side != Side::Raw {
        let warm = dir.join("warm");
        std::fs::create_dir(&warm)?;
        save(&warm, &Files::new(3, 1024, 1))?;
    }
    let target = dir.join("set");
    std::fs::create_dir(&target)?;
    let _ = rustix::process::getppid();
    save(&target, &files)?;
    let _ = rustix::process::getppid();
    files.check(&target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_begins_between_the_marks() {
        let log = "7 write(1, \"\", 0) = 0\n7 getppid() = 1\n7 openat(AT_FDCWD, \"x\") = 3\n\
                   8 fsync(3 <unfinished ...>\n7 close(3) = 0\n8 <... fsync resumed>) = 0\n\
                   7 getppid() = 1\n7 fsync(3) = 0\n";
        let calls = between_marks(log.lines().filter_map(called));
        assert_eq!((calls.total, calls.syncs), (3, 1));
    }
}
