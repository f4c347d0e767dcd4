//! Facts about mounts, remembered for as long as they can be relied on.

use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sys::Stat;

/// As many mounts as anybody saves to; of more, the oldest are forgotten and asked again.
const MOST: usize = 64;

/// For as long as the process runs.
pub(super) const FOR_GOOD: Duration = Duration::MAX;

pub(super) const A_SECOND: Duration = Duration::from_secs(1);

/// A mount by its id, which is never used again; before Linux 6.8, which gives none, the device of its file system.
/// Another file system may have that number soon.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Mount(u64),
    Device(u64),
}

impl Key {
    fn of(stat: &Stat) -> Key {
        stat.mount.map_or(Key::Device(stat.id.dev), Key::Mount)
    }
}

/// Answers of mounts.
pub(super) struct MountCache<T> {
    known: Mutex<Vec<(Key, Instant, T)>>,
    /// For how long an answer holds: that of a mount that has an id, and that of a device.
    lasts: (Duration, Duration),
}

impl<T: Copy> MountCache<T> {
    pub(super) const fn that_lasts(mount: Duration, device: Duration) -> MountCache<T> {
        MountCache { known: Mutex::new(Vec::new()), lasts: (mount, device) }
    }

    /// The answer for the mount of the file that `stat` is of.
    pub(super) fn get(&self, stat: &Stat, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if let Some(answer) = self.known(stat) {
            return Ok(answer);
        }
        // Asked without the lock: a mount that does not answer must not stop the saves to others.
        let answer = ask()?;
        self.remember(stat, answer);
        Ok(answer)
    }

    /// The answer that is remembered.
    pub(super) fn known(&self, stat: &Stat) -> Option<T> {
        let key = Key::of(stat);
        let lasts = if stat.mount.is_some() { self.lasts.0 } else { self.lasts.1 };
        let known = self.lock();
        let found = known.iter().find(|(of, since, _)| *of == key && since.elapsed() < lasts);
        found.map(|(.., answer)| *answer)
    }

    pub(super) fn remember(&self, stat: &Stat, answer: T) {
        let key = Key::of(stat);
        let mut known = self.lock();
        known.retain(|(of, ..)| *of != key);
        if known.len() == MOST {
            known.remove(0);
        }
        known.push((key, Instant::now(), answer));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Key, Instant, T)>> {
        self.known.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}
