//! Who may ask for what, by the door they came through.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::auth::{Authorizer, Denial};
use super::refuse;

/// Probes have no credentials, and these say nothing about anybody's traffic.
const OPEN: [&str; 2] = ["/healthz", "/readyz"];

/// The rule of one door.
#[derive(Clone)]
pub enum Guard {
    /// A unix socket: whoever may open the file may do everything.
    Owner,
    /// A loopback address: everybody on this machine, to read only. Web pages are kept out, by whatever name they found us.
    Local,
    /// A bearer token of a user whom Kubernetes allows the path.
    Kubernetes(Arc<Authorizer>),
}

pub(super) async fn admit(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let refused = match &guard {
        Guard::Owner => None,
        Guard::Local => local(request.method(), request.headers()),
        Guard::Kubernetes(_) if OPEN.contains(&path) => None,
        Guard::Kubernetes(authorizer) => {
            let token = bearer(request.headers());
            match authorizer.check(token, request.method(), path).await {
                Ok(()) => None,
                Err(denial) => Some(denied(&denial)),
            }
        }
    };
    match refused {
        Some(refusal) => refusal,
        None => next.run(request).await,
    }
}

fn local(method: &Method, headers: &HeaderMap) -> Option<Response> {
    let named = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let foreign = named.is_some_and(|host| !is_here(host));
    if foreign || headers.contains_key(header::ORIGIN) {
        return Some(refuse(
            StatusCode::FORBIDDEN,
            "this address serves programs on this machine, not web pages",
        ));
    }
    let reads = *method == Method::GET || *method == Method::HEAD;
    (!reads).then(|| {
        refuse(
            StatusCode::FORBIDDEN,
            "this address is for reading; start and stop traces through the unix socket or https",
        )
    })
}

/// An address or `localhost`: a page that points its own name at us cannot say that.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn denied(denial: &Denial) -> Response {
    match denial {
        Denial::Unknown => (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Bearer")],
            format!("{denial}\n"),
        )
            .into_response(),
        Denial::NotAllowed { .. } => refuse(StatusCode::FORBIDDEN, denial),
        Denial::NobodyToAsk(why) => {
            tracing::warn!("a request could not be authorised: {why}");
            refuse(StatusCode::SERVICE_UNAVAILABLE, denial)
        }
    }
}
