//! Threads that make files durable, kept for as long as a set needs them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};

use super::sync_set::Failed;
use crate::sys::{self, File};

/// The more syncs the file system sees at once, the more share one commit of its journal; but each
/// thread that waits is one to be woken.
const THREADS: usize = 16;

/// A file and its number in the set.
pub(super) type Tagged = (usize, File);

/// What is done to some files. Each is closed afterwards.
#[derive(Debug)]
pub(super) enum Job {
    /// All are written out, then each is synced.
    SyncAll(Vec<Tagged>),
    Sync(Tagged),
    /// All are written out and waited for; some other flush makes them durable.
    WriteOut(Vec<Tagged>),
}

impl Job {
    fn len(&self) -> usize {
        match self {
            Job::SyncAll(files) | Job::WriteOut(files) => files.len(),
            Job::Sync(_) => 1,
        }
    }
}

/// Files that are made durable in the background.
#[derive(Debug, Default)]
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is something in the queue, or it is over.
    work: Condvar,
    /// Some files are done.
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Job>,
    /// Files in the queue or under way.
    pending: usize,
    failed: Option<Failed>,
    /// Something failed: nothing more is begun.
    stopped: bool,
    over: bool,
}

impl Pool {
    /// Begins with this, once no more than `most` other files are pending. The error is
    /// that of an earlier one.
    pub(super) fn submit(&mut self, job: Job, most: usize) -> Result<(), Failed> {
        let wanted = match &job {
            Job::WriteOut(_) => self.threads.len() + 1,
            _ => job.len(),
        };
        let mut state = self.shared.help(most);
        if let Some(failed) = state.failed.take() {
            return Err(failed);
        }
        state.pending += job.len();
        state.queue.push_back(job);
        drop(state);
        self.shared.work.notify_one();
        self.grow(wanted.min(THREADS));
        Ok(())
    }

    /// Waits, and helps, until no more than `most` files are pending.
    pub(super) fn make_room(&self, most: usize) {
        drop(self.shared.help(most));
    }

    fn grow(&mut self, wanted: usize) {
        while self.threads.len() < wanted {
            let shared = Arc::clone(&self.shared);
            match Builder::new().spawn(sys::inherit(move || shared.serve())) {
                Ok(thread) => self.threads.push(thread),
                // Not needed: the others, and whoever waits, do its share.
                Err(_) => break,
            }
        }
    }

    /// Helps until everything that was submitted is done. After a failure nothing more is
    /// synced; of several failures the first file's is returned.
    pub(super) fn finish(&mut self) -> Result<(), Failed> {
        let mut state = self.shared.help(0);
        state.failed.take().map_or(Ok(()), Err)
    }

    /// Waits for what is under way, and does no more.
    pub(super) fn abandon(mut self) -> Option<Failed> {
        let mut state = self.shared.lock();
        let waiting: usize = state.queue.drain(..).map(|job| job.len()).sum();
        state.pending -= waiting;
        drop(state);
        self.finish().err()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.queue.clear();
        state.over = true;
        drop(state);
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // One that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

type Guard<'a> = MutexGuard<'a, State>;

impl Shared {
    fn lock(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    fn wait<'a>(&self, on: &Condvar, state: Guard<'a>) -> Guard<'a> {
        on.wait(state).unwrap_or_else(|broken| broken.into_inner())
    }

    /// Does what others would do, until no more than `most` files are pending. There may be no
    /// others.
    fn help(&self, most: usize) -> Guard<'_> {
        let mut state = self.lock();
        while state.pending > most {
            state = match state.queue.pop_front() {
                Some(job) => self.perform(state, job),
                None => self.wait(&self.done, state),
            };
        }
        state
    }

    fn serve(&self) {
        let mut state = self.lock();
        while !state.over {
            state = match state.queue.pop_front() {
                Some(job) => self.perform(state, job),
                None => self.wait(&self.work, state),
            };
        }
    }

    fn perform<'a>(&'a self, state: Guard<'a>, job: Job) -> Guard<'a> {
        let stop = state.stopped;
        drop(state);
        let count = job.len();
        let failed = match job {
            _ if stop => None,
            Job::Sync((tag, file)) => file.sync().err().map(|cause| Failed { tag, cause }),
            Job::WriteOut(files) => write_out(files),
            Job::SyncAll(files) => return self.split(files),
        };
        let mut state = self.lock();
        state.pending -= count;
        state.fail(failed);
        self.done.notify_all();
        state
    }

    /// Starts to write these files and leaves each one's sync to whoever has time.
    fn split(&self, files: Vec<Tagged>) -> Guard<'_> {
        for (_, file) in &files {
            file.begin_write_out();
        }
        let mut state = self.lock();
        // Before what is not written out yet.
        for file in files.into_iter().rev() {
            state.queue.push_front(Job::Sync(file));
        }
        self.work.notify_all();
        // For one that waits and could help.
        self.done.notify_all();
        state
    }
}

impl State {
    fn fail(&mut self, failed: Option<Failed>) {
        let Some(failed) = failed else { return };
        self.stopped = true;
        if self.failed.as_ref().is_none_or(|first| failed.tag < first.tag) {
            self.failed = Some(failed);
        }
    }
}

/// Writes all of them at the same time. The first that fails.
pub(super) fn write_out(files: Vec<Tagged>) -> Option<Failed> {
    for (_, file) in &files {
        file.begin_write_out();
    }
    let results =
        files.into_iter().map(|(tag, file)| file.written_out().map_err(|cause| Failed { tag, cause }));
    // Each is asked: an error is told once.
    results.fold(None, |first, result| first.or(result.err()))
}
