//! `sync_file_range`, which no safe crate offers: the crate's one piece of unsafe code.
#![allow(unsafe_code, reason = "no safe crate offers the call")]

use std::ffi::{c_int, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

const WAIT_BEFORE: c_uint = 1;
const WRITE: c_uint = 2;
const WAIT_AFTER: c_uint = 4;

unsafe extern "C" {
    fn sync_file_range(fd: c_int, offset: i64, nbytes: i64, flags: c_uint) -> c_int;
}

/// Starts writing a range of dirty pages to the device; with `wait`, also waits for it. It
/// makes nothing durable: no metadata is written and no device cache is flushed.
pub(super) fn write_out(fd: BorrowedFd<'_>, offset: u64, len: u64, wait: bool) -> std::io::Result<()> {
    let flags = if wait { WAIT_BEFORE | WRITE | WAIT_AFTER } else { WRITE };
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return Err(Errno::INVAL.into());
    };
    // SAFETY: passes integers only; the borrowed descriptor is open for the length of the call.
    match unsafe { sync_file_range(fd.as_raw_fd(), offset, len, flags) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}
