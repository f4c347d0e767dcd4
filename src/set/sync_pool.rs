//! Threads that make files durable, kept for as long as a set needs them.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{Builder, JoinHandle};

use crate::set::THREADS;
use crate::sys::{self, File, ProcessMark};

/// A file and its number in the set.
pub(crate) type Tagged = (usize, File);

/// Work for some files. Each is closed afterwards.
#[derive(Debug)]
pub(crate) enum Job {
    /// All are written out, then each is synced.
    SyncAll(Vec<Tagged>),
    Sync(Tagged),
    /// All are written out and waited for; some other flush makes them durable.
    WriteOut(Vec<Tagged>),
    #[cfg(test)]
    Panic(usize),
}

impl Job {
    fn len(&self) -> usize {
        match self {
            Job::SyncAll(files) | Job::WriteOut(files) => files.len(),
            Job::Sync(_) => 1,
            #[cfg(test)]
            Job::Panic(_) => 1,
        }
    }

    /// The number of its first file.
    fn first(&self) -> usize {
        match self {
            Job::SyncAll(files) | Job::WriteOut(files) => files.first().map_or(0, |(tag, _)| *tag),
            Job::Sync((tag, _)) => *tag,
            #[cfg(test)]
            Job::Panic(tag) => *tag,
        }
    }
}

/// Files that are made durable in the background.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// A forked child has none of the threads, and must not wait for them.
    made_by: ProcessMark,
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
    pub(crate) fn new() -> Pool {
        Pool { shared: Arc::default(), threads: Vec::new(), made_by: ProcessMark::this() }
    }

    /// Begins with this, once no more than `most` other files are pending. The error is
    /// that of an earlier one.
    pub(crate) fn submit(&mut self, job: Job, most: usize) -> Result<(), Failed> {
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
    pub(crate) fn make_room(&self, most: usize) {
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
    pub(crate) fn finish(&mut self) -> Result<(), Failed> {
        let mut state = self.shared.help(0);
        state.failed.take().map_or(Ok(()), Err)
    }

    /// Waits for what is under way, and does no more.
    pub(crate) fn abandon(mut self) -> Option<Failed> {
        if !self.made_by.is_this() {
            return None;
        }
        let mut state = self.shared.lock();
        let waiting: usize = state.queue.drain(..).map(|job| job.len()).sum();
        state.pending -= waiting;
        drop(state);
        self.finish().err()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if !self.made_by.is_this() {
            return;
        }
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
        let mut under_way = UnderWay { shared: self, count: job.len(), tag: job.first(), failed: None };
        under_way.failed = match job {
            _ if stop => None,
            Job::Sync((tag, file)) => file.sync().err().map(|cause| Failed { tag, cause }),
            Job::WriteOut(files) => write_out(files),
            Job::SyncAll(files) => {
                for (_, file) in &files {
                    file.begin_write_out();
                }
                // They are under way again, one by one.
                under_way.count = 0;
                drop(under_way);
                return self.split(files);
            }
            #[cfg(test)]
            Job::Panic(_) => panic!("a test of what comes of this"),
        };
        drop(under_way);
        self.lock()
    }

    /// Leaves each file's sync to whoever has time.
    fn split(&self, files: Vec<Tagged>) -> Guard<'_> {
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

/// Work that a thread has begun. Dropped, it is done, and whoever waits for it is told: after a panic, too.
struct UnderWay<'a> {
    shared: &'a Shared,
    count: usize,
    tag: usize,
    failed: Option<Failed>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.pending -= self.count;
        if std::thread::panicking() && self.count > 0 {
            let cause = io::Error::other("a thread panicked while it synced files");
            self.failed = Some(Failed { tag: self.tag, cause });
        }
        state.fail(self.failed.take());
        self.shared.done.notify_all();
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
pub(crate) fn write_out(files: Vec<Tagged>) -> Option<Failed> {
    for (_, file) in &files {
        file.begin_write_out();
    }
    let results =
        files.into_iter().map(|(tag, file)| file.written_out().map_err(|cause| Failed { tag, cause }));
    // Each is asked: an error is told once.
    results.fold(None, |first, result| first.or(result.err()))
}

/// The sync of one file failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The file, by the number that it was added under.
    pub(crate) tag: usize,
    pub(crate) cause: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_in_a_thread_is_an_error_for_who_waits() {
        let mut pool = Pool::new();
        // So that the thread has it, and not the one that waits.
        let under_way = |pool: &Pool| pool.shared.lock().queue.is_empty();
        pool.submit(Job::Panic(7), usize::MAX).unwrap();
        while !under_way(&pool) {
            std::thread::yield_now();
        }
        let failed = pool.finish().unwrap_err();
        assert_eq!(failed.tag, 7);
        assert!(failed.cause.to_string().contains("panicked"), "{}", failed.cause);
        assert!(pool.abandon().is_none(), "told once");
    }
}
