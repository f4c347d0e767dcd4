//! Goal: the page works in a real browser. Method: Chromium without a screen; what it made of the page
//! is read, and a picture of it is kept where `INGEST_SCREENSHOT` says.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Service, dir, skip, wav};

const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

fn browser() -> Option<Command> {
    let works = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    match BROWSERS.iter().find(works) {
        Some(name) => Some(Command::new(name)),
        None => {
            skip("there is no Chromium (Debian: `apt-get install chromium`)");
            None
        }
    }
}

#[test]
fn the_page_shows_status_waveforms_and_health() {
    let Some(mut command) = browser() else { return };
    let home = dir();
    let service = Service::start(&home.path().join("data"), &["--min-free", "0"]);
    let mut talk = wav(30.0, 3);
    for (n, sample) in talk[44..].chunks_exact_mut(2).enumerate() {
        let loud = (n as f64 / 9000.0).sin().abs() * if (90_000..120_000).contains(&n) { 0.0 } else { 1.0 };
        let value = f64::from(i16::from_le_bytes([sample[0], sample[1]])) * 1.8 * loud;
        sample.copy_from_slice(&(value as i16).to_le_bytes());
    }
    let ids = [
        service.post("/recordings?name=Interview%20with%20Ada", &talk).id(),
        service.post("/recordings?name=The%20same%20again", &talk).id(),
        service.post("/recordings?name=%3Cscript%3Ealert(1)%3C/script%3E", &wav(0.01, 1)).id(),
        service.post("/recordings?name=Two%20seconds", &wav(2.0, 5)).id(),
    ];
    for id in &ids {
        service.settled(id);
    }
    service.post("/recordings/part/chunks/0", b"part");

    let picture =
        std::env::var_os("INGEST_SCREENSHOT").map_or_else(|| home.path().join("page.png"), PathBuf::from);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--disable-dev-shm-usage",
    ]);
    command.args(["--window-size=1100,1080", "--virtual-time-budget=5000", "--dump-dom"]);
    command.arg(format!("--screenshot={}", picture.display()));
    command.arg(format!("--user-data-dir={}", home.path().join("profile").display()));
    // Some write there whatever they are told.
    command.env("HOME", home.path()).arg(&service.url);
    let output = command.output().unwrap();
    let dom = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(dom.contains("data-ready=\"yes\""), "the page did not come up:\n{dom}");
    for text in
        ["Interview with Ada", "The same again", "healthy", "duplicate", "shorter than one second", "up for"]
    {
        assert!(dom.contains(text), "{text} is missing:\n{dom}");
    }
    for length in [">30 s · ", ">2 s · "] {
        assert!(dom.contains(length), "{length} is missing:\n{dom}");
    }
    // It would be too short the next time, too.
    assert!(!dom.contains(&format!("ingest retry {}", ids[2])), "{dom}");
    assert!(dom.contains("<input type=\"file\""), "{dom}");
    assert!(dom.contains("&lt;script&gt;alert(1)") && !dom.contains("<script>alert(1)"), "{dom}");
    assert!(dom.contains(&format!("/recordings/{}/waveform.png", ids[0])));
    let shot = std::fs::read(&picture).unwrap();
    assert!(shot.starts_with(b"\x89PNG") && shot.len() > 20_000, "{} bytes", shot.len());
    // The browser fetched the pictures, too.
    let fetched = format!("path=\"/recordings/{}/waveform.png\" status=200", ids[0]);
    assert!(service.log().contains(&fetched));
}
