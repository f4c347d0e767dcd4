//! Write-back that is started or waited for by `sync_file_range`, which no safe crate offers: the
//! crate's one piece of unsafe code.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use crate::sys::File;
use crate::sys::unix::no_write_out;

/// Starts writing a range of dirty pages to the device; with `wait`, also waits for it. It
/// makes nothing durable: no metadata is written and no device cache is flushed.
#[cfg(not(target_os = "android"))]
#[expect(unsafe_code, reason = "no safe crate offers the call")]
fn write_out(fd: BorrowedFd<'_>, offset: u64, len: u64, wait: bool) -> io::Result<()> {
    use std::ffi::{c_int, c_uint};
    use std::os::fd::AsRawFd;

    const WAIT_BEFORE: c_uint = 1;
    const WRITE: c_uint = 2;
    const WAIT_AFTER: c_uint = 4;

    unsafe extern "C" {
        fn sync_file_range(fd: c_int, offset: i64, nbytes: i64, flags: c_uint) -> c_int;
    }

    let flags = if wait { WAIT_BEFORE | WRITE | WAIT_AFTER } else { WRITE };
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return Err(Errno::INVAL.into());
    };
    // SAFETY: passes integers only; the borrowed descriptor is open for the length of the call.
    match unsafe { sync_file_range(fd.as_raw_fd(), offset, len, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Only the newer C libraries of Android have the call.
#[cfg(target_os = "android")]
fn write_out(_: BorrowedFd<'_>, _: u64, _: u64, _: bool) -> io::Result<()> {
    Err(Errno::NOSYS.into())
}

impl File {
    /// Starts writing everything to the device, so that the sync has less to wait for. Makes nothing
    /// durable. Errors are left to the sync, which is told of them.
    pub(crate) fn begin_write_out(&self) {
        let _ = self.write_out(0, 0, false);
    }

    /// Starts writing a range to the device; with `wait`, waits for it. Makes nothing durable. An error
    /// that was waited for is not told again by a sync (`file_check_and_advance_wb_err` in
    /// the kernel's `mm/filemap.c`).
    pub(crate) fn write_out(&self, offset: u64, len: u64, wait: bool) -> io::Result<()> {
        let written: io::Result<()> = record!(
            Op::WriteOut { file: self, offset, len, wait },
            write_out(self.as_fd(), offset, len, wait)
        );
        // Early write-back only saves time; the sync does without it.
        if written.as_ref().is_err_and(no_write_out) { Ok(()) } else { written }
    }

    /// Writes everything to the device and waits. With all three flags the kernel waits for each
    /// page, and reports what went wrong. Where there is no such call, a sync does it.
    pub(crate) fn written_out(&self) -> io::Result<()> {
        let written: io::Result<()> = record!(
            Op::WriteOut { file: self, offset: 0, len: u64::MAX, wait: true },
            write_out(self.as_fd(), 0, 0, true)
        );
        if written.as_ref().is_err_and(no_write_out) { self.sync() } else { written }
    }
}
