//! Recordings come in: whole, or in chunks.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use durafile::{ErrorKind, WriteOptions};
use serde::{Deserialize, Serialize};

use super::params::{InPath, InQuery, Name, parse_id};
use super::receive::receive;
use super::refusal::{Answer, Refusal};
use super::{Site, blocking};
use crate::chunks;
use crate::failure::{Failure, Outcome};
use crate::item::{Held, exists};
use crate::layout::RecordingId;
use crate::ledger::State as ItemState;
use crate::service::Service;

#[derive(Debug, Serialize)]
pub(crate) struct Accepted {
    id: String,
    name: String,
    state: ItemState,
}

/// `POST /recordings?name=`
pub(crate) async fn recording(
    State(site): State<Site>,
    InQuery(name): InQuery<Name>,
    body: Body,
) -> Answer<(StatusCode, Json<Accepted>)> {
    let _place = site.uploads.clone().try_acquire_owned().map_err(|_| Refusal::busy())?;
    let (service, name) = (site.service, name.shown());
    let id = RecordingId::for_name(&name);
    let (path, cancel) = (service.layout.waiting(&id), service.cancel.clone());
    let limit = service.config.size_limit;
    let options = WriteOptions::new().create_new(true).size_limit(limit).cancel(&cancel);
    receive(body, service.config.idle_timeout, move || options.open(path)).await?;
    blocking(move || Ok(accept(&service, &id, &name))).await.map(|accepted| (StatusCode::CREATED, accepted))
}

/// The recording is safe in the inbox. If the ledger can't note it now, the worker will.
fn accept(service: &Service, id: &RecordingId, name: &str) -> Json<Accepted> {
    if let Err(e) = service.ledger.received(id, name) {
        tracing::warn!(%id, error = e.kind(), cause = e.chain(), "received, but not in the ledger yet");
    }
    service.stop.nudge();
    Json(Accepted { id: id.to_string(), name: name.to_owned(), state: ItemState::Waiting })
}

/// `POST /recordings/{id}/chunks/{n}`; the same chunk may be sent again.
pub(crate) async fn chunk(
    State(site): State<Site>,
    InPath((id, number)): InPath<(String, u32)>,
    body: Body,
) -> Answer<StatusCode> {
    let _place = site.uploads.clone().try_acquire_owned().map_err(|_| Refusal::busy())?;
    let (service, id) = (site.service, parse_id(&id)?);
    if number >= chunks::MAX_CHUNKS {
        return Err(Refusal::bad_request());
    }
    if known(&service, &id).await?.is_some() {
        return Err(Refusal::taken());
    }
    let (path, cancel) = (service.layout.chunk(&id, number), service.cancel.clone());
    let limit = chunks::MAX_BYTES.min(service.config.size_limit);
    // Made by the first chunk. Above it everything must be there: a data directory that vanished must not
    // come back half.
    let folder = service.layout.chunk_set(&id);
    let open = move || {
        let _ = fs_err::create_dir(&folder);
        WriteOptions::new().create_parents(folder.is_dir()).size_limit(limit).cancel(&cancel).open(path)
    };
    receive(body, service.config.idle_timeout, open).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(crate) struct Finish {
    chunks: u32,
}

/// `POST /recordings/{id}/finish?chunks=&name=`; asked again after an answer was lost, it says the same.
pub(crate) async fn finish(
    State(site): State<Site>,
    InPath(id): InPath<String>,
    InQuery(Finish { chunks: count }): InQuery<Finish>,
    InQuery(name): InQuery<Name>,
) -> Answer<(StatusCode, Json<Accepted>)> {
    let (service, id) = (site.service, parse_id(&id)?);
    if count == 0 || count > chunks::MAX_CHUNKS {
        return Err(Refusal::bad_request());
    }
    if let Some(accepted) = known(&service, &id).await? {
        return Ok((StatusCode::OK, accepted));
    }
    let finished = blocking(move || put_together(&service, &id, count, &name.shown())).await?;
    match finished {
        Finished::Accepted(accepted) => Ok((StatusCode::CREATED, accepted)),
        Finished::Missing(numbers) => Err(Refusal::missing_chunks(numbers)),
        Finished::InUse => Err(Refusal::in_use()),
    }
}

enum Finished {
    Accepted(Json<Accepted>),
    Missing(Vec<u32>),
    InUse,
}

fn put_together(service: &Service, id: &RecordingId, count: u32, name: &str) -> Outcome<Finished> {
    let layout = &service.layout;
    let Some(_held) = Held::try_take(layout.lock(id))? else { return Ok(Finished::InUse) };
    let missing = chunks::missing(layout, id, count)?;
    if !missing.is_empty() {
        return Ok(Finished::Missing(missing));
    }
    let limit = service.config.size_limit;
    match chunks::assemble(layout, id, count, limit, &service.cancel) {
        Ok(()) => {}
        // It was there already; only the chunks were left.
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => {
            if e.kind() == ErrorKind::TooLarge {
                chunks::remove(layout, id)?;
            }
            return Err(Failure::Save(e));
        }
    }
    let accepted = accept(service, id, name);
    if let Err(e) = chunks::remove(layout, id) {
        tracing::warn!(%id, error = e.kind(), cause = e.chain(), "could not remove the chunks yet");
    }
    Ok(Finished::Accepted(accepted))
}

/// What is known of a recording that came in already.
async fn known(service: &std::sync::Arc<Service>, id: &RecordingId) -> Answer<Option<Json<Accepted>>> {
    let (service, id) = (service.clone(), id.clone());
    blocking(move || {
        if let Some(entry) = service.ledger.find(&id)? {
            return Ok(Some(Json(Accepted { id: entry.id, name: entry.name, state: entry.state })));
        }
        let waits = exists(&service.layout.waiting(&id))?;
        Ok(waits
            .then(|| Json(Accepted { id: id.to_string(), name: id.to_string(), state: ItemState::Waiting })))
    })
    .await
}
