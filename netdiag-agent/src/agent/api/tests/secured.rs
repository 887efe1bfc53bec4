//! The door to the network: TLS, and tokens that Kubernetes decides on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::{Authorizer, Guard, Listener};
use super::{Address, Fixture, HOUR_AGO, JUST_NOW, Tls, fixture, lines, listen, to};
use crate::identity::kube::client::{Places, connect};

#[tokio::test]
async fn off_host_a_token_decides_and_kubernetes_decides_on_the_token() {
    let fixture = fixture();
    let asked = Arc::new(AtomicUsize::new(0));
    let api = api_server(Arc::clone(&asked)).await;
    let (port, tls) = secured(&fixture, api).await;
    let get = |token, path| {
        let address = https(port, &tls, token);
        async move {
            lines(&address, path)
                .await
                .map_err(|error| error.to_string())
        }
    };
    assert_eq!(get(None, "/healthz").await.unwrap(), ["ok"]);
    assert!(get(None, "/readyz").await.is_ok());
    assert_eq!(asked.load(Ordering::SeqCst), 0, "probes ask nobody");
    let unknown = get(None, "/v1/verdicts").await.unwrap_err();
    assert!(unknown.contains("401"), "{unknown}");
    let unknown = get(Some("bad"), "/v1/verdicts").await.unwrap_err();
    assert!(unknown.contains("401"), "{unknown}");
    let weak = get(Some("weak"), "/metrics").await.unwrap_err();
    assert!(
        weak.contains("403") && weak.contains("nobody may not get /metrics"),
        "{weak}"
    );
    let before = asked.load(Ordering::SeqCst);
    for _ in 0..5 {
        let verdicts = get(Some("good"), "/v1/verdicts").await.unwrap();
        assert_eq!(verdicts, [HOUR_AGO, JUST_NOW]);
    }
    assert_eq!(
        asked.load(Ordering::SeqCst),
        before + 2,
        "a yes is remembered for a while"
    );
    let list = get(Some("good"), "/v1/traces").await.unwrap_err();
    assert!(
        list.contains("403"),
        "a yes for one path is none for another: {list}"
    );
}

#[tokio::test]
async fn without_an_api_server_nobody_gets_in() {
    let fixture = fixture();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = closed.local_addr().unwrap().port();
    drop(closed);
    let (port, tls) = secured(&fixture, api).await;
    let address = https(port, &tls, Some("good"));
    let error = lines(&address, "/v1/verdicts")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("503") && error.contains("API server"),
        "{error}"
    );
}

#[tokio::test]
async fn a_caller_that_does_not_know_the_certificate_goes_away_and_plain_text_gets_nothing() {
    let fixture = fixture();
    let api = api_server(Arc::default()).await;
    let (port, _) = secured(&fixture, api).await;
    let folder = tempfile::tempdir().unwrap();
    let stranger = certificate(folder.path());
    let error = lines(&https(port, &stranger, Some("good")), "/healthz")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let mut plain = to(port).await;
    plain
        .write_all(b"GET /v1/verdicts HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes).await;
    assert!(
        !bytes.starts_with(b"HTTP"),
        "{}",
        String::from_utf8_lossy(&bytes)
    );
}

#[tokio::test]
async fn a_new_certificate_is_used_after_a_reload_and_a_bad_one_is_not() {
    let fixture = fixture();
    let api = api_server(Arc::default()).await;
    let tls = certificate(fixture.folder.path());
    let at = listen(None, Some(tls.clone()));
    let listener = Listener::open(&at).await.unwrap();
    let (port, renew) = (listener.port().unwrap(), listener.renewal());
    let guard = authorizer(fixture.folder.path(), api).await;
    fixture.serve(listener, guard);
    certificate(fixture.folder.path());
    let address = https(port, &tls, None);
    lines(&address, "/healthz")
        .await
        .expect_err("still the old certificate");
    renew(&at).unwrap();
    lines(&address, "/healthz").await.expect("the new one");
    std::fs::write(&tls.key, "no key").unwrap();
    let why = renew(&at).unwrap_err();
    assert!(why.contains("tls.key"), "{why}");
    lines(&address, "/healthz")
        .await
        .expect("still the good one");
}

/// Who the in-process API server knows, and what they may do; counts how often it was asked.
async fn api_server(asked: Arc<AtomicUsize>) -> u16 {
    let count = Arc::clone(&asked);
    let tokens = post(move |Json(mut review): Json<TokenReview>| async move {
        count.fetch_add(1, Ordering::SeqCst);
        let user = match review.spec.token.as_deref() {
            Some("good") => Some("reader"),
            Some("weak") => Some("nobody"),
            _ => None,
        };
        review.status = serde_json::from_value(json!({
            "authenticated": user.is_some(),
            "user": user.map(|name| json!({"username": name, "groups": ["system:authenticated"]})),
        }))
        .unwrap();
        (StatusCode::CREATED, Json(review))
    });
    let access = post(
        move |Json(mut review): Json<SubjectAccessReview>| async move {
            asked.fetch_add(1, Ordering::SeqCst);
            let spec = &review.spec;
            let wanted = spec.non_resource_attributes.clone().unwrap_or_default();
            let allowed = spec.user.as_deref() == Some("reader")
                && spec.groups.as_deref() == Some(&["system:authenticated".to_owned()])
                && wanted.verb.as_deref() == Some("get")
                && wanted.path.as_deref() != Some("/v1/traces");
            review.status = serde_json::from_value(json!({"allowed": allowed})).unwrap();
            (StatusCode::CREATED, Json(review))
        },
    );
    let router = Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", tokens)
        .route("/apis/authorization.k8s.io/v1/subjectaccessreviews", access);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

async fn authorizer(folder: &Path, port: u16) -> Guard {
    let kubeconfig = folder.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let access = connect(&Places {
        given: Some(kubeconfig),
        ..Places::default()
    })
    .await
    .unwrap();
    Guard::Kubernetes(Arc::new(Authorizer::new(access.client)))
}

/// A certificate for localhost that vouches for itself.
fn certificate(folder: &Path) -> Tls {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = Tls {
        certificate: folder.join("tls.crt"),
        key: folder.join("tls.key"),
    };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    tls
}

async fn secured(fixture: &Fixture, api: u16) -> (u16, Tls) {
    let tls = certificate(fixture.folder.path());
    let guard = authorizer(fixture.folder.path(), api).await;
    let listener = Listener::open(&listen(None, Some(tls.clone())))
        .await
        .unwrap();
    let port = listener.port().unwrap();
    fixture.serve(listener, guard);
    (port, tls)
}

fn https(port: u16, tls: &Tls, token: Option<&str>) -> Address {
    Address::Https {
        host: "localhost".to_owned(),
        port,
        ca: tls.certificate.clone(),
        token: token.map(str::to_owned),
    }
}
