//! Each operation of a save fails in turn, with each errno.

use std::path::Path;

use durafile::crash_testing::{CrashTest, Fault, Model, Operation, Recording, Trace};
use durafile::{Durability, TargetState};
use rustix::io::Errno;

use crate::crash::case::{Case, Expected, Seen, Tree, error_of, without_remnants};

const ERRNOS: [Errno; 11] = [
    Errno::IO,
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::INTR,
    Errno::ROFS,
    Errno::ACCESS,
    Errno::BUSY,
    Errno::XDEV,
    Errno::INVAL,
    Errno::NOSYS,
    Errno::OPNOTSUPP,
];

/// A file system that cannot sync directories says so with one of these.
const NO_DIRECTORY_SYNC: [Errno; 3] = [Errno::INVAL, Errno::OPNOTSUPP, Errno::BADF];

/// Injects every fault into the save and judges what comes of it. How many there were.
pub(crate) fn faults(case: &Case, expected: &Expected, trace: &Trace) -> usize {
    let mut tried = 0;
    for (number, operation) in trace.operations().iter().enumerate() {
        for (fault, errno) in faults_of(case, number, operation) {
            tried += usize::from(inject(case, expected, number, operation, &fault, errno));
        }
    }
    tried
}

fn faults_of(case: &Case, operation: usize, of: &Operation) -> Vec<(Fault, Errno)> {
    let mut all = Vec::new();
    if of.name() == "acknowledged" || of.errno().is_some() {
        return all;
    }
    for errno in ERRNOS {
        all.push((Fault::Fail { operation, errno: errno.raw_os_error() }, errno));
    }
    if of.is_sync() {
        all.push((Fault::Fail { operation, errno: Errno::BADF.raw_os_error() }, Errno::BADF));
        all.push((Fault::SyncLies { operation }, Errno::IO));
    }
    if of.name() == "write" {
        // Where the old content stands, Linux ends a write early between pages only, and a disk writes whole sectors.
        let is_over_old = case.overwrites && of.to_string().contains(" target at ");
        let least = if is_over_old { 512 } else { 1 };
        all.extend([least, 4096].map(|len| (Fault::ShortWrite { operation, len }, Errno::AGAIN)));
    }
    if ["link", "link unnamed", "rename", "rename new"].contains(&of.name()) {
        let lost = |errno: Errno| (Fault::LoseReply { operation, errno: errno.raw_os_error() }, errno);
        all.extend([Errno::IO, Errno::TIMEDOUT].map(lost));
    }
    all
}

/// False if the fault did not happen: with several threads the order is another each time.
fn inject(
    case: &Case,
    expected: &Expected,
    number: usize,
    meant: &Operation,
    fault: &Fault,
    errno: Errno,
) -> bool {
    let context = || format!("{}, {fault:?} at {meant}", case.name());
    let (test, returned) = case.test();
    let test = test.fault(fault.clone());
    let recording = test.record().unwrap_or_else(|failure| panic!("{}:\n{failure}", context()));
    let operations = recording.trace().operations();
    let Some(at) = operations.get(number).filter(|at| at.name() == meant.name()) else { return false };
    let found = case.look(recording.dir());
    // Metadata is kept as far as the system permits.
    let expected = &match recording.result() {
        Ok(()) if at.name().contains("set ") || at.name() == "remove xattr" => {
            without_metadata(expected, &found)
        }
        _ => expected.clone(),
    };
    let complaint = match recording.result() {
        Ok(()) => {
            let reached = returned.lock().unwrap().unwrap();
            judge_ok(expected, at, errno, &found, reached, case.swaps)
                .filter(|_| !guards_nothing(&operations, number) || errno == Errno::IO)
        }
        Err(_) => judge_error(case, expected, at, &recording, &found, fault),
    };
    let complaint = complaint.or_else(|| retried_sync(recording.trace()));
    if let Some(complaint) = complaint {
        panic!("{}: {complaint}\n{}", context(), recording.trace());
    }
    let reached = returned.lock().unwrap().unwrap_or(case.durability);
    let crashes = errno == Errno::IO || errno == Errno::AGAIN;
    if crashes && reached == case.durability {
        let (test, _) = case.test();
        let explored = test
            .second_crashes(false)
            .max_states(case.few())
            .explore(recording.trace(), |dir, acked| expected.check(case, Model::Unordered, dir, acked));
        explored.unwrap_or_else(|failure| panic!("{}:\n{failure}", context()));
    }
    true
}

/// What is expected if some metadata could not be kept: the same content, and no rights for
/// anybody who would not have them otherwise.
fn without_metadata(expected: &Expected, found: &Tree) -> Expected {
    let mut expected = expected.clone();
    for (path, seen) in &mut expected.new {
        let (Seen::File { content, mode, .. }, Some(Seen::File { content: now, mode: bits, .. })) =
            (&*seen, found.get(path))
        else {
            continue;
        };
        if content == now && bits & !mode == 0 {
            *seen = found[path].clone();
        }
    }
    expected
}

