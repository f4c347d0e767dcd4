//! The settings of a crash test, as far as exploring the states needs them.

use std::env;
use std::error::Error;
use std::io;
use std::path::Path;

use crate::crash_testing::model::Model;

/// What save functions, checks and recoveries return, so that `?` works on any error in them.
///
/// ```
/// use std::path::Path;
///
/// use durafile::crash_testing::{CrashTest, Outcome};
///
/// fn save(dir: &Path) -> Outcome {
///     durafile::write(dir.join("a"), "1")?;
///     Ok(())
/// }
///
/// CrashTest::new(save).run(|_, _| Ok(()))?;
/// # Ok::<(), durafile::crash_testing::Failure>(())
/// ```
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

pub(crate) type Act<'a> = Box<dyn Fn(&Path) -> Outcome + 'a>;
pub(crate) type Prepare<'a> = Box<dyn Fn(&Path) -> io::Result<()> + 'a>;

/// The acknowledgment that the save function gives by returning `Ok`.
pub(crate) const SAVED: &str = "the save returned Ok";

/// The recovery that puts things right after a crash.
pub(crate) enum Recovery<'a> {
    Ours,
    None,
    Own(Act<'a>),
}

/// How the states that a crash may leave are tried.
pub(crate) struct Settings<'a> {
    pub(crate) recovery: Recovery<'a>,
    pub(crate) model: Model,
    pub(crate) limit: usize,
    pub(crate) seed: u64,
    pub(crate) second_crashes: bool,
    /// The one state to be tried.
    pub(crate) only: Option<String>,
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Settings {
            recovery: Recovery::Ours,
            model: Model::default(),
            limit: 1000,
            seed: env::var("DURAFILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1),
            second_crashes: true,
            only: env::var("DURAFILE_STATE").ok(),
        }
    }
}
