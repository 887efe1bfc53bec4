//! The service: health, metrics, stored verdicts, traces on demand.
//!
//! | path | what |
//! |---|---|
//! | `GET /healthz` | 200 while the process serves |
//! | `GET /readyz` | 200 while it observes, 503 otherwise; says at which level, and why |
//! | `GET /metrics` | Prometheus |
//! | `GET /v1/verdicts?since=10m&outcome=failing` | from the store, one JSON object per line |
//! | `GET /v1/traces` | the traces asked for |
//! | `POST /v1/traces` | start one |
//! | `GET /v1/traces/ID` | its verdicts, one per line, until it ends |
//! | `DELETE /v1/traces/ID` | stop it |

mod auth;
mod guard;
mod listen;
#[cfg(test)]
mod tests;
mod tls;
mod traces;
mod verdicts;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{mpsc, watch};

pub use auth::Authorizer;
pub use guard::Guard;
pub use listen::{ListenError, Listener};
pub use traces::{Ask, Command, Refusal};

use super::metrics::{Exposition, Metrics};
use super::traces::Traces;

/// A request is a few fields.
const MAX_REQUEST: usize = 64 * 1024;

/// What the answers are made from.
#[derive(Clone)]
pub struct Service {
    pub store: PathBuf,
    pub metrics: Arc<Mutex<Metrics>>,
    pub traces: Arc<Traces>,
    pub readiness: watch::Receiver<Readiness>,
    pub commands: mpsc::Sender<Command>,
    /// The time of day.
    pub clock: fn() -> Timestamp,
}

/// Whether the agent observes, and how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    pub ready: bool,
    pub level: &'static str,
    /// Why it is not ready, or not at the full level.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Service {
    /// All paths, for callers the guard admits.
    pub fn router(self, guard: Guard) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .route("/v1/verdicts", get(verdicts::list))
            .route("/v1/traces", get(traces::list).post(traces::start))
            .route("/v1/traces/{id}", get(traces::stream).delete(traces::stop))
            .layer(middleware::from_fn_with_state(guard, guard::admit))
            .layer(DefaultBodyLimit::max(MAX_REQUEST))
            .with_state(self)
    }
}

async fn ready(State(service): State<Service>) -> Response {
    let readiness = service.readiness.borrow().clone();
    let status = if readiness.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(readiness)).into_response()
}

async fn metrics(State(service): State<Service>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let exposition = Exposition::asked_for(accept);
    let text = service
        .metrics
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .text(exposition);
    ([(header::CONTENT_TYPE, exposition.content_type())], text).into_response()
}

/// A refusal: one line.
fn refuse(status: StatusCode, why: impl std::fmt::Display) -> Response {
    (status, format!("{why}\n")).into_response()
}
