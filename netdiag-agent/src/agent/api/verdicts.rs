//! `GET /v1/verdicts`.

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::stream;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Service, refuse};
use crate::agent::config::Span;
use crate::export::listing::outcomes;
use crate::export::record::Time;
use crate::store;

pub(super) const NDJSON: &str = "application/x-ndjson";

/// Lines on their way to a reader.
const AHEAD: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    since: Option<String>,
    outcome: Option<String>,
}

/// Why a reading ended early.
enum Stop {
    Store(store::Error),
    /// Nobody reads any more.
    Gone,
}

impl From<store::Error> for Stop {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

pub(super) async fn list(
    State(service): State<Service>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let asked = match asked {
        Ok(Query(asked)) => asked,
        Err(rejection) => return refuse(StatusCode::BAD_REQUEST, rejection.body_text()),
    };
    let query = match query(&asked, (service.clock)()) {
        Ok(query) => query,
        Err(why) => return refuse(StatusCode::BAD_REQUEST, why),
    };
    let (sender, receiver) = mpsc::channel::<Result<Bytes, store::Error>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let read = store::select(&service.store, &query, |line| {
            let line = Bytes::from(format!("{line}\n"));
            sender.blocking_send(Ok(line)).map_err(|_| Stop::Gone)
        });
        if let Err(Stop::Store(error)) = read {
            tracing::warn!("{error}");
            // Cuts the answer off, so that the reader does not take it for the whole.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let lines = stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}

fn query(asked: &Asked, now: Timestamp) -> Result<store::Query, String> {
    let since = asked
        .since
        .as_deref()
        .map(|text| since(text, now))
        .transpose()?;
    let outcomes = match asked.outcome.as_deref() {
        None => Vec::new(),
        Some(names) => names
            .split(',')
            .map(outcomes)
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
    };
    Ok(store::Query { since, outcomes })
}

/// A length of time before now, or a point in time.
fn since(text: &str, now: Timestamp) -> Result<Time, String> {
    let at = if let Ok(at) = text.parse::<Timestamp>() {
        at
    } else {
        let span = Span::parse(text).map_err(|_| {
            format!("since: '{text}' is neither a time (RFC 3339) nor a length of time such as 10m")
        })?;
        now.checked_sub(span.0).unwrap_or(Timestamp::UNIX_EPOCH)
    };
    Ok(Time::from(at))
}
