//! Goal: what `health` says is what a save would meet, it leaves nothing behind, and a heartbeat is
//! as old as it is, whatever the clocks show. Method: real file systems that are full, small, read-only or
//! closed to us; `df` as the second opinion; checks killed in the middle.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use durafile::ErrorKind;
use durafile::health::{DirHealth, Health, HealthOptions, Heartbeat, check};
use fs_err as fs;

use crate::support::strace;
use crate::support::{
    as_user, best, chmod, dir, expect_pass, has, in_child, in_private_mounts, job, mode, names, public_dir,
    rerun, this_test,
};

fn one(dir: impl AsRef<Path>) -> DirHealth {
    let Health { dirs, .. } = HealthOptions::new().min_free_bytes(0).check([dir]);
    let [found] = <[DirHealth; 1]>::try_from(dirs).unwrap();
    assert!(found.used_percent.is_finite());
    found
}

/// It can't be saved to, for this reason.
fn bad(dir: impl AsRef<Path>, exists: bool, error: ErrorKind) -> DirHealth {
    let found = one(dir);
    assert_eq!((found.exists, found.writable, found.error), (exists, false, Some(error)), "{found:?}");
    assert!(!check([&found.path]).healthy);
    assert_eq!((found.durable, found.dir_swap, found.locks), (false, false, false));
    found
}

#[test]
fn a_directory_that_can_be_saved_to_is_healthy_and_left_as_it_was() {
    let home = dir();
    fs::write(home.path().join("file"), "old").unwrap();
    let found = one(&home);
    assert_eq!(found.path, home.path());
    assert!(found.exists && found.writable && found.locks && found.dir_swap, "{found:?}");
    assert_eq!(found.error, None);
    assert_eq!(found.durable, best(&home) == durafile::Durability::Full);
    assert!(!found.network);
    assert_eq!(names(&home), ["file"]);
}

#[test]
fn sizes_are_those_that_df_gives_to_everybody() {
    let home = dir();
    let found = one(&home);
    let output = Command::new("df")
        .args(["--block-size=1", "--output=size,avail,pcent"])
        .arg(home.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .map(|word| word.trim_end_matches('%').parse().unwrap())
        .collect();
    assert_eq!(found.total_bytes as f64, numbers[0]);
    // Other programs write meanwhile.
    let slack = 0.02 * numbers[0];
    assert!((found.free_bytes as f64 - numbers[1]).abs() < slack, "{found:?}\n{text}");
    assert!((found.used_percent.ceil() - numbers[2]).abs() <= 1.0, "{found:?}\n{text}");
}

#[test]
fn space_that_only_root_may_use_counts_as_used_up() {
    let script = "truncate -s 64M \"$DIR/image\"; mkfs.ext4 -q -F -m 50 \"$DIR/image\"; mkdir \"$DIR/mnt\"; \
                  mount -o loop \"$DIR/image\" \"$DIR/mnt\"";
    in_private_mounts(&this_test!(), script, |dir| {
        let found = one(dir.join("mnt"));
        let all = rustix::fs::statvfs(dir.join("mnt")).unwrap();
        assert!(found.free_bytes < all.f_bfree * all.f_frsize - (20 << 20), "{found:?}");
        assert!(found.durable && found.dir_swap && found.locks && !found.network && !found.fixed_owners);
    });
}

#[test]
fn a_full_disk_is_not_writable_and_a_small_one_not_healthy() {
    let script = "mount -t tmpfs -o size=1m tmpfs \"$DIR\"";
    in_private_mounts(&this_test!(), script, |dir| {
        let small = check([dir]);
        assert!(!small.healthy, "less than 500 MiB");
        assert!(small.dirs[0].writable && small.dirs[0].error.is_none());
        assert_eq!(small.dirs[0].total_bytes, 1 << 20);
        assert!(!small.dirs[0].durable, "tmpfs");
        let free = small.dirs[0].free_bytes;
        assert!(HealthOptions::new().min_free_bytes(free).check([dir]).healthy);
        assert!(!HealthOptions::new().min_free_bytes(free + 1).check([dir]).healthy);
        assert_eq!(one(dir).free_bytes, free, "nothing is left");

        assert!(fs::write(dir.join("filler"), vec![1; 2 << 20]).is_err());
        let found = bad(dir, true, ErrorKind::StorageFull);
        assert_eq!(found.free_bytes, 0);
        assert!(found.used_percent > 99.9);
        assert_eq!(names(dir), ["filler"]);
    });
}

#[test]
fn a_read_only_mount_is_told_with_its_sizes() {
    let script = "mount -t tmpfs -o size=1m tmpfs \"$DIR\"; mount -o remount,ro \"$DIR\"";
    in_private_mounts(&this_test!(), script, |dir| {
        assert_eq!(bad(dir, true, ErrorKind::ReadOnlyFilesystem).total_bytes, 1 << 20);
    });
}

#[test]
fn an_overlay_is_tried_out_on_its_upper_layer() {
    let script = "cd \"$DIR\"; mount -t tmpfs tmpfs .; cd \"$DIR\"; mkdir lower upper work merged; \
                  mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work none merged";
    in_private_mounts(&this_test!(), script, |dir| {
        let found = one(dir.join("merged"));
        assert!(found.writable && found.dir_swap && found.locks && !found.network, "{found:?}");
        assert!(names(dir.join("merged")).is_empty());
    });
}

#[test]
fn what_is_no_directory_to_save_to_is_told_apart() {
    let home = public_dir();
    let at = |name: &str| home.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("closed")).unwrap();
    chmod(at("closed"), 0o555);
    fs::create_dir_all(at("secret/inner")).unwrap();
    chmod(at("secret"), 0o700);
    bad(at("missing"), false, ErrorKind::NotFound);
    bad(at("file"), false, ErrorKind::NotADirectory);
    bad("", false, ErrorKind::InvalidPath);
    as_user(1001, 1001, || {
        bad(at("closed"), true, ErrorKind::PermissionDenied);
        bad(at("secret"), true, ErrorKind::PermissionDenied);
        bad(at("secret/inner"), false, ErrorKind::PermissionDenied);
        // It may not be listed or synced, but saved to.
        fs::create_dir(at("drop")).unwrap();
        chmod(at("drop"), 0o300);
        let found = one(at("drop"));
        assert!(found.writable && !found.durable, "{found:?}");
    });
    assert_eq!(mode(at("closed")), 0o555);
}

