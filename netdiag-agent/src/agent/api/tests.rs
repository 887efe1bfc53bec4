//! The service as its callers see it, over real sockets: what each door lets through, and what it answers.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::routing::post;
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::*;
use crate::agent::client::{self, Address};
use crate::agent::config::{Auth, Listen, Tls};
use crate::agent::traces::End;
use crate::identity::kube::client::{Places, connect};
use crate::store::{Limits, Writer};

/// A service over a store with two verdicts; its commands are answered by `answer`.
struct Fixture {
    folder: tempfile::TempDir,
    service: Service,
    readiness: watch::Sender<Readiness>,
    commands: Option<mpsc::Receiver<Command>>,
}

const HOUR_AGO: &str = r#"{"time":"2026-11-21T11:00:00.000000000Z","uuid":"00000000-0000-0000-0000-000000000001","revision":1,"outcome":"DROPPED_HERE"}"#;
const JUST_NOW: &str = r#"{"time":"2026-11-21T11:59:00.000000000Z","uuid":"00000000-0000-0000-0000-000000000002","revision":1,"outcome":"REFUSED"}"#;

fn noon() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let (mut writer, _) = Writer::open(&store, Limits::of_total(1 << 20)).unwrap();
    writer.append(HOUR_AGO).unwrap();
    writer.append(JUST_NOW).unwrap();
    let (commands, receiver) = mpsc::channel(4);
    let (tell, readiness) = watch::channel(Readiness {
        ready: true,
        level: "full",
        reason: None,
    });
    Fixture {
        folder,
        service: Service {
            store,
            metrics: Arc::new(Mutex::new(Metrics::new(10, "v", "k"))),
            traces: Arc::default(),
            readiness,
            commands,
            clock: noon,
        },
        readiness: tell,
        commands: Some(receiver),
    }
}

fn listen(unix: Option<&Path>, tls: Option<Tls>) -> Listen {
    Listen {
        unix: unix.map(Path::to_owned),
        tcp: unix.is_none().then(|| "127.0.0.1:0".parse().unwrap()),
        auth: tls.is_some().then_some(Auth::Kubernetes),
        tls,
    }
}

impl Fixture {
    /// Opens a loopback port; the number of it.
    async fn local(&self, guard: Guard) -> u16 {
        let listener = Listener::open(&listen(None, None)).await.unwrap();
        let port = listener.port().unwrap();
        tokio::spawn(listener.serve(self.service.clone().router(guard)));
        port
    }

