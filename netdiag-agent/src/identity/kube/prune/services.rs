//! Services.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service as Api, ServicePort as ApiPort, ServiceSpec};

use super::{Pruner, address, key, name, port, proto, target};
use crate::inventory::cluster::{Change, Service, ServicePort, TargetPort};

/// Who is to make the Service work, where that is not kube-proxy.
const OTHER_PROXY: &str = "service.kubernetes.io/service-proxy-name";

pub fn service(pruner: &mut Pruner, object: &Api) -> Option<(Arc<str>, Change)> {
    let name = name(pruner, &object.metadata)?;
    let spec = object.spec.as_ref()?;
    let labels = object.metadata.labels.as_ref();
    let elsewhere = labels.is_some_and(|labels| labels.contains_key(OTHER_PROXY));
    let cluster_addresses = cluster_addresses(spec);
    let ports = spec.ports.iter().flatten();
    let service = Service {
        proxied: !cluster_addresses.is_empty() && !elsewhere,
        cluster_addresses,
        outer_addresses: outer_addresses(object, spec),
        selector: pruner.interner.labels(spec.selector.as_ref()),
        ports: ports.filter_map(|one| service_port(pruner, one)).collect(),
        local_only: spec.internal_traffic_policy.as_deref() == Some("Local"),
        outer_local_only: spec.external_traffic_policy.as_deref() == Some("Local"),
        name,
    };
    Some((key(&service.name), Change::Service(Arc::new(service))))
}

/// `None`, the word, stands for a headless Service.
fn cluster_addresses(spec: &ServiceSpec) -> Vec<IpAddr> {
    let many = spec.cluster_ips.iter().flatten();
    let one = spec.cluster_ip.iter();
    let mut addresses: Vec<IpAddr> = many.chain(one).filter_map(|ip| address(ip)).collect();
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let new = !seen.contains(address);
        seen.push(*address);
        new
    });
    addresses
}

fn outer_addresses(object: &Api, spec: &ServiceSpec) -> Vec<IpAddr> {
    let external = spec.external_ips.iter().flatten().map(String::as_str);
    let balancer = object
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref());
    let ingress = balancer.into_iter().flatten();
    let ingress = ingress.filter_map(|ingress| ingress.ip.as_deref());
    external.chain(ingress).filter_map(address).collect()
}

fn service_port(pruner: &mut Pruner, one: &ApiPort) -> Option<ServicePort> {
    let number = port(one.port)?;
    let target = one.target_port.as_ref();
    Some(ServicePort {
        name: one.name.as_deref().map(|name| pruner.interner.text(name)),
        proto: proto(one.protocol.as_deref()),
        port: number,
        // Not given, or 0 where it means nothing: the Service's own.
        target: target
            .and_then(|target| self::target(pruner, target))
            .filter(|target| *target != TargetPort::Number(0))
            .unwrap_or(TargetPort::Number(number)),
        node_port: one.node_port.and_then(port).filter(|port| *port > 0),
    })
}