/// Whether what a sync comes before was refused: nothing rests on it then.
pub(crate) fn guards_nothing(operations: &[Operation], number: usize) -> bool {
    let next = operations.get(number + 1);
    operations[number].is_sync() && next.is_some_and(|next| next.name() == "rename" && next.errno().is_some())
}

/// `Ok` only if the new content is there, and never after a failed sync, but for a directory on
/// a file system that can't sync directories; then the answer says so.
fn judge_ok(
    expected: &Expected,
    at: &Operation,
    errno: Errno,
    found: &Tree,
    reached: Durability,
    swaps: bool,
) -> Option<String> {
    let cleans_up = at.name() == "unlink" || swaps && ["lock", "rename", "rmdir"].contains(&at.name());
    if *found != expected.new && !(cleans_up && without_remnants(found) == expected.new) {
        return Some(format!("Ok, and the new content is not there: {found:#?}"));
    }
    if !at.is_sync() {
        return None;
    }
    let refused = at.name() == "sync directory" && NO_DIRECTORY_SYNC.contains(&errno);
    match refused {
        false => Some("Ok after a failed sync".to_owned()),
        true if reached >= Durability::Full => Some("full durability without a directory sync".to_owned()),
        true => None,
    }
}

/// What the error says of the target is true, and nothing is left behind.
fn judge_error(
    case: &Case,
    expected: &Expected,
    at: &Operation,
    recording: &Recording<durafile::crash_testing::Outcome>,
    found: &Tree,
    fault: &Fault,
) -> Option<String> {
    let Some(error) = error_of(recording.result()) else {
        return Some(format!("not an error of the library: {:?}", recording.result()));
    };
    let complete = &without_remnants(found);
    let cleans_up = ["unlink", "rmdir"].contains(&at.name());
    let tidy = found == complete;
    if case.each {
        return judge_files(expected, error, recording.dir(), complete)
            .or_else(|| (!tidy && !cleans_up).then(|| format!("left behind: {found:#?}")));
    }
    let agrees = match error.target() {
        // A save that found the target unsynced and the same finds it unchanged, too.
        TargetState::Unchanged if case.tears && *complete == expected.new => tidy,
        TargetState::Unchanged => *complete == expected.old && (tidy || cleans_up),
        // The directory is there; nothing was saved into it yet.
        TargetState::Replaced if case.makes_directories && error.path().is_dir() => {
            *complete == expected.old && tidy
        }
        TargetState::Replaced => {
            *complete == expected.new && (tidy || case.swaps || case.overwrites && cleans_up)
        }
        TargetState::Unknown => *complete == expected.old || *complete == expected.new,
        TargetState::Pending if case.overwrites => recovered(case, fault) == expected.old,
        TargetState::Pending => recovered(case, fault) == expected.new,
        _ => false,
    };
    (!agrees).then(|| format!("the error says {:?}: {error}, and there is {found:#?}", error.target()))
}

/// The same once more, recovered. The recovery runs in the same recording, which knows the files by numbers
/// of its own.
fn recovered(case: &Case, fault: &Fault) -> Tree {
    let save = |dir: &Path| {
        let done = (case.save)(dir).map(|_| ());
        let _ = durafile::recover(dir)?;
        Ok(done?)
    };
    let test = (case.setup)(CrashTest::new(save).initial(case.initial)).fault(fault.clone());
    let recording = test.record().unwrap_or_else(|failure| panic!("{}, recovered:\n{failure}", case.name()));
    case.look(recording.dir())
}

/// What the error says of each file of a set is true.
fn judge_files(expected: &Expected, error: &durafile::Error, dir: &Path, found: &Tree) -> Option<String> {
    for (path, state) in error.files() {
        let path = path.strip_prefix(dir).ok()?;
        let (now, old, new) = (found.get(path), expected.old.get(path), expected.new.get(path));
        let agrees = match state {
            TargetState::Unchanged => now == old,
            TargetState::Replaced => now == new,
            TargetState::Unknown => now == old || now == new,
            _ => false,
        };
        if !agrees {
            return Some(format!("{error} says {state:?} of {}, and there is {now:#?}", path.display()));
        }
    }
    None
}

/// After a failed sync the kernel may have forgotten the data: another sync of the same thing
/// would say `Ok` for nothing.
fn retried_sync(trace: &Trace) -> Option<String> {
    let operations = trace.operations();
    let what = |operation: &Operation| {
        let text = operation.to_string();
        text.split("  ").filter(|part| !part.contains("FAILED")).collect::<Vec<_>>().join(" ")
    };
    for (number, failed) in operations.iter().enumerate() {
        if failed.name() != "sync file" || failed.errno().is_none() {
            continue;
        }
        if let Some(again) = operations[number + 1..].iter().find(|later| {
            later.name() == failed.name()
                && what(later).split("said").next().map(str::trim) == Some(what(failed).trim())
        }) {
            return Some(format!("a failed sync was tried again: {again}"));
        }
    }
    None
}
