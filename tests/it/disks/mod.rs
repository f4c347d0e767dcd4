//! Proves that the rules hold on each file system that people use, and that a disk without room, or a
//! quota that is used up, costs nothing but the save, whatever step it interrupts.

mod filesystems;
mod full_disks;
mod full_recovery;
mod quotas;
