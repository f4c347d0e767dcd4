//! Proves what one save does: which paths it takes, the bytes, metadata and links that it leaves, its
//! exact system calls, and what the target holds when one of them fails or the save is cancelled.

pub(crate) mod cancel;
mod kept_metadata;
mod older_kernels;
mod property;
pub(crate) mod refusals;
mod rules_content;
mod rules_links;
mod rules_machine;
mod rules_metadata;
mod rules_paths;
mod rules_xattrs;
mod single_flush;
mod streams;
pub(crate) mod syscalls;
mod syscalls_faults;
mod waiting;
mod watchers;
mod write_out;
