//! Another program, whose syncs make the journal commit in the middle of the workload's saves.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Stops it when dropped.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn make(dir: &Path, pause: Duration, stop: &AtomicBool) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut log =
        OpenOptions::new().create(true).append(false).write(true).truncate(true).open(dir.join("log"))?;
    for turn in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        log.seek(SeekFrom::Start(u64::from(turn % 3000)))?;
        log.write_all(&[turn as u8])?;
        log.sync_all()?;
        // btrfs writes an ordinary fsync to a log of that file alone. After a directory was removed it
        // commits everything.
        if turn % 2 == 1 {
            let inner = dir.join("inner");
            fs::create_dir(&inner)?;
            fs::remove_dir(&inner)?;
            File::open(dir)?.sync_all()?;
        }
        std::thread::sleep(pause);
    }
    Ok(())
}
