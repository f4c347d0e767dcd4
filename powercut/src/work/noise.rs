//! Another program, whose syncs make the journal commit in the middle of the workload's saves.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::device::file_system::FileSystem;

/// Stops it when dropped.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn make(kind: FileSystem, dir: &Path, pause: Duration, stop: &AtomicBool) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    if kind == FileSystem::Btrfs && !dir.join("volume").exists() {
        btrfs(&["create"], &[&dir.join("volume")])?;
    }
    let mut log =
        OpenOptions::new().create(true).append(false).write(true).truncate(true).open(dir.join("log"))?;
    // After a power cut there are snapshots of an earlier run.
    let name = fs::read_dir(dir)?.count();
    for turn in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        log.seek(SeekFrom::Start(u64::from(turn % 3000)))?;
        log.write_all(&[turn as u8])?;
        log.sync_all()?;
        // It takes new blocks, those that a save has just given back as well as any.
        if turn % 3 == 2 {
            let mut other = File::create(dir.join(format!("other-{}", turn % 5)))?;
            other.write_all(&vec![turn as u8 | 1; 9_000 * (1 + turn as usize % 16)])?;
            other.sync_all()?;
        }
        // btrfs writes an fsync to a log of that file alone; a snapshot commits everything.
        if kind == FileSystem::Btrfs && turn % 2 == 1 {
            let snapshot = dir.join(format!("{name}-{turn}"));
            btrfs(&["snapshot"], &[&dir.join("volume"), &snapshot])?;
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

fn btrfs(what: &[&str], paths: &[&Path]) -> io::Result<()> {
    let output = Command::new("btrfs").arg("subvolume").args(what).args(paths).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(())
}
