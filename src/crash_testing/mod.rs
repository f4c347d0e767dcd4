//! Every crash state of an application's own save path, tried in its own tests. On Linux only: elsewhere
//! the module is not there.
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
//! - Durafile's own operations below the directory that the save is given, and nothing else.
//!   Another way to write there is noticed at the end of the save and makes the test fail.
//! - On the thread that runs the save, and on durafile's own threads. A thread that the save
//!   starts itself is wrapped in [`inherit`].
//! - Several steps of one save function are told apart by [`ack`]: what was acknowledged before
//!   the crash is what the check may insist on.
//!
//! All data that is written is held in memory, several times over; a crash test of a few
//! small files finds what one of large files would.
//!
//! # Limits
//!
//! A crash takes what was not synced, in any combination; it does not damage what was. Time
//! stamps are not modelled. Reading is not recorded: a save that reads what it wrote before it
//! finds it, as on a real system that has not crashed yet.
//!
//! # Environment
//!
//! - `DURAFILE_SEED`: where there are too many states for all of them, the sample that is taken.
//! - `DURAFILE_STATE`: try only this state, named as a [`Failure`] names it.

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
pub use test::{CrashTest, Outcome};
pub use trace::{Operation, Trace};

pub use crate::sys::record::Fault;
