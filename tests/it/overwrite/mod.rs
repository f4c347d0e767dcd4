//! Proves what `InPlace::Fallback` promises: a file that can't be replaced is overwritten, and whatever interrupts
//! that, its old content comes back. The crash states are enumerated in `crash/cases_overwrite.rs`.

mod interrupted;
mod recovery;
mod rules;
mod world;
