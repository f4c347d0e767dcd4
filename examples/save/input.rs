//! Standard input that can be given up while nothing comes.

use std::io::{self, Read};

use durafile::CancelToken;

/// Reads standard input; fails once the token is cancelled, even if a producer keeps it waiting.
pub(crate) struct Input<'a> {
    token: &'a CancelToken,
    /// Something has to come yet before the end.
    not_empty: bool,
}

impl<'a> Input<'a> {
    /// With `not_empty`, an end before the first byte is an error that holds [`Empty`].
    pub(crate) fn new(token: &'a CancelToken, not_empty: bool) -> Self {
        Self { token, not_empty }
    }
}

/// The input ended before its first byte.
#[derive(Debug)]
pub(crate) struct Empty;

impl Empty {
    pub(crate) fn is_cause_of(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|cause| cause.is::<Empty>())
    }
}

impl std::fmt::Display for Empty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the input is empty")
    }
}

impl std::error::Error for Empty {}

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !has_input()? {
            if self.token.is_cancelled() {
                return Err(io::Error::other("stopped by a signal"));
            }
        }
        let len = read_stdin(buf)?;
        if len == 0 && self.not_empty && !buf.is_empty() {
            return Err(io::Error::other(Empty));
        }
        self.not_empty = false;
        Ok(len)
    }
}

/// Whether the program was started without standard input (`<&-`), which must not pass for an empty one.
///
/// Rust's runtime opens the null device in the place of a standard descriptor that is closed, for reading
/// and writing, before `main` begins. Whoever gives the program the null device on purpose
/// (`< /dev/null`) opens it for reading only.
#[cfg(unix)]
pub(crate) fn is_closed() -> bool {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
    let stdin = io::stdin();
    let (Ok(found), Ok(null), Ok(flags)) = (fstat(&stdin), stat("/dev/null"), fcntl_getfl(&stdin)) else {
        return false;
    };
    let is_null =
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && found.st_rdev == null.st_rdev;
    is_null && flags.contains(OFlags::RDWR)
}

/// Elsewhere reading from a closed standard input is the end of the input; `--not-empty` refuses that.
#[cfg(not(unix))]
pub(crate) fn is_closed() -> bool {
    false
}

/// Waits a little for input, or its end.
#[cfg(unix)]
fn has_input() -> io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    // A signal ends the wait. One that comes just before it is noticed after this.
    const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    let stdin = io::stdin();
    match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&PATIENCE)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Past the buffer of the standard library, in which `poll` would not see what waits.
#[cfg(unix)]
fn read_stdin(buf: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::io::read(io::stdin(), buf)?)
}

#[cfg(not(unix))]
fn has_input() -> io::Result<bool> {
    Ok(true)
}

#[cfg(not(unix))]
fn read_stdin(buf: &mut [u8]) -> io::Result<usize> {
    io::stdin().read(buf)
}
