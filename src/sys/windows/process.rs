//! The identity of this process. Whether another one still runs can't be asked: its number may be
//! somebody else's now.

use std::time::Duration;

use winapi_util::sysinfo::{ComputerNameKind, get_computer_name};

use crate::sys::Process;

impl Process {
    pub(crate) fn this() -> Process {
        Process { pid: std::process::id(), started: None, space: None, boot: None }
    }

    /// The end of a process is never certain. Whether its lock is held tells.
    pub(crate) fn has_ended(&self) -> bool {
        false
    }
}

/// The run of the system has no id.
pub(crate) fn boot_id() -> Option<String> {
    None
}

/// There are no name spaces.
pub(crate) fn name_space(_kind: &str) -> Option<String> {
    None
}

pub(crate) fn host_name() -> String {
    let name = get_computer_name(ComputerNameKind::PhysicalDnsHostname);
    name.map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// A time since the start means nothing without an id of the run of the system.
pub(crate) fn uptime() -> Duration {
    Duration::ZERO
}
