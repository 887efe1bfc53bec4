//! Both ways between the mirrored news of the cluster and the core's.

use std::sync::Arc;

use super::super::super::spell::Text;
use super::{
    Change, Endpoint, Expression, Labels, Machine, Name, Peer, Pod, Policy, PolicyPort, PolicyRule,
    Port, Selector, Service, ServicePort, Slice, TargetPort, Workload,
};
use crate::event::{Ktime, Netns};
use crate::inventory::cluster as core;

impl From<&core::Change> for Change {
    fn from(change: &core::Change) -> Self {
        use core::Change as Core;
        match change {
            Core::Pod(pod) => Self::Pod(pod.as_ref().into()),
            Core::PodGone(uid, origin) => Self::PodGone {
                uid: uid.to_string(),
                origin: Text(*origin),
            },
            Core::Service(service) => Self::Service(service.as_ref().into()),
            Core::ServiceGone(name) => Self::ServiceGone(name.into()),
            Core::Slice(slice) => Self::Slice(slice.as_ref().into()),
            Core::SliceGone(name) => Self::SliceGone(name.into()),
            Core::Policy(policy) => Self::Policy(policy.as_ref().into()),
            Core::PolicyGone(name) => Self::PolicyGone(name.into()),
            Core::Namespace(name, labels) => Self::Namespace {
                name: name.to_string(),
                labels: texts(labels),
            },
            Core::NamespaceGone(name) => Self::NamespaceGone(name.to_string()),
            Core::Machine(machine) => Self::Machine(machine.as_ref().into()),
            Core::MachineGone(name) => Self::MachineGone(name.to_string()),
            Core::NonMasquerade(networks) => {
                Self::NonMasquerade(networks.as_deref().map(networks_out))
            }
            Core::Synced(kind) => Self::Synced(Text(*kind)),
            Core::Unseen(kind, why) => Self::Unseen {
                kind: Text(*kind),
                why: why.to_string(),
            },
        }
    }
}

impl From<Change> for core::Change {
    fn from(change: Change) -> Self {
        match change {
            Change::Pod(pod) => Self::Pod(Arc::new(pod.into())),
            Change::PodGone { uid, origin } => Self::PodGone(uid.into(), origin.0),
            Change::Service(service) => Self::Service(Arc::new(service.into())),
            Change::ServiceGone(name) => Self::ServiceGone(name.into()),
            Change::Slice(slice) => Self::Slice(Arc::new(slice.into())),
            Change::SliceGone(name) => Self::SliceGone(name.into()),
            Change::Policy(policy) => Self::Policy(Arc::new(policy.into())),
            Change::PolicyGone(name) => Self::PolicyGone(name.into()),
            Change::Namespace { name, labels } => Self::Namespace(name.into(), arcs(labels)),
            Change::NamespaceGone(name) => Self::NamespaceGone(name.into()),
            Change::Machine(machine) => Self::Machine(Arc::new(machine.into())),
            Change::MachineGone(name) => Self::MachineGone(name.into()),
            Change::NonMasquerade(networks) => Self::NonMasquerade(networks.map(networks_in)),
            Change::Synced(kind) => Self::Synced(kind.0),
            Change::Unseen { kind, why } => Self::Unseen(kind.0, why.into()),
        }
    }
}

fn texts(labels: &core::Labels) -> Labels {
    let pairs = labels.iter();
    pairs
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect()
}

