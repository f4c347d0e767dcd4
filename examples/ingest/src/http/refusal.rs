//! The answer to a request that was not fulfilled: a status, a word for programs and a sentence for
//! people. The cause goes to the log and nowhere else.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::failure::Failure;

#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: &'static str,
    cause: Option<String>,
    missing: Vec<u32>,
}

pub(crate) type Answer<T> = Result<T, Refusal>;

/// What nginx calls a client that closed the connection.
pub(crate) fn client_gone_status() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: &'static str) -> Refusal {
        Refusal { status, kind, message, cause: None, missing: Vec::new() }
    }

    pub(crate) fn because(mut self, cause: impl ToString) -> Refusal {
        self.cause = Some(cause.to_string());
        self
    }

    /// The cause goes to the log; the word for it remains.
    pub(crate) fn logged(&self) -> &'static str {
        if let Some(cause) = &self.cause {
            tracing::warn!(error = self.kind, cause, "refused");
        }
        self.kind
    }

    pub(crate) fn bad_id() -> Refusal {
        let message =
            "That is no name for a recording: use lower-case letters, digits and hyphens, 80 at most.";
        Refusal::new(StatusCode::BAD_REQUEST, "invalid_id", message)
    }

    pub(crate) fn bad_request() -> Refusal {
        let message = "The request has a parameter that is missing or can't be understood.";
        Refusal::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(crate) fn form() -> Refusal {
        let message = "A form can't be taken; send the WAV file itself as the body of the request.";
        Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message)
    }

    pub(crate) fn no_route() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "no_such_address", "There is nothing at this address.")
    }

    pub(crate) fn bad_method() -> Refusal {
        let message = "This address does not know that method.";
        Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "bad_method", message)
    }

    pub(crate) fn unknown() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "unknown_recording", "There is no recording of that name.")
    }

    pub(crate) fn no_result() -> Refusal {
        Refusal::new(StatusCode::NOT_FOUND, "no_result", "This recording has no result yet.")
    }

    pub(crate) fn taken() -> Refusal {
        let message = "There is a recording of that name already; choose another.";
        Refusal::new(StatusCode::CONFLICT, "already_exists", message)
    }

    pub(crate) fn client_gone() -> Refusal {
        let message = "The upload broke off; nothing was kept. Send it again.";
        Refusal::new(client_gone_status(), "client_gone", message)
    }

    pub(crate) fn stalled() -> Refusal {
        let message = "Nothing came for too long; nothing was kept. Send it again.";
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "stalled", message)
    }

    pub(crate) fn too_slow() -> Refusal {
        let message = "The upload took too long; nothing was kept. Send it in chunks.";
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message)
    }

    pub(crate) fn busy() -> Refusal {
        let message = "Too many uploads at the same time; try again in a moment.";
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "too_many_uploads", message)
    }

    pub(crate) fn missing_chunks(missing: Vec<u32>) -> Refusal {
        let message = "Some chunks are missing; send them, then finish again.";
        Refusal { missing, ..Refusal::new(StatusCode::CONFLICT, "missing_chunks", message) }
    }

    pub(crate) fn in_use() -> Refusal {
        let message = "Somebody else is at work on this recording; try again in a moment.";
        Refusal::new(StatusCode::LOCKED, "locked", message)
    }

    pub(crate) fn broken() -> Refusal {
        let message = "The service failed in an unexpected way; its log says why.";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        let (kind, message) = (failure.kind(), failure.hint());
        Refusal::new(status_of(kind), kind, message).because(failure.chain())
    }
}

impl From<durafile::Error> for Refusal {
    fn from(error: durafile::Error) -> Refusal {
        Failure::from(error).into()
    }
}

/// The table in the README.
fn status_of(kind: &str) -> StatusCode {
    match kind {
        "too_large" => StatusCode::PAYLOAD_TOO_LARGE,
        "empty" => StatusCode::BAD_REQUEST,
        "not_a_wav" => StatusCode::UNPROCESSABLE_ENTITY,
        "storage_full" | "quota_exceeded" => StatusCode::INSUFFICIENT_STORAGE,
        "permission_denied" | "read_only_filesystem" => StatusCode::FORBIDDEN,
        // A part of the data directory is missing, or the service is about to end.
        "not_found" | "cancelled" => StatusCode::SERVICE_UNAVAILABLE,
        "already_exists" => StatusCode::CONFLICT,
        "locked" | "busy" => StatusCode::LOCKED,
        "timed_out" => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.logged();
        let mut body = json!({ "error": self.kind, "message": self.message });
        if !self.missing.is_empty() {
            body["missing"] = self.missing.into();
        }
        let mut response = (self.status, Json(body)).into_response();
        let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE, StatusCode::LOCKED];
        if later.contains(&self.status) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}
