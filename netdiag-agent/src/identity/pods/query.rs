//! What the operator calls the pods: `pod/NAME`, a pod's UID, labels, a workload, a container id.

use std::fmt;
use std::path::PathBuf;

use kube::core::Selector;

use super::labels;

/// Which pods, in the operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub wanted: Wanted,
    /// `-n`; `None`: that of the credentials, or else `default`.
    pub namespace: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// By name, or by UID.
    Pod(String),
    Labels(Selector),
    Workload(WorkloadKind, String),
    /// The start of a container's or a sandbox's id.
    Container(String),
}

/// What keeps pods running and names them after itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    Deployment,
    DaemonSet,
    StatefulSet,
    ReplicaSet,
}

/// Whom to ask, where the machine does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub kubeconfig: Option<PathBuf>,
    /// `unix://…` or a path.
    pub runtime: Option<String>,
}

type Spellings = &'static [&'static str];
type Named = fn(String) -> Wanted;

/// Kinds by all names that kubectl knows them by.
const KINDS: &[(Spellings, Named)] = &[
    (&["pod", "pods", "po"], Wanted::Pod),
    (&["deployment", "deployments", "deploy"], |name| {
        Wanted::Workload(WorkloadKind::Deployment, name)
    }),
    (&["daemonset", "daemonsets", "ds"], |name| {
        Wanted::Workload(WorkloadKind::DaemonSet, name)
    }),
    (&["statefulset", "statefulsets", "sts"], |name| {
        Wanted::Workload(WorkloadKind::StatefulSet, name)
    }),
    (&["replicaset", "replicasets", "rs"], |name| {
        Wanted::Workload(WorkloadKind::ReplicaSet, name)
    }),
    (&["container"], Wanted::Container),
];

const WANTED: &str = "wanted is pod/NAME, pod/UID, deployment/NAME, daemonset/NAME, statefulset/NAME or container/ID";

impl Wanted {
    /// `KIND/NAME`. The error is one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = &text.escape_debug().to_string();
        let Some((kind, name)) = text.split_once('/') else {
            return Err(format!("'{text}' has no kind (pod/{text}?); {WANTED}"));
        };
        let known = KINDS.iter().find(|(names, _)| names.contains(&kind));
        let Some((_, make)) = known else {
            return Err(format!("'{kind}' in {text} is not known here; {WANTED}"));
        };
        let wanted = make(name.to_owned());
        match &wanted {
            // kubectl and the kubelet write containerd://ID.
            Self::Container(id) => {
                let id = id.rsplit("://").next().unwrap_or(id);
                let sound = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_hexdigit());
                if sound {
                    Ok(Self::Container(id.to_owned()))
                } else {
                    Err(format!(
                        "'{id}' is not the id of a container, which is hexadecimal"
                    ))
                }
            }
            _ if labels::is_name(name) => Ok(wanted),
            _ => Err(format!(
                "'{name}' in {text} is not the name of a {kind}; {WANTED}"
            )),
        }
    }

    /// `-l`.
    pub fn labels(text: &str) -> Result<Self, String> {
        labels::parse(text).map(Self::Labels)
    }
}

impl WorkloadKind {
    /// As the API spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::DaemonSet => "DaemonSet",
            Self::StatefulSet => "StatefulSet",
            Self::ReplicaSet => "ReplicaSet",
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(name) => write!(f, "pod {name}"),
            Self::Labels(selector) => write!(f, "pod with {selector}"),
            Self::Workload(kind, name) => {
                write!(f, "pod of {} {name}", kind.name().to_lowercase())
            }
            Self::Container(id) => write!(f, "container {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_kubectl_gives_them() {
        let deployment = Wanted::Workload(WorkloadKind::Deployment, "web".to_owned());
        for text in ["deployment/web", "deploy/web", "deployments/web"] {
            assert_eq!(Wanted::parse(text), Ok(deployment.clone()));
        }
        let daemons = Wanted::Workload(WorkloadKind::DaemonSet, "cni".to_owned());
        assert_eq!(Wanted::parse("ds/cni"), Ok(daemons));
        assert_eq!(
            Wanted::parse("po/web-0"),
            Ok(Wanted::Pod("web-0".to_owned()))
        );
        let container = Ok(Wanted::Container("0123abcd".to_owned()));
        assert_eq!(Wanted::parse("container/0123abcd"), container);
        assert_eq!(Wanted::parse("container/containerd://0123abcd"), container);
    }

    #[test]
    fn nonsense_is_refused_in_one_line() {
        for text in [
            "web",
            "pod/",
            "/web",
            "svc/web",
            "pod/Web",
            "pod/a/b",
            "pod/a b",
            "container/",
            "container/xyz",
            "pod/-a",
            "pod/a..b",
        ] {
            let error = Wanted::parse(text).expect_err(text);
            assert!(
                !error.is_empty() && !error.contains('\n'),
                "{text}: {error}"
            );
        }
    }
}
