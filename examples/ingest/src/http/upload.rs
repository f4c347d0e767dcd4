//! Recordings come in: whole, or in chunks.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use durafile::{AtomicFile, ErrorKind, WriteOptions};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;

use super::params::{InPath, InQuery, Name, parse_id};
use super::receive::{Pace, Target, receive};
use super::refusal::{Answer, Refusal};
use super::{PATIENCE, Site, blocking, look_up, room};
use crate::audio::head::Head;
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

/// A recording on its way into the inbox, or one of its chunks on the way to the others.
struct Arrival {
    service: Arc<Service>,
    options: WriteOptions,
    path: PathBuf,
    chunk_of: Option<RecordingId>,
    /// Of a whole recording; a chunk may hold anything.
    head: Option<Head>,
}

impl Target for Arrival {
    fn open(&mut self) -> Outcome<AtomicFile> {
        room::check(&self.service.layout.inbox(), self.service.config.min_free)?;
        if let Some(id) = &self.chunk_of {
            // Made by the first chunk. Above it everything must be there: a data directory that vanished
            // must not come back half.
            let folder = self.service.layout.chunk_set(id);
            let _ = fs_err::create_dir(&folder);
            self.options = self.options.clone().create_parents(folder.is_dir());
        }
        Ok(self.options.open(&self.path)?)
    }

    fn check(&mut self, piece: &[u8]) -> Outcome {
        self.head.as_mut().map_or(Ok(()), |head| head.add(piece))
    }

    fn commit(&mut self, file: AtomicFile) -> Outcome {
        if let Some(head) = &self.head {
            head.end()?;
        }
        // Whoever removes the whole set has this lock: what is answered with 204 was not in it.
        let _held = match &self.chunk_of {
            Some(id) => Some(Held::take_within(self.service.layout.lock(id), PATIENCE)?),
            None => None,
        };
        file.commit()?;
        Ok(())
    }
}

impl Site {
    async fn receive(&self, body: Body, place: OwnedSemaphorePermit, arrival: Arrival) -> Answer<()> {
        let config = &self.service.config;
        let pace = Pace { idle: config.idle_timeout, total: config.upload_timeout };
        receive(body, pace, place, arrival).await
    }

    fn place(&self) -> Answer<OwnedSemaphorePermit> {
        self.uploads.clone().try_acquire_owned().map_err(|_| Refusal::busy())
    }
}

/// `POST /recordings?name=`
pub(crate) async fn recording(
    State(site): State<Site>,
    InQuery(name): InQuery<Name>,
    headers: HeaderMap,
    body: Body,
) -> Answer<(StatusCode, Json<Accepted>)> {
    if is_form(&headers) {
        return Err(Refusal::form());
    }
    let place = site.place()?;
    let (service, name) = (site.service.clone(), name.shown());
    let id = RecordingId::for_name(&name);
    let limit = service.config.size_limit;
    let arrival = Arrival {
        options: WriteOptions::new().create_new(true).size_limit(limit).cancel(&service.cancel),
        path: service.layout.waiting(&id),
        service: service.clone(),
        chunk_of: None,
        head: Some(Head::default()),
    };
    site.receive(body, place, arrival).await?;
    blocking(move || Ok(accept(&service, &id, &name))).await.map(|accepted| (StatusCode::CREATED, accepted))
}

/// A form wraps the file in parts, each with a head of its own. Any other type is judged by the first bytes:
/// many clients send what they have under a type that says nothing.
fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes().to_ascii_lowercase());
    kind.is_some_and(|kind| kind.starts_with(b"multipart/"))
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
    let place = site.place()?;
    let (service, id) = (site.service.clone(), parse_id(&id)?);
    if number >= chunks::MAX_CHUNKS {
        return Err(Refusal::bad_request());
    }
    if known_soon(&service, &id).await?.is_some() {
        return Err(Refusal::taken());
    }
    let limit = chunks::MAX_BYTES.min(service.config.size_limit);
    let arrival = Arrival {
        options: WriteOptions::new().size_limit(limit).cancel(&service.cancel),
        path: service.layout.chunk(&id, number),
        chunk_of: Some(id),
        head: None,
        service,
    };
    site.receive(body, place, arrival).await?;
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
    if let Some(accepted) = known_soon(&service, &id).await? {
        return Ok((StatusCode::OK, accepted));
    }
    let finished = blocking(move || put_together(&service, &id, count, &name.shown())).await?;
    match finished {
        Finished::Accepted(accepted) => Ok((StatusCode::CREATED, accepted)),
        Finished::Before(accepted) => Ok((StatusCode::OK, accepted)),
        Finished::Missing(numbers) => Err(Refusal::missing_chunks(numbers)),
        Finished::InUse => Err(Refusal::in_use()),
    }
}

enum Finished {
    Accepted(Json<Accepted>),
    /// Somebody else asked for it, and was quicker.
    Before(Json<Accepted>),
    Missing(Vec<u32>),
    InUse,
}

fn put_together(service: &Service, id: &RecordingId, count: u32, name: &str) -> Outcome<Finished> {
    let layout = &service.layout;
    let Some(_held) = Held::try_take(layout.lock(id))? else { return Ok(Finished::InUse) };
    if let Some(accepted) = known(service, id)? {
        return Ok(Finished::Before(accepted));
    }
    let missing = chunks::missing(layout, id, count)?;
    if !missing.is_empty() {
        return Ok(Finished::Missing(missing));
    }
    chunks::check_head(layout, id, count)?;
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
fn known(service: &Service, id: &RecordingId) -> Outcome<Option<Json<Accepted>>> {
    if let Some(entry) = service.ledger.find(id)? {
        return Ok(Some(Json(Accepted { id: entry.id, name: entry.name, state: entry.state })));
    }
    let waits = exists(&service.layout.waiting(id))?;
    Ok(waits.then(|| Json(Accepted { id: id.to_string(), name: id.to_string(), state: ItemState::Waiting })))
}

async fn known_soon(service: &Arc<Service>, id: &RecordingId) -> Answer<Option<Json<Accepted>>> {
    let (service, id) = (service.clone(), id.clone());
    look_up(move || known(&service, &id)).await
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::config::{Cli, Command};
    use crate::layout::Layout;
    use crate::ledger::Ledger;

    fn service(data: &std::path::Path) -> Service {
        let args = ["ingest", "serve", "--data", data.to_str().unwrap()];
        let Command::Serve(config) = Cli::parse_from(args).command else { panic!("another command") };
        let layout = Layout::create(data).unwrap();
        let ledger = Ledger::open(&layout.ledger(), "test").unwrap();
        Service::new(*config, layout, ledger, Default::default())
    }

    /// Both looked before the first put anything together, then the first did.
    #[test]
    fn of_two_that_finish_at_the_same_time_the_second_hears_what_the_first_did() {
        let home = tempfile::tempdir().unwrap();
        let service = service(home.path());
        let id = RecordingId::parse("talk").unwrap();
        fs_err::create_dir(service.layout.chunk_set(&id)).unwrap();
        fs_err::write(service.layout.chunk(&id, 0), "RIFF....WAVE").unwrap();
        let first = put_together(&service, &id, 1, "Talk").unwrap();
        assert!(matches!(first, Finished::Accepted(_)));
        let second = put_together(&service, &id, 1, "Talk").unwrap();
        assert!(matches!(second, Finished::Before(Json(accepted)) if accepted.name == "Talk"));
    }
}
