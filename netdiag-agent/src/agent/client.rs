//! Asking an agent for its verdicts: the other side of [`super::api`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use futures::StreamExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// For a connection, and for an answer to begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// A line longer than this is no verdict.
const MAX_LINE: usize = 16 << 20;

/// Where the agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Unix(PathBuf),
    /// Host and port.
    Http(String, u16),
    Https {
        host: String,
        port: u16,
        /// Who may have signed its certificate (PEM).
        ca: PathBuf,
        token: Option<String>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("ask the agent at {at}: {why}")]
    Failed { at: String, why: String },
    #[error("the agent at {at} refused: {status}: {why}")]
    Refused {
        at: String,
        status: StatusCode,
        why: String,
    },
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Http(host, port) => write!(f, "http://{host}:{port}"),
            Self::Https { host, port, .. } => write!(f, "https://{host}:{port}"),
        }
    }
}

/// `GET path`; hands each line of the answer to `take`, which may end the reading with an error of its own.
pub async fn lines<E: From<Error>>(
    address: &Address,
    path: &str,
    take: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |why: &dyn std::fmt::Display| Error::Failed {
        at: address.to_string(),
        why: why.to_string(),
    };
    match address {
        Address::Unix(socket) => {
            let stream = patiently(UnixStream::connect(socket))
                .await
                .map_err(|error| fail(&error))?;
            talk(address, path, stream, take).await
        }
        Address::Http(host, port) => {
            let stream = patiently(TcpStream::connect((host.as_str(), *port)))
                .await
                .map_err(|error| fail(&error))?;
            talk(address, path, stream, take).await
        }
        Address::Https { host, port, ca, .. } => {
            let connector = connector(ca).map_err(|why| fail(&why))?;
            let name = ServerName::try_from(host.clone()).map_err(|error| fail(&error))?;
            let secured = async {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                connector.connect(name, stream).await
            };
            let stream = patiently(secured).await.map_err(|error| fail(&error))?;
            talk(address, path, stream, take).await
        }
    }
}

async fn patiently<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

async fn talk<E: From<Error>>(
    address: &Address,
    path: &str,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    mut take: impl FnMut(&str) -> Result<(), E>,
) -> Result<(), E> {
    let fail = |why: &dyn std::fmt::Display| Error::Failed {
        at: address.to_string(),
        why: why.to_string(),
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| fail(&error))?;
    // Ends with the answer, or when the sender is dropped.
    tokio::spawn(connection);
    let request = request(address, path).map_err(|error| fail(&error))?;
    let answer = tokio::time::timeout(PATIENCE, sender.send_request(request))
        .await
        .map_err(|_| fail(&"no answer"))?
        .map_err(|error| fail(&error))?;
    let status = answer.status();
    let mut body = Body::new(answer.into_body()).into_data_stream();
    let mut rest = Vec::new();
    while let Some(piece) = body.next().await {
        rest.extend_from_slice(&piece.map_err(|error| fail(&error))?);
        if rest.len() > MAX_LINE {
            return Err(fail(&"the answer has no lines").into());
        }
        if !status.is_success() {
            continue;
        }
        let mut start = 0;
        while let Some(len) = rest[start..].iter().position(|byte| *byte == b'\n') {
            take(&String::from_utf8_lossy(&rest[start..start + len]))?;
            start += len + 1;
        }
        rest.drain(..start);
    }
    if !status.is_success() {
        let said = String::from_utf8_lossy(&rest);
        return Err(Error::Refused {
            at: address.to_string(),
            status,
            why: said.lines().next().unwrap_or_default().to_owned(),
        }
        .into());
    }
    Ok(())
}

fn request(address: &Address, path: &str) -> Result<Request<Body>, axum::http::Error> {
    let host = match address {
        Address::Unix(_) => "localhost".to_owned(),
        Address::Http(host, port) | Address::Https { host, port, .. } if host.contains(':') => {
            format!("[{host}]:{port}")
        }
        Address::Http(host, port) | Address::Https { host, port, .. } => format!("{host}:{port}"),
    };
    let mut request = Request::get(path).header(header::HOST, host);
    if let Address::Https {
        token: Some(token), ..
    } = address
    {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    request.body(Body::empty())
}

fn connector(ca: &Path) -> Result<TlsConnector, String> {
    let shown = ca.display();
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(ca).map_err(|error| format!("read {shown}: {error}"))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| format!("read {shown}: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("use {shown}: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
