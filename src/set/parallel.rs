//! Work that is done for many items on a few threads.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::set::{FEW, THREADS};
use crate::sys;

/// Does the work for each item, on several threads if there are many. After a failure no new
/// item is begun; of several failures the first item's is returned.
pub(crate) fn in_parallel<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> io::Result<()> + Sync,
) -> Result<(), (usize, io::Error)> {
    each_in_parallel(items.len(), &|at| work(&items[at]))
}

fn each_in_parallel(
    count: usize,
    work: &(dyn Fn(usize) -> io::Result<()> + Sync),
) -> Result<(), (usize, io::Error)> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None::<(usize, io::Error)>));
    let worker = || {
        while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < count) {
            if let Err(e) = work(at) {
                next.store(count, Ordering::Relaxed);
                let mut first = failed.lock().unwrap_or_else(|broken| broken.into_inner());
                if first.as_ref().is_none_or(|(other, _)| at < *other) {
                    *first = Some((at, e));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = if count > FEW { count.min(THREADS) } else { 1 };
        for _ in 1..threads {
            // A thread that can't be had is not needed: the others do its share.
            let _ = std::thread::Builder::new().spawn_scoped(scope, sys::inherit(worker));
        }
        worker();
    });
    match failed.into_inner().unwrap_or_else(|broken| broken.into_inner()) {
        Some(failed) => Err(failed),
        None => Ok(()),
    }
}
