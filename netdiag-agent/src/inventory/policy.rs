//! What the NetworkPolicies say of a conversation: which select its ends, and whether any of those allows it.
//!
//! As the API defines it: a pod that no policy of a direction selects is open in that direction; one that is selected
//! is closed but for what the rules of the selecting policies allow together. Answers are allowed with what they answer.

use std::net::IpAddr;
use std::sync::Arc;

use super::cluster::{Cluster, Labels, Peer, Pod, Policy, PolicyPort, PolicyRule, TargetPort};
use crate::event::{Ktime, Proto};

/// A request, as the pods at its ends see it: behind DNAT.
#[derive(Clone, Copy, Debug)]
pub struct Conversation<'a> {
    pub proto: Proto,
    /// Of the destination.
    pub port: u16,
    pub from: End<'a>,
    pub to: End<'a>,
    pub at: Ktime,
}

#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    pub address: IpAddr,
    /// `None`: no pod, or one of the host network, which policies do not reach.
    pub pod: Option<&'a Arc<Pod>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Of the sender's pod.
    Egress,
    /// Of the receiver's pod.
    Ingress,
}

impl Side {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        }
    }
}

/// What the policies that select one end say. At least one does.
#[derive(Clone, Debug)]
pub struct Ruling<'a> {
    pub side: Side,
    pub pod: &'a Arc<Pod>,
    pub selecting: Vec<&'a Arc<Policy>>,
    /// Those of them that allow it.
    pub allowing: Vec<&'a Arc<Policy>>,
}

impl Ruling<'_> {
    pub fn forbids(&self) -> bool {
        self.allowing.is_empty()
    }
}

/// A ruling for each end that policies select, the sender's first.
pub fn rulings<'a>(cluster: &'a Cluster, said: &Conversation<'a>) -> Vec<Ruling<'a>> {
    let ends = [(Side::Egress, said.from), (Side::Ingress, said.to)];
    let ruling = |(side, end): (Side, End<'a>)| {
        let pod = end.pod?;
        let selecting: Vec<_> = cluster
            .policies(said.at)
            .filter(|policy| selects(policy, side, pod))
            .collect();
        let allows = |policy: &&&'a Arc<Policy>| allows(cluster, policy, side, said);
        let allowing = selecting.iter().filter(allows).copied().collect();
        (!selecting.is_empty()).then_some(Ruling {
            side,
            pod,
            selecting,
            allowing,
        })
    };
    ends.into_iter().filter_map(ruling).collect()
}

fn rules(policy: &Policy, side: Side) -> Option<&[PolicyRule]> {
    match side {
        Side::Ingress => policy.ingress.as_deref(),
        Side::Egress => policy.egress.as_deref(),
    }
}

fn selects(policy: &Policy, side: Side, pod: &Pod) -> bool {
    policy.name.namespace == pod.name.namespace
        && rules(policy, side).is_some()
        && policy.pods.selects(&pod.labels)
}

fn allows(cluster: &Cluster, policy: &Policy, side: Side, said: &Conversation<'_>) -> bool {
    let other = match side {
        Side::Ingress => said.from,
        Side::Egress => said.to,
    };
    rules(policy, side).unwrap_or_default().iter().any(|rule| {
        let peer = |peer: &Peer| is_peer(cluster, policy, peer, other);
        let port = |port: &PolicyPort| is_port(port, said);
        (rule.peers.is_empty() || rule.peers.iter().any(peer))
            && (rule.ports.is_empty() || rule.ports.iter().any(port))
    })
}

fn is_peer(cluster: &Cluster, policy: &Policy, peer: &Peer, end: End<'_>) -> bool {
    match peer {
        Peer::Block { network, except } => {
            network.contains(end.address) && !except.iter().any(|one| one.contains(end.address))
        }
        Peer::Pods { namespaces, pods } => {
            let Some(pod) = end.pod else {
                return false;
            };
            let there = match namespaces {
                None => pod.name.namespace == policy.name.namespace,
                Some(selector) => {
                    let none = Labels::new();
                    let labels = cluster.namespace(&pod.name.namespace);
                    selector.selects(labels.unwrap_or(&none))
                }
            };
            there && pods.as_ref().is_none_or(|pods| pods.selects(&pod.labels))
        }
    }
}

/// A port by name is looked up at the pod that is asked, whichever direction the policy is about.
fn is_port(port: &PolicyPort, said: &Conversation<'_>) -> bool {
    if port.proto != said.proto {
        return false;
    }
    match (&port.port, port.end) {
        (None, _) => true,
        (Some(TargetPort::Number(first)), Some(last)) => (*first..=last).contains(&said.port),
        (Some(TargetPort::Number(number)), None) => *number == said.port,
        (Some(TargetPort::Named(name)), _) => said.to.pod.is_some_and(|pod| {
            pod.ports.iter().any(|one| {
                one.name.as_ref() == Some(name) && one.proto == said.proto && one.port == said.port
            })
        }),
    }
}

#[cfg(test)]
mod tests;
