//! One line for each request: method, path, status, time.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::refusal::client_gone_status;

pub(crate) async fn log(request: Request, next: Next) -> Response {
    let mut line = Line {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        // Of one that is dropped in the middle: the client closed the connection.
        status: client_gone_status(),
        began: Instant::now(),
    };
    let response = next.run(request).await;
    line.status = response.status();
    response
}

struct Line {
    method: Method,
    path: String,
    status: StatusCode,
    began: Instant,
}

impl Drop for Line {
    fn drop(&mut self) {
        let (status, ms) = (self.status.as_u16(), self.began.elapsed().as_millis());
        tracing::info!(method = %self.method, path = self.path, status, ms, "request");
    }
}
