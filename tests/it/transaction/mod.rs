//! Proves that a transaction changes all of its files or none, also where a killed writer's record is
//! carried out by somebody else, once and as it was meant.

#[cfg(feature = "crash_testing")]
pub(crate) mod meanwhile;
#[cfg(feature = "crash_testing")]
pub(crate) mod record;
#[cfg(feature = "crash_testing")]
mod refusals;
#[cfg(feature = "crash_testing")]
mod restored;
mod rules;
