//! Objects of Kubernetes, as far as a verdict needs them.

use std::net::IpAddr;
use std::sync::Arc;

use super::select::{Labels, Network, Selector};
use crate::event::{Ktime, Netns, Proto};

/// What every namespaced object is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl Name {
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Who says so. The API knows most and has the last word; the node's own sources know namespaces and addresses first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    #[default]
    Api,
    /// The container runtime, or a result file of a CNI plugin.
    Runtime,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub uid: Arc<str>,
    pub name: Name,
    pub origin: Origin,
    pub labels: Labels,
    /// The machine it runs on.
    pub node: Option<Arc<str>>,
    /// `status.podIPs`; empty until the sandbox has its network, and again once the pod is over.
    pub addresses: Vec<IpAddr>,
    /// Not before this can it have had its addresses (`status.startTime`).
    pub started: Option<Ktime>,
    /// Uses the machine's own namespace and addresses.
    pub host_network: bool,
    /// What owns it, with the ReplicaSet of a Deployment skipped.
    pub workload: Option<Workload>,
    pub ports: Vec<ContainerPort>,
    /// Condition `Ready`.
    pub ready: bool,
    /// Succeeded or failed for good: its addresses are somebody else's.
    pub over: bool,
    /// Its namespace on this node, where that was found.
    pub netns: Option<Netns>,
}

impl Pod {
    /// A pod of which only the names are known.
    pub fn named(uid: impl Into<Arc<str>>, name: Name) -> Self {
        Self {
            uid: uid.into(),
            name,
            origin: Origin::Api,
            labels: Labels::new(),
            node: None,
            addresses: Vec::new(),
            started: None,
            host_network: false,
            workload: None,
            ports: Vec::new(),
            ready: false,
            over: false,
            netns: None,
        }
    }

    /// What the API says, with what only this node knows.
    #[must_use]
    pub(super) fn merged(self: Arc<Self>, before: &Self) -> Arc<Self> {
        let (api, own) = match (before.origin, self.origin) {
            (Origin::Api, Origin::Runtime) => (before, &*self),
            (Origin::Runtime, Origin::Api) => (&*self, before),
            _ if self.netns.is_some() || before.netns.is_none() => return self,
            _ => (&*self, before),
        };
        let mut pod = api.clone();
        pod.netns = own.netns.or(api.netns);
        if pod.addresses.is_empty() && !pod.over {
            pod.addresses.clone_from(&own.addresses);
        }
        Arc::new(pod)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// `Deployment`, `DaemonSet` …
    pub kind: Arc<str>,
    pub name: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    pub name: Option<Arc<str>>,
    pub proto: Proto,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: Name,
    /// `spec.clusterIPs`; empty when headless or a mere alias.
    pub cluster_addresses: Vec<IpAddr>,
    /// External and load balancer addresses it answers on as well.
    pub outer_addresses: Vec<IpAddr>,
    /// Empty: somebody else writes its endpoints.
    pub selector: Labels,
    pub ports: Vec<ServicePort>,
    /// kube-proxy is to write rules for it: not headless, no alias, no other proxy named.
    pub proxied: bool,
    /// `internalTrafficPolicy: Local`: only endpoints of the sender's node.
    pub local_only: bool,
    /// `externalTrafficPolicy: Local`, for what comes from outside.
    pub outer_local_only: bool,
}

impl Service {
    /// Both kinds of address.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let all = self.cluster_addresses.iter().chain(&self.outer_addresses);
        all.copied()
    }

    pub fn port(&self, proto: Proto, port: u16) -> Option<&ServicePort> {
        self.ports
            .iter()
            .find(|one| one.proto == proto && one.port == port)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Option<Arc<str>>,
    pub proto: Proto,
    pub port: u16,
    pub target: TargetPort,
    pub node_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    Number(u16),
    /// A name in the pod's `ports`.
    Named(Arc<str>),
}

impl std::fmt::Display for TargetPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Named(name) => f.write_str(name),
        }
    }
}

/// Part of a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its own name, not the Service's.
    pub name: Name,
    /// In the slice's namespace.
    pub service: Arc<str>,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The Service port's name.
    pub name: Option<Arc<str>>,
    pub proto: Proto,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
    /// Ends, but still serves: used where no endpoint is ready.
    pub draining: bool,
    /// In the slice's namespace, where it is one.
    pub pod: Option<Arc<str>>,
    pub node: Option<Arc<str>>,
}

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: Name,
    pub pods: Selector,
    /// `None`: says nothing about this direction; `Some` of nothing: denies all.
    pub ingress: Option<Vec<PolicyRule>>,
    pub egress: Option<Vec<PolicyRule>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// Empty: anybody.
    pub peers: Vec<Peer>,
    /// Empty: any port.
    pub ports: Vec<PolicyPort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Block {
        network: Network,
        except: Vec<Network>,
    },
    /// `namespaces: None` is the policy's own namespace, `pods: None` is every pod there.
    Pods {
        namespaces: Option<Selector>,
        pods: Option<Selector>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPort {
    pub proto: Proto,
    /// `None`: any.
    pub port: Option<TargetPort>,
    /// With a numbered port: up to and including this one.
    pub end: Option<u16>,
}

/// A node object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: Arc<str>,
    pub addresses: Vec<IpAddr>,
    pub pod_networks: Vec<Network>,
}
