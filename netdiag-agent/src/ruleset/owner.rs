//! Whose rule is it? Programs that manage rules are known by the names of their chains, tables and comments.

use super::evaluate::{Candidate, Via};
use super::model::Ruleset;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    Ufw,
    Firewalld,
    KubeProxy,
    Kubelet,
    Calico,
    KubeRouter,
    AzureNpm,
    WeaveNpc,
    KubeNetworkPolicies,
    Cilium,
    Docker,
    CniPlugin,
    IpMasqAgent,
    Istio,
    Flannel,
    Fail2ban,
    Libvirt,
    /// Nobody we know: an administrator, or a script.
    Plain,
}

impl Owner {
    /// As it stands in a verdict's component.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ufw => "ufw",
            Self::Firewalld => "firewalld",
            Self::KubeProxy => "kube-proxy",
            Self::Kubelet => "kubelet",
            Self::Calico => "calico",
            Self::KubeRouter => "kube-router",
            Self::AzureNpm => "azure-npm",
            Self::WeaveNpc => "weave-npc",
            Self::KubeNetworkPolicies => "kube-network-policies",
            Self::Cilium => "cilium",
            Self::Docker => "docker",
            Self::CniPlugin => "cni-plugin",
            Self::IpMasqAgent => "ip-masq-agent",
            Self::Istio => "istio",
            Self::Flannel => "flannel",
            Self::Fail2ban => "fail2ban",
            Self::Libvirt => "libvirt",
            Self::Plain => "plain",
        }
    }

    /// It turns network policies into rules: what it drops is `NETPOL_DROP`.
    pub const fn is_policy_engine(self) -> bool {
        matches!(
            self,
            Self::Calico
                | Self::KubeRouter
                | Self::AzureNpm
                | Self::WeaveNpc
                | Self::KubeNetworkPolicies
                | Self::Cilium
        )
    }
}

/// Beginnings of chain names. The longer ones of kube-router stand in front of kube-proxy's.
const CHAINS: &[(&str, Owner)] = &[
    ("ufw-", Owner::Ufw),
    ("ufw6-", Owner::Ufw),
    ("KUBE-NWPLCY-", Owner::KubeRouter),
    ("KUBE-POD-FW-", Owner::KubeRouter),
    ("KUBE-ROUTER-", Owner::KubeRouter),
    ("KUBE-FIREWALL", Owner::Kubelet),
    ("KUBE-KUBELET-CANARY", Owner::Kubelet),
    ("KUBE-", Owner::KubeProxy),
    ("cali-", Owner::Calico),
    ("AZURE-NPM", Owner::AzureNpm),
    ("WEAVE-NPC", Owner::WeaveNpc),
    ("CILIUM_", Owner::Cilium),
    ("OLD_CILIUM_", Owner::Cilium),
    ("DOCKER", Owner::Docker),
    ("CNI-", Owner::CniPlugin),
    ("IP-MASQ", Owner::IpMasqAgent),
    ("ISTIO_", Owner::Istio),
    ("FLANNEL-", Owner::Flannel),
    ("f2b-", Owner::Fail2ban),
    ("LIBVIRT_", Owner::Libvirt),
    // firewalld on iptables: zone and policy chains.
    ("FWD_", Owner::Firewalld),
    ("FWDI_", Owner::Firewalld),
    ("FWDO_", Owner::Firewalld),
    ("FORWARD_direct", Owner::Firewalld),
    ("FORWARD_IN_ZONES", Owner::Firewalld),
    ("FORWARD_OUT_ZONES", Owner::Firewalld),
    ("FORWARD_POLICIES", Owner::Firewalld),
    ("IN_", Owner::Firewalld),
    ("INPUT_ZONES", Owner::Firewalld),
    ("INPUT_POLICIES", Owner::Firewalld),
    ("INPUT_direct", Owner::Firewalld),
];

const TABLES: &[(&str, Owner)] = &[
    ("firewalld", Owner::Firewalld),
    ("kube-proxy", Owner::KubeProxy),
    ("kube-network-policies", Owner::KubeNetworkPolicies),
    ("kindnet-network-policies", Owner::KubeNetworkPolicies),
    ("calico", Owner::Calico),
    ("cilium", Owner::Cilium),
    ("docker", Owner::Docker),
    ("docker-bridges", Owner::Docker),
    ("cni_plugins", Owner::CniPlugin),
    ("cni_hostport", Owner::CniPlugin),
    ("flannel-ipv4", Owner::Flannel),
    ("flannel-ipv6", Owner::Flannel),
    ("f2b-table", Owner::Fail2ban),
    ("libvirt_network", Owner::Libvirt),
];

