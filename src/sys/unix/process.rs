//! The identity of this process, and whether another one still runs. Answers come from `/proc` where there
//! is one; without it they are "don't know".

use std::time::Duration;

use rustix::process::Pid;

use super::errors::is_no_process;
use super::retry;
use crate::sys::Process;

impl Process {
    pub(crate) fn this() -> Process {
        let pid = std::process::id();
        Process { pid, started: started(pid), space: name_space("pid"), boot: boot_id() }
    }

    /// Has this process, which ran in the same run of the system, ended for certain? Never
    /// said of a process whose number means something else here.
    pub(crate) fn has_ended(&self) -> bool {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return false };
        if self.space.is_none() || self.space != name_space("pid") {
            return false;
        }
        let gone = retry(|| rustix::process::test_kill_process(pid)).is_err_and(|e| is_no_process(&e));
        let recycled = match (self.started, started(self.pid)) {
            (Some(then), Some(now)) => then != now,
            _ => false,
        };
        gone || recycled
    }
}

/// The id of this run of the system. Unlike a time, a changed clock leaves it alone.
pub(crate) fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// A name space of this process, such as `pid:[4026531836]`.
pub(crate) fn name_space(kind: &str) -> Option<String> {
    let link = retry(|| std::fs::read_link(format!("/proc/self/ns/{kind}"))).ok()?;
    link.into_os_string().into_string().ok()
}

/// Field 22 of `/proc/<pid>/stat`. The second is the program's name in brackets, which may hold
/// anything.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The time since some moment of this run of the system, which nobody can set. It stands still
/// while the system sleeps.
pub(crate) fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.try_into().unwrap_or(0), now.tv_nsec.try_into().unwrap_or(0))
}
