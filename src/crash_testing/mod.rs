//! Tries every crash state of an application's own save path, in the application's own tests.
//!
//! This works on Linux only. On other platforms the module contains only [`fail_saves`], which makes saves fail on
//! purpose.
//!
//! With the feature `crash_testing` (for test builds: put it under `[dev-dependencies]`), a
//! [`CrashTest`] runs a save function once on a real directory and records each operation of
//! durafile that changes something. A [`Model`] of what file systems may do turns that record
//! into every disk that a crash could leave. Each of these is written out as a real directory,
//! [`recover`](crate::recover) runs on it, and the application's own check looks at it with
//! plain `std::fs`. Recovery is crashed, too.
//!
//! ```
//! use durafile::crash_testing::CrashTest;
//!
//! let report = CrashTest::new(|dir| Ok(drop(durafile::write(dir.join("state"), "new")?)))
//!     .initial(|dir| std::fs::write(dir.join("state"), "old"))
//!     .run(|dir, acked| {
//!         let state = std::fs::read_to_string(dir.join("state"))?;
//!         assert!(state == "new" || state == "old" && !acked.saved(), "{state}");
//!         Ok(())
//!     })?;
//! println!("{report}");
//! # Ok::<(), durafile::crash_testing::Failure>(())
//! ```
//!
//! # What is recorded
//!
//! - Only durafile's own operations below the directory that the save is given are recorded. If the
//!   save writes there in another way, that is noticed at its end and makes the test fail.
//! - They are recorded on the thread that runs the save, and on durafile's own threads. A thread that
//!   the save starts itself must be wrapped in [`inherit`].
//! - Several steps of one save function are told apart by [`ack`]: what was acknowledged before
//!   the crash is what the check may insist on.
//!
//! All data that is written is held in memory, several times over. A crash test with a few
//! small files finds the same faults as one with large files.
//!
//! # Limits
//!
//! A crash takes away what was not synced, in any combination, but it does not damage what was.
//! Time stamps are not modelled. Reading is not recorded: a save that reads what it wrote earlier
//! finds it, as on a real system that has not crashed yet.
//!
//! # Environment
//!
//! - `DURAFILE_SEED` chooses the sample that is tried where there are too many states to try all of them.
//! - `DURAFILE_STATE` makes a test try only this state, named as a [`Failure`] names it.

mod acked;
mod content;
mod disk;
mod explore;
mod model;
mod naming;
mod random;
mod recording;
mod recovery;
mod report;
mod settings;
mod states;
mod test;
#[cfg(test)]
mod tests;
mod trace;
mod units;

pub use acked::Acked;
pub use explore::Known;
pub use model::Model;
pub use recording::{Recording, ack, inherit};
pub use report::{Failure, Report};
pub use settings::Outcome;
pub use test::CrashTest;
pub use trace::{Operation, Trace};

pub use crate::failing::{FailSaves, fail_saves};
pub use crate::sys::recorder::Fault;
