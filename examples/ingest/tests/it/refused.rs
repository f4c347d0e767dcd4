//! Goal: what can't be taken is refused with its own status, and nothing of it is kept. Method:
//! well-behaved clients, and requests made by hand that lie or break off.

use std::io::{Read, Write};
use std::net::Shutdown;

use fs_err as fs;

use crate::support::{Service, answer, dir, header, names, no_remnants, until, wav};

const LIMIT: usize = 1_000_000;
const LIMITED: [&str; 2] = ["--size-limit", "1000000"];

/// So many bytes that begin as a recording does.
fn filled(len: usize) -> Vec<u8> {
    let mut body = header(8000, 1, 16, len as u32);
    body.resize(len, 7);
    body
}

/// A body without a declared length, in pieces of HTTP's own.
fn send_pieces(stream: &mut impl Write, total: usize) -> std::io::Result<()> {
    stream
        .write_all(b"POST /recordings?name=long HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let piece = filled(64 << 10);
    let mut left = total;
    while left > 0 {
        let len = left.min(piece.len());
        write!(stream, "{len:x}\r\n")?;
        stream.write_all(&piece[..len])?;
        stream.write_all(b"\r\n")?;
        left -= len;
    }
    stream.write_all(b"0\r\n\r\n")
}

/// The head of an answer; the connection may stay open.
fn head(stream: &mut impl Read) -> String {
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        answer.push(byte[0]);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn nothing_is_kept(service: &Service) {
    nothing_waits(service);
    assert_eq!(service.get("/recordings").json(), serde_json::json!([]));
}

fn nothing_waits(service: &Service) {
    until("nothing of it is kept", || names(&service.data.join("inbox")).is_empty().then_some(()));
    no_remnants(&service.data);
    until("no staged file is open", || (service.receiving() == 0).then_some(()));
}

#[test]
fn a_recording_that_is_too_large_is_refused_whatever_is_declared() {
    let home = dir();
    let service = Service::start(home.path(), &LIMITED);
    service.post("/recordings?name=long", &filled(LIMIT + 1)).refused(413, "too_large");

    // No declared length.
    let mut stream = service.connect();
    send_pieces(&mut stream, 3 * LIMIT).unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 413 "));

    // One that is far too long, of which no more comes than the limit.
    let mut stream = service.connect();
    stream.write_all(b"POST /recordings HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n").unwrap();
    stream.write_all(&filled(LIMIT + 1)).unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 413 "));
    drop(stream);

    nothing_is_kept(&service);
    // Exactly the limit fits.
    service.post("/recordings?name=fits", &filled(LIMIT)).id();
}

#[test]
fn what_follows_the_declared_length_is_no_part_of_the_recording() {
    let home = dir();
    let service = Service::start(home.path(), &LIMITED);
    let mut stream = service.connect();
    stream.write_all(b"POST /recordings HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n").unwrap();
    // Ended by us, or reset by the service.
    let body = filled(3 * LIMIT);
    let _ = stream.write_all(&body);
    let failed = home.path().join("failed");
    let name = until("it is set aside as too small", || names(&failed).pop());
    assert_eq!(fs::read(failed.join(name)).unwrap(), body[..20]);
    nothing_waits(&service);
}

#[test]
fn the_size_of_a_recording_does_not_show_in_the_memory_of_the_service() {
    const TOTAL: usize = 160 << 20;
    let home = dir();
    let service = Service::start(home.path(), &["--size-limit", "150000000"]);
    let peak = || {
        let status = fs::read_to_string(format!("/proc/{}/status", service.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().to_owned();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    };
    service.post("/recordings?name=small", &wav(1.0, 1)).id();
    let before = peak();
    let mut stream = service.connect();
    send_pieces(&mut stream, TOTAL).unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 413 "));
    let grown = peak() - before;
    assert!(grown < 24 << 20, "grew by {grown} bytes");
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let home = dir();
    let service = Service::start(home.path(), &[]);
    // The second kind of body comes in pieces that say how long they are.
    for (declared, length) in [("Content-Length: 900000", ""), ("Transfer-Encoding: chunked", "493e0\r\n")] {
        let mut stream = service.connect();
        write!(stream, "POST /recordings?name=cut HTTP/1.1\r\nHost: x\r\n{declared}\r\n\r\n{length}")
            .unwrap();
        stream.write_all(&filled(300_000)).unwrap();
        drop(stream);
    }
    until("both are in the log", || (service.log().matches("status=499").count() == 2).then_some(()));
    nothing_is_kept(&service);

    // A client that only closes its own half may still hear why.
    let mut stream = service.connect();
    stream.write_all(b"POST /recordings HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nabc").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let said = answer(&mut stream);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 499 "), "{said}");
    nothing_is_kept(&service);
}

#[test]
fn a_client_that_falls_silent_is_given_up() {
    let home = dir();
    let service = Service::start(home.path(), &["--idle-timeout", "0.3"]);
    let mut stream = service.connect();
    stream.write_all(b"POST /recordings HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nabc").unwrap();
    let said = answer(&mut stream);
    assert!(said.starts_with("HTTP/1.1 408 ") && said.contains("stalled"), "{said}");
    nothing_is_kept(&service);
}

#[test]
fn what_is_no_recording_is_refused_by_its_first_bytes() {
    let home = dir();
    let service = Service::start(home.path(), &LIMITED);
    service.post("/recordings?name=nothing", b"").refused(400, "empty");
    for body in [&b"RIFF"[..], b"rubbish", b"RIFF\0\0\0\0AVI LIST", b"{\"json\": true}", &[7; 5000]] {
        service.post("/recordings?name=rubbish", body).refused(422, "not_a_wav");
    }
    // What a browser's form or `curl --form` sends, which is no WAV file though one is inside.
    let mut stream = service.connect();
    let form = "POST /recordings HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\
                Content-Type: Multipart/Form-Data; boundary=x\r\n\r\n--x--";
    stream.write_all(form.as_bytes()).unwrap();
    let said = answer(&mut stream);
    assert!(said.starts_with("HTTP/1.1 415 ") && said.contains("unsupported_media_type"), "{said}");
    // Pieces are judged when they are put together.
    for (number, piece) in [b"RIF", b"F--"].into_iter().enumerate() {
        assert_eq!(service.post(&format!("/recordings/part/chunks/{number}"), piece).status, 204);
    }
    service.post("/recordings/part/finish?chunks=2", b"").refused(422, "not_a_wav");
    nothing_is_kept(&service);
}

#[test]
fn a_refusal_does_not_wait_for_the_end_of_the_body() {
    let home = dir();
    let service = Service::start(home.path(), &LIMITED);
    let mut stream = service.connect();
    stream
        .write_all(b"POST /recordings HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nno recording")
        .unwrap();
    assert!(head(&mut stream).starts_with("HTTP/1.1 422 "));
    nothing_is_kept(&service);
}

#[test]
fn only_so_many_uploads_at_the_same_time() {
    let home = dir();
    let service = Service::start(home.path(), &["--uploads", "1"]);
    let mut stream = service.connect();
    stream.write_all(b"POST /recordings HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\nabc").unwrap();
    until("the place is taken", || (service.receiving() == 1).then_some(()));
    service.post("/recordings?name=second", &wav(1.0, 1)).refused(429, "too_many_uploads");
    drop(stream);
    until("the place is free again", || {
        (service.post("/recordings?name=third", &wav(1.0, 1)).status == 201).then_some(())
    });
}

#[test]
fn a_client_that_only_trickles_is_given_up() {
    let home = dir();
    let service = Service::start(home.path(), &["--upload-timeout", "1"]);
    let mut stream = service.connect();
    stream.write_all(b"POST /recordings HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n").unwrap();
    stream.write_all(&filled(44)).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let trickle = std::thread::spawn(move || {
        // At most for a minute.
        for _ in 0..1200 {
            if writer.write_all(b"a").is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let said = head(&mut stream);
    assert!(said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(service.log().contains("too_slow") || service.log().contains("status=408"), "{}", service.log());
    drop(stream);
    trickle.join().unwrap();
    nothing_is_kept(&service);
}

#[test]
fn uploads_are_refused_while_the_disk_is_almost_full() {
    let home = dir();
    let service = Service::start(home.path(), &["--min-free", "1000000000000000"]);
    service.post("/recordings?name=large", &wav(1.0, 1)).refused(507, "storage_full");
    service.post("/recordings/part/chunks/0", b"part").refused(507, "storage_full");
    nothing_is_kept(&service);
    assert!(names(&home.path().join("chunks")).is_empty());
}
