//! The watcher: takes each recording of the inbox once, whoever else looks there.

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BlockingRetryable as _, ExponentialBuilder};
use durafile::health::Heartbeat;

use crate::chunks;
use crate::failure::{Failure, Outcome, Remedy};
use crate::item::{Held, exists};
use crate::layout::{Layout, RecordingId};
use crate::ledger::{Entry, State};
use crate::moves::{Moved, move_file, must_move, same};
use crate::pipeline::{Guard, Job, Observer};
use crate::service::Service;
use crate::stop::linger;

/// After so many a recording is set aside.
const ATTEMPTS: u32 = 2;
/// A recording on which work was begun so often, and never ended, is set aside: it may be what kills us.
const MAX_STARTS: u32 = 5;

/// What became of a recording.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It is settled, one way or the other.
    Settled,
    /// Somebody else is at it, or it is gone.
    NotOurs,
    /// The service is to stop; it is back in the inbox.
    PutBack,
}

#[derive(Debug)]
pub(crate) struct Worker {
    service: Arc<Service>,
    heartbeat: Heartbeat,
    last_beat: Cell<Option<Instant>>,
    last_sweep: Cell<Option<Instant>>,
    /// The recording at which the last round came to a halt.
    stuck: RefCell<Option<RecordingId>>,
}

impl Worker {
    pub(crate) fn new(service: Arc<Service>) -> Worker {
        Worker {
            heartbeat: Heartbeat::new(service.heartbeat()),
            service,
            last_beat: Cell::default(),
            last_sweep: Cell::default(),
            stuck: RefCell::default(),
        }
    }

    /// Works until the service stops.
    pub(crate) fn run(&self) {
        let service = &*self.service;
        while !service.stop.is_stopping() {
            self.alive();
            self.sweep();
            match self.round() {
                Ok(0) => {
                    service.now().held_up = None;
                    linger(service.config.poll, || self.alive(), |time| service.stop.wait(time));
                }
                Ok(_) => service.now().held_up = None,
                Err(e) => self.hold_up(&e),
            }
        }
    }

    /// Nothing can be done now; the recordings stay where they are.
    fn hold_up(&self, e: &Failure) {
        let before = self.service.now().held_up.replace(e.kind());
        if before != Some(e.kind()) {
            tracing::error!(error = e.kind(), cause = e.chain(), "no work can be done; trying again");
        }
        let pause = self.service.config.retry_delay;
        linger(pause, || self.alive(), |time| self.service.stop.sleep(time));
    }

    /// One look at the inbox; how many recordings were settled.
    fn round(&self) -> Outcome<usize> {
        let mut settled = 0;
        let mut waiting = Layout::recordings(&self.service.layout.inbox())?;
        // The one that nothing could be done for comes last: it may be the only one.
        let after = self.stuck.borrow().as_ref().map_or(0, |stuck| waiting.partition_point(|id| id <= stuck));
        waiting.rotate_left(after);
        for id in waiting {
            if self.service.stop.is_stopping() {
                break;
            }
            self.alive();
            let fate = self.take(&id);
            self.service.now().current = None;
            self.stuck.replace(fate.is_err().then_some(id));
            if fate? == Fate::Settled {
                settled += 1;
                self.service.now().held_up = None;
            }
        }
        Ok(settled)
    }

    fn take(&self, id: &RecordingId) -> Outcome<Fate> {
        let layout = &self.service.layout;
        // The listing is old by now: another service may have been quicker.
        if !exists(&layout.waiting(id))? {
            return Ok(Fate::NotOurs);
        }
        let Some(held) = Held::try_take(layout.lock(id))? else { return Ok(Fate::NotOurs) };
        if !exists(&layout.waiting(id))? {
            return Ok(Fate::NotOurs);
        }
        self.service.begins(id.as_str());
        if self.is_taken(id)? {
            return self.rename(id);
        }
        let entry = self.service.ledger.begin(id)?;
        match entry.state {
            State::Waiting if entry.starts > MAX_STARTS => {
                self.set_aside(id, &Failure::Interrupted(MAX_STARTS), entry.attempts)
            }
            State::Waiting => {
                if exists(&layout.failed(id))? {
                    // A retry was cut short in its move.
                    must_move(&layout.failed(id), &layout.waiting(id))?;
                }
                self.work(id, &held)
            }
            _ => self.put_away(id, &entry, &held),
        }
    }

