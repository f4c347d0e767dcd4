//! Recordings and their results.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use durafile::{DirSnapshot, ErrorKind};
use serde::Deserialize;
use serde_json::Value;

use super::params::{InPath, InQuery, parse_id};
use super::refusal::{Answer, Refusal};
use super::{Site, look_up};
use crate::failure::{Failure, Outcome};
use crate::ledger::Entry;
use crate::service::Service;

const MOST: u32 = 500;

/// `GET /`. The page loads nothing from elsewhere and runs no script but its own.
pub(crate) async fn page() -> impl IntoResponse {
    let policy = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'";
    ([(header::CONTENT_SECURITY_POLICY, policy)], Html(include_str!("page.html")))
}

#[derive(Debug, Deserialize)]
pub(crate) struct Limit {
    #[serde(default = "Limit::standard")]
    limit: u32,
}

impl Limit {
    fn standard() -> u32 {
        50
    }
}

/// `GET /recordings?limit=`
pub(crate) async fn recordings(
    State(site): State<Site>,
    InQuery(Limit { limit }): InQuery<Limit>,
) -> Answer<Json<Vec<Entry>>> {
    look_up(move || site.service.ledger.recent(limit.min(MOST)).map(Json)).await
}

/// `GET /recordings/{id}`
pub(crate) async fn recording(State(site): State<Site>, InPath(id): InPath<String>) -> Answer<Json<Entry>> {
    let id = parse_id(&id)?;
    let found = look_up(move || site.service.ledger.find(&id)).await?;
    found.map(Json).ok_or_else(Refusal::unknown)
}

/// `GET /recordings/{id}/result`
pub(crate) async fn result(State(site): State<Site>, InPath(id): InPath<String>) -> Answer<Json<Value>> {
    let content = from_result(site, &id, "result.json").await?;
    serde_json::from_slice(&content).map(Json).map_err(|e| Refusal::broken().because(e))
}

/// `GET /recordings/{id}/waveform.png`
pub(crate) async fn waveform(
    State(site): State<Site>,
    InPath(id): InPath<String>,
) -> Answer<impl IntoResponse> {
    let content = from_result(site, &id, "waveform.png").await?;
    Ok(([(header::CONTENT_TYPE, "image/png")], content))
}

async fn from_result(site: Site, id: &str, file: &'static str) -> Answer<Vec<u8>> {
    let id = parse_id(id)?;
    let sha256 = {
        let service = site.service.clone();
        let entry = look_up(move || service.ledger.find(&id)).await?.ok_or_else(Refusal::unknown)?;
        entry.sha256.ok_or_else(Refusal::no_result)?
    };
    look_up(move || read(&site.service, &sha256, file)).await?.ok_or_else(Refusal::no_result)
}

/// One version of the result, whatever is published meanwhile.
fn read(service: &Service, sha256: &str, file: &str) -> Outcome<Option<Vec<u8>>> {
    match DirSnapshot::open(service.layout.result(sha256)).and_then(|result| result.read(file)) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Failure::Save(e)),
    }
}