    async fn socket(&self) -> PathBuf {
        let path = self.folder.path().join("agent.sock");
        let listener = Listener::open(&listen(Some(&path), None)).await.unwrap();
        tokio::spawn(listener.serve(self.service.clone().router(Guard::Owner)));
        path
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

/// One request on a connection of its own, written and read as bytes.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    headers: &[&str],
    body: &str,
) -> Answer {
    let mut text = format!(
        "{request} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
        .await
        .expect("an answer in time")
        .unwrap();
    let answer = String::from_utf8(bytes).unwrap();
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .expect("an answer with a head");
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

async fn to(port: u16) -> TcpStream {
    TcpStream::connect(("127.0.0.1", port)).await.unwrap()
}

async fn lines(address: &Address, path: &str) -> Result<Vec<String>, client::Error> {
    let mut lines = Vec::new();
    client::lines(address, path, |line| {
        lines.push(line.to_owned());
        Ok::<(), client::Error>(())
    })
    .await?;
    Ok(lines)
}

const HERE: &str = "Host: 127.0.0.1";

#[tokio::test]
async fn health_readiness_and_metrics() {
    let fixture = fixture();
    let port = fixture.local(Guard::Local).await;
    let healthy = ask(to(port).await, "GET /healthz", &[HERE], "").await;
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "ok\n"));
    let ready = ask(to(port).await, "GET /readyz", &[HERE], "").await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        serde_json::from_str::<Value>(&ready.body).unwrap(),
        json!({"ready": true, "level": "full"})
    );
    fixture.readiness.send_replace(Readiness {
        ready: false,
        level: "paused",
        reason: Some("9.00 processors used, 0.3 allowed".to_owned()),
    });
    let paused = ask(to(port).await, "GET /readyz", &[HERE], "").await;
    assert_eq!(paused.status, 503);
    assert!(paused.body.contains("9.00 processors"), "{}", paused.body);
    let plain = ask(to(port).await, "GET /metrics", &[HERE], "").await;
    assert!(
        plain.head.contains("text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    assert!(plain.body.contains("netdiag_build_info{"), "{}", plain.body);
    let accept = "Accept: application/openmetrics-text; version=1.0.0";
    let open = ask(to(port).await, "GET /metrics", &[HERE, accept], "").await;
    assert!(
        open.head.contains("application/openmetrics-text"),
        "{}",
        open.head
    );
    let other = ask(to(port).await, "GET /", &[HERE], "").await;
    assert_eq!(other.status, 404);
}

#[tokio::test]
async fn verdicts_are_chosen_by_time_and_outcome() {
    let fixture = fixture();
    let address = Address::Unix(fixture.socket().await);
    let all = lines(&address, "/v1/verdicts").await.unwrap();
    assert_eq!(all, [HOUR_AGO, JUST_NOW]);
    let late = lines(&address, "/v1/verdicts?since=10m").await.unwrap();
    assert_eq!(late, [JUST_NOW]);
    let since = "/v1/verdicts?since=2026-11-21T11:00:00Z&outcome=dropped_here,REFUSED";
    assert_eq!(lines(&address, since).await.unwrap(), [HOUR_AGO, JUST_NOW]);
    let dropped = "/v1/verdicts?outcome=DROPPED_HERE";
    assert_eq!(lines(&address, dropped).await.unwrap(), [HOUR_AGO]);
    for (path, wanted) in [
        ("/v1/verdicts?since=yesterday", "yesterday"),
        ("/v1/verdicts?outcome=LOST", "LOST"),
        ("/v1/verdicts?sinec=10m", "sinec"),
    ] {
        let error = lines(&address, path).await.unwrap_err().to_string();
        assert!(
            error.contains("400") && error.contains(wanted),
            "{path}: {error}"
        );
    }
}

#[tokio::test]
async fn a_loopback_address_is_read_only_and_no_web_page_gets_through() {
    let fixture = fixture();
    let port = fixture.local(Guard::Local).await;
    let start = ask(to(port).await, "POST /v1/traces", &[HERE], "{}").await;
    assert_eq!(start.status, 403, "{}", start.body);
    let stop = ask(to(port).await, "DELETE /v1/traces/1", &[HERE], "").await;
    assert_eq!(stop.status, 403);
    for headers in [
        &["Host: evil.example"][..],
        &["Host: evil.example:9470"],
        &["Host: 127.0.0.1.evil.example"],
        &[HERE, "Origin: http://evil.example"],
    ] {
        let answer = ask(to(port).await, "GET /v1/verdicts", headers, "").await;
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.body);
    }
    for host in [
        "localhost:9470",
        "LOCALHOST",
        "[::1]:9470",
        "127.0.0.1:9470",
    ] {
        let header = format!("Host: {host}");
        let answer = ask(to(port).await, "GET /v1/verdicts", &[&header], "").await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_socket_is_for_its_owner_and_replaces_a_dead_one_only() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = fixture();
    let path = fixture.socket().await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = Listener::open(&listen(Some(&path), None))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
    let dead = fixture.folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    drop(Listener::open(&listen(Some(&dead), None)).await.unwrap());
    assert!(!dead.exists(), "the file goes with its listener");
    let file = fixture.folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(Listener::open(&listen(Some(&file), None)).await.is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}

/// Runs what is asked for as the supervisor does, without a kernel.
fn run_commands(fixture: &mut Fixture) {
    let mut commands = fixture.commands.take().unwrap();
    let traces = Arc::clone(&fixture.service.traces);
    tokio::spawn(async move {
        let mut next = 1;
        while let Some(command) = commands.recv().await {
            match command {
                Command::Start(ask, answer) if ask.netns.is_none() => {
                    let _ = answer.send(Err(Refusal::Bad("give one of netns".to_owned())));
                }
                Command::Start(..) if next > 2 => {}
                Command::Start(ask, answer) => {
                    traces.add(next, ask.netns.unwrap(), "2026".to_owned());
                    let _ = answer.send(Ok(next));
                    next += 1;
                }
                Command::Stop(id, answer) => {
                    traces.get(id).unwrap().ended(End::InOrder);
                    let _ = answer.send(true);
                }
            }
        }
    });
}

#[tokio::test]
async fn a_trace_is_started_streamed_and_stopped() {
    let mut fixture = fixture();
    run_commands(&mut fixture);
    let path = fixture.socket().await;
    let connect = || UnixStream::connect(&path);
    let json = "Content-Type: application/json";
    let start = |body: &'static str| async move {
        ask(
            connect().await.unwrap(),
            "POST /v1/traces",
            &[HERE, json],
            body,
        )
        .await
    };
    for (body, wanted) in [
        ("{", "EOF"),
        (r#"{"netns":"web","colour":"red"}"#, "colour"),
        (r#"{"netns":"web","duration":"long"}"#, "long"),
        ("{}", "netns"),
    ] {
        let answer = start(body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(answer.body.contains(wanted), "{body}: {}", answer.body);
    }
    let started = start(r#"{"netns":"web","to":"10.0.0.1:80","duration":"10s"}"#).await;
    assert_eq!(started.status, 201, "{}", started.body);
    assert!(
        started.head.contains("location: /v1/traces/1"),
        "{}",
        started.head
    );
    let trace = fixture.service.traces.get(1).unwrap();
    trace.say("{\"first\":1}".into());
    let address = Address::Unix(path.clone());
    let stream = tokio::spawn(async move { lines(&address, "/v1/traces/1").await });
    // Whether the reader is there already or not, it gets every line.
    tokio::task::yield_now().await;
    trace.say("{\"second\":2}".into());
    let list = ask(connect().await.unwrap(), "GET /v1/traces", &[HERE], "").await;
    let list: Value = serde_json::from_str(&list.body).unwrap();
    assert_eq!(
        (&list[0]["state"], &list[0]["verdicts"]),
        (&json!("running"), &json!(2))
    );
    let stopped = ask(connect().await.unwrap(), "DELETE /v1/traces/1", &[HERE], "").await;
    assert_eq!(stopped.status, 204);
    let said = stream.await.unwrap().unwrap();
    assert_eq!(said, ["{\"first\":1}", "{\"second\":2}"]);
    let missing = ask(connect().await.unwrap(), "GET /v1/traces/9", &[HERE], "").await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn the_stream_of_a_trace_that_failed_breaks_off() {
    let fixture = fixture();
    let trace = fixture
        .service
        .traces
        .add(7, "web".to_owned(), String::new());
    trace.say("{}".into());
    trace.ended(End::Failed("its pod is gone".to_owned()));
    let address = Address::Unix(fixture.socket().await);
    lines(&address, "/v1/traces/7")
        .await
        .expect_err("it is not the whole");
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
    tokio::spawn(listener.serve(fixture.service.clone().router(guard)));
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
    tokio::spawn(listener.serve(fixture.service.clone().router(guard)));
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
