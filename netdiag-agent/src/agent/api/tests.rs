//! The service as its callers see it, over real sockets: what each door lets through, and what it answers.

mod local;
mod reading;
mod secured;
mod traces;

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::agent::client::{self, Address};
use crate::agent::config::{Auth, Listen, Tls};
use crate::store::{Limits, Writer};

/// A service over a store with two verdicts. Nobody answers its commands yet.
struct Fixture {
    folder: tempfile::TempDir,
    service: Service,
    readiness: watch::Sender<Readiness>,
    commands: Option<mpsc::Receiver<Command>>,
}

const HOUR_AGO: &str = r#"{"time":"2026-11-21T11:00:00.000000000Z","uuid":"00000000-0000-0000-0000-000000000001","revision":1,"outcome":"DROPPED_HERE"}"#;
const JUST_NOW: &str = r#"{"time":"2026-11-21T11:59:00.000000000Z","uuid":"00000000-0000-0000-0000-000000000002","revision":1,"outcome":"REFUSED"}"#;

const HERE: &str = "Host: 127.0.0.1";

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
    fn serve(&self, listener: Listener, guard: Guard) {
        tokio::spawn(listener.serve(self.service.clone().router(guard)));
    }

    /// Opens a loopback port; the number of it.
    async fn local(&self) -> u16 {
        let listener = Listener::open(&listen(None, None)).await.unwrap();
        let port = listener.port().unwrap();
        self.serve(listener, Guard::Local);
        port
    }

    async fn socket(&self) -> PathBuf {
        let path = self.folder.path().join("agent.sock");
        let listener = Listener::open(&listen(Some(&path), None)).await.unwrap();
        self.serve(listener, Guard::Owner);
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
