//! The stages of processing, each with a time-out of its own.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use durafile::CancelToken;

use crate::failure::{Failure, Outcome};

/// What the work looks at between its steps.
#[derive(Debug)]
pub(crate) struct Watch {
    stage: &'static str,
    deadline: Option<Instant>,
    cancel: CancelToken,
}

impl Watch {
    /// Whether to go on.
    pub(crate) fn check(&self) -> Outcome {
        if self.cancel.is_cancelled() {
            return Err(Failure::Cancelled);
        }
        match self.deadline {
            Some(deadline) if Instant::now() > deadline => Err(Failure::TimedOut(self.stage)),
            _ => Ok(()),
        }
    }
}

/// How stages are run.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    pub(crate) cancel: CancelToken,
    /// How long a stage that should have ended may go on before it is left to itself.
    pub(crate) patience: Duration,
}

impl Stages {
    /// How often the caller shows that it is alive.
    const TICK: Duration = Duration::from_millis(500);

    pub(crate) fn new(cancel: &CancelToken) -> Stages {
        Stages { cancel: cancel.clone(), patience: Duration::from_secs(5) }
    }

    /// Runs the work in a thread of its own, so that neither a panic nor a disk that hangs takes the
    /// service with it. A thread that doesn't end is left behind, with all that it holds: `work` owns the
    /// locks that must not be free before.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        stage: &'static str,
        limit: Duration,
        alive: &dyn Fn(),
        work: impl FnOnce(&Watch) -> Outcome<T> + Send + 'static,
    ) -> Outcome<T> {
        let watch = Watch { stage, deadline: Instant::now().checked_add(limit), cancel: self.cancel.clone() };
        watch.check()?;
        let (send, receive) = mpsc::channel();
        let body = move || {
            let result = work(&watch);
            // Nobody listens any more if it took too long.
            let _ = send.send(result);
        };
        std::thread::Builder::new().name(stage.to_owned()).spawn(body).map_err(Failure::Disk)?;
        let ends = Instant::now().checked_add(limit);
        let mut overdue: Option<Instant> = None;
        loop {
            alive();
            match receive.recv_timeout(Self::TICK) {
                Ok(result) => return result,
                Err(RecvTimeoutError::Disconnected) => return Err(Failure::Panicked(stage)),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let timed_out = ends.is_some_and(|end| Instant::now() > end);
            if timed_out || self.cancel.is_cancelled() {
                let since = *overdue.get_or_insert_with(Instant::now);
                if since.elapsed() > self.patience {
                    let cancelled = self.cancel.is_cancelled();
                    return Err(if cancelled { Failure::Cancelled } else { Failure::TimedOut(stage) });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn stages() -> Stages {
        Stages { patience: Duration::ZERO, ..Stages::new(&CancelToken::new()) }
    }

    #[test]
    fn a_stage_gives_its_result() {
        let result = stages().run("one", LONG, &|| {}, |watch| watch.check().map(|()| 7));
        assert_eq!(result.unwrap(), 7);
    }

    #[test]
    fn work_that_looks_at_its_watch_ends_in_time() {
        let spin = |watch: &Watch| -> Outcome<()> {
            loop {
                watch.check()?
            }
        };
        let result = stages().run("slow", Duration::from_millis(5), &|| {}, spin);
        assert!(matches!(result, Err(Failure::TimedOut("slow"))), "{result:?}");
    }

    #[test]
    fn work_that_hangs_is_left_behind() {
        let hang = |_: &Watch| -> Outcome<()> {
            loop {
                std::thread::park()
            }
        };
        let result = stages().run("hung", Duration::ZERO, &|| {}, hang);
        assert!(matches!(result, Err(Failure::TimedOut("hung"))), "{result:?}");
        let stages = stages();
        let cancel = stages.cancel.clone();
        let result = stages.run("hung", LONG, &move || cancel.cancel(), hang);
        assert!(matches!(result, Err(Failure::Cancelled)), "{result:?}");
    }

    #[test]
    fn a_panic_is_a_failure() {
        let result = stages().run("odd", LONG, &|| {}, |_| -> Outcome<()> { panic!("on purpose") });
        assert!(matches!(result, Err(Failure::Panicked("odd"))), "{result:?}");
    }
}
