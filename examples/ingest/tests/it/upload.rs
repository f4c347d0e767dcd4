//! Goal: what is sent is stored whole and processed once. Method: recordings of known content, and
//! the result beside what was sent.

use fs_err as fs;

use crate::support::{Service, dir, names, no_remnants, sha256, until, wav};

#[test]
fn a_recording_becomes_a_result_that_can_be_read() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    let content = wav(2.5, 1);
    let id = service.post("/recordings?name=Team%20Meeting.wav", &content).id();
    assert!(id.starts_with("team-meeting-"), "{id}");

    let entry = service.settled(&id);
    assert_eq!(entry["state"], "done");
    assert_eq!(entry["name"], "Team Meeting.wav");
    assert_eq!(entry["sha256"], sha256(&content).as_str());
    let result = service.get(&format!("/recordings/{id}/result")).json();
    assert_eq!(result["duration_seconds"], 2.5);
    assert_eq!(result["loudness_per_second"].as_array().unwrap().len(), 3);
    // A sine at half of full scale: 6 dB down, and 3 more on average.
    let level = |name: &str| result["levels"][name].as_f64().unwrap();
    assert!((level("peak_dbfs") + 6.02).abs() < 0.1, "{result}");
    assert!((level("rms_dbfs") + 9.03).abs() < 0.1, "{result}");
    assert!(service.get(&format!("/recordings/{id}/waveform.png")).bytes.starts_with(b"\x89PNG\r\n"));

    assert_eq!(names(&home.path().join("results").join(sha256(&content))), ["result.json", "waveform.png"]);
    until("the recording is put away", || {
        fs::read(home.path().join("done").join(format!("{id}.wav"))).ok().filter(|kept| *kept == content)
    });
    no_remnants(home.path());
}

#[test]
fn silences_are_found() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    let mut content = wav(4.0, 2);
    // Silent from 1 s to 3 s.
    content[44 + 16000..44 + 48000].fill(0);
    let id = service.post("/recordings?name=quiet", &content).id();
    service.settled(&id);
    let silence = &service.get(&format!("/recordings/{id}/result")).json()["silence"];
    assert_eq!(silence["spans"], serde_json::json!([{ "start": 1.0, "end": 3.0 }]));
}

#[test]
fn a_recording_without_silence_has_none_and_not_less() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    let id = service.post("/recordings?name=loud", &wav(1.0, 3)).id();
    service.settled(&id);
    let result = String::from_utf8(service.get(&format!("/recordings/{id}/result")).bytes).unwrap();
    assert!(result.contains("\"total_seconds\":0.0") && !result.contains("-0.0"), "{result}");
}

#[test]
fn content_that_was_done_before_is_skipped() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    let content = wav(1.5, 3);
    let first = service.post("/recordings?name=one", &content).id();
    assert_eq!(service.settled(&first)["state"], "done");
    let second = service.post("/recordings?name=two", &content).id();
    assert_eq!(service.settled(&second)["state"], "duplicate");
    assert_eq!(names(&home.path().join("results")).len(), 1);
    // It has the result all the same.
    let of = |id: &str| service.get(&format!("/recordings/{id}/result")).json();
    assert_eq!(of(&first), of(&second));
}

#[test]
fn the_same_content_at_the_same_time_is_done_once() {
    let home = dir();
    let services = [Service::start(home.path(), &[]), Service::start(home.path(), &[])];
    let content = wav(2.0, 4);
    let send = |n: usize| services[n % 2].post(&format!("/recordings?name=copy-{n}"), &content).id();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..10).map(|n| scope.spawn(move || send(n))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let states: Vec<_> = ids.iter().map(|id| services[0].settled(id)["state"].clone()).collect();
    assert_eq!(states.iter().filter(|state| **state == "done").count(), 1, "{states:?}");
    assert_eq!(states.iter().filter(|state| **state == "duplicate").count(), 9, "{states:?}");
}

#[test]
fn what_other_programs_put_into_the_inbox_is_taken() {
    let home = dir();
    let service = Service::start(home.path(), &["--poll", "0.1"]);
    let inbox = home.path().join("inbox");
    fs::write(home.path().join("new"), wav(1.0, 5)).unwrap();
    fs::write(inbox.join("Not A Name.wav"), wav(1.0, 6)).unwrap();
    fs::write(inbox.join("notes.txt"), "hello").unwrap();
    fs::rename(home.path().join("new"), inbox.join("from-outside.wav")).unwrap();
    assert_eq!(service.settled("from-outside")["state"], "done");
    until("only the strangers are left", || (names(&inbox) == ["Not A Name.wav", "notes.txt"]).then_some(()));
}

#[test]
fn no_name_leads_out_of_the_data_directory() {
    let home = dir();
    let data = home.path().join("data");
    let service = Service::start(&data, &[]);
    let names = [
        "..%2F..%2Fevil.wav",
        "%2Fevil.wav",
        "..",
        ".",
        "%00",
        "a%0Ab",
        "%F0%9F%8E%A4",
        "",
        &"x".repeat(5000),
    ];
    for name in names {
        let id = service.post(&format!("/recordings?name={name}"), &wav(1.0, 7)).id();
        assert!(id.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-'), "{id}");
        service.settled(&id);
    }
    assert_eq!(crate::support::names(home.path()), ["data"]);

    let ids = ["..", "..%2F..%2Fledger.sqlite", "A", "a.wav", "-a", "a%00", "%E2%80%A6", &"x".repeat(81)];
    for id in ids {
        for path in ["", "/result", "/waveform.png"] {
            let reply = service.get(&format!("/recordings/{id}{path}"));
            assert!([400, 404].contains(&reply.status), "{id}{path}: {}", reply.status);
        }
        for path in ["/chunks/0", "/finish?chunks=1"] {
            let reply = service.post(&format!("/recordings/{id}{path}"), b"x");
            assert!([400, 404, 405].contains(&reply.status), "{id}{path}: {}", reply.status);
        }
    }
    service.get("/recordings/a%2Fb").refused(400, "invalid_id");
    service.get("/recordings/nobody").refused(404, "unknown_recording");
    service.get("/recordings/nobody/result").refused(404, "unknown_recording");
    service.get("/recordings?limit=many").refused(400, "bad_request");
    service.get("/nowhere").refused(404, "no_such_address");
    service.post("/ingest/status", b"").refused(405, "bad_method");
    service.post("/recordings/a/chunks/-1", b"x").refused(400, "bad_request");
    service.post("/recordings/a/chunks/4294967295", b"x").refused(400, "bad_request");
    service.post("/recordings/a/finish", b"").refused(400, "bad_request");
    assert!(crate::support::names(&data.join("chunks")).is_empty());
}
