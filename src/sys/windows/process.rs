//! Who we are. Whether somebody still is can't be asked without a number that may be another's now.

use std::time::Duration;

use winapi_util::sysinfo::{ComputerNameKind, get_computer_name};

/// What tells one process from all others that ever had its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// Not known here.
    pub(crate) started: Option<u64>,
    /// There are none here.
    pub(crate) space: Option<String>,
    /// Not known here.
    pub(crate) boot: Option<String>,
}

impl Process {
    pub(crate) fn this() -> Process {
        Process { pid: std::process::id(), started: None, space: None, boot: None }
    }

    /// Never certain. Whether its lock is held tells.
    pub(crate) fn has_ended(&self) -> bool {
        false
    }
}

/// Not known here.
pub(crate) fn boot_id() -> Option<String> {
    None
}

/// There are none here.
pub(crate) fn name_space(_kind: &str) -> Option<String> {
    None
}

pub(crate) fn host_name() -> String {
    let name = get_computer_name(ComputerNameKind::PhysicalDnsHostname);
    name.map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// Means nothing without an id of the run of the system.
pub(crate) fn uptime() -> Duration {
    Duration::ZERO
}