#[test]
fn one_bad_directory_makes_the_whole_unhealthy_and_hides_no_other() {
    let home = dir();
    let options = HealthOptions::new().min_free_bytes(0);
    let missing = home.path().join("missing");
    let health = options.check([home.path(), &missing, home.path()]);
    assert!(!health.healthy);
    let writable: Vec<_> = health.dirs.iter().map(|dir| dir.writable).collect();
    assert_eq!(writable, [true, false, true]);
    assert!(options.check([home.path(), home.path()]).healthy);
    assert!(check(<[&str; 0]>::default()).healthy);
}

#[test]
fn a_disk_that_fails_to_sync_is_not_writable() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        let found = one(&dir);
        assert_eq!((found.exists, found.writable, found.error), (true, false, Some(ErrorKind::Io)));
        assert!(names(&dir).is_empty());
        return;
    }
    if !strace::works() {
        return;
    }
    // The sync of the file, and that of the directory.
    for nth in [1, 2] {
        let home = dir();
        let inject = format!("inject=fsync:error=EIO:when={nth}");
        let mut child = strace::faulty(&["trace=fsync", &inject], &test, home.path(), "fail");
        expect_pass(&child.output().unwrap());
    }
}

#[test]
fn a_check_that_is_killed_at_any_of_its_calls_leaves_nothing() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        println!("{}", one(dir).writable);
        return;
    }
    if !strace::works() {
        return;
    }
    let mut killed = 0;
    for call in ["openat", "pwrite64", "fsync", "flock", "renameat2", "linkat", "unlinkat"] {
        for nth in 1.. {
            let home = dir();
            let only = format!("trace={call}");
            let inject = format!("inject={call}:signal=KILL:when={nth}");
            let mut child = strace::faulty(&[&only, &inject], &test, home.path(), "look");
            let output = child.output().unwrap();
            assert!(names(&home).is_empty(), "killed at {call} {nth}: {:?}", names(&home));
            if output.status.success() {
                break;
            }
            killed += 1;
        }
    }
    assert!(killed >= 10, "only {killed} kills");
}

