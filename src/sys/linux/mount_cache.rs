//! Facts about mounts, remembered for as long as they can be relied on.

use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::sys::Stat;

/// As many mounts as anybody saves to; of more, the oldest are forgotten and asked again.
const MOST: usize = 64;

const A_SECOND: Duration = Duration::from_secs(1);

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
    /// Whether an answer holds as long as the mount does, not for a second only.
    is_fixed: bool,
}

impl<T: Copy> MountCache<T> {
    /// For what a remount may change.
    pub(super) const fn for_a_second() -> MountCache<T> {
        MountCache { known: Mutex::new(Vec::new()), is_fixed: false }
    }

    /// For what never changes as long as something is mounted.
    pub(super) const fn for_the_mount() -> MountCache<T> {
        MountCache { known: Mutex::new(Vec::new()), is_fixed: true }
    }

    /// The answer for the mount of the file that `stat` is of.
    pub(super) fn get(&self, stat: &Stat, ask: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let key = Key::of(stat);
        let is_fixed = self.is_fixed && matches!(key, Key::Mount(_));
        let holds = |since: &Instant| is_fixed || since.elapsed() < A_SECOND;
        if let Some((.., answer)) = self.lock().iter().find(|(of, since, _)| *of == key && holds(since)) {
            return Ok(*answer);
        }
        // Asked without the lock: a mount that does not answer must not stop the saves to others.
        let answer = ask()?;
        let mut known = self.lock();
        known.retain(|(of, ..)| *of != key);
        if known.len() == MOST {
            known.remove(0);
        }
        known.push((key, Instant::now(), answer));
        Ok(answer)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Key, Instant, T)>> {
        self.known.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}
