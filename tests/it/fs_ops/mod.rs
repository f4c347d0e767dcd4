//! The file operations that `std::fs` has without durability: what they do, what they refuse, and which
//! system calls they make. Their crashes are in `crash`.

mod meanwhile;
mod rules;
mod syscalls;
