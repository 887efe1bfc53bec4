//! Which API server to ask, with whose credentials, and how long to wait for it.
//!
//! A trace must begin without an API server too, so nothing here waits long: [`brief`] bounds every single question.
//! Watches have no bound of their own; their caller notices when they fall silent.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError};
use kube::{Client, Config};

/// The server sits beside the node or one hop away; what takes longer to connect is not there.
const CONNECT: Duration = Duration::from_secs(1);

/// One answer, once connected.
const ANSWER: Duration = Duration::from_secs(2);

/// Where installers leave the kubelet's own credentials: kubeadm, AKS and EKS, k3s, RKE2, microk8s.
const KUBELET: [&str; 5] = [
    "etc/kubernetes/kubelet.conf",
    "var/lib/kubelet/kubeconfig",
    "var/lib/rancher/k3s/agent/kubelet.kubeconfig",
    "var/lib/rancher/rke2/agent/kubelet.kubeconfig",
    "var/snap/microk8s/current/credentials/kubelet.config",
];

/// Mounted into pods, unless they ask not to have it; out of sight after a `chroot` to the node's file system.
const ACCOUNT: &str = "var/run/secrets/kubernetes.io/serviceaccount/token";

/// The API server and who we are to it.
#[derive(Clone)]
pub struct Access {
    pub client: Client,
    /// Namespace of the credentials' context: what is meant where none is typed.
    pub namespace: String,
    pub origin: Origin,
}

/// Where the credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `--kubeconfig`.
    Given(PathBuf),
    /// `$KUBECONFIG`: several files are merged, the first to name something wins.
    Environment(Vec<PathBuf>),
    /// The service account of the pod we run in.
    InCluster,
    Home(PathBuf),
    /// This node's kubelet: sees the pods of its own node and little else.
    Kubelet(PathBuf),
}

/// Why there is nobody to ask.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "no kubeconfig: neither --kubeconfig nor $KUBECONFIG, no service account, no ~/.kube/config, no kubelet's"
    )]
    None,
    #[error("{origin}: {why}")]
    Unusable { origin: Origin, why: String },
}

impl ClientError {
    fn unusable(origin: &Origin, why: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unusable {
            origin: origin.clone(),
            why: innermost(why),
        }
    }

    /// The user named this file: going on without it would not be what was asked for.
    pub fn is_input(&self) -> bool {
        matches!(
            self,
            Self::Unusable {
                origin: Origin::Given(_),
                ..
            }
        )
    }
}

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the API server did not answer within {0:?}")]
    Silent(Duration),
    #[error("{}", innermost(.0))]
    Failed(#[source] Box<kube::Error>),
}

impl AskError {
    /// The server's HTTP status, where it gave one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Failed(error) => match error.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            Self::Silent(_) => None,
        }
    }

    /// Another try may well succeed: nobody answered, or a server that is overloaded or starting did.
    fn may_pass(&self) -> bool {
        self.status()
            .is_none_or(|status| status == 429 || status >= 500)
    }
}

/// What to look at for credentials.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// `--kubeconfig`.
    pub given: Option<PathBuf>,
    /// `$KUBECONFIG`.
    pub environment: Option<OsString>,
    /// `$KUBERNETES_SERVICE_HOST` is set: we run in a pod.
    pub in_cluster: bool,
    pub home: Option<PathBuf>,
    /// `/`, or where the node's file system is mounted.
    pub root: PathBuf,
}

impl Places {
    /// Those of this process.
    pub fn of_process(given: Option<&Path>) -> Self {
        Self {
            given: given.map(Path::to_owned),
            environment: std::env::var_os("KUBECONFIG"),
            in_cluster: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
            home: std::env::var_os("HOME").map(PathBuf::from),
            root: PathBuf::from("/"),
        }
    }

