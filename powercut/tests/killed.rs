//! Whatever part of the rig is killed, and whenever: no process, mount or loop device stays.
//!
//! Goal: a run that is killed must not leave a file system on a disk that nobody serves any more;
//! every program that touches it would hang for ever. Method: start the rig, wait until it works (or
//! don't), kill one part of it or all, look.
#![cfg(target_os = "linux")]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn nothing_stays_of_a_run_that_was_killed() {
    for file_system in ["ext4", "xfs", "btrfs"] {
        // The first process, the one that mounts, the one that is the disk; at work and while they start.
        for (parts, delay) in
            [(0..1, None), (1..2, None), (2..3, None), (0..3, None), (0..1, Some(20)), (0..1, Some(200))]
        {
            let mut lead = start(file_system);
            let lead_id = lead.id();
            match delay {
                Some(delay) => std::thread::sleep(Duration::from_millis(delay)),
                None if !wait(|| is_at_work(lead_id) || lead.try_wait().unwrap().is_some()) => {
                    panic!("the rig doesn't start")
                }
                None => {}
            }
            if lead.try_wait().unwrap().is_some_and(|status| !is_skip_a_failure() && status.success()) {
                eprintln!("SKIPPED: the rig can't run here, and says why");
                return;
            }
            let family = family_of(lead_id);
            assert!(delay.is_some() || family.len() == 3, "{family:?}");
            for &process in family.get(parts.clone()).unwrap_or_default() {
                let _ = kill_process(Pid::from_raw(process as i32).unwrap(), Signal::KILL);
            }
            lead.wait().unwrap();
            let left = || left_of(lead_id, &family);
            assert!(wait(|| left().is_empty()), "{file_system}, killed {parts:?}, {delay:?}: {:?}", left());
            // Empty directories may stay if all were killed at once.
            let scratch = std::env::temp_dir().join(format!("powercut-{lead_id}-0"));
            if scratch.exists() {
                fs::remove_dir_all(scratch).unwrap();
            }
        }
    }
}

fn start(file_system: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_powercut"))
        .args(["--fs", file_system, "--states", "100000", "--no-teeth", "--op", "write, replace"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn is_skip_a_failure() -> bool {
    std::env::var_os("DURAFILE_REQUIRE_ALL").is_some()
}

fn wait(mut until: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if until() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// With its file system mounted.
fn is_at_work(lead: u32) -> bool {
    let family = family_of(lead);
    let mounts = family.get(1).map(|worker| fs::read_to_string(format!("/proc/{worker}/mounts")));
    mounts.is_some_and(|mounts| {
        mounts.is_ok_and(|mounts| mounts.contains(&format!("powercut-{lead}-0/{lead}-0/fs ")))
    })
}

/// The process, its child, and that one's.
fn family_of(lead: u32) -> Vec<u32> {
    let mut family = vec![lead];
    while let Some(child) = running().find(|(_, parent)| parent == family.last().unwrap()) {
        // losetup and mkfs are children, too, for a moment.
        let is_ours =
            fs::read_link(format!("/proc/{}/exe", child.0)).is_ok_and(|exe| exe.ends_with("powercut"));
        if !is_ours || family.len() == 3 {
            break;
        }
        family.push(child.0);
    }
    family
}

/// Every process with its parent; the dead ones that nobody has buried left out.
fn running() -> impl Iterator<Item = (u32, u32)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|process| {
        let id: u32 = process.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(process.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, parent) = (fields.next()?, fields.next()?);
        (state != "Z").then_some((id, parent.parse().ok()?))
    })
}

fn left_of(lead: u32, family: &[u32]) -> Vec<String> {
    let mut left = Vec::new();
    let name = format!("{lead}-0");
    for (process, _) in running() {
        let command = fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
        if family.contains(&process) || command.contains(&format!("powercut-{name}")) {
            left.push(format!("process {process}: {}", command.replace('\0', " ")));
        }
        let mounts = fs::read_to_string(format!("/proc/{process}/mounts")).unwrap_or_default();
        left.extend(
            mounts.lines().filter(|mount| mount.contains(&format!("powercut-{name}"))).map(str::to_owned),
        );
    }
    for device in fs::read_dir("/sys/block").unwrap().flatten() {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if file.trim_end().ends_with(&format!("/{name}")) {
            left.push(format!("{:?} on {file}", device.file_name()));
        }
    }
    left
}
