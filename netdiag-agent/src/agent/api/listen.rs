//! Doors: unix sockets and TCP addresses, plain or with TLS.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::tls;
use crate::agent::config::Listen;

/// Connections one door serves at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;

/// For a handshake, and for a request to be complete.
const PATIENCE: Duration = Duration::from_secs(10);

/// After a failed accept, such as for want of descriptors.
const RETRY: Duration = Duration::from_millis(100);

/// A door that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("listen on {at}: {why}")]
pub struct ListenError {
    at: String,
    why: String,
}

/// An open door. A unix socket's file goes with it.
pub struct Listener {
    door: Door,
    at: String,
    tls: Option<Arc<Mutex<Arc<ServerConfig>>>>,
}

enum Door {
    Tcp(TcpListener),
    Unix(
        UnixListener,
        #[expect(dead_code, reason = "held to remove the file with the listener")] SocketFile,
    ),
}

struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds; from here on connections wait to be served.
    pub async fn open(listen: &Listen) -> Result<Self, ListenError> {
        let fail = |why: String| ListenError {
            at: listen.to_string(),
            why,
        };
        let tls = listen
            .tls
            .as_ref()
            .map(tls::load)
            .transpose()
            .map_err(fail)?;
        let door = match (&listen.unix, listen.tcp) {
            (Some(path), _) => {
                let listener = unix(path).await.map_err(|error| fail(error.to_string()))?;
                Door::Unix(listener, SocketFile(path.clone()))
            }
            (None, Some(address)) => Door::Tcp(
                TcpListener::bind(address)
                    .await
                    .map_err(|error| fail(error.to_string()))?,
            ),
            (None, None) => return Err(fail("no address".to_owned())),
        };
        Ok(Self {
            door,
            at: listen.to_string(),
            tls: tls.map(|config| Arc::new(Mutex::new(config))),
        })
    }

    /// As the configuration names it.
    pub fn name(&self) -> &str {
        &self.at
    }

    /// Where it really listens, for port 0.
    pub fn port(&self) -> Option<u16> {
        match &self.door {
            Door::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Door::Unix(..) => None,
        }
    }

    /// Reads the certificate again; new connections get it. Call the result when the files may have changed.
    pub fn renewal(&self) -> impl Fn(&Listen) -> Result<(), String> + Send + Sync + use<> {
        let slot = self.tls.clone();
        move |listen| {
            if let (Some(slot), Some(tls)) = (&slot, &listen.tls) {
                let fresh = tls::load(tls)?;
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
            }
            Ok(())
        }
    }

    /// Serves until dropped.
    pub async fn serve(self, router: Router) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let router = router.clone();
            let accepted = match &self.door {
                Door::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    let tls = self.tls.as_ref().map(|slot| {
                        Arc::clone(&slot.lock().unwrap_or_else(PoisonError::into_inner))
                    });
                    tokio::spawn(async move {
                        match tls {
                            None => converse(stream, router).await,
                            Some(config) => secured(stream, config, router).await,
                        }
                        drop(place);
                    });
                }),
                Door::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(async move {
                        converse(stream, router).await;
                        drop(place);
                    });
                }),
            };
            if let Err(error) = accepted {
                tracing::warn!("accept on {}: {error}", self.at);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn secured<I>(stream: I, config: Arc<ServerConfig>, router: Router)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tokio::time::timeout(PATIENCE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, router).await,
        Ok(Err(error)) => tracing::debug!("TLS handshake: {error}"),
        Err(_) => tracing::debug!("TLS handshake: not done within {PATIENCE:?}"),
    }
}

async fn converse<I>(stream: I, router: Router)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!("connection: {error}");
    }
}

/// Takes the place of a socket nobody listens on any more.
async fn unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    match fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::other(
                "there is a file of that name, and it is no socket",
            ));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(io::Error::other("another process listens there"));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // Connecting needs write permission, which nobody else has under any usual umask even before this.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}
