//! What a power cut leaves of durafile's saves, on the real thing.
//!
//! A disk in memory, behind FUSE and a loop device, keeps a record of every write and flush that a
//! file system sends it. Any of the disks that a power cut could have left by then is built from the
//! record, mounted, recovered and looked at. See `docs/powercut.md`.
//!
//! Three kinds of processes: this one, which asks for what is wanted and prints the table; for each
//! file system one in a mount name space of its own, which mounts and works; and for each of these one
//! that is the disk.

#[cfg(target_os = "linux")]
mod bare;
#[cfg(target_os = "linux")]
mod bench;
#[cfg(target_os = "linux")]
mod command;
#[cfg(target_os = "linux")]
mod content;
#[cfg(target_os = "linux")]
mod daemon;
#[cfg(target_os = "linux")]
mod dirs;
#[cfg(target_os = "linux")]
mod disk;
#[cfg(target_os = "linux")]
mod file_system;
#[cfg(target_os = "linux")]
mod fuse;
#[cfg(target_os = "linux")]
mod mirror;
#[cfg(target_os = "linux")]
mod mirror_ops;
#[cfg(target_os = "linux")]
mod noise;
#[cfg(target_os = "linux")]
mod operation;
#[cfg(target_os = "linux")]
mod random;
#[cfg(target_os = "linux")]
mod recording;
#[cfg(target_os = "linux")]
mod refuse;
#[cfg(target_os = "linux")]
mod rig;
#[cfg(target_os = "linux")]
mod sets;
#[cfg(target_os = "linux")]
mod single;
#[cfg(target_os = "linux")]
mod store;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod teeth;
#[cfg(target_os = "linux")]
mod worker;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    command::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: the rig needs Linux");
}