fn arcs(labels: Labels) -> core::Labels {
    let pairs = labels.into_iter();
    pairs
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

fn text(text: Option<&Arc<str>>) -> Option<String> {
    text.map(ToString::to_string)
}

fn arc(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

fn networks_out(networks: &[core::Network]) -> Vec<Text<core::Network>> {
    networks.iter().copied().map(Text).collect()
}

fn networks_in(networks: Vec<Text<core::Network>>) -> Vec<core::Network> {
    networks.into_iter().map(|network| network.0).collect()
}

fn all<'a, A: 'a, B: From<&'a A>>(list: &'a [A]) -> Vec<B> {
    list.iter().map(Into::into).collect()
}

fn every<A, B: From<A>>(list: Vec<A>) -> Vec<B> {
    list.into_iter().map(Into::into).collect()
}

impl From<&core::Name> for Name {
    fn from(name: &core::Name) -> Self {
        Self {
            namespace: name.namespace.to_string(),
            name: name.name.to_string(),
        }
    }
}

impl From<Name> for core::Name {
    fn from(name: Name) -> Self {
        Self::new(name.namespace, name.name)
    }
}

impl From<&core::Pod> for Pod {
    fn from(pod: &core::Pod) -> Self {
        let Name { namespace, name } = (&pod.name).into();
        Self {
            uid: pod.uid.to_string(),
            namespace,
            name,
            origin: Text(pod.origin),
            labels: texts(&pod.labels),
            node: text(pod.node.as_ref()),
            addresses: pod.addresses.clone(),
            started: pod.started.map(|at| at.0),
            host_network: pod.host_network,
            workload: pod.workload.as_ref().map(|workload| Workload {
                kind: workload.kind.to_string(),
                name: workload.name.to_string(),
            }),
            ports: all(&pod.ports),
            ready: pod.ready,
            over: pod.over,
            netns: pod.netns.map(|netns| netns.0),
        }
    }
}

impl From<Pod> for core::Pod {
    fn from(pod: Pod) -> Self {
        Self {
            uid: pod.uid.into(),
            name: core::Name::new(pod.namespace, pod.name),
            origin: pod.origin.0,
            labels: arcs(pod.labels),
            node: arc(pod.node),
            addresses: pod.addresses,
            started: pod.started.map(Ktime),
            host_network: pod.host_network,
            workload: pod.workload.map(|workload| core::Workload {
                kind: workload.kind.into(),
                name: workload.name.into(),
            }),
            ports: every(pod.ports),
            ready: pod.ready,
            over: pod.over,
            netns: pod.netns.map(Netns),
        }
    }
}

/// The two kinds of port that have a name, a protocol and a number.
macro_rules! ports {
    ($($core:ty),*) => { $(
        impl From<&$core> for Port {
            fn from(port: &$core) -> Self {
                Self { name: text(port.name.as_ref()), proto: Text(port.proto), port: port.port }
            }
        }

        impl From<Port> for $core {
            fn from(port: Port) -> Self {
                Self { name: arc(port.name), proto: port.proto.0, port: port.port }
            }
        }
    )* };
}

ports!(core::ContainerPort, core::SlicePort);

impl From<&core::Service> for Service {
    fn from(service: &core::Service) -> Self {
        Self {
            name: (&service.name).into(),
            cluster_addresses: service.cluster_addresses.clone(),
            outer_addresses: service.outer_addresses.clone(),
            selector: texts(&service.selector),
            ports: all(&service.ports),
            proxied: service.proxied,
            local_only: service.local_only,
            outer_local_only: service.outer_local_only,
        }
    }
}

impl From<Service> for core::Service {
    fn from(service: Service) -> Self {
        Self {
            name: service.name.into(),
            cluster_addresses: service.cluster_addresses,
            outer_addresses: service.outer_addresses,
            selector: arcs(service.selector),
            ports: every(service.ports),
            proxied: service.proxied,
            local_only: service.local_only,
            outer_local_only: service.outer_local_only,
        }
    }
}

impl From<&core::ServicePort> for ServicePort {
    fn from(port: &core::ServicePort) -> Self {
        Self {
            name: text(port.name.as_ref()),
            proto: Text(port.proto),
            port: port.port,
            target: (&port.target).into(),
            node_port: port.node_port,
        }
    }
}

impl From<ServicePort> for core::ServicePort {
    fn from(port: ServicePort) -> Self {
        Self {
            name: arc(port.name),
            proto: port.proto.0,
            port: port.port,
            target: port.target.into(),
            node_port: port.node_port,
        }
    }
}

impl From<&core::TargetPort> for TargetPort {
    fn from(port: &core::TargetPort) -> Self {
        match port {
            core::TargetPort::Number(number) => Self::Number(*number),
            core::TargetPort::Named(name) => Self::Named(name.to_string()),
        }
    }
}

impl From<TargetPort> for core::TargetPort {
    fn from(port: TargetPort) -> Self {
        match port {
            TargetPort::Number(number) => Self::Number(number),
            TargetPort::Named(name) => Self::Named(name.into()),
        }
    }
}

impl From<&core::Slice> for Slice {
    fn from(slice: &core::Slice) -> Self {
        Self {
            name: (&slice.name).into(),
            service: slice.service.to_string(),
            ports: all(&slice.ports),
            endpoints: all(&slice.endpoints),
        }
    }
}

impl From<Slice> for core::Slice {
    fn from(slice: Slice) -> Self {
        Self {
            name: slice.name.into(),
            service: slice.service.into(),
            ports: every(slice.ports),
            endpoints: every(slice.endpoints),
        }
    }
}

impl From<&core::Endpoint> for Endpoint {
    fn from(endpoint: &core::Endpoint) -> Self {
        Self {
            address: endpoint.address,
            ready: endpoint.ready,
            draining: endpoint.draining,
            pod: text(endpoint.pod.as_ref()),
            node: text(endpoint.node.as_ref()),
        }
    }
}

impl From<Endpoint> for core::Endpoint {
    fn from(endpoint: Endpoint) -> Self {
        Self {
            address: endpoint.address,
            ready: endpoint.ready,
            draining: endpoint.draining,
            pod: arc(endpoint.pod),
            node: arc(endpoint.node),
        }
    }
}

impl From<&core::Policy> for Policy {
    fn from(policy: &core::Policy) -> Self {
        Self {
            name: (&policy.name).into(),
            pods: (&policy.pods).into(),
            ingress: policy.ingress.as_deref().map(all),
            egress: policy.egress.as_deref().map(all),
        }
    }
}

impl From<Policy> for core::Policy {
    fn from(policy: Policy) -> Self {
        Self {
            name: policy.name.into(),
            pods: policy.pods.into(),
            ingress: policy.ingress.map(every),
            egress: policy.egress.map(every),
        }
    }
}

impl From<&core::PolicyRule> for PolicyRule {
    fn from(rule: &core::PolicyRule) -> Self {
        Self {
            peers: all(&rule.peers),
            ports: all(&rule.ports),
        }
    }
}

impl From<PolicyRule> for core::PolicyRule {
    fn from(rule: PolicyRule) -> Self {
        Self {
            peers: every(rule.peers),
            ports: every(rule.ports),
        }
    }
}

impl From<&core::Peer> for Peer {
    fn from(peer: &core::Peer) -> Self {
        match peer {
            core::Peer::Block { network, except } => Self::Block {
                network: Text(*network),
                except: networks_out(except),
            },
            core::Peer::Pods { namespaces, pods } => Self::Pods {
                namespaces: namespaces.as_ref().map(Into::into),
                pods: pods.as_ref().map(Into::into),
            },
        }
    }
}

impl From<Peer> for core::Peer {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Block { network, except } => Self::Block {
                network: network.0,
                except: networks_in(except),
            },
            Peer::Pods { namespaces, pods } => Self::Pods {
                namespaces: namespaces.map(Into::into),
                pods: pods.map(Into::into),
            },
        }
    }
}

