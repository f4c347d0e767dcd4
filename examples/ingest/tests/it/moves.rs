//! Goal: no recording takes another's place, and none can be in no folder at all after a power cut.
//! Method: names that come twice, both names that a crash in a move may leave, and the order of the
//! system calls.

use std::path::Path;
use std::process::{Command, Stdio};

use fs_err as fs;

use crate::support::{PROGRAM, Service, count, dir, ledger, names, run, sha256, skip, until, wav};

const QUICK: [&str; 4] = ["--retry-delay", "0.2", "--poll", "0.1"];

/// As other programs do it.
fn drop_in(data: &Path, id: &str, content: &[u8]) {
    fs::write(data.join("new"), content).unwrap();
    fs::rename(data.join("new"), data.join("inbox").join(format!("{id}.wav"))).unwrap();
}

fn inbox_is_empty(data: &Path) {
    until("the inbox is empty", || names(&data.join("inbox")).is_empty().then_some(()));
}

/// The recording that came under a name that another had: under a name of its own in this folder.
#[track_caller]
fn newcomer(data: &Path, folder: &str, content: &[u8]) -> String {
    let path = until("the newcomer is put away", || {
        let paths = names(&data.join(folder)).into_iter().map(|name| data.join(folder).join(name));
        let mut named = paths.filter(|path| !path.ends_with("meeting.wav"));
        named.find(|path| fs::read(path).is_ok_and(|found| found == content))
    });
    let id = path.file_stem().unwrap().to_str().unwrap().to_owned();
    assert!(id.starts_with("meeting-"), "{id}");
    id
}

#[test]
fn another_recording_of_a_name_that_was_done_replaces_nothing_and_is_processed() {
    let home = dir();
    let data = home.path();
    let service = Service::start(data, &QUICK);
    let (old, new) = (wav(1.0, 1), wav(1.0, 2));
    drop_in(data, "meeting", &old);
    assert_eq!(service.settled("meeting")["state"], "done");
    inbox_is_empty(data);
    drop_in(data, "meeting", &new);
    inbox_is_empty(data);
    assert_eq!(fs::read(data.join("done/meeting.wav")).unwrap(), old, "the first is still there");
    let id = newcomer(data, "done", &new);
    let entry = service.settled(&id);
    assert_eq!((&entry["state"], &entry["name"]), (&"done".into(), &"meeting".into()), "{entry}");
    assert_eq!(entry["sha256"], sha256(&new).as_str());
    assert_eq!(service.settled("meeting")["sha256"], sha256(&old).as_str());
    assert!(service.log().contains("another recording has this name"), "it is in the log");
    // And once more what is there already.
    drop_in(data, "meeting", &old);
    inbox_is_empty(data);
    assert_eq!(names(&data.join("done")).len(), 2);
    assert_eq!(count(data, "true"), 2);
}

#[test]
fn another_recording_of_a_name_that_failed_replaces_nothing_and_is_processed() {
    let home = dir();
    let data = home.path();
    let service = Service::start(data, &QUICK);
    drop_in(data, "meeting", b"no recording");
    assert_eq!(service.settled("meeting")["state"], "failed");
    inbox_is_empty(data);
    let new = wav(1.0, 2);
    drop_in(data, "meeting", &new);
    inbox_is_empty(data);
    assert_eq!(fs::read(data.join("failed/meeting.wav")).unwrap(), b"no recording");
    let id = newcomer(data, "done", &new);
    assert_eq!(service.settled(&id)["state"], "done");
    assert_eq!(service.settled("meeting")["state"], "failed");
}

#[test]
fn a_name_that_was_done_and_archived_elsewhere_is_no_excuse_to_leave_a_recording_undone() {
    let home = dir();
    let data = home.path();
    let service = Service::start(data, &QUICK);
    drop_in(data, "meeting", &wav(1.0, 1));
    assert_eq!(service.settled("meeting")["state"], "done");
    inbox_is_empty(data);
    fs::remove_file(data.join("done/meeting.wav")).unwrap();
    let new = wav(1.0, 2);
    drop_in(data, "meeting", &new);
    inbox_is_empty(data);
    let id = newcomer(data, "done", &new);
    assert_eq!(service.settled(&id)["state"], "done");
}

