//! Proves that many files saved as one set keep the rules of `Batch`, make exactly the syncs that their
//! strategy promises, and are whole after a kill at any system call.

mod auto_strategy;
mod batch;
mod discard;
mod forked;
mod killed;
mod letters;
mod options;
mod syscalls;
