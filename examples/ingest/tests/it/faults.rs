//! Goal: a disk that is full, closed or gone is the sender's answer and not the service's end; when
//! it is in order again, so is the service. Method: a small tmpfs filled up, directories that are
//! write-protected or moved away.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fs_err as fs;

use crate::support::{
    PROGRAM, Service, dir, header, is_root, names, no_remnants, open_to_all, skip, until, wav,
};

const SMALL: [&str; 6] = ["--min-free", "500000", "--poll", "0.1", "--retry-delay", "0.2"];

/// A service on a tmpfs of 6 MB that nobody else sees, and that ends with it.
fn on_small_disk(mount_point: &Path) -> Option<Service> {
    if !is_root() {
        skip("only root can mount a tmpfs");
        return None;
    }
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|status| status.success()) {
        skip("`unshare -m true` does not work here");
        return None;
    }
    let script = r#"mount -t tmpfs -o size=6m tmpfs "$0" && exec "$@""#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(mount_point).arg(PROGRAM);
    Some(Service::start_by(command, mount_point, &SMALL))
}

/// Fills the disk, except for so many bytes.
fn fill(disk: &Path, but: u64) -> PathBuf {
    let filler = disk.join("filler");
    let space = rustix::fs::statvfs(disk).unwrap();
    let room = space.f_bavail * space.f_frsize;
    fs::write(&filler, vec![1; (room - but) as usize]).unwrap();
    filler
}

#[test]
fn a_full_disk_is_said_and_the_service_goes_on_when_there_is_room() {
    let home = dir();
    let Some(service) = on_small_disk(home.path()) else { return };
    // The mount as the service sees it.
    let disk = PathBuf::from(format!("/proc/{}/root{}", service.pid(), home.path().display()));
    let id = service.post("/recordings?name=before", &wav(1.0, 1)).id();
    assert_eq!(service.settled(&id)["state"], "done");
    assert_eq!(service.get("/ingest/health").status, 200);

    let filler = fill(&disk, 0);
    service.post("/recordings?name=now", &wav(3.0, 2)).refused(507, "storage_full");
    service.post("/recordings/piece/chunks/0", &wav(3.0, 2)).refused(507, "storage_full");
    until("it is not healthy", || (service.get("/ingest/health").status == 503).then_some(()));
    until("its disk is not", || (service.get("/health/filesystem").status == 503).then_some(()));
    assert!(names(&disk.join("inbox")).is_empty());
    no_remnants(&disk);
    fs::remove_file(filler).unwrap();

    // Room for the recording, the locks and the ledger's journal; none for a result of two hours.
    let content = two_hours();
    let filler = fill(&disk, content.len() as u64 + 11 * 4096);
    let id = service.post("/recordings?name=stuck", &content).id();
    let why = until("no work can be done", || {
        let status = service.get("/ingest/status").json();
        status["held_up"].as_str().map(str::to_owned)
    });
    assert_eq!(why, "storage_full");
    assert!(service.log().contains("results"), "the result should have been what did not fit");
    assert_eq!(names(&disk.join("inbox")), [format!("{id}.wav")], "it waits");
    assert!(names(&disk.join("failed")).is_empty(), "it is not its fault");
    fs::remove_file(filler).unwrap();
    let entry = service.settled(&id);
    assert_eq!(entry["state"], "done", "{entry}");
    until("it is healthy again", || (service.get("/ingest/health").status == 200).then_some(()));
    until("nothing is left over", || names(&disk.join("inbox")).is_empty().then_some(()));
    no_remnants(&disk);
    assert!(service.terminate().0.success());
}

/// Small for its length: a hundred samples a second.
fn two_hours() -> Vec<u8> {
    let mut file = header(100, 1, 8, 700_000);
    file.extend((0..700_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8));
    file
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_directory_that_is_write_protected_is_said() {
    let home = dir();
    let data = home.path().join("data");
    fs::create_dir(&data).unwrap();
    open_to_all(&data);
    chmod(home.path(), 0o755);
    // Root may write anywhere: be somebody else, with a copy of the program that he can run.
    let copy = home.path().join("program");
    fs::copy(PROGRAM, &copy).unwrap();
    let mut command = Command::new(&copy);
    if is_root() {
        command.uid(65534).gid(65534);
    }
    let service = Service::start_by(command, &data, &["--min-free", "0"]);
    let inbox = data.join("inbox");
    chmod(&inbox, 0o555);
    service.post("/recordings?name=closed", &wav(1.0, 1)).refused(403, "permission_denied");
    until("its disk is not healthy", || (service.get("/health/filesystem").status == 503).then_some(()));
    let health = service.get("/health/filesystem").json();
    let dir = &health["dirs"][0];
    assert_eq!((&dir["writable"], &dir["error"]), (&false.into(), &"permission_denied".into()), "{health}");
    chmod(&inbox, 0o755);
    let id = service.post("/recordings?name=open", &wav(1.0, 1)).id();
    assert_eq!(service.settled(&id)["state"], "done");
    assert!(service.log().contains("Permission denied"), "the cause is in the log");
}

#[test]
fn a_directory_that_is_gone_is_said() {
    let home = dir();
    let service = Service::start(home.path(), &["--min-free", "0", "--poll", "0.1", "--retry-delay", "0.1"]);
    let (inbox, away) = (home.path().join("inbox"), home.path().join("away"));
    fs::rename(&inbox, &away).unwrap();
    service.post("/recordings?name=lost", &wav(1.0, 1)).refused(503, "not_found");
    service.get("/ingest/status").refused(503, "not_found");
    until("it is not healthy", || (service.get("/ingest/health").status == 503).then_some(()));
    assert!(!inbox.exists(), "a disk that is not mounted must not be written to");
    fs::rename(&away, &inbox).unwrap();
    let id = service.post("/recordings?name=back", &wav(1.0, 1)).id();
    assert_eq!(service.settled(&id)["state"], "done");
    until("no longer held up", || service.status()["held_up"].is_null().then_some(()));

    let (chunks, away) = (home.path().join("chunks"), home.path().join("away"));
    fs::rename(&chunks, &away).unwrap();
    service.post("/recordings/a/chunks/0", b"x").refused(503, "not_found");
    assert!(!chunks.exists());
}

#[test]
fn a_ledger_that_is_damaged_is_said() {
    let home = dir();
    let service = Service::start(home.path(), &["--min-free", "0"]);
    assert_eq!(service.get("/ingest/health").status, 200);
    let mut text = fs::read(home.path().join("ledger.sqlite")).unwrap();
    text.fill(b'x');
    fs::write(home.path().join("ledger.sqlite"), &text).unwrap();
    let reply = service.get("/ingest/health");
    assert_eq!(reply.status, 503);
    assert_eq!(reply.json()["ledger"]["healthy"], false, "{}", reply.json());
    // What comes in is kept all the same.
    let id = service.post("/recordings?name=kept", &wav(1.0, 1)).id();
    assert_eq!(names(&home.path().join("inbox")), [format!("{id}.wav")]);
}
