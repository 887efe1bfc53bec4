//! `/v1/traces`: traces on demand.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{oneshot, watch};

use super::verdicts::NDJSON;
use super::{Service, refuse};
use crate::agent::config::Span;
use crate::agent::traces::{End, Next, Trace};

/// What a trace is to follow; as the options of `netdiag trace`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    pub netns: Option<String>,
    pub pid: Option<u32>,
    pub interface: Option<String>,
    /// `pod/NAME`, `deployment/NAME`, `container/ID` …
    pub pod: Option<String>,
    /// Label selector of pods.
    pub labels: Option<String>,
    /// Kubernetes namespace of pods.
    pub namespace: Option<String>,
    pub uplinks: Vec<String>,
    /// `HOST[:PORT]`
    pub to: Option<String>,
    /// Absent: 30 s.
    pub duration: Option<Span>,
    pub no_answer: Option<Span>,
}

/// For whoever runs traces.
#[derive(Debug)]
pub enum Command {
    Start(Ask, oneshot::Sender<Result<u64, Refusal>>),
    /// Answers when it is known whether there is such a running trace, not when it has ended.
    Stop(u64, oneshot::Sender<bool>),
}

/// Why there is no new trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0}")]
    Bad(String),
    #[error("{0} traces run already; stop one or wait for its end")]
    TooMany(usize),
    #[error("{0}")]
    NotNow(String),
}

#[derive(Serialize)]
struct Started {
    id: String,
}

pub(super) async fn list(State(service): State<Service>) -> Response {
    Json(service.traces.list()).into_response()
}

pub(super) async fn start(
    State(service): State<Service>,
    ask: Result<Json<Ask>, JsonRejection>,
) -> Response {
    let ask = match ask {
        Ok(Json(ask)) => ask,
        Err(rejection) => return refuse(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let (sender, answer) = oneshot::channel();
    let sent = service.commands.send(Command::Start(ask, sender)).await;
    if sent.is_err() {
        return ending();
    }
    match answer.await {
        Ok(Ok(id)) => {
            let place = format!("/v1/traces/{id}");
            let id = id.to_string();
            (
                StatusCode::CREATED,
                [(header::LOCATION, place)],
                Json(Started { id }),
            )
                .into_response()
        }
        Ok(Err(refusal)) => {
            let status = match refusal {
                Refusal::Bad(_) => StatusCode::BAD_REQUEST,
                Refusal::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
                Refusal::NotNow(_) => StatusCode::SERVICE_UNAVAILABLE,
            };
            refuse(status, refusal)
        }
        Err(_) => ending(),
    }
}

pub(super) async fn stop(State(service): State<Service>, Path(id): Path<String>) -> Response {
    let Some(trace) = find(&service, &id) else {
        return missing(&id);
    };
    let (sender, answer) = oneshot::channel();
    if service
        .commands
        .send(Command::Stop(trace.id, sender))
        .await
        .is_err()
    {
        return ending();
    }
    // One that has ended already is where the caller wants it.
    let _ = answer.await;
    StatusCode::NO_CONTENT.into_response()
}

pub(super) async fn stream(State(service): State<Service>, Path(id): Path<String>) -> Response {
    let Some(trace) = find(&service, &id) else {
        return missing(&id);
    };
    let news = trace.news();
    let reader = Reader {
        trace,
        news,
        place: 0,
    };
    let lines = stream::unfold(reader, |mut reader| async move {
        let line = reader.next().await?;
        Some((line, reader))
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}

fn find(service: &Service, id: &str) -> Option<Arc<Trace>> {
    service.traces.get(id.parse().ok()?)
}

fn missing(id: &str) -> Response {
    refuse(
        StatusCode::NOT_FOUND,
        format_args!("there is no trace {id}"),
    )
}

fn ending() -> Response {
    refuse(StatusCode::SERVICE_UNAVAILABLE, "the agent is ending")
}

struct Reader {
    trace: Arc<Trace>,
    news: watch::Receiver<()>,
    place: u64,
}

impl Reader {
    /// The next line; an error where the trace failed, so that the reader does not take its verdicts for all.
    async fn next(&mut self) -> Option<Result<Bytes, String>> {
        loop {
            match self.trace.at(self.place) {
                Next::Line(line) => {
                    self.place += 1;
                    return Some(Ok(Bytes::from(format!("{line}\n"))));
                }
                Next::Skipped(lines) => {
                    self.place += lines;
                    let gap = format!("{{\"schema\":\"netdiag.gap/v1\",\"skipped\":{lines}}}\n");
                    return Some(Ok(Bytes::from(gap)));
                }
                Next::End(End::InOrder) => return None,
                Next::End(End::Failed(why)) => return Some(Err(why)),
                // The trace outlives its readers' interest only when the agent ends.
                Next::Wait => self.news.changed().await.ok()?,
            }
        }
    }
}
