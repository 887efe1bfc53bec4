//! Who is at the two ends of a flow, by every name there is.

use std::net::SocketAddr;
use std::sync::Arc;

use super::case::Case;
use super::types::{Endpoint, NatKind, ServiceRef};
use crate::inventory::NamespaceKind;
use crate::inventory::cluster::{Pod, Service, ServicePort};

pub(super) fn source(case: &Case<'_>) -> Endpoint {
    let mut end = place(case, case.flow.tuple.src);
    // Its port is any that was free.
    end.port_name = None;
    end
}

/// Who really answers; with the Service that was asked for.
pub(super) fn destination(case: &Case<'_>) -> Endpoint {
    let mut end = place(case, responder(case));
    end.service = service(case).map(|(service, port)| ServiceRef {
        name: service.name.clone(),
        port_name: port.and_then(|port| port.name.clone()),
    });
    end.external &= end.service.is_none();
    end
}

/// How many names both ends have.
pub fn names(case: &Case<'_>) -> u8 {
    source(case).names() + destination(case).names()
}

/// The Service the initiator asked for, and which of its ports; `None` of it: the Service has no such port.
pub(super) fn service<'a>(case: &Case<'a>) -> Option<(&'a Arc<Service>, Option<&'a ServicePort>)> {
    let cluster = &case.inventory.cluster;
    let (tuple, at) = (case.flow.tuple, case.flow.first);
    let port = tuple.dst.port();
    if let Some(service) = cluster.service_at(tuple.dst.ip(), at) {
        return Some((service, service.port(tuple.proto, port)));
    }
    let is_machine = case
        .owner_of(tuple.dst.ip())
        .is_some_and(|n| n.kind == NamespaceKind::Node)
        || cluster.machine_at(tuple.dst.ip()).is_some();
    if !is_machine || port == 0 {
        return None;
    }
    let (service, port) = cluster.node_port(tuple.proto, port)?;
    Some((service, Some(port)))
}

/// Where the request went in the end: behind DNAT the backend.
fn responder(case: &Case<'_>) -> SocketAddr {
    let mut nats = case.flow.nat.iter();
    let dnat = nats.find(|nat| nat.kind == NatKind::Dnat);
    dnat.map_or(case.flow.tuple.dst, |nat| nat.after)
}

fn place(case: &Case<'_>, socket: SocketAddr) -> Endpoint {
    let address = socket.ip();
    let inventory = case.inventory;
    let cluster = &inventory.cluster;
    let namespace = case.owner_of(address);
    let mut end = Endpoint::default();
    if let Some(namespace) = namespace {
        end.host = namespace.kind == NamespaceKind::Node;
        end.netns = namespace.name.clone().filter(|_| !end.host);
    }
    if !end.host {
        let by_address = cluster.pod_at(address, case.flow.first);
        end.pod = by_address
            .or_else(|| cluster.pod_in(namespace?.netns))
            .cloned();
    }
    end.machine = match &end.pod {
        Some(pod) => pod.node.clone(),
        None => cluster
            .machine_at(address)
            .or_else(|| cluster.machine_of_pods_at(address))
            .map(|machine| Arc::clone(&machine.name)),
    };
    end.port_name = end
        .pod
        .as_ref()
        .and_then(|pod| port_name(pod, case, socket.port()));
    let known = namespace.is_some() || end.pod.is_some() || end.machine.is_some();
    end.external = inventory.node.is_some() && !known;
    end
}

fn port_name(pod: &Pod, case: &Case<'_>, port: u16) -> Option<Arc<str>> {
    let proto = case.flow.tuple.proto;
    let mut ports = pod.ports.iter();
    ports
        .find(|one| one.proto == proto && one.port == port)?
        .name
        .clone()
}
