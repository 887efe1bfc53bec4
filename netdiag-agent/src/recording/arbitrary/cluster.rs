//! Any news of a cluster.

use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::{netns, symbol};
use crate::event::{Ktime, Proto};
use crate::inventory::cluster::{
    Change, ContainerPort, Endpoint, Expression, Kind, Labels, Machine, Name, Network, Operator,
    Origin, Peer, Pod, Policy, PolicyPort, PolicyRule, Selector, Service, ServicePort, Slice,
    SlicePort, TargetPort, Workload,
};

fn name() -> impl Strategy<Value = Name> {
    (symbol(), symbol()).prop_map(|(namespace, name)| Name { namespace, name })
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(symbol(), symbol(), 0..3)
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    vec(any::<IpAddr>(), 0..3)
}

fn proto() -> impl Strategy<Value = Proto> {
    any::<u8>().prop_map(Proto)
}

pub(super) fn network() -> impl Strategy<Value = Network> {
    (any::<IpAddr>(), 0..=32_u8).prop_map(|(address, prefix)| Network { address, prefix })
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![Just(Origin::Api), Just(Origin::Runtime)]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::NAMES).prop_map(|(kind, _)| kind)
}

fn target() -> impl Strategy<Value = TargetPort> {
    prop_oneof![
        any::<u16>().prop_map(TargetPort::Number),
        symbol().prop_map(TargetPort::Named)
    ]
}

fn named_port() -> impl Strategy<Value = (Option<Arc<str>>, Proto, u16)> {
    (of(symbol()), proto(), any::<u16>())
}

prop_compose! {
    fn pod()(
        uid in symbol(), name in name(), origin in origin(), labels in labels(), node in of(symbol()),
        addresses in addresses(), started in of(any::<u64>()), flags in any::<[bool; 3]>(),
        workload in of((symbol(), symbol())), ports in vec(named_port(), 0..3), netns in of(netns()),
    ) -> Pod {
        let workload = workload.map(|(kind, name)| Workload { kind, name });
        let ports = ports.into_iter().map(|(name, proto, port)| ContainerPort { name, proto, port }).collect();
        let [host_network, ready, over] = flags;
        Pod {
            uid, name, origin, labels, node, addresses, started: started.map(Ktime), host_network, workload, ports,
            ready, over, netns,
        }
    }
}

prop_compose! {
    fn service_port()(port in named_port(), target in target(), node_port in of(any::<u16>())) -> ServicePort {
        let (name, proto, port) = port;
        ServicePort { name, proto, port, target, node_port }
    }
}

prop_compose! {
    fn service()(
        name in name(), cluster_addresses in addresses(), outer_addresses in addresses(), selector in labels(),
        ports in vec(service_port(), 0..3), flags in any::<[bool; 3]>(),
    ) -> Service {
        let [proxied, local_only, outer_local_only] = flags;
        Service {
            name, cluster_addresses, outer_addresses, selector, ports, proxied, local_only, outer_local_only,
        }
    }
}

prop_compose! {
    fn endpoint()(
        address in any::<IpAddr>(), flags in any::<(bool, bool)>(), pod in of(symbol()), node in of(symbol()),
    ) -> Endpoint {
        Endpoint { address, ready: flags.0, draining: flags.1, pod, node }
    }
}

prop_compose! {
    fn slice()(
        name in name(), service in symbol(), ports in vec(named_port(), 0..3), endpoints in vec(endpoint(), 0..3),
    ) -> Slice {
        let ports = ports.into_iter().map(|(name, proto, port)| SlicePort { name, proto, port }).collect();
        Slice { name, service, ports, endpoints }
    }
}

fn selector() -> impl Strategy<Value = Selector> {
    use Operator::{DoesNotExist, Exists, In, NotIn};
    let operator = prop::sample::select(&[In, NotIn, Exists, DoesNotExist][..]);
    let expression =
        (symbol(), operator, vec(symbol(), 0..3)).prop_map(|(key, operator, values)| Expression {
            key,
            operator,
            values,
        });
    (labels(), vec(expression, 0..2)).prop_map(|(labels, expressions)| Selector {
        labels,
        expressions,
    })
}

fn rule() -> impl Strategy<Value = PolicyRule> {
    let peer = prop_oneof![
        (network(), vec(network(), 0..2))
            .prop_map(|(network, except)| Peer::Block { network, except }),
        (of(selector()), of(selector()))
            .prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
    ];
    let port = (proto(), of(target()), of(any::<u16>()))
        .prop_map(|(proto, port, end)| PolicyPort { proto, port, end });
    (vec(peer, 0..2), vec(port, 0..2)).prop_map(|(peers, ports)| PolicyRule { peers, ports })
}

prop_compose! {
    fn policy()(
        name in name(), pods in selector(), ingress in of(vec(rule(), 0..2)), egress in of(vec(rule(), 0..2)),
    ) -> Policy {
        Policy { name, pods, ingress, egress }
    }
}

pub(super) fn change() -> impl Strategy<Value = Change> {
    let machine = (symbol(), addresses(), vec(network(), 0..2)).prop_map(
        |(name, addresses, pod_networks)| Machine {
            name,
            addresses,
            pod_networks,
        },
    );
    prop_oneof![
        pod().prop_map(|pod| Change::Pod(Arc::new(pod))),
        (symbol(), origin()).prop_map(|(uid, origin)| Change::PodGone(uid, origin)),
        service().prop_map(|service| Change::Service(Arc::new(service))),
        name().prop_map(Change::ServiceGone),
        slice().prop_map(|slice| Change::Slice(Arc::new(slice))),
        name().prop_map(Change::SliceGone),
        policy().prop_map(|policy| Change::Policy(Arc::new(policy))),
        name().prop_map(Change::PolicyGone),
        (symbol(), labels()).prop_map(|(name, labels)| Change::Namespace(name, labels)),
        symbol().prop_map(Change::NamespaceGone),
        machine.prop_map(|machine| Change::Machine(Arc::new(machine))),
        symbol().prop_map(Change::MachineGone),
        of(vec(network(), 0..3)).prop_map(Change::NonMasquerade),
        kind().prop_map(Change::Synced),
        (kind(), symbol()).prop_map(|(kind, why)| Change::Unseen(kind, why)),
    ]
}
