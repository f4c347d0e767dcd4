//! Threads that sync files, kept for as long as a set needs them.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};

use super::sync_set::Failed;
use crate::sys::{self, File};

/// The more syncs the file system sees at once, the more share one commit of its journal.
const THREADS: usize = 32;

/// Files that are synced in the background. Each is closed as soon as it is.
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
    /// Nothing is in the queue, and nothing under way.
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(usize, File)>,
    busy: usize,
    failed: Option<Failed>,
    over: bool,
}

impl Pool {
    /// Begins to sync these files.
    pub(super) fn submit(&mut self, files: Vec<(usize, File)>) {
        let wanted = files.len().min(THREADS);
        self.shared.lock().queue.extend(files);
        self.shared.work.notify_all();
        while self.threads.len() < wanted {
            let shared = Arc::clone(&self.shared);
            match Builder::new().spawn(sys::inherit(move || shared.serve())) {
                Ok(thread) => self.threads.push(thread),
                // Not needed: the others, and whoever waits, do its share.
                Err(_) => break,
            }
        }
    }

    /// Helps until everything that was submitted is durable. After a failure nothing more is
    /// synced; of several failures the first file's is returned.
    pub(super) fn finish(&mut self) -> Result<(), Failed> {
        let mut state = self.shared.lock();
        while let Some(file) = state.queue.pop_front() {
            state = self.shared.sync(state, file);
        }
        while state.busy > 0 {
            state = self.shared.idle.wait(state).unwrap_or_else(|broken| broken.into_inner());
        }
        state.failed.take().map_or(Ok(()), Err)
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    fn serve(&self) {
        let mut state = self.lock();
        while !state.over {
            state = match state.queue.pop_front() {
                Some(file) => self.sync(state, file),
                None => self.work.wait(state).unwrap_or_else(|broken| broken.into_inner()),
            };
        }
    }

    fn sync<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        (tag, file): (usize, File),
    ) -> MutexGuard<'a, State> {
        if state.failed.is_some() {
            return state;
        }
        state.busy += 1;
        drop(state);
        let synced = file.sync();
        drop(file);
        let mut state = self.lock();
        state.busy -= 1;
        if let Err(cause) = synced {
            if state.failed.as_ref().is_none_or(|first| tag < first.tag) {
                state.failed = Some(Failed { tag, cause });
            }
        }
        if state.busy == 0 && state.queue.is_empty() {
            self.idle.notify_all();
        }
        state
    }
}
