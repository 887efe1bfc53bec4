//! The container runtime, asked by its own interface: which sandboxes live on this node, and where their network is.

#[rustfmt::skip]
#[allow(clippy::all, clippy::pedantic, clippy::allow_attributes_without_reason, unused_qualifications,
    reason = "generated")]
pub mod generated;
mod info;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::cgroup::Uid;
use super::local::Labels;
use generated::runtime_service_client::RuntimeServiceClient;
use generated::{
    ContainerFilter, ContainerState, ContainerStateValue, ListContainersRequest,
    ListPodSandboxRequest, NamespaceMode, PodSandboxFilter, PodSandboxState, PodSandboxStateValue,
    PodSandboxStatusRequest, PodSandboxStatusResponse, VersionRequest,
};

/// The sockets of containerd (also as k3s, RKE2 and microk8s bring it), CRI-O and cri-dockerd, below the root.
const SOCKETS: [&str; 5] = [
    "run/containerd/containerd.sock",
    "run/crio/crio.sock",
    "run/cri-dockerd.sock",
    "run/k3s/containerd/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
];

/// One answer. The runtime is a process next door; one that takes longer hangs.
const ANSWER: Duration = Duration::from_secs(2);

/// A connection to a runtime that speaks version 1 of the interface.
#[derive(Clone)]
pub struct Runtime {
    client: RuntimeServiceClient<Channel>,
    socket: PathBuf,
}

/// A live sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub id: String,
    pub uid: Uid,
    pub namespace: String,
    pub name: String,
    /// As of its creation: what was changed on the pod since is not known here.
    pub labels: Labels,
    /// Nanoseconds since the Unix epoch.
    pub created: i64,
}

/// Where a sandbox has its network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Of the sandbox's first process.
    pub pid: Option<u32>,
    pub netns: Option<PathBuf>,
    pub host_network: bool,
    pub addresses: Vec<IpAddr>,
}

/// A running container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub sandbox: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("no container runtime socket ({})", SOCKETS.map(|path| format!("/{path}")).join(", "))]
    NoSocket,
    #[error("--runtime-endpoint {0}: wanted is unix:///PATH of a socket")]
    BadEndpoint(String),
    #[error("connect to the container runtime at {}: {why}", socket.display())]
    Connect { socket: PathBuf, why: String },
    #[error("the container runtime at {} does not speak CRI v1", .0.display())]
    NoCri(PathBuf),
    #[error("ask the container runtime at {} to {act}: {why}", socket.display())]
    Ask {
        socket: PathBuf,
        act: &'static str,
        why: String,
    },
}

/// The runtime at this endpoint, or else the first one found that has pods; of several without, the first.
pub async fn connect(given: Option<&str>, root: &Path) -> Result<Runtime, RuntimeError> {
    if let Some(given) = given {
        return Runtime::open(&socket_of(given)?).await;
    }
    let sockets = SOCKETS.iter().map(|path| root.join(path));
    let mut empty = None;
    let mut error = RuntimeError::NoSocket;
    for socket in sockets.filter(|socket| socket.exists()) {
        match Runtime::open(&socket).await {
            // Docker brings a containerd that has no pods beside the cri-dockerd that has them.
            Ok(mut runtime) => match runtime.sandboxes().await {
                Ok(sandboxes) if sandboxes.is_empty() => drop(empty.get_or_insert(runtime)),
                Ok(_) => return Ok(runtime),
                Err(why) => error = why,
            },
            Err(why) => error = why,
        }
    }
    empty.ok_or(error)
}

fn socket_of(endpoint: &str) -> Result<PathBuf, RuntimeError> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    let path = Path::new(path);
    if path.is_absolute() {
        Ok(path.to_owned())
    } else {
        Err(RuntimeError::BadEndpoint(endpoint.to_owned()))
    }
}

