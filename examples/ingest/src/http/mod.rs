//! The HTTP interface.

mod params;
mod read;
mod receive;
mod refusal;
mod request_log;
mod room;
mod status;
mod upload;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::failure::{Failure, Outcome};
use crate::service::Service;
use refusal::{Answer, Refusal};
use status::Checkup;

/// What every handler can reach.
#[derive(Clone, Debug)]
struct Site {
    service: Arc<Service>,
    /// Recordings that may be received at the same time.
    uploads: Arc<Semaphore>,
    checkup: Arc<Checkup>,
}

pub(crate) fn router(service: Arc<Service>) -> Router {
    let uploads = Arc::new(Semaphore::new(service.config.uploads));
    let site = Site { service, uploads, checkup: Arc::default() };
    Router::new()
        .route("/", get(read::page))
        .route("/recordings", post(upload::recording).get(read::recordings))
        .route("/recordings/{id}", get(read::recording))
        .route("/recordings/{id}/result", get(read::result))
        .route("/recordings/{id}/waveform.png", get(read::waveform))
        .route("/recordings/{id}/chunks/{n}", post(upload::chunk))
        .route("/recordings/{id}/finish", post(upload::finish))
        .route("/health/filesystem", get(status::filesystem))
        .route("/ingest/health", get(status::health))
        .route("/ingest/status", get(status::status))
        .fallback(async || Refusal::no_route())
        .method_not_allowed_fallback(async || Refusal::bad_method())
        .layer(axum::middleware::from_fn(request_log::log))
        .with_state(site)
}

/// Requests that may wait for the disk at the same time, uploads apart. More of them wait for these: a
/// disk that hangs must not use up all threads.
static WAITING: Semaphore = Semaphore::const_new(32);

/// How long they wait before they are refused.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks something up, and does not wait for ever for a disk that hangs.
async fn look_up<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Answer<T> {
    match timeout(PATIENCE, blocking(work)).await {
        Ok(answer) => answer,
        Err(_) => Err(Refusal::from(Failure::TimedOut("look up"))),
    }
}

/// Work that may wait for the disk goes to a thread where that harms nobody.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Outcome<T> + Send + 'static) -> Answer<T> {
    let Ok(Ok(place)) = timeout(PATIENCE, WAITING.acquire()).await else {
        return Err(Refusal::from(Failure::TimedOut("wait for the disk")));
    };
    let work = tokio::task::spawn_blocking(move || {
        let _place = place;
        work()
    });
    match work.await {
        Ok(result) => result.map_err(Failure::into),
        Err(e) => Err(Refusal::broken().because(e)),
    }
}
