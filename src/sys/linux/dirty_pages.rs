//! How much the system has to write yet.

use std::fs::File;
use std::io::{self, Read};

use super::file_system::magic_of;
use crate::sys::unix::retry;

/// A flush takes about as long as writing a megabyte, on disks and on solid-state drives. Files that are
/// synced together share one between eight or so.
const FLUSH_COST_BYTES: u64 = 128 << 10;

/// Nobody waits for more of what others have written: a memory card may write 5 MB in a second.
const MOST_OF_OTHERS: u64 = 8 << 20;

/// `PROC_SUPER_MAGIC` of `linux/magic.h`.
const PROC: u64 = 0x9fa0;

/// Is syncing a whole file system cheaper than syncing so many of its files? That depends on what other
/// programs have written and the kernel has not yet. Whatever can't be told counts as no.
pub(crate) fn dirty_backlog_is_small(files: usize) -> bool {
    #[cfg(feature = "crash_testing")]
    if crate::sys::recorder::current().is_some() {
        return true;
    }
    let quiet = File::open("/proc/meminfo")
        .and_then(|meminfo| Ok(dirty_bytes(&meminfo)? <= limit(files) && super::may_sync_file_systems()));
    quiet.unwrap_or(false)
}

fn limit(files: usize) -> u64 {
    FLUSH_COST_BYTES.saturating_mul(files as u64).min(MOST_OF_OTHERS)
}

/// Dirty pages and those that are being written, of all file systems.
fn dirty_bytes(mut meminfo: &File) -> io::Result<u64> {
    // Containers may be shown one that leaves out what others do.
    if magic_of(meminfo)? != PROC {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let mut text = [0; 4096];
    let len = retry(|| meminfo.read(&mut text))?;
    let text = std::str::from_utf8(&text[..len]).map_err(|_| io::ErrorKind::InvalidData)?;
    sum(text).ok_or(io::ErrorKind::InvalidData.into())
}

fn sum(meminfo: &str) -> Option<u64> {
    let kilobytes = |wanted: &str| {
        let value = meminfo.lines().find_map(|line| line.strip_prefix(wanted))?;
        value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    kilobytes("Dirty:")?.checked_add(kilobytes("Writeback:")?)?.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dirty_and_what_is_being_written_is_added() {
        let text =
            "MemTotal:  24 kB\nDirty:             1092 kB\nWriteback:             8 kB\nWritebackTmp: 7 kB\n";
        assert_eq!(sum(text), Some(1100 << 10));
        for bad in ["", "Dirty: 1 kB\n", "Dirty: 1\nWriteback: 1 kB\n", "Dirty: -1 kB\nWriteback: 1 kB\n"] {
            assert_eq!(sum(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_limit_has_a_ceiling_of_some_megabytes() {
        assert_eq!(limit(50), 6_553_600);
        assert_eq!([limit(64), limit(1_000), limit(usize::MAX)], [8 << 20; 3]);
    }

    #[test]
    fn this_kernel_tells_it() {
        let meminfo = File::open("/proc/meminfo").unwrap();
        assert!(dirty_bytes(&meminfo).is_ok());
    }
}