    /// The first of these there is. What the user named need not exist: that it does not is then the error.
    pub fn origin(&self) -> Option<Origin> {
        if let Some(path) = &self.given {
            return Some(Origin::Given(path.clone()));
        }
        let listed = self.environment.as_deref().map(std::env::split_paths);
        let listed: Vec<PathBuf> = listed
            .into_iter()
            .flatten()
            .filter(|path| !path.as_os_str().is_empty())
            .collect();
        if !listed.is_empty() {
            return Some(Origin::Environment(listed));
        }
        if self.in_cluster && self.root.join(ACCOUNT).is_file() {
            return Some(Origin::InCluster);
        }
        let home = self.home.as_ref().map(|home| home.join(".kube/config"));
        if let Some(path) = home.filter(|path| path.is_file()) {
            return Some(Origin::Home(path));
        }
        let kubelet = KUBELET.iter().map(|path| self.root.join(path));
        kubelet
            .into_iter()
            .find(|path| path.is_file())
            .map(Origin::Kubelet)
    }
}

/// A client for the first credentials there are. Does not speak to the server yet; call it inside a tokio runtime.
pub async fn connect(places: &Places) -> Result<Access, ClientError> {
    let (origin, mut config) = load(places).await?;
    config.connect_timeout = Some(CONNECT);
    // `brief` tries again itself, within its bound.
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    match Client::try_from(config) {
        Ok(client) => Ok(Access {
            client,
            namespace,
            origin,
        }),
        Err(error) => Err(ClientError::unusable(&origin, &error)),
    }
}

/// The namespace of the first credentials there are, without using them.
pub async fn namespace(places: &Places) -> Result<String, ClientError> {
    let (_, config) = load(places).await?;
    Ok(config.default_namespace)
}

async fn load(places: &Places) -> Result<(Origin, Config), ClientError> {
    let origin = places.origin().ok_or(ClientError::None)?;
    let paths = match &origin {
        Origin::InCluster => {
            return match Config::incluster() {
                Ok(config) => Ok((origin, config)),
                Err(error) => Err(ClientError::unusable(&origin, &error)),
            };
        }
        Origin::Environment(paths) => paths.as_slice(),
        Origin::Given(path) | Origin::Home(path) | Origin::Kubelet(path) => {
            std::slice::from_ref(path)
        }
    };
    match from_files(paths).await {
        Ok(config) => Ok((origin, config)),
        Err(error) => Err(ClientError::unusable(&origin, &error)),
    }
}

async fn from_files(paths: &[PathBuf]) -> Result<Config, KubeconfigError> {
    let merged = paths.iter().try_fold(Kubeconfig::default(), |all, path| {
        Kubeconfig::read_from(path).and_then(|one| all.merge(one))
    })?;
    Config::from_custom_kubeconfig(merged, &KubeConfigOptions::default()).await
}

/// Asks one question, and once more where a second try may help.
pub async fn brief<T, F>(question: impl Fn() -> F) -> Result<T, AskError>
where
    F: Future<Output = kube::Result<T>>,
{
    within(ANSWER, question).await
}

/// The same, with another bound for each of the two tries.
pub async fn within<T, F>(limit: Duration, question: impl Fn() -> F) -> Result<T, AskError>
where
    F: Future<Output = kube::Result<T>>,
{
    match once(limit, question()).await {
        Err(error) if error.may_pass() => once(limit, question()).await,
        answer => answer,
    }
}

async fn once<T>(
    limit: Duration,
    question: impl Future<Output = kube::Result<T>>,
) -> Result<T, AskError> {
    match tokio::time::timeout(limit, question).await {
        Ok(answer) => answer.map_err(|error| AskError::Failed(Box::new(error))),
        Err(_) => Err(AskError::Silent(limit)),
    }
}

/// The outer errors of a chain say no more than that something failed; but one names the file that could not be read.
pub(super) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        if let Some(LoadDataError::ReadFile(cause, path)) = source.downcast_ref() {
            return format!("read {}: {cause}", path.display());
        }
        last = source;
    }
    last.to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(path) => write!(f, "--kubeconfig {}", path.display()),
            Self::Environment(paths) => {
                let paths: Vec<_> = paths
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect();
                write!(f, "$KUBECONFIG {}", paths.join(":"))
            }
            Self::InCluster => f.write_str("the pod's service account"),
            Self::Home(path) | Self::Kubelet(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
