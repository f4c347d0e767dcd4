//! Parameters from the address, with refusals of ours instead of plain text.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::refusal::Refusal;
use crate::layout::RecordingId;

/// What the placeholders of the route stand for.
#[derive(Debug)]
pub(crate) struct InPath<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for InPath<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let found = Path::<T>::from_request_parts(parts, state).await;
        found.map(|Path(value)| InPath(value)).map_err(|_| Refusal::bad_request())
    }
}

/// What comes behind the question mark.
#[derive(Debug)]
pub(crate) struct InQuery<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for InQuery<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let found = Query::<T>::from_request_parts(parts, state).await;
        found.map(|Query(value)| InQuery(value)).map_err(|_| Refusal::bad_request())
    }
}

pub(crate) fn parse_id(text: &str) -> Result<RecordingId, Refusal> {
    RecordingId::parse(text).ok_or_else(Refusal::bad_id)
}

/// What a client calls its recording; any text.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Name {
    #[serde(default)]
    name: String,
}

impl Name {
    const MAX: usize = 200;

    /// Fit to be shown: one line, not too long. Never a path.
    pub(crate) fn shown(&self) -> String {
        let plain = self.name.chars().filter(|c| !c.is_control()).take(Self::MAX);
        let name: String = plain.collect();
        let name = name.trim();
        if name.is_empty() { "recording".to_owned() } else { name.to_owned() }
    }
}
