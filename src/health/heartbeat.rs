//! A sign of life.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::atomic::target::Target;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::journal::encoding::read_at_most;
use crate::key_value::{self, KeyValues};
use crate::options::WriteOptions;
use crate::options::durability::Durability;
use crate::sys;

const TITLE: &str = "durafile heartbeat 1";

/// A file by which a program shows that it is alive; another process or a container's probe looks
/// at its age.
///
/// Let the loop that does the work call [`beat`](Heartbeat::beat), not a thread of its own: that
/// would go on when the work hangs.
///
/// # The clock
///
/// Within one run of the system, age is measured with a clock that nobody can set
/// (`CLOCK_MONOTONIC`): a step of the wall clock makes nothing older or younger. While the system
/// sleeps, the writer sleeps too, and nothing ages. The wall clock is only used where that clock
/// can't be compared: after a restart of the system, from another machine, between containers with
/// time name spaces of their own, and without `/proc`. There a beat of a dead writer may count
/// for up to `max_age` after a restart, and a clock step of more than `max_age` makes a live writer
/// seem dead until its next beat.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("alive");
/// use std::time::Duration;
///
/// use durafile::health::Heartbeat;
///
/// let heartbeat = Heartbeat::new(&path);
/// heartbeat.beat()?;
///
/// assert!(Heartbeat::is_alive(&path, Duration::from_secs(30))?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Heartbeat {
    path: PathBuf,
}

impl Heartbeat {
    /// The heartbeat at this path. The file is not touched yet.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::health::Heartbeat;
    ///
    /// let heartbeat = Heartbeat::new(dir.join("alive"));
    /// assert!(!dir.join("alive").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(path: impl AsRef<Path>) -> Heartbeat {
        Heartbeat { path: path.as_ref().to_owned() }
    }

    /// Shows that the program is alive now. The file is replaced atomically but not synced, because nothing is alive
    /// after a power cut anyway.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use durafile::health::Heartbeat;
    ///
    /// let heartbeat = Heartbeat::new(dir.join("alive"));
    /// for job in ["one", "two"] {
    ///     println!("working on {job}");
    ///     if let Err(e) = heartbeat.beat() {
    ///         eprintln!("{e}");
    ///     }
    /// }
    /// # assert!(dir.join("alive").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](crate::write()). Most programs do best to log the error and go on.
    pub fn beat(&self) -> Result<()> {
        let options = WriteOptions::new().durability(Durability::None);
        options.write(&self.path, Beat::now().to_text()).map(drop)
    }

    /// Whether the file at this path shows a beat that is at most `max_age` old. A missing file, or one that
    /// holds no complete beat, counts as no beat.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// # let dir = dir.path();
    /// use std::time::Duration;
    ///
    /// use durafile::health::Heartbeat;
    ///
    /// // Nobody has ever shown a sign of life here.
    /// assert!(!Heartbeat::is_alive(dir.join("alive"), Duration::from_secs(30))?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If the file can't be read, or is not a regular file.
    pub fn is_alive(path: impl AsRef<Path>, max_age: Duration) -> Result<bool> {
        match read(path.as_ref()) {
            Ok(beat) => Ok(beat.is_some_and(|beat| beat.is_within(max_age, &Beat::now()))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }
}

fn read(path: &Path) -> Result<Option<Beat>> {
    let target = Target::resolve_to_read(path)?;
    let failed = |e| Error::io("read", path, e);
    let file = target.dir.open_file(&target.name).map_err(failed)?;
    Ok(Beat::from_text(&read_at_most(&file, key_value::MAX_LEN).map_err(failed)?))
}

/// A moment, by two clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Beat {
    /// Since some moment of this run of the system.
    uptime: Duration,
    /// The run of the system.
    boot: Option<String>,
    /// The name space that `uptime` belongs to; none in kernels that know no such thing.
    space: Option<String>,
    /// Since 1970, by a clock that can be set.
    wall: Duration,
}

impl Beat {
    fn now() -> Beat {
        Beat {
            uptime: sys::uptime(),
            boot: sys::boot_id(),
            space: sys::name_space("time"),
            wall: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
        }
    }

    fn is_within(&self, max_age: Duration, now: &Beat) -> bool {
        let same_clock = self.boot.is_some() && self.boot == now.boot && self.space == now.space;
        match now.uptime.checked_sub(self.uptime) {
            Some(age) if same_clock => age <= max_age,
            // A wall clock may have been set back as well as forward.
            _ => self.wall.abs_diff(now.wall) <= max_age,
        }
    }

    fn to_text(&self) -> String {
        key_value::Writer::new(TITLE)
            .duration("uptime", self.uptime)
            .line_if("boot", self.boot.as_ref())
            .line_if("space", self.space.as_ref())
            .duration("wall", self.wall)
            .finish()
    }

    fn from_text(text: &[u8]) -> Option<Beat> {
        let note = KeyValues::parse(TITLE, text)?;
        Some(Beat {
            uptime: note.duration("uptime")?,
            boot: note.value("boot"),
            space: note.value("space"),
            wall: note.duration("wall")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn beat(uptime: u64, boot: &str, wall: u64) -> Beat {
        Beat {
            uptime: Duration::from_secs(uptime),
            boot: Some(boot.to_owned()),
            space: Some("time:[1]".to_owned()),
            wall: Duration::from_secs(wall),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let now = Beat::now();
        assert_eq!(Beat::from_text(now.to_text().as_bytes()), Some(now));
    }

    #[test]
    fn within_one_run_of_the_system_the_wall_clock_does_not_count() {
        let then = beat(1000, "a", 50_000);
        for wall in [0, 50_030, 1_000_000] {
            assert!(then.is_within(MINUTE, &beat(1060, "a", wall)), "{wall}");
            assert!(!then.is_within(MINUTE, &beat(1061, "a", wall)), "{wall}");
        }
    }

    #[test]
    fn where_clocks_can_t_be_compared_the_wall_clock_decides_in_both_directions() {
        let then = beat(1000, "a", 50_000);
        let elsewhere = Beat { space: None, ..beat(1030, "a", 0) };
        let no_proc = Beat { boot: None, ..beat(1030, "a", 0) };
        for now in [beat(1030, "b", 0), beat(900, "a", 0), elsewhere, no_proc] {
            for (wall, alive) in [(50_060, true), (50_061, false), (49_940, true), (49_939, false)] {
                let now = Beat { wall: Duration::from_secs(wall), ..now.clone() };
                assert_eq!(then.is_within(MINUTE, &now), alive, "{now:?}");
            }
        }
        let unknown = Beat { boot: None, ..then };
        assert!(!unknown.is_within(MINUTE, &Beat { boot: None, ..beat(1030, "a", 0) }));
    }
}
