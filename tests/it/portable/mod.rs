//! Proves what the crate promises on every platform. Nothing in this folder needs Linux: it also runs on
//! Windows.

mod dir_writers;
mod dirs;
mod errors;
#[cfg(feature = "crash_testing")]
mod failing;
mod files;
mod killed;
mod races;
#[cfg(any(windows, target_os = "macos", target_os = "linux"))]
pub(crate) mod spelling;
mod update;
#[cfg(windows)]
mod windows;
