//! What is done on that disk, and what must be found there after a power cut.

pub(crate) mod content;
pub(crate) mod dirs;
pub(crate) mod experiment;
pub(crate) mod names;
pub(crate) mod noise;
pub(crate) mod operation;
pub(crate) mod refuse;
pub(crate) mod sets;
pub(crate) mod single;
pub(crate) mod teeth;
pub(crate) mod worker;
