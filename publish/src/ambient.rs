//! What the protocol takes from its surroundings: random names, the time, pauses. The model test puts its own in.

use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::error::{Error, Result};
use crate::keys::Session;

/// How often a request whose outcome can't be seen is tried again.
const ATTEMPTS: u32 = 6;

#[derive(Clone, Debug)]
pub(crate) struct Ambient {
    session: fn() -> Result<Session>,
    now: fn() -> SystemTime,
    first_pause: Duration,
    attempts: u32,
}

impl Ambient {
    pub(crate) fn real() -> Ambient {
        let session = || {
            Session::random().map_err(|e| Error::io("get random numbers from", Path::new("the system"), e))
        };
        Ambient { session, now: SystemTime::now, first_pause: Duration::from_millis(100), attempts: ATTEMPTS }
    }

    /// Nothing random, no clock, no pauses.
    #[cfg(test)]
    pub(crate) fn scripted(session: fn() -> Result<Session>, attempts: u32) -> Ambient {
        Ambient { session, now: || SystemTime::UNIX_EPOCH, first_pause: Duration::ZERO, attempts }
    }

    pub(crate) fn session(&self) -> Result<Session> {
        (self.session)()
    }

    pub(crate) fn now(&self) -> SystemTime {
        (self.now)()
    }

    pub(crate) fn seconds(&self) -> u64 {
        self.now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Longer after each attempt.
    pub(crate) async fn pause(&self, attempt: u32) {
        if !self.first_pause.is_zero() {
            tokio::time::sleep(self.first_pause * 2u32.pow(attempt.min(6))).await;
        }
    }
}