    /// Whether another recording was put away under this name.
    fn is_taken(&self, id: &RecordingId) -> Outcome<bool> {
        let layout = &self.service.layout;
        for place in [layout.done(id), layout.failed(id)] {
            if exists(&place)? && !same(&layout.waiting(id), &place)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A newcomer under a known name becomes a recording of its own.
    fn rename(&self, id: &RecordingId) -> Outcome<Fate> {
        let (layout, own) = (&self.service.layout, RecordingId::for_name(id.as_str()));
        // Durable, or it could be put away, and come back under the name that it had.
        durafile::rename(layout.waiting(id), layout.waiting(&own)).map_err(|e| Failure::Disk(e.into()))?;
        tracing::warn!(%id, %own, "another recording has this name; the new one gets a name of its own");
        self.service.ledger.received(&own, id.as_str())?;
        Ok(Fate::Settled)
    }

    /// The ledger has it settled; either only the move was cut short, or it is another of that name.
    fn put_away(&self, id: &RecordingId, entry: &Entry, held: &Arc<Held>) -> Outcome<Fate> {
        let layout = &self.service.layout;
        let to = if entry.state == State::Failed { layout.failed(id) } else { layout.done(id) };
        match self.is_other(id, entry, &to, held) {
            Ok(false) if move_file(&layout.waiting(id), &to)? == Moved::There => Ok(Fate::Settled),
            Ok(_) => self.rename(id),
            Err(e) if e.remedy() == Remedy::Stop => Ok(Fate::PutBack),
            Err(e) => Err(e),
        }
    }

    /// What was done may have been taken away from `to` since, but the ledger knows its content.
    fn is_other(&self, id: &RecordingId, entry: &Entry, to: &Path, held: &Arc<Held>) -> Outcome<bool> {
        let Some(sha256) = entry.sha256.as_ref().filter(|_| entry.state != State::Failed) else {
            return Ok(false);
        };
        // Then it is the same: that was looked at before.
        if exists(to)? {
            return Ok(false);
        }
        match self.job(id, held.clone()).identify() {
            Ok(found) => Ok(found != *sha256),
            Err(e) if e.remedy() == Remedy::GiveUp => Ok(true),
            Err(e) => Err(e),
        }
    }

    fn job(&self, id: &RecordingId, guard: Guard) -> Job<'_> {
        Job {
            recording: self.service.layout.waiting(id),
            limits: self.service.config.limits.limits(),
            cancel: &self.service.cancel,
            guard,
            observer: self,
        }
    }

    fn work(&self, id: &RecordingId, held: &Arc<Held>) -> Outcome<Fate> {
        let attempts = Cell::new(0);
        let attempt = || {
            attempts.set(attempts.get() + 1);
            self.attempt(id, held, attempts.get())
        };
        let (stop, heartbeat) = (self.service.stop.clone(), self.heartbeat.clone());
        let again = ExponentialBuilder::default()
            .with_min_delay(self.service.config.retry_delay)
            .with_max_delay(self.service.config.retry_delay * 8)
            .with_max_times(ATTEMPTS as usize - 1)
            .with_jitter();
        let result = attempt
            .retry(again)
            .sleep(move |pause| linger(pause, || drop(heartbeat.beat()), |time| stop.sleep(time)))
            .when(|e| e.remedy() == Remedy::Retry && !self.service.stop.is_stopping())
            .notify(|e, pause| {
                tracing::warn!(%id, error = e.kind(), cause = e.chain(), ?pause, "trying again");
            })
            .call();
        match result {
            Ok(fate) => Ok(fate),
            Err(e) => self.failed(id, e, attempts.get()),
        }
    }

    fn failed(&self, id: &RecordingId, e: Failure, attempts: u32) -> Outcome<Fate> {
        match e.remedy() {
            Remedy::Stop => self.put_back(id),
            // It was to be tried again, but the service stops first.
            Remedy::Retry if self.service.stop.is_stopping() => self.put_back(id),
            Remedy::Wait => {
                // On a full disk this fails as well; then one start too many is counted.
                let _ = self.service.ledger.put_back(id);
                Err(e)
            }
            Remedy::Retry | Remedy::GiveUp => self.set_aside(id, &e, attempts),
        }
    }

    fn put_back(&self, id: &RecordingId) -> Outcome<Fate> {
        self.service.ledger.put_back(id)?;
        tracing::info!(%id, "left for the next run");
        Ok(Fate::PutBack)
    }

    fn set_aside(&self, id: &RecordingId, e: &Failure, attempts: u32) -> Outcome<Fate> {
        tracing::error!(%id, error = e.kind(), attempts, cause = e.chain(), "failed; set aside");
        self.service.ledger.failed(id, e, attempts)?;
        let layout = &self.service.layout;
        must_move(&layout.waiting(id), &layout.failed(id))?;
        Ok(Fate::Settled)
    }

    fn attempt(&self, id: &RecordingId, held: &Arc<Held>, attempts: u32) -> Outcome<Fate> {
        let (layout, ledger) = (&self.service.layout, &self.service.ledger);
        if attempts > 1 && self.service.stop.is_stopping() {
            return Err(Failure::Cancelled);
        }
        let sha256 = self.job(id, held.clone()).identify()?;
        // The same content under two names: one of them at a time.
        let Some(content) = Held::try_take(layout.content_lock(&sha256))? else {
            self.service.ledger.put_back(id)?;
            return Ok(Fate::NotOurs);
        };
        if let Some(first) = ledger.done_as(&sha256)? {
            ledger.duplicate(id, &sha256)?;
            tracing::info!(%id, %first, "skipped: this content is done already");
        } else {
            let job = self.job(id, Arc::new((held.clone(), content)));
            let product = job.make(&sha256)?;
            let seconds = product.seconds();
            // Killed after this and before the ledger has it, it is done again: the same result, in the
            // same place.
            job.publish(product, &layout.result(&sha256))?;
            ledger.done(id, &sha256, seconds, attempts)?;
            tracing::info!(%id, seconds, "done");
        }
        must_move(&layout.waiting(id), &layout.done(id))?;
        Ok(Fate::Settled)
    }

    /// Removes forgotten chunks from time to time.
    fn sweep(&self) {
        let age = self.service.config.chunk_age;
        let every = (age / 4).min(Duration::from_secs(600));
        if self.last_sweep.get().is_some_and(|last| last.elapsed() < every) {
            return;
        }
        self.last_sweep.set(Some(Instant::now()));
        if let Err(e) = chunks::sweep(&self.service.layout, age) {
            tracing::warn!(error = e.kind(), cause = e.chain(), "could not look for forgotten chunks");
        }
    }
}

impl Observer for Worker {
    fn begins(&self, stage: &'static str) {
        if let Some(current) = &mut self.service.now().current {
            current.stage = stage;
        }
    }

    /// At most once a second.
    fn alive(&self) {
        if self.last_beat.get().is_some_and(|last| last.elapsed() < Duration::from_secs(1)) {
            return;
        }
        self.last_beat.set(Some(Instant::now()));
        if let Err(e) = self.heartbeat.beat() {
            tracing::warn!(error = e.kind().as_str(), cause = %e, "could not give a sign of life");
        }
    }
}
