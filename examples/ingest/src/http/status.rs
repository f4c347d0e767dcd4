//! Is all well, and what is going on?

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use durafile::health::{Health, HealthOptions};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::refusal::Answer;
use super::{PATIENCE, Site, look_up};
use crate::layout::Layout;
use crate::ledger::Counts;
use crate::service::Now;

/// Each look costs flushes: who asks more often gets the last answer.
const FRESH: Duration = Duration::from_secs(1);

/// Looks at the disk, one look at a time: those that a disk keeps waiting must not pile up.
#[derive(Debug, Default)]
pub(crate) struct Checkup(Mutex<Looks>);

#[derive(Debug, Default)]
struct Looks {
    running: Option<JoinHandle<Health>>,
    last: Option<(Instant, Health)>,
}

impl Checkup {
    /// None if the disk does not answer.
    async fn health(&self, site: &Site) -> Option<Health> {
        let mut state = timeout(PATIENCE, self.0.lock()).await.ok()?;
        if let Some((when, health)) = &state.last {
            if when.elapsed() < FRESH {
                return Some(health.clone());
            }
        }
        let running = state.running.get_or_insert_with(|| {
            let (layout, options) = (site.service.layout.clone(), HealthOptions::new());
            let options = options.min_free_bytes(site.service.config.min_free);
            tokio::task::spawn_blocking(move || options.check(layout.dirs()))
        });
        let health = timeout(PATIENCE, running).await.ok()?;
        state.running = None;
        let health = health.ok()?;
        state.last = Some((Instant::now(), health.clone()));
        Some(health)
    }
}

fn status_of(healthy: bool) -> StatusCode {
    if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn disk(health: Option<&Health>) -> Value {
    match health {
        Some(health) => json!(health),
        None => json!({ "healthy": false, "error": "no_answer", "dirs": [] }),
    }
}

/// `GET /health/filesystem`
pub(crate) async fn filesystem(State(site): State<Site>) -> (StatusCode, Json<Value>) {
    let health = site.checkup.health(&site).await;
    (status_of(health.as_ref().is_some_and(|health| health.healthy)), Json(disk(health.as_ref())))
}

/// `GET /ingest/health`
pub(crate) async fn health(State(site): State<Site>) -> (StatusCode, Json<Value>) {
    let health = site.checkup.health(&site).await;
    let service = site.service.clone();
    let ledger = look_up(move || service.ledger.counts()).await.err().map(|e| e.logged());
    let healthy = ledger.is_none() && health.as_ref().is_some_and(|health| health.healthy);
    let body = json!({
        "healthy": healthy,
        "ledger": { "healthy": ledger.is_none(), "error": ledger },
        "disk": disk(health.as_ref()),
    });
    (status_of(healthy), Json(body))
}

#[derive(Debug, Serialize)]
pub(crate) struct Status {
    uptime_seconds: u64,
    disk_used_percent: Option<f64>,
    waiting: usize,
    chunk_sets: usize,
    #[serde(flatten)]
    counts: Counts,
    #[serde(flatten)]
    now: Now,
    stopping: bool,
    settled_at_start: crate::settle::Settled,
}

/// `GET /ingest/status`
pub(crate) async fn status(State(site): State<Site>) -> Answer<Json<Status>> {
    let health = site.checkup.health(&site).await;
    let percent = health.and_then(|health| health.dirs.first().map(|dir| dir.used_percent));
    let service = site.service.clone();
    let (waiting, chunk_sets, counts) = look_up(move || {
        let waiting = Layout::recordings(&service.layout.inbox())?.len();
        let sets = service.layout.in_chunks()?.len();
        Ok((waiting, sets, service.ledger.counts()?))
    })
    .await?;
    let service = &site.service;
    Ok(Json(Status {
        uptime_seconds: service.began.elapsed().as_secs(),
        disk_used_percent: percent,
        waiting,
        chunk_sets,
        counts,
        now: service.now().clone(),
        stopping: service.stop.is_stopping(),
        settled_at_start: service.settled,
    }))
}
