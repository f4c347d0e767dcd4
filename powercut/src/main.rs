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
mod command;
#[cfg(target_os = "linux")]
mod device;
#[cfg(target_os = "linux")]
mod mirror;
#[cfg(target_os = "linux")]
mod random;
#[cfg(target_os = "linux")]
mod table;
#[cfg(target_os = "linux")]
mod work;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    command::run()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: the rig needs Linux");
}