#[test]
fn where_every_file_has_a_name_the_check_removes_it_and_recovery_what_a_kill_left() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        assert!(one(&dir).writable);
        assert!(names(&dir).is_empty());
        return;
    }
    if !strace::works() {
        return;
    }
    let home = dir();
    let log = tempfile::NamedTempFile::new().unwrap();
    let log = log.path();
    let run = |options: &[&str]| {
        let prefix = ["strace", "-f", "-o", log.to_str().unwrap(), "-e", "trace=openat,fsync"];
        let prefix: Vec<_> = prefix.iter().chain(options).chain(&["--"]).map(OsStr::new).collect();
        rerun(&prefix, &test, home.path(), "look").output().unwrap()
    };
    expect_pass(&run(&[]));
    // Which call of its thread, as strace counts, asks for a file without a name.
    let text = fs::read_to_string(log).unwrap();
    let at = text.lines().position(|line| line.contains("O_TMPFILE")).expect("it asks for one");
    let thread = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let asking = thread(text.lines().nth(at).unwrap());
    let of_it = |line: &&str| line.contains("openat(") && thread(line) == asking;
    let nth = text.lines().take(at + 1).filter(of_it).count();
    let refuse = format!("inject=openat:error=EOPNOTSUPP:when={nth}");
    expect_pass(&run(&["-e", &refuse]));
    assert!(fs::read_to_string(log).unwrap().contains("O_EXCL"), "a file with a name was created");

    let killed = run(&["-e", &refuse, "-e", "inject=fsync:signal=KILL:when=1"]);
    assert!(!killed.status.success());
    let left = names(&home);
    assert!(left.len() == 1 && durafile::is_remnant(&left[0]), "{left:?}");
    assert_eq!(durafile::recover(&home).unwrap().removed().len(), 1);
    assert!(names(&home).is_empty());
}

#[test]
fn json_has_the_fields_and_no_text_of_the_system() {
    let home = dir();
    let odd = home.path().join(OsStr::from_bytes(b"\xff"));
    let missing = home.path().join("missing");
    let options = HealthOptions::new().min_free_bytes(0);
    let health = options.check([home.path(), &missing, &odd]);
    let json = serde_json::to_value(&health).unwrap();
    assert_eq!(json["healthy"], false);
    let fields = [
        "path",
        "exists",
        "writable",
        "error",
        "free_bytes",
        "total_bytes",
        "used_percent",
        "durable",
        "dir_swap",
        "locks",
        "network",
        "fixed_owners",
    ];
    for (index, dir) in json["dirs"].as_array().unwrap().iter().enumerate() {
        let dir = dir.as_object().unwrap();
        let found: BTreeSet<&str> = dir.keys().map(String::as_str).collect();
        assert_eq!(found, BTreeSet::from(fields));
        let texts: Vec<_> =
            dir.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
        let path = health.dirs[index].path.to_string_lossy();
        match index {
            0 => assert_eq!(texts, [("path", &*path)]),
            _ => assert_eq!(
                BTreeSet::from_iter(texts),
                BTreeSet::from([("path", &*path), ("error", "not_found")])
            ),
        }
    }
    assert_eq!(json["dirs"][0]["free_bytes"], health.dirs[0].free_bytes);
    assert_eq!(json["dirs"][0]["error"], serde_json::Value::Null);
    assert!(json["dirs"][0]["used_percent"].is_f64());
}

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_heartbeat_ages_and_the_next_beat_makes_it_young_again() {
    let home = dir();
    let path = home.path().join("alive");
    let heartbeat = Heartbeat::new(&path);
    assert!(!Heartbeat::is_alive(&path, LONG).unwrap(), "no beat yet");
    assert!(!Heartbeat::is_alive(home.path().join("missing/alive"), LONG).unwrap());
    heartbeat.beat().unwrap();
    assert!(Heartbeat::is_alive(&path, LONG).unwrap());
    let pause = Duration::from_millis(50);
    std::thread::sleep(pause);
    assert!(!Heartbeat::is_alive(&path, pause).unwrap(), "older than that");
    heartbeat.beat().unwrap();
    assert!(Heartbeat::is_alive(&path, LONG).unwrap());
    assert_eq!(names(&home), ["alive"]);
}

#[test]
fn the_wall_clock_and_the_file_s_time_have_no_say_within_one_run_of_the_system() {
    let home = dir();
    let path = home.path().join("alive");
    let heartbeat = Heartbeat::new(&path);
    heartbeat.beat().unwrap();
    // As if the wall clock had been set by half a century since.
    let beat = fs::read_to_string(&path).unwrap();
    let wall = beat.lines().find(|line| line.starts_with("wall ")).unwrap();
    fs::write(&path, beat.replace(wall, "wall 1.000000000")).unwrap();
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert!(Heartbeat::is_alive(&path, LONG).unwrap());

    // Of another run of the system, only the wall clock can tell.
    let boot = beat.lines().find(|line| line.starts_with("boot ")).unwrap();
    let other = beat.replace(boot, "boot 00000000-0000-0000-0000-000000000000");
    fs::write(&path, &other).unwrap();
    assert!(Heartbeat::is_alive(&path, LONG).unwrap());
    fs::write(&path, other.replace(wall, "wall 1.000000000")).unwrap();
    assert!(!Heartbeat::is_alive(&path, LONG).unwrap());
}

