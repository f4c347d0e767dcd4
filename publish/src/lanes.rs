//! Requests in flight: at most so many, and with them their buffers.

use std::future::Future;
use std::pin::pin;

use durafile::CancelToken;
use futures_util::future::{BoxFuture, Either, select};
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::error::{Error, Result};

/// Every buffer of content belongs to a request in one of the lanes, or is being filled for the next. So memory is bounded by
/// their number.
pub(crate) struct Lanes<'a, T> {
    running: FuturesUnordered<BoxFuture<'a, Result<T>>>,
    width: usize,
    done: Vec<T>,
    cancel: Option<CancelToken>,
}

impl<'a, T> Lanes<'a, T> {
    pub(crate) fn new(width: usize, cancel: Option<&CancelToken>) -> Lanes<'a, T> {
        Lanes {
            running: FuturesUnordered::new(),
            width: width.max(1),
            done: Vec::new(),
            cancel: cancel.cloned(),
        }
    }

    /// Waits until a lane is free.
    pub(crate) async fn room(&mut self) -> Result<()> {
        while self.running.len() >= self.width {
            self.one().await?;
        }
        Ok(())
    }

    /// Puts a request on its way; `room` first.
    pub(crate) fn push(&mut self, request: impl Future<Output = Result<T>> + Send + 'a) {
        self.running.push(Box::pin(request));
    }

    /// Does something else while the requests go on.
    pub(crate) async fn during<R>(&mut self, work: impl Future<Output = Result<R>>) -> Result<R> {
        let mut work = pin!(work);
        while !self.running.is_empty() {
            match select(work.as_mut(), pin!(self.one())).await {
                Either::Left((result, _)) => return result,
                Either::Right((result, _)) => result?,
            }
        }
        work.await
    }

    /// Waits for all, and hands over what they returned since the last time.
    pub(crate) async fn finish(&mut self) -> Result<Vec<T>> {
        while !self.running.is_empty() {
            self.one().await?;
        }
        Ok(self.take())
    }

    /// What is done by now.
    pub(crate) fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.done)
    }

    async fn one(&mut self) -> Result<()> {
        let cancel = self.cancel.clone();
        if let Some(result) = cancellable(cancel.as_ref(), self.running.next()).await? {
            self.done.push(result?);
        }
        Ok(())
    }
}

/// Gives up waiting soon after the token is cancelled.
pub(crate) async fn cancellable<R>(token: Option<&CancelToken>, work: impl Future<Output = R>) -> Result<R> {
    let Some(token) = token else { return Ok(work.await) };
    let mut work = pin!(work);
    loop {
        if token.is_cancelled() {
            return Err(Error::cancelled());
        }
        // A token can't wake anybody: it is looked at.
        let tick = pin!(tokio::time::sleep(std::time::Duration::from_millis(50)));
        if let Either::Left((result, _)) = select(work.as_mut(), tick).await {
            return Ok(result);
        }
    }
}

/// Fails once the token is cancelled.
pub(crate) fn check(token: Option<&CancelToken>) -> Result<()> {
    match token {
        Some(token) if token.is_cancelled() => Err(Error::cancelled()),
        _ => Ok(()),
    }
}

/// Runs what blocks on a thread of its own.
pub(crate) async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> R {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down drops such work, and it polls nothing afterwards.
            Err(_) => std::future::pending().await,
        },
    }
}
