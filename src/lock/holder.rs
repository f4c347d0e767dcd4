//! The record that the holder of a lock leaves in the file, for messages.

use std::io;
use std::time::SystemTime;

use crate::journal::encoding::read_at_most;
use crate::key_value::{self, KeyValues};
use crate::sys::{self, File, Process};

const TITLE: &str = "durafile lock 1";

/// The process that holds a lock, for messages.
///
/// This is only a hint. It may be out of date by the time it is read, and whoever may write to the lock file can make
/// it say anything. Base no decision on it.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("service.lock");
/// use durafile::LockFile;
///
/// let lock = LockFile::lock(&path)?;
/// let holder = LockFile::holder(&path)?.expect("this process holds it");
/// println!("process {} on {} since {:?}", holder.pid, holder.host, holder.since);
/// # assert_eq!(holder.pid, std::process::id());
/// # drop(lock);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The process id, as seen on its own host (or in its own container).
    pub pid: u32,
    /// The name of the machine or container.
    pub host: String,
    /// When it took the lock, according to its own clock.
    pub since: SystemTime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HolderRecord {
    process: Process,
    host: String,
    since: SystemTime,
}

impl HolderRecord {
    /// This process, from now on.
    pub(crate) fn now() -> HolderRecord {
        HolderRecord { process: Process::this(), host: sys::host_name(), since: SystemTime::now() }
    }

    /// Puts the record into a file whose lock is held. False if that isn't possible, or if the file
    /// isn't ours to overwrite: the path of a lock may be a mistake, or lead to another file by
    /// a hard link.
    pub(crate) fn write(&self, file: &File) -> bool {
        let content = read_at_most(file, key_value::MAX_LEN);
        let replaceable = content.is_ok_and(|content| may_be_replaced(&content));
        if !replaceable || !file.stat().is_ok_and(|stat| stat.nlink == 1) {
            return false;
        }
        let text = self.to_text();
        let complete = file.write_at(text.as_bytes(), 0).is_ok_and(|written| written == text.len());
        let len = if complete { text.len() as u64 } else { 0 };
        file.truncate(len).is_ok() && complete
    }

    pub(crate) fn read(file: &File) -> io::Result<Option<HolderRecord>> {
        Ok(HolderRecord::from_text(&read_at_most(file, key_value::MAX_LEN)?))
    }

    /// Is the holder certainly gone? Asked without touching the lock.
    pub(crate) fn is_stale(&self, file: &File) -> io::Result<bool> {
        match (&self.process.boot, sys::boot_id()) {
            (Some(then), Some(now)) if *then == now => Ok(self.process.has_ended()),
            // Of an earlier run of this machine, or of another machine.
            (Some(_), Some(_)) => Ok(!file.fs_kind(&file.stat()?)?.remote),
            _ => Ok(false),
        }
    }

    pub(crate) fn into_holder(self) -> Holder {
        Holder { pid: self.process.pid, host: self.host, since: self.since }
    }

    fn to_text(&self) -> String {
        let since = self.since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        key_value::Writer::new(TITLE)
            .line("pid", self.process.pid)
            .line_if("started", self.process.started)
            .line_if("space", self.process.space.as_ref())
            .line_if("boot", self.process.boot.as_ref())
            .duration("since", since)
            .line("host", &self.host)
            .finish()
    }

    fn from_text(text: &[u8]) -> Option<HolderRecord> {
        let note = KeyValues::parse(TITLE, text)?;
        let process = Process {
            pid: note.value("pid")?,
            started: note.value("started"),
            space: note.value("space"),
            boot: note.value("boot"),
        };
        let since = SystemTime::UNIX_EPOCH.checked_add(note.duration("since")?)?;
        Some(HolderRecord { process, host: note.value("host")?, since })
    }
}

/// A record of ours, or nothing. Digits may be the process id of another program that locks the file, or all
/// that a program has counted; zeros may be what a power cut left, or somebody's data. The lock holds without
/// a record.
fn may_be_replaced(content: &[u8]) -> bool {
    let is_ours = content.starts_with(TITLE.as_bytes());
    content.is_empty() || (is_ours && content.len() < key_value::MAX_LEN)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn record() -> HolderRecord {
        let process = Process {
            pid: 4711,
            started: Some(12),
            space: Some("pid:[1]".to_owned()),
            boot: Some("b".to_owned()),
        };
        let since = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 5);
        HolderRecord { process, host: "build 7".to_owned(), since }
    }

    #[test]
    fn what_is_written_is_read_again() {
        assert_eq!(HolderRecord::from_text(record().to_text().as_bytes()), Some(record()));
        let bare = Process { started: None, space: None, boot: None, ..record().process };
        let bare = HolderRecord { process: bare, ..record() };
        assert_eq!(HolderRecord::from_text(bare.to_text().as_bytes()), Some(bare));
        let now = HolderRecord::now();
        assert_eq!(HolderRecord::from_text(now.to_text().as_bytes()), Some(now.clone()));
        assert!(now.to_text().len() < key_value::MAX_LEN / 2);
    }

    #[test]
    fn only_what_can_be_a_lock_is_overwritten() {
        for content in ["", &record().to_text(), TITLE] {
            assert!(may_be_replaced(content.as_bytes()), "{content:?}");
        }
        for content in
            ["1234\n", "\0\0\0\0", "{}", "theme = 'dark'\n", &"1".repeat(key_value::MAX_LEN), "pid 12"]
        {
            assert!(!may_be_replaced(content.as_bytes()), "{content:?}");
        }
    }

    /// Elsewhere only the lock tells.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[test]
    fn a_process_that_ended_or_whose_number_is_another_s_now_is_known_to_have_ended() {
        let this = Process::this();
        assert!(!this.has_ended());
        let earlier = Process { started: this.started.map(|ticks| ticks - 1), ..this.clone() };
        assert!(earlier.has_ended(), "the same number, an earlier process");
        let elsewhere = Process { space: Some("pid:[1]".to_owned()), ..earlier };
        assert!(!elsewhere.has_ended(), "the number means nothing here");
        let gone = Process { pid: i32::MAX as u32, ..this };
        assert!(gone.has_ended());
    }
}
