//! Standard input that can be given up while nothing comes.

use std::io::{self, Read};

use durafile::CancelToken;

/// Reads standard input; fails once the token is cancelled, even if a producer keeps it waiting.
pub(crate) struct Input<'a> {
    token: &'a CancelToken,
}

impl<'a> Input<'a> {
    pub(crate) fn new(token: &'a CancelToken) -> Self {
        Self { token }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while !has_input()? {
            if self.token.is_cancelled() {
                return Err(io::Error::other("stopped by a signal"));
            }
        }
        read_stdin(buf)
    }
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
