//! Proves that the project keeps its own rules: the sources those of the house, the example program
//! `save` those of its page.

#[cfg(target_os = "linux")]
mod save_input;
#[cfg(target_os = "linux")]
pub(crate) mod save_program;
// The same sources in both builds: once is enough.
#[cfg(feature = "crash_testing")]
mod examples;
#[cfg(feature = "crash_testing")]
mod imports;
#[cfg(feature = "crash_testing")]
mod layers;
#[cfg(feature = "crash_testing")]
mod shipped;
#[cfg(feature = "crash_testing")]
mod tidy;
