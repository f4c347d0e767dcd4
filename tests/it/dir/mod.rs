//! Proves that a directory changes from one complete version to the next: what a version contains, how
//! it is swapped where directories can't be exchanged, and how long readers keep theirs.

#[cfg(feature = "crash_testing")]
pub(crate) mod meanwhile;
pub(crate) mod model;
mod nature;
mod overlay;
#[cfg(feature = "crash_testing")]
mod pending;
#[cfg(feature = "crash_testing")]
mod restored;
mod rules;
mod scale;
mod snapshot;
mod syscalls;