impl Runtime {
    async fn open(socket: &Path) -> Result<Self, RuntimeError> {
        let fault = |why: String| RuntimeError::Connect {
            socket: socket.to_owned(),
            why,
        };
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))
            .map_err(|error| fault(innermost(&error)))?
            .connect_timeout(ANSWER)
            .timeout(ANSWER);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| fault(innermost(&error)))?;
        let mut runtime = Self {
            client: RuntimeServiceClient::new(channel).max_decoding_message_size(usize::MAX),
            socket: socket.to_owned(),
        };
        runtime.check().await?;
        Ok(runtime)
    }

    async fn check(&mut self) -> Result<(), RuntimeError> {
        match self.client.version(VersionRequest::default()).await {
            Ok(_) => Ok(()),
            Err(status) if status.code() == Code::Unimplemented => {
                Err(RuntimeError::NoCri(self.socket.clone()))
            }
            Err(status) => Err(self.failed("tell its version", &status)),
        }
    }

    /// All live sandboxes, newest first. Dead ones stay listed by a runtime until the kubelet removes them.
    pub async fn sandboxes(&mut self) -> Result<Vec<Sandbox>, RuntimeError> {
        let ready = PodSandboxState::SandboxReady;
        let request = ListPodSandboxRequest {
            filter: Some(PodSandboxFilter {
                state: Some(PodSandboxStateValue {
                    state: ready.into(),
                }),
                ..PodSandboxFilter::default()
            }),
        };
        let answer = self.client.list_pod_sandbox(Request::new(request)).await;
        let items = self.answer("list its pods", answer)?.items;
        // Filtered once more: the filter is the runtime's word, the state its record.
        let live = items.into_iter().filter(|one| one.state() == ready);
        let mut sandboxes: Vec<Sandbox> = live
            .filter_map(|one| {
                let meta = one.metadata?;
                Some(Sandbox {
                    id: one.id,
                    uid: Uid::of(&meta.uid),
                    namespace: meta.namespace,
                    name: meta.name,
                    labels: one.labels,
                    created: one.created_at,
                })
            })
            .collect();
        sandboxes.sort_by(|one, other| (other.created, &other.id).cmp(&(one.created, &one.id)));
        Ok(sandboxes)
    }

    /// `None`: it has ended since it was listed.
    pub async fn place(&mut self, sandbox: &str) -> Result<Option<Place>, RuntimeError> {
        let request = PodSandboxStatusRequest {
            pod_sandbox_id: sandbox.to_owned(),
            verbose: true,
        };
        match self.client.pod_sandbox_status(request).await {
            Ok(answer) => Ok(place(&answer.into_inner())),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed("tell about a pod", &status)),
        }
    }

    pub async fn containers(&mut self) -> Result<Vec<Container>, RuntimeError> {
        let running = ContainerState::ContainerRunning;
        let request = ListContainersRequest {
            filter: Some(ContainerFilter {
                state: Some(ContainerStateValue {
                    state: running.into(),
                }),
                ..ContainerFilter::default()
            }),
        };
        let answer = self.client.list_containers(request).await;
        let listed = self.answer("list its containers", answer)?.containers;
        let running = listed.into_iter().filter(|one| one.state() == running);
        Ok(running
            .map(|one| Container {
                id: one.id,
                name: one.metadata.map(|meta| meta.name).unwrap_or_default(),
                sandbox: one.pod_sandbox_id,
            })
            .collect())
    }

    fn answer<T>(
        &self,
        act: &'static str,
        answer: Result<Response<T>, Status>,
    ) -> Result<T, RuntimeError> {
        answer
            .map(Response::into_inner)
            .map_err(|status| self.failed(act, &status))
    }

    fn failed(&self, act: &'static str, status: &Status) -> RuntimeError {
        let why = status.message().lines().next().unwrap_or_default();
        RuntimeError::Ask {
            socket: self.socket.clone(),
            act,
            why: if why.is_empty() {
                status.code().to_string()
            } else {
                why.to_owned()
            },
        }
    }
}

fn place(answer: &PodSandboxStatusResponse) -> Option<Place> {
    let status = answer.status.as_ref()?;
    if status.state() != PodSandboxState::SandboxReady {
        return None;
    }
    let options = status
        .linux
        .as_ref()
        .and_then(|linux| linux.namespaces.as_ref()?.options.as_ref());
    let host_network = options.is_some_and(|options| options.network() == NamespaceMode::Node);
    let network = status.network.as_ref();
    let more = network
        .into_iter()
        .flat_map(|network| &network.additional_ips);
    let addresses = network
        .map(|network| &network.ip)
        .into_iter()
        .chain(more.map(|more| &more.ip))
        .filter_map(|text| text.parse().ok());
    let (pid, netns) = answer
        .info
        .get("info")
        .map_or((None, None), |text| info::read(text));
    Some(Place {
        pid,
        netns,
        host_network,
        addresses: addresses.collect(),
    })
}

/// The outer errors of a chain only say that transport failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.downcast_ref::<io::Error>()
        .map_or_else(|| last.to_string(), ToString::to_string)
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runtime({})", self.socket.display())
    }
}
