//! A Kubernetes API server for tests: objects that are put into it are listed and watched as at the real one.
//!
//! It runs on a thread of its own and answers exactly what clients of lists and watches ask: field and label
//! selectors, pages, bookmarks, versions that are too old, metadata only. It can be told to refuse, to be slow, to say
//! nothing and to break connections. Behaviour as observed at kube-apiserver 1.20 and 1.36; there is no admission, no
//! validation and no writing over HTTP.

mod answer;
mod fault;
mod path;
mod select;
mod store;
mod watch;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::Value;
use tokio::sync::oneshot;

pub use fault::Fault;

use store::Store;

/// Runs until it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    store: Arc<Store>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl ApiServer {
    /// On a free port of the loopback interface.
    pub fn start() -> io::Result<Self> {
        Self::on(TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?)
    }

    /// On a socket that is bound already, in whatever network namespace that is.
    pub fn on(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let store = Arc::new(Store::default());
        let running = Some(run(listener, Arc::clone(&store))?);
        Ok(Self {
            address,
            store,
            running,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig for this server, as text.
    pub fn kubeconfig(&self) -> String {
        let server = format!("http://{}", self.address);
        let name = "test";
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\n\
             clusters: [{{name: {name}, cluster: {{server: \"{server}\"}}}}]\n\
             users: [{{name: {name}, user: {{token: {TOKEN}}}}}]\n\
             contexts: [{{name: {name}, context: {{cluster: {name}, user: {name}}}}}]\n"
        )
    }

    /// Adds an object, or replaces the one of its name. `kind` and `apiVersion` say what it is. What the server would
    /// add (uid, version, times) is added where it is missing.
    ///
    /// # Panics
    /// When it has no kind, version or name.
    pub fn put(&self, object: Value) {
        self.store.put(object);
    }

    /// All items of a list, as a server has answered it.
    ///
    /// # Panics
    /// When it is no list.
    pub fn put_list(&self, list: &Value) {
        let kind = list["kind"].as_str().expect("a list has a kind");
        let kind = kind.strip_suffix("List").expect("a list's kind says so");
        for item in list["items"].as_array().expect("a list has items") {
            let mut item = item.clone();
            item["kind"] = kind.into();
            item["apiVersion"] = list["apiVersion"].clone();
            self.put(item);
        }
    }

    /// Takes an object away; `resource` as in a path (`pods`), `namespace` empty where there is none.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        self.store.delete(resource, namespace, name);
    }

    /// This group and version (`apis/discovery.k8s.io/v1`) is not served: 404.
    pub fn do_not_serve(&self, group_version: &str) {
        self.store.do_not_serve(group_version);
    }

    /// From now on requests whose path and query contain `what` meet the fault.
    pub fn fail(&self, what: &str, fault: Fault) {
        self.store.fail(what, fault);
    }

    /// No faults any more; what hangs is answered.
    pub fn heal(&self) {
        self.store.heal();
    }

    /// Versions up to now are too old to watch from; open watches end.
    pub fn expire(&self) {
        self.store.expire();
    }

    /// Breaks every open watch, in the middle of a line.
    pub fn cut_watches(&self) {
        self.store.cut();
    }

    /// Tells open watches the version, as the real server does now and then.
    pub fn bookmark(&self) {
        self.store.bookmark();
    }

    /// Path and query of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.store.requests()
    }

    /// The server dies: connections break, and new ones are refused.
    pub fn stop(&mut self) {
        if let Some(Running { stop, thread }) = self.running.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }

    /// The server is there again, under its address and with its objects.
    pub fn restart(&mut self) -> io::Result<()> {
        if self.running.is_none() {
            let listener = TcpListener::bind(self.address)?;
            self.running = Some(run(listener, Arc::clone(&self.store))?);
        }
        Ok(())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a client has to show.
const TOKEN: &str = "let-me-in";

fn run(listener: TcpListener, store: Arc<Store>) -> io::Result<Running> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new()
        .name("apiserver".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let served = async {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    let router = axum::Router::new()
                        .fallback(answer::answer)
                        .with_state(store);
                    axum::serve(listener, router).await
                };
                tokio::select! {
                    served = served => {
                        if let Err(error) = served {
                            eprintln!("the API server for tests has ended: {error}");
                        }
                    }
                    _ = stopped => {}
                }
            });
            // Breaks whatever connection is still open.
            runtime.shutdown_background();
        })?;
    Ok(Running { stop, thread })
}