#[test]
fn a_retry_puts_no_recording_in_the_place_of_another() {
    let home = dir();
    let data = home.path();
    let service = Service::start(data, &QUICK);
    drop_in(data, "meeting", b"no recording");
    assert_eq!(service.settled("meeting")["state"], "failed");
    inbox_is_empty(data);
    service.terminate();
    let new = wav(1.0, 2);
    drop_in(data, "meeting", &new);
    let output = run(&["retry", "meeting", "--data", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(10), "{output:?}");
    assert_eq!(fs::read(data.join("failed/meeting.wav")).unwrap(), b"no recording");
    assert_eq!(fs::read(data.join("inbox/meeting.wav")).unwrap(), new);
    let service = Service::start(data, &QUICK);
    let id = newcomer(data, "done", &new);
    assert_eq!(service.settled(&id)["state"], "done");
    assert!(run(&["retry", "meeting", "--data", data.to_str().unwrap()]).status.success());
}

/// Linked into the new folder, and killed before the old name was removed.
#[test]
fn a_move_that_was_cut_short_leaves_two_names_of_one_recording() {
    let home = dir();
    let data = home.path();
    let service = Service::start(data, &QUICK);
    drop_in(data, "good", &wav(1.0, 1));
    drop_in(data, "bad", b"no recording");
    drop_in(data, "again", b"no recording either");
    for id in ["good", "bad", "again"] {
        service.settled(id);
    }
    inbox_is_empty(data);
    service.terminate();
    for (folder, id) in [("done", "good"), ("failed", "bad"), ("failed", "again")] {
        let name = format!("{id}.wav");
        fs::hard_link(data.join(folder).join(&name), data.join("inbox").join(&name)).unwrap();
    }
    // This one was to be retried.
    ledger(data).execute("UPDATE recordings SET state = 'waiting' WHERE id = 'again'", []).unwrap();
    let service = Service::start(data, &QUICK);
    inbox_is_empty(data);
    service.settled("again");
    until("each has one name", || (names(&data.join("failed")) == ["again.wav", "bad.wav"]).then_some(()));
    assert_eq!(names(&data.join("done")), ["good.wav"]);
    assert_eq!(count(data, "true"), 3, "none was taken for another");
    assert_eq!(service.settled("good")["attempts"], 1, "none was processed twice");
    for path in ["done/good.wav", "failed/bad.wav", "failed/again.wav"] {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(fs::metadata(data.join(path)).unwrap().nlink(), 1, "{path}");
    }
}

/// What the service does on the disk from its start until its inbox is empty.
fn trace(data: &Path, calls: &str) -> Option<String> {
    let strace = Command::new("strace").args(["-D", "-qq", "-o", "/dev/null", "true"]).status();
    if !strace.is_ok_and(|status| status.success()) {
        skip("`strace` does not work here");
        return None;
    }
    let home = dir();
    let log = home.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-y", "-qq", "-e", &format!("trace={calls}"), "-o"]).arg(&log);
    command
        .arg(PROGRAM)
        .args(["serve", "--port", "0", "--heartbeat", "/nowhere/heartbeat", "--data"])
        .arg(data);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("the work is done", || {
        let made = data.join("ledger.sqlite").exists() && data.join("inbox").exists();
        (made && names(&data.join("inbox")).is_empty() && names(&data.join("locks")).is_empty()).then_some(())
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM)
        .unwrap();
    child.wait().unwrap();
    Some(fs::read_to_string(&log).unwrap())
}

/// The lines in which these come, each behind the one before.
#[track_caller]
fn in_order(log: &str, steps: &[&[&str]]) {
    let mut lines = log.lines();
    for step in steps {
        let found = lines.any(|line| step.iter().all(|part| line.contains(part)));
        assert!(found, "{step:?} does not follow in:\n{log}");
    }
}

#[test]
fn a_move_is_durable_and_the_new_name_comes_first() {
    let home = dir();
    let data = fs::canonicalize(home.path()).unwrap();
    for dir in ["inbox", "locks"] {
        fs::create_dir(data.join(dir)).unwrap();
    }
    drop_in(&data, "good", &wav(1.0, 1));
    drop_in(&data, "bad", b"no recording");
    let calls = "rename,renameat,renameat2,fsync";
    let Some(log) = trace(&data, calls) else { return };
    for (id, folder) in [("good", "done"), ("bad", "failed")] {
        let (old, new) = (format!("inbox>, \"{id}.wav\""), format!("{folder}>, \"{id}.wav\""));
        let synced = |folder: &str| format!("<{}>", data.join(folder).display());
        // The new name first: a power cut in between may leave both.
        in_order(&log, &[&["rename", &old, &new], &["fsync", &synced(folder)], &["fsync", &synced("inbox")]]);
    }
}

#[test]
fn the_data_directory_itself_is_there_for_good() {
    let home = dir();
    let data = fs::canonicalize(home.path()).unwrap().join("some/data");
    let Some(log) = trace(&data, "mkdir,mkdirat,fsync") else { return };
    let some = data.parent().unwrap();
    let above = [(some.parent().unwrap(), "some"), (some, "data")];
    let below = ["inbox", "chunks", "done", "failed", "results", "locks"].map(|name| (data.as_path(), name));
    for (parent, name) in above.into_iter().chain(below) {
        let (dir, name) = (format!("<{}>", parent.display()), format!("\"{name}\""));
        in_order(&log, &[&["mkdirat", &dir, &name], &["fsync", &dir]]);
    }
}