impl From<&core::PolicyPort> for PolicyPort {
    fn from(port: &core::PolicyPort) -> Self {
        Self {
            proto: Text(port.proto),
            port: port.port.as_ref().map(Into::into),
            end: port.end,
        }
    }
}

impl From<PolicyPort> for core::PolicyPort {
    fn from(port: PolicyPort) -> Self {
        Self {
            proto: port.proto.0,
            port: port.port.map(Into::into),
            end: port.end,
        }
    }
}

impl From<&core::Selector> for Selector {
    fn from(selector: &core::Selector) -> Self {
        let expression = |one: &core::Expression| Expression {
            key: one.key.to_string(),
            operator: Text(one.operator),
            values: one.values.iter().map(ToString::to_string).collect(),
        };
        Self {
            labels: texts(&selector.labels),
            expressions: selector.expressions.iter().map(expression).collect(),
        }
    }
}

impl From<Selector> for core::Selector {
    fn from(selector: Selector) -> Self {
        let expression = |one: Expression| core::Expression {
            key: one.key.into(),
            operator: one.operator.0,
            values: every(one.values),
        };
        Self {
            labels: arcs(selector.labels),
            expressions: selector.expressions.into_iter().map(expression).collect(),
        }
    }
}

impl From<&core::Machine> for Machine {
    fn from(machine: &core::Machine) -> Self {
        Self {
            name: machine.name.to_string(),
            addresses: machine.addresses.clone(),
            pod_networks: networks_out(&machine.pod_networks),
        }
    }
}

impl From<Machine> for core::Machine {
    fn from(machine: Machine) -> Self {
        Self {
            name: machine.name.into(),
            addresses: machine.addresses,
            pod_networks: networks_in(machine.pod_networks),
        }
    }
}
