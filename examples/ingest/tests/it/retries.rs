//! Goal: what may pass is tried again, what can't is set aside with its reason, and nothing is lost.
//! Method: another writer in the way, time-outs that are too short, files that are no recordings.

use durafile::AtomicDir;
use fs_err as fs;
use serde_json::Value;

use crate::support::{
    Service, count, dir, header, ledger, names, no_remnants, run, sha256, sparse_wav, until, wav,
};

const QUICK: [&str; 4] = ["--retry-delay", "0.2", "--poll", "0.1"];

#[test]
fn a_failure_that_passes_is_tried_again() {
    let home = dir();
    let service = Service::start(home.path(), &QUICK);
    let content = wav(1.0, 1);
    let in_the_way = AtomicDir::create(home.path().join("results").join(sha256(&content))).unwrap();
    let id = service.post("/recordings?name=later", &content).id();
    until("it is to be tried again", || service.log().contains("trying again").then_some(()));
    in_the_way.discard().unwrap();
    let entry = service.settled(&id);
    assert_eq!((&entry["state"], &entry["attempts"]), (&"done".into(), &2.into()));
}

#[test]
fn after_two_attempts_it_is_set_aside_until_somebody_asks_for_it() {
    let home = dir();
    let service = Service::start(home.path(), &QUICK);
    let content = wav(1.0, 2);
    let in_the_way = AtomicDir::create(home.path().join("results").join(sha256(&content))).unwrap();
    let id = service.post("/recordings?name=stuck", &content).id();
    let entry = service.settled(&id);
    assert_eq!(
        (&entry["state"], &entry["attempts"], &entry["error"]),
        (&"failed".into(), &2.into(), &"locked".into())
    );
    assert_eq!(entry["can_be_retried"], true);
    let aside = home.path().join("failed").join(format!("{id}.wav"));
    until("it is set aside", || fs::read(&aside).ok().filter(|kept| *kept == content));
    in_the_way.discard().unwrap();

    let data = home.path().to_str().unwrap();
    assert!(run(&["retry", &id, "--data", data]).status.success());
    assert_eq!(service.settled(&id)["state"], "done");
    // Only what failed can be retried.
    for unknown in [&*id, "nobody", "../inbox/x"] {
        let output = run(&["retry", unknown, "--data", data]);
        assert_eq!(output.status.code(), Some(6), "{unknown}");
    }
}

#[test]
fn a_stage_that_takes_too_long_is_a_failure() {
    let home = dir();
    let options = ["--decode-timeout", "0.02", "--retry-delay", "0.05", "--poll", "0.1"];
    let service = Service::start(home.path(), &options);
    let path = home.path().join("long");
    sparse_wav(&path, 48000, 3600);
    fs::rename(&path, home.path().join("inbox/long.wav")).unwrap();
    let entry = service.settled("long");
    assert_eq!((&entry["state"], &entry["error"]), (&"failed".into(), &"timed_out".into()));
    assert_eq!(entry["attempts"], 2);
    until("it is set aside", || (names(&home.path().join("failed")) == ["long.wav"]).then_some(()));
}

/// Files that are no recordings, and the word for each.
fn rubbish() -> Vec<(Vec<u8>, &'static str)> {
    let mut no_channels = header(8000, 1, 16, 16000);
    no_channels[22] = 0;
    no_channels.resize(16044, 0);
    let cut = wav(3.0, 1)[..20_000].to_vec();
    let mut too_long = header(100, 1, 8, 720_001);
    too_long.resize(44 + 720_001, 128);
    let mut no_rate = header(0, 1, 16, 16000);
    no_rate.resize(16044, 0);
    let mut odd_bits = header(8000, 1, 16, 16000);
    odd_bits[34] = 0;
    odd_bits.resize(16044, 0);
    vec![
        (Vec::new(), "too_small"),
        (b"RIFF".to_vec(), "too_small"),
        (vec![7; 5000], "not_a_wav"),
        (no_rate, "not_a_wav"),
        (cut, "not_a_wav"),
        (wav(0.9, 1), "too_short"),
        (too_long, "too_long"),
        (no_channels, "not_a_wav"),
        (odd_bits, "not_a_wav"),
    ]
}

