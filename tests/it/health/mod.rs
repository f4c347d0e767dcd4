//! Proves that `health` says what a save would meet.

mod rules;
