//! What the tests share: the running service, recordings made up, and skipping that cannot go
//! unnoticed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use fs_err as fs;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Only to notice that something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_ingest");

pub(crate) fn dir() -> TempDir {
    tempfile::Builder::new().prefix("ingest-test-").tempdir().unwrap()
}

/// Says loudly that a test did not run. Written to the descriptor, which libtest does not capture.
pub(crate) fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    writeln!(std::io::stderr().lock(), "SKIPPED {test}: {why}").unwrap();
    assert!(
        std::env::var_os("DURAFILE_REQUIRE_ALL").is_none(),
        "DURAFILE_REQUIRE_ALL is set, but this test cannot run: {why}"
    );
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits until the condition gives something.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A WAV file, 16 bits, one channel; each seed gives another.
pub(crate) fn wav(seconds: f64, seed: u64) -> Vec<u8> {
    const RATE: u32 = 8000;
    let frames = (seconds * f64::from(RATE)) as u32;
    let mut file = header(RATE, 1, 16, frames * 2);
    let step = 0.05 + (seed % 997) as f64 / 2000.0;
    for frame in 0..frames {
        let sample = (f64::from(frame) * step + seed as f64).sin() * 16384.0;
        file.extend((sample as i16).to_le_bytes());
    }
    file
}

pub(crate) fn header(rate: u32, channels: u16, bits: u16, data: u32) -> Vec<u8> {
    let align = channels * bits / 8;
    let mut head = Vec::new();
    head.extend(b"RIFF");
    head.extend((36 + data).to_le_bytes());
    head.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    head.extend(channels.to_le_bytes());
    head.extend(rate.to_le_bytes());
    head.extend((rate * u32::from(align)).to_le_bytes());
    head.extend(align.to_le_bytes());
    head.extend(bits.to_le_bytes());
    head.extend(b"data");
    head.extend(data.to_le_bytes());
    head
}

/// A long recording of silence that takes no room on the disk.
pub(crate) fn sparse_wav(path: &Path, rate: u32, seconds: u32) {
    let data = rate * seconds * 2;
    fs::write(path, header(rate, 1, 16, data)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(44 + u64::from(data)).unwrap();
}

/// An answer, with the body as JSON or null.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn id(&self) -> String {
        assert_eq!(self.status, 201, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()["id"].as_str().unwrap().to_owned()
    }

    /// A refusal: its status, its word, and one sentence without anything of the system.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, error: &str) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, status, "{text}");
        let json = self.json();
        assert_eq!(json["error"], error, "{text}");
        let message = json["message"].as_str().unwrap();
        assert!(message.ends_with('.') && !message.contains('/') && !message.contains("os error"), "{text}");
        json
    }
}

/// A running service; killed when the test ends.
#[derive(Debug)]
pub(crate) struct Service {
    child: Child,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    log: PathBuf,
    home: TempDir,
}

impl Service {
    pub(crate) fn start(data: &Path, options: &[&str]) -> Service {
        Service::start_by(Command::new(PROGRAM), data, options)
    }

    /// `command` ends in running the program with the arguments that follow.
    pub(crate) fn start_by(mut command: Command, data: &Path, options: &[&str]) -> Service {
        let home = dir();
        open_to_all(home.path());
        let (address, log) = (home.path().join("address"), home.path().join("log"));
        command.arg("serve").arg("--data").arg(data).args(["--port", "0", "--address-file"]).arg(&address);
        command.arg("--heartbeat").arg(home.path().join("heartbeat")).args(options);
        let errors = fs::File::create(&log).unwrap().into_file();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        let url = until("the service listens", || {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "ended: {ended:?}\n{}", fs::read_to_string(&log).unwrap());
            fs::read_to_string(&address).ok()
        });
        Service { child, url, data: data.to_owned(), log, home }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn heartbeat(&self) -> PathBuf {
        self.home.path().join("heartbeat")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        read(agent().get(format!("{}{path}", self.url)).call().unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &[u8]) -> Reply {
        read(agent().post(format!("{}{path}", self.url)).send(body).unwrap())
    }

    pub(crate) fn status(&self) -> Value {
        let reply = self.get("/ingest/status");
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.bytes));
        reply.json()
    }

    /// Waits until the recording is in one of the final states.
    #[track_caller]
    pub(crate) fn settled(&self, id: &str) -> Value {
        until("the recording is settled", || {
            let entry = self.get(&format!("/recordings/{id}")).json();
            (entry["state"] != "waiting" && entry["state"].is_string()).then_some(entry)
        })
    }

    /// A connection for requests that no decent client would send.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// How many recordings are on their way to the disk: files of the inbox, most without a name, that
    /// are open for it.
    pub(crate) fn receiving(&self) -> usize {
        let inbox = fs::canonicalize(&self.data).unwrap().join("inbox");
        let open = fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let leads = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        leads.filter(|path| path.starts_with(&inbox) && *path != inbox).count()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The end after SIGTERM.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> (ExitStatus, String) {
        let status = until("the service ends", || self.child.try_wait().unwrap());
        (status, self.log())
    }

    /// SIGKILL; what it had said by then.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of the service:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder();
    config.http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Reply {
    let status = response.status().as_u16();
    let bytes = response.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap();
    Reply { status, bytes }
}

/// Everything that the service says until it closes, of a request made by hand.
pub(crate) fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // It may be reset after the answer.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// Runs one of the other commands.
pub(crate) fn run(args: &[&str]) -> Output {
    Command::new(PROGRAM).args(args).output().unwrap()
}

pub(crate) fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
}

/// The names in a folder, sorted.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let list = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Everything below a folder.
pub(crate) fn tree(root: &Path) -> Vec<PathBuf> {
    let (mut all, mut pending) = (Vec::new(), vec![root.to_owned()]);
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path.clone());
            }
            all.push(path);
        }
    }
    all
}

/// Nothing of an interrupted save is below the folder.
#[track_caller]
pub(crate) fn no_remnants(root: &Path) {
    let is_remnant = |path: &PathBuf| durafile::is_remnant(path.file_name().unwrap());
    let found: Vec<_> = tree(root).into_iter().filter(is_remnant).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The ledger, as another program sees it.
pub(crate) fn ledger(data: &Path) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(data.join("ledger.sqlite")).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection
}

pub(crate) fn count(data: &Path, condition: &str) -> u64 {
    let sql = format!("SELECT count(*) FROM recordings WHERE {condition}");
    ledger(data).query_row(&sql, [], |row| row.get(0)).unwrap()
}

/// The name of the folder in which the result of this content goes.
pub(crate) fn sha256(content: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}
