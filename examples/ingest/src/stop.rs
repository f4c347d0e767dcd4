//! Waiting that ends at once when the service is to stop, or when there is work.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// One switch for the whole service, shared by its clones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopping: bool,
    nudged: bool,
}

impl Stop {
    /// No more work is taken, and whoever sleeps wakes.
    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.0.changed.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state().stopping
    }

    /// There is something to do.
    pub(crate) fn nudge(&self) {
        self.state().nudged = true;
        self.0.changed.notify_all();
    }

    /// Sleeps until there may be something to do. Whether it was woken.
    pub(crate) fn wait(&self, longest: Duration) -> bool {
        let mut state = self.pause(longest, |state| state.stopping || state.nudged);
        std::mem::take(&mut state.nudged) || state.stopping
    }

    /// Sleeps; only the end of the service wakes it. Whether it did.
    pub(crate) fn sleep(&self, time: Duration) -> bool {
        self.pause(time, |state| state.stopping).stopping
    }

    fn pause(&self, longest: Duration, enough: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let began = Instant::now();
        let mut state = self.state();
        while !enough(&state) {
            let left = longest.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            state = match self.0.changed.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(broken) => broken.into_inner().0,
            };
        }
        state
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|broken| broken.into_inner())
    }
}

/// A long pause of which `alive` is told every second; `pause` says whether it was woken.
pub(crate) fn linger(time: Duration, alive: impl Fn(), pause: impl Fn(Duration) -> bool) {
    const TICK: Duration = Duration::from_secs(1);
    let began = Instant::now();
    loop {
        alive();
        let left = time.saturating_sub(began.elapsed());
        if left.is_zero() || pause(left.min(TICK)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn sleep_ends_at_once_when_the_service_stops() {
        let stop = Stop::default();
        let other = stop.clone();
        let sleeper = std::thread::spawn(move || other.sleep(LONG));
        stop.stop();
        sleeper.join().unwrap();
        stop.sleep(LONG);
        stop.wait(LONG);
    }

    #[test]
    fn a_nudge_ends_one_wait_and_no_sleep() {
        let stop = Stop::default();
        stop.nudge();
        stop.wait(LONG);
        stop.nudge();
        let began = Instant::now();
        stop.sleep(Duration::from_millis(20));
        assert!(began.elapsed() >= Duration::from_millis(20));
    }
}