#[test]
fn what_is_no_recording_is_set_aside_at_once() {
    let home = dir();
    let service = Service::start(home.path(), &QUICK);
    // As another program puts it there: over HTTP the first three would be refused.
    let put = |(number, (body, word)): (usize, (Vec<u8>, &'static str))| {
        let (new, id) = (home.path().join("new"), format!("rubbish-{number}"));
        fs::write(&new, body).unwrap();
        fs::rename(new, home.path().join("inbox").join(format!("{id}.wav"))).unwrap();
        (id, word)
    };
    let sent: Vec<_> = rubbish().into_iter().enumerate().map(put).collect();
    let mut wrong = Vec::new();
    for (id, word) in &sent {
        let entry = service.settled(id);
        assert_eq!((&entry["state"], &entry["attempts"]), (&"failed".into(), &1.into()), "{entry}");
        assert_eq!(entry["can_be_retried"], false, "it would fail again: {entry}");
        let message = entry["message"].as_str().unwrap();
        assert!(message.ends_with('.'), "{message}");
        if entry["error"] != *word {
            wrong.push(format!("{word}: {entry}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    until("all are set aside", || (names(&home.path().join("failed")).len() == sent.len()).then_some(()));
    // It goes on.
    let id = service.post("/recordings", &wav(1.0, 9)).id();
    assert_eq!(service.settled(&id)["state"], "done");
    let no_result = service.get(&format!("/recordings/{}/result", sent[0].0));
    no_result.refused(404, "no_result");
}

#[test]
fn what_seems_to_kill_the_service_is_set_aside() {
    let home = dir();
    Service::start(home.path(), &[]).terminate();
    let insert =
        "INSERT INTO recordings (id, name, state, received, starts) VALUES ('poison', 'p', 'waiting', 0, 5)";
    ledger(home.path()).execute(insert, []).unwrap();
    fs::write(home.path().join("inbox/poison.wav"), wav(1.0, 1)).unwrap();
    let service = Service::start(home.path(), &[]);
    let entry = service.settled("poison");
    assert_eq!((&entry["state"], &entry["error"]), (&"failed".into(), &"interrupted".into()));
    until("it is set aside", || (names(&home.path().join("failed")) == ["poison.wav"]).then_some(()));
    let data = home.path().to_str().unwrap();
    // The service may have the recording locked for a moment longer than the file takes to move.
    until("it is tried again", || run(&["retry", "poison", "--data", data]).status.success().then_some(()));
    assert_eq!(service.settled("poison")["state"], "done");
}

#[test]
fn a_recording_that_nothing_can_be_done_for_keeps_no_other_waiting() {
    let home = dir();
    let _service = Service::start(home.path(), &QUICK);
    // Nobody can lock the first of them.
    let in_the_way = home.path().join("locks/a-stuck.lock");
    fs::create_dir(&in_the_way).unwrap();
    for id in ["a-stuck", "b-fine", "c-fine"] {
        fs::write(home.path().join("new"), wav(1.0, id.len() as u64 + u64::from(id.as_bytes()[0]))).unwrap();
        fs::rename(home.path().join("new"), home.path().join("inbox").join(format!("{id}.wav"))).unwrap();
    }
    until("the others are put away", || {
        (names(&home.path().join("done")) == ["b-fine.wav", "c-fine.wav"]).then_some(())
    });
    assert_eq!(names(&home.path().join("inbox")), ["a-stuck.wav"]);
    fs::remove_dir(in_the_way).unwrap();
    until("and then the first", || names(&home.path().join("inbox")).is_empty().then_some(()));
}

/// What a service leaves that is killed while it publishes a result.
#[test]
fn half_a_result_of_a_dead_service_is_removed_at_the_start() {
    let home = dir();
    Service::start(home.path(), &[]).terminate();
    let draft = AtomicDir::create(home.path().join("results/abc")).unwrap();
    let name = draft.staging().to_owned();
    draft.discard().unwrap();
    fs::create_dir(&name).unwrap();
    fs::write(name.join("result.json"), "{").unwrap();
    let service = Service::start(home.path(), &[]);
    no_remnants(home.path());
    assert_eq!(service.status()["settled_at_start"]["removed"], 1);
    assert!(service.log().contains("removed the rest of an interrupted save"));
}

/// Each state that a kill between the ledger and the move may leave.
#[test]
fn steps_that_were_cut_short_are_finished() {
    let home = dir();
    Service::start(home.path(), &[]).terminate();
    let connection = ledger(home.path());
    for (id, state, folder) in [
        ("was-done", "done", "inbox"),
        ("was-duplicate", "duplicate", "inbox"),
        ("was-failed", "failed", "inbox"),
        ("was-retried", "waiting", "failed"),
        ("still-failed", "failed", "failed"),
    ] {
        let content = wav(1.0, id.len() as u64);
        let insert = "INSERT INTO recordings (id, name, state, received, sha256) VALUES (?1, ?1, ?2, 0, ?3)";
        connection.execute(insert, [id, state, &sha256(&content)]).unwrap();
        fs::write(home.path().join(folder).join(format!("{id}.wav")), content).unwrap();
    }
    drop(connection);
    // And the locks of those who died.
    fs::write(home.path().join("locks/was-done.lock"), "").unwrap();
    fs::write(home.path().join("locks/sha256.0.lock"), "").unwrap();

    let service = Service::start(home.path(), &QUICK);
    assert_eq!(service.settled("was-retried")["state"], "done");
    until("the inbox is empty", || names(&home.path().join("inbox")).is_empty().then_some(()));
    assert_eq!(names(&home.path().join("done")), ["was-done.wav", "was-duplicate.wav", "was-retried.wav"]);
    assert_eq!(names(&home.path().join("failed")), ["still-failed.wav", "was-failed.wav"]);
    // The lock of a recording goes after its last move, which was all that was waited for so far.
    until("the locks are gone", || names(&home.path().join("locks")).is_empty().then_some(()));
    assert_eq!(count(home.path(), "state = 'waiting'"), 0);
    let settled: Value = service.status()["settled_at_start"].clone();
    assert_eq!((&settled["retried"], &settled["locks"]), (&1.into(), &2.into()), "{settled}");
}
