//! Saves with conditions, on Linux: whose lock it is and where, and which system calls they make. What holds on every
//! platform is in `portable/update.rs`, the crashes in `crash`.

mod rules;
mod syscalls;
