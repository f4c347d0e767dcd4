//! The service from its start to its end.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use durafile::health::Heartbeat;
use durafile::{CancelToken, Durability, WriteOptions};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::config::Serve;
use crate::failure::{Failure, Outcome};
use crate::http;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::service::Service;
use crate::settle::settle;
use crate::worker::Worker;

/// What is cancelled after the grace period may take so long to notice.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn serve(config: Serve) -> Outcome {
    // From here on the first signal asks for an end, and a second one ends at once.
    let asked = CancelToken::on_termination()?;
    let layout = Layout::create(&config.data)?;
    let name = format!("{}@{}", std::process::id(), config.port);
    let ledger = Ledger::open(&layout.ledger(), &name)?;
    let settled = settle(&layout, &ledger)?;
    let service = Arc::new(Service::new(config, layout, ledger, settled));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(128)
        .enable_all()
        .build()
        .map_err(Failure::Server)?;
    let ended = runtime.block_on(run(service, asked));
    // A thread that a hanging disk keeps must not keep us.
    runtime.shutdown_background();
    ended
}

async fn run(service: Arc<Service>, asked: CancelToken) -> Outcome {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Server)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Server)?;
    let listener =
        TcpListener::bind((service.config.host, service.config.port)).await.map_err(Failure::Server)?;
    announce(&service, &listener)?;
    let (worker_ended, worker) = oneshot::channel();
    let worker_service = service.clone();
    std::thread::Builder::new()
        .name("worker".to_owned())
        .spawn(move || {
            Worker::new(worker_service).run();
            // Not sent after a panic.
            let _ = worker_ended.send(());
        })
        .map_err(Failure::Server)?;
    let (closing, close) = oneshot::channel::<()>();
    let server = axum::serve(listener, http::router(service.clone()))
        .with_graceful_shutdown(async move { close.await.unwrap_or_default() });
    let server = tokio::spawn(server.into_future());
    let mut parts = Parts { worker: Some(worker), server: Some(server) };
    let ended = if asked.is_cancelled() {
        Ok(())
    } else {
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            part = parts.first() => Err(Failure::Ended(part)),
        }
    };
    tracing::info!(grace = ?service.config.grace, "stopping");
    service.stop.stop();
    let _ = closing.send(());
    let all = parts.all();
    tokio::pin!(all);
    if timeout(service.config.grace, &mut all).await.is_err() {
        tracing::warn!("the grace period is over; what is under way is left for the next run");
        service.cancel.cancel();
        if timeout(LAST_PATIENCE, &mut all).await.is_err() {
            tracing::error!("a disk or a client keeps us waiting; ending all the same");
            return ended;
        }
    }
    if ended.is_ok() {
        // No part is left that could give another sign of life.
        end_heartbeat(&service);
    }
    tracing::info!("stopped");
    ended
}

/// A service that ended in order is not taken for alive until its last sign of life is too old.
fn end_heartbeat(service: &Service) {
    let path = service.heartbeat();
    // Whatever else the option names (`--heartbeat /dev/null`) is not the service's to remove.
    let ended = Heartbeat::is_alive(&path, Duration::MAX)
        .and_then(|beats| if beats { durafile::remove_file(&path).map(drop) } else { Ok(()) });
    if let Err(e) = ended {
        tracing::warn!(cause = %e, "could not remove the heartbeat");
    }
}

/// What runs until it is told to end. A part that has ended is taken out: it must not be asked again.
struct Parts<W, S> {
    worker: Option<W>,
    server: Option<S>,
}

impl<W: Future + Unpin, S: Future + Unpin> Parts<W, S> {
    /// The first that ends.
    async fn first(&mut self) -> &'static str {
        tokio::select! {
            () = end(&mut self.worker) => "worker",
            () = end(&mut self.server) => "server",
        }
    }

    async fn all(mut self) {
        if self.worker.is_some() {
            end(&mut self.worker).await;
        }
        if self.server.is_some() {
            end(&mut self.server).await;
        }
    }
}

/// Never comes for what is not there.
async fn end(part: &mut Option<impl Future + Unpin>) {
    match part {
        Some(running) => drop(running.await),
        None => std::future::pending().await,
    }
    *part = None;
}

/// The one line on standard output; and the file, for whoever waits for the service.
fn announce(service: &Service, listener: &TcpListener) -> Outcome {
    let address = listener.local_addr().map_err(Failure::Server)?;
    let url = format!("http://{address}");
    let mut out = std::io::stdout().lock();
    // Nobody may be reading it.
    let _ = writeln!(out, "listening on {url}").and_then(|()| out.flush());
    if let Some(path) = &service.config.address_file {
        WriteOptions::new().durability(Durability::None).write(path, url)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ended_by_itself_is_not_waited_for_again() {
        let (worker_ended, worker) = oneshot::channel::<()>();
        let mut parts = Parts { worker: Some(worker), server: Some(tokio::spawn(async {})) };
        assert_eq!(parts.first().await, "server");
        drop(worker_ended);
        parts.all().await;

        let (worker_ended, worker) = oneshot::channel::<()>();
        drop(worker_ended);
        let (close, closed) = oneshot::channel::<()>();
        let mut parts = Parts { worker: Some(worker), server: Some(tokio::spawn(closed)) };
        assert_eq!(parts.first().await, "worker");
        drop(close);
        parts.all().await;
    }
}