#[test]
fn a_container_with_clocks_of_its_own_sees_the_right_age() {
    let test = this_test!();
    if let Some((dir, job)) = job(&test) {
        let path = dir.join("alive");
        match job.as_str() {
            "beat" => Heartbeat::new(path).beat().unwrap(),
            _ => assert!(Heartbeat::is_alive(path, LONG).unwrap()),
        }
        return;
    }
    let apart = ["unshare", "--time", "--monotonic", "1000000", "--fork"];
    if !has("unshare", &["--time", "--monotonic", "1000000", "--fork", "true"]) {
        return;
    }
    let home = dir();
    let path = home.path().join("alive");
    Heartbeat::new(&path).beat().unwrap();
    expect_pass(&rerun(&apart.map(OsStr::new), &test, home.path(), "look").output().unwrap());
    expect_pass(&rerun(&apart.map(OsStr::new), &test, home.path(), "beat").output().unwrap());
    assert!(Heartbeat::is_alive(&path, LONG).unwrap());
}

#[test]
fn what_is_no_complete_beat_shows_no_life() {
    let home = dir();
    let path = home.path().join("alive");
    Heartbeat::new(&path).beat().unwrap();
    let beat = fs::read(&path).unwrap();
    for content in [&b""[..], b"alive\n", &[0; 100], &beat[..beat.len() - 1], &beat[1..]] {
        fs::write(&path, content).unwrap();
        assert!(!Heartbeat::is_alive(&path, LONG).unwrap());
    }
    let error = Heartbeat::is_alive(&home, LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
    assert_eq!(error.operation(), "read");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    assert!(!Heartbeat::is_alive(&path, LONG).unwrap());
    Heartbeat::new(&path).beat().unwrap();
    assert!(Heartbeat::is_alive(&path, LONG).unwrap(), "links are followed on both sides");
}

#[test]
fn a_heartbeat_is_read_through_a_bind_mount() {
    let script = "cd \"$DIR\"; touch beat seen; mount --bind beat seen";
    in_private_mounts(&this_test!(), script, |home| {
        let seen = home.join("seen");
        assert!(!Heartbeat::is_alive(&seen, Duration::from_secs(60)).unwrap());
        let other = home.join("other");
        Heartbeat::new(&other).beat().unwrap();
        std::fs::write(&seen, std::fs::read(other).unwrap()).unwrap();
        assert!(Heartbeat::is_alive(&seen, Duration::from_secs(60)).unwrap());
    });
}

#[test]
fn a_heartbeat_works_without_proc_by_the_wall_clock() {
    let script = "mount -t tmpfs tmpfs /proc";
    in_private_mounts(&this_test!(), script, |dir| {
        let path = dir.join("alive");
        Heartbeat::new(&path).beat().unwrap();
        assert!(Heartbeat::is_alive(&path, LONG).unwrap());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!Heartbeat::is_alive(&path, Duration::from_millis(10)).unwrap());
    });
}

#[test]
fn a_beat_costs_no_flush() {
    let test = this_test!();
    if let Some((dir, _)) = job(&test) {
        let heartbeat = Heartbeat::new(dir.join("alive"));
        (0..3).for_each(|_| heartbeat.beat().unwrap());
        return;
    }
    if !strace::works() {
        return;
    }
    let home = dir();
    let log = tempfile::NamedTempFile::new().unwrap();
    let calls = "trace=fsync,fdatasync,sync_file_range,syncfs,sync";
    let prefix = ["strace", "-f", "-o", log.path().to_str().unwrap(), "-e", calls, "--"];
    expect_pass(&rerun(&prefix.map(OsStr::new), &test, home.path(), "beat").output().unwrap());
    let log = fs::read_to_string(log.path()).unwrap();
    assert!(!log.contains("sync"), "{log}");
}

#[test]
fn a_check_leaves_no_descriptor_open() {
    in_child(&this_test!(), "", |dir| {
        one(dir);
        let before = names("/proc/self/fd");
        for _ in 0..20 {
            one(dir);
            one(dir.join("missing"));
        }
        assert_eq!(names("/proc/self/fd"), before);
    });
}
