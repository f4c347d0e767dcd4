//! The disk: what it is asked to do is recorded, and any state that a power cut could have left of it can
//! be mounted.

pub(crate) mod bare;
pub(crate) mod daemon;
pub(crate) mod disk;
pub(crate) mod file_system;
pub(crate) mod fuse;
pub(crate) mod recording;
pub(crate) mod rig;
pub(crate) mod store;
