//! What the worker and the HTTP interface share.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use durafile::CancelToken;
use serde::Serialize;

use crate::config::Serve;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::settle::Settled;
use crate::stop::Stop;

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: Serve,
    pub(crate) layout: Layout,
    pub(crate) ledger: Ledger,
    /// No more work is taken.
    pub(crate) stop: Stop,
    /// What is under way ends without a result.
    pub(crate) cancel: CancelToken,
    pub(crate) began: Instant,
    pub(crate) settled: Settled,
    now: Mutex<Now>,
}

/// What the worker is doing.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Now {
    pub(crate) current: Option<Current>,
    /// Why no work can be done just now, by its kind.
    pub(crate) held_up: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Current {
    pub(crate) id: String,
    pub(crate) stage: &'static str,
    /// Seconds since 1970.
    pub(crate) since: u64,
}

impl Service {
    pub(crate) fn new(config: Serve, layout: Layout, ledger: Ledger, settled: Settled) -> Service {
        Service {
            config,
            layout,
            ledger,
            stop: Stop::default(),
            cancel: CancelToken::new(),
            began: Instant::now(),
            settled,
            now: Mutex::default(),
        }
    }

    /// Where the sign of life is.
    pub(crate) fn heartbeat(&self) -> PathBuf {
        self.config.heartbeat.clone().unwrap_or_else(|| self.layout.heartbeat())
    }

    pub(crate) fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    pub(crate) fn begins(&self, id: &str) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.now().current = Some(Current { id: id.to_owned(), stage: "begin", since });
    }
}
