//! From a request to its answer.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query as Extract, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::TOKEN;
use crate::fault::Fault;
use crate::path::{Query, Target};
use crate::store::{Page, Store};
use crate::{select, watch};

pub async fn answer(
    State(store): State<Arc<Store>>,
    Extract(query): Extract<Query>,
    request: Request,
) -> Response {
    let uri = request.uri().path_and_query();
    let asked = uri.map_or_else(String::new, ToString::to_string);
    store.note(asked.clone());
    let mut changes = store.changes();
    while let Some(fault) = store.fault(&asked) {
        match fault {
            Fault::Status(code) => return refuse(code),
            Fault::Slow(pause) => {
                tokio::time::sleep(pause).await;
                break;
            }
            Fault::Silence => drop(changes.changed().await),
            Fault::Break => return broken(),
        }
    }
    let shown = request.headers().get(header::AUTHORIZATION);
    if shown.is_none_or(|shown| shown.as_bytes() != format!("Bearer {TOKEN}").as_bytes()) {
        return refuse(401);
    }
    if request.method() != Method::GET {
        return refuse(405);
    }
    let path = request.uri().path().to_owned();
    if path == "/version" {
        return axum::Json(json!({"major": "1", "minor": "30", "gitVersion": "v1.30.0-test"}))
            .into_response();
    }
    let Some(target) = Target::read(&path).filter(|target| store.serves(&target.group_version))
    else {
        return refuse(404);
    };
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok()).unwrap_or("");
    let partial = accept.contains("as=PartialObjectMetadata");
    if target.name.is_some() {
        return match store.get(&target) {
            Some(object) if partial => axum::Json(metadata(&object)).into_response(),
            Some(object) => axum::Json(object).into_response(),
            None => refuse(404),
        };
    }
    let on = |name: &str| {
        query
            .get(name)
            .is_some_and(|value| value == "true" || value == "1")
    };
    if on("watch") && on("sendInitialEvents") {
        let message =
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch";
        return with_status(422, "Invalid", message);
    }
    if on("watch") {
        let body = Body::from_stream(watch::stream(store, target, query));
        return ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    list(&store, &target, &query, partial)
}

fn list(store: &Store, target: &Target, query: &Query, partial: bool) -> Response {
    let fields = query.get("fieldSelector").map_or("", String::as_str);
    let labels = query.get("labelSelector").map_or("", String::as_str);
    let wanted =
        |object: &Value| select::by_fields(fields, object) && select::by_labels(labels, object);
    let limit = query.get("limit").and_then(|text| text.parse().ok());
    let limit = limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let from = query.get("continue").map(String::as_str);
    let page = store.list(target, wanted, from, limit);
    let Page {
        mut items,
        version,
        more,
        kind,
        api_version,
    } = page;
    let mut meta = json!({"resourceVersion": version.to_string()});
    if let Some((next, left)) = more {
        meta["continue"] = next.into();
        meta["remainingItemCount"] = left.into();
    }
    for item in &mut items {
        if partial {
            *item = metadata(item);
        } else if let Some(item) = item.as_object_mut() {
            // Items of a list do not say what they are.
            item.remove("kind");
            item.remove("apiVersion");
        }
    }
    let kind = if partial {
        "PartialObjectMetadataList".to_owned()
    } else {
        format!("{kind}List")
    };
    let list = json!({"kind": kind, "apiVersion": api_version, "metadata": meta, "items": items});
    axum::Json(list).into_response()
}

fn metadata(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

fn refuse(code: u16) -> Response {
    let (reason, message) = match code {
        401 => ("Unauthorized", "Unauthorized"),
        403 => (
            "Forbidden",
            "forbidden: User \"test\" cannot list resource at the cluster scope",
        ),
        404 => (
            "NotFound",
            "the server could not find the requested resource",
        ),
        405 => (
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        ),
        410 => ("Expired", "The provided continue parameter is too old"),
        429 => (
            "TooManyRequests",
            "too many requests, please try again later",
        ),
        503 => ("ServiceUnavailable", "apiserver not ready"),
        _ => (
            "InternalError",
            "an error on the server has prevented the request from succeeding",
        ),
    };
    with_status(code, reason, message)
}

fn with_status(code: u16, reason: &str, message: &str) -> Response {
    let number = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (number, axum::Json(status(code, reason, message))).into_response()
}

/// The object that says no.
pub fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    })
}

/// Headers, and then the connection breaks.
fn broken() -> Response {
    let fault =
        futures::stream::once(async { Err::<bytes::Bytes, _>(std::io::Error::other("cut")) });
    Body::from_stream(fault).into_response()
}