const COMMENTS: &[(&str, Owner)] = &[
    ("cali:", Owner::Calico),
    ("cilium-feeder:", Owner::Cilium),
    ("ip-masq-agent:", Owner::IpMasqAgent),
    ("kubernetes ", Owner::KubeProxy),
    ("CNI ", Owner::CniPlugin),
    ("flanneld ", Owner::Flannel),
];

/// Of a candidate: by its own chain, table and comment. A chain policy belongs to whoever sets policies among the
/// chain's other users.
pub fn owner(candidate: &Candidate, ruleset: &Ruleset) -> Owner {
    by_chain(&candidate.chain)
        .or_else(|| by_table(&candidate.table))
        .or_else(|| candidate.comment.as_deref().and_then(by_comment))
        .or_else(|| {
            if candidate.rule.is_none() {
                policy_setter(candidate, ruleset)
            } else {
                None
            }
        })
        .unwrap_or(Owner::Plain)
}

/// The owner of a chain of this name.
pub fn by_chain(chain: &str) -> Option<Owner> {
    CHAINS
        .iter()
        .find(|(prefix, _)| chain.starts_with(prefix))
        .map(|(_, owner)| *owner)
}

/// The owner of an nft table of this name.
pub fn by_table(table: &str) -> Option<Owner> {
    TABLES
        .iter()
        .find(|(name, _)| table == *name)
        .map(|(_, owner)| *owner)
}

fn by_comment(comment: &str) -> Option<Owner> {
    COMMENTS
        .iter()
        .find(|(prefix, _)| comment.starts_with(prefix))
        .map(|(_, owner)| *owner)
}

/// ufw sets the policies of INPUT and FORWARD, dockerd that of FORWARD.
fn policy_setter(candidate: &Candidate, ruleset: &Ruleset) -> Option<Owner> {
    let table = ruleset.tables.iter().find(|table| {
        table.name == candidate.table
            && table.family == candidate.family
            && table.backend == candidate.backend
    })?;
    let has = |owner| {
        table
            .chains()
            .iter()
            .any(|chain| by_chain(&chain.name) == Some(owner))
    };
    match candidate.chain.as_str() {
        "INPUT" | "FORWARD" | "OUTPUT" if has(Owner::Ufw) => Some(Owner::Ufw),
        "FORWARD" if has(Owner::Docker) => Some(Owner::Docker),
        _ => None,
    }
}

/// A port of a Service that kube-proxy answers itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub namespace: String,
    pub name: String,
    /// Its name, where it has one.
    pub port: Option<String>,
    /// There are endpoints, but the policy `Local` allows only those on this node.
    pub local: bool,
}

/// The Service whose lack of endpoints the rule stands for.
pub fn service_without_endpoints(candidate: &Candidate) -> Option<ServicePort> {
    let comment = candidate.comment.as_deref().unwrap_or_default();
    if by_chain(&candidate.chain) == Some(Owner::KubeProxy) {
        let (name, local) = match comment.strip_suffix(" has no endpoints") {
            Some(name) => (name, false),
            None => (comment.strip_suffix(" has no local endpoints")?, true),
        };
        return service_port(name, local);
    }
    if candidate.table != "kube-proxy" {
        return None;
    }
    if let Some(element) = &candidate.element {
        return element
            .map
            .starts_with("no-endpoint")
            .then(|| service_port(comment, true))
            .flatten();
    }
    let led = |via: &&Via| via.text.contains("@no-endpoint");
    let via = candidate.via.iter().rev().find(led)?;
    service_port(via.comment.as_deref()?, false)
}

/// `ns/name`, `ns/name:port`
fn service_port(text: &str, local: bool) -> Option<ServicePort> {
    let (namespace, rest) = text.split_once('/')?;
    let (name, port) = rest
        .split_once(':')
        .map_or((rest, None), |(name, port)| (name, Some(port)));
    let is_name = |word: &str| !word.is_empty() && !word.contains([' ', '/']);
    (is_name(namespace) && is_name(name)).then(|| ServicePort {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        port: port.filter(|port| !port.is_empty()).map(str::to_owned),
        local,
    })
}

/// Names of the network policies on the way, as the engine's comments give them.
pub fn policies(candidate: &Candidate) -> Vec<String> {
    let comments = candidate
        .via
        .iter()
        .filter_map(|via| via.comment.as_deref())
        .chain(candidate.comment.as_deref());
    let mut names: Vec<String> = Vec::new();
    for comment in comments {
        // kube-router: "run through nw policy NAME"; Calico: "cali:HASH Policy NAME ingress".
        let rest = comment
            .split_once("run through nw policy ")
            .or_else(|| comment.split_once(" Policy "));
        let name = rest.and_then(|(_, rest)| rest.split_whitespace().next());
        if let Some(name) =
            name.filter(|name| *name != "explicitly" && !names.iter().any(|known| known == name))
        {
            names.push(name.to_owned());
        }
    }
    names
}
