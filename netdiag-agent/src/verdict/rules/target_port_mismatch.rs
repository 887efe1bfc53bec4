//! `TARGET_PORT_MISMATCH`: the Service sends to a port its pods do not serve.

use std::collections::BTreeSet;

use super::{Page, Rule, service};
use crate::event::Netns;
use crate::flow::drops::DropKind;
use crate::inventory::cluster::{Service, ServicePort};
use crate::verdict::case::Case;
use crate::verdict::ends;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, HopName, NatKind, Outcome};

#[derive(Debug)]
pub struct TargetPortMismatch;

impl Rule for TargetPortMismatch {
    fn cause(&self) -> Cause {
        Cause("TARGET_PORT_MISMATCH")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The Service's targetPort is not the port its pods serve: the request was translated to a pod and refused there, or no pod has a port of that name.",
            how_we_know: "The packet was translated from the Service's address to the pod and the port, the pod refused it, and sockets listen in the pod's namespace on other ports only. For a pod on another node, whose sockets cannot be seen, the ports its containers declare stand for them: that is inferred.",
            what_else: "The program may not have started yet, or listen on a loopback address only.",
            what_to_do: "Set the Service's targetPort to the port the program listens on, or name the container's port as the Service does.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        self.unnamed(case).or_else(|| self.refused(case))
    }
}

impl TargetPortMismatch {
    /// No pod has a port of the name that is asked for, so there are endpoints, but none for this port.
    fn unnamed(&self, case: &Case<'_>) -> Option<Finding> {
        let asked = service::asked(case)?;
        let port = asked.port?;
        let backends = service::backends(case, asked.service, port)?;
        if !backends.ready.is_empty() || backends.portless == 0 {
            return None;
        }
        let confidence = if service::proxy_says_so(case) {
            Confidence::Proven
        } else {
            Confidence::Inferred
        };
        let finding = service::failure(case, self.cause(), confidence)?;
        let named: BTreeSet<String> = case
            .inventory
            .cluster
            .pods()
            .filter(|pod| selects(asked.service, pod))
            .flat_map(|pod| &pod.ports)
            .filter(|one| one.proto == port.proto)
            .filter_map(|one| one.name.as_ref().map(ToString::to_string))
            .collect();
        let named: Vec<String> = named.into_iter().collect();
        Some(tell(finding, case, asked.service, port, &named))
    }

    /// A pod refused what was translated to it.
    fn refused(&self, case: &Case<'_>) -> Option<Finding> {
        if case.established() || case.answered() {
            return None;
        }
        let (service, port) = ends::service(case)?;
        let port = port?;
        let mut nats = case.flow.nat.iter();
        let socket = nats.find(|nat| nat.kind == NatKind::Dnat)?.after;
        let no_socket = case.death_of(|kind| kind == DropKind::NoSocket);
        if no_socket.is_none() && case.death().is_some() {
            return None;
        }
        let own_reset = case.reset().filter(|reset| reset.spot.is_none());
        let here = no_socket
            .and_then(|death| death.group.spot.netns)
            .or_else(|| own_reset.and_then(|reset| reset.netns));
        let mut finding = Finding {
            drop: no_socket.map(|death| death.index),
            refused_at: Some(HopName::Socket),
            ..Finding::new(Outcome::Refused, self.cause(), Confidence::Proven)
        };
        let serving = if no_socket.is_some() || own_reset.is_some() {
            listening(case, here?, socket.port())?
        } else if case.reset().is_some() || case.icmp_refusal().is_some() {
            finding.confidence = Confidence::Inferred;
            finding.refused_at = Some(HopName::Fabric);
            declared(case, socket)?
        } else {
            return None;
        };
        let refusals = case.reset().map(|reset| reset.count);
        let finding = finding.evidence(
            "translation",
            refusals,
            format!(
                "{} was translated to {socket}, which refused it",
                case.flow.tuple.dst
            ),
        );
        Some(tell(finding, case, service, port, &serving))
    }
}

fn tell(
    finding: Finding,
    case: &Case<'_>,
    service: &Service,
    port: &ServicePort,
    serving: &[String],
) -> Finding {
    let name = &service.name;
    let want = &port.target;
    let there = if serving.is_empty() {
        "no named port".to_owned()
    } else {
        serving.join(", ")
    };
    let component = Component {
        kind: "service".to_owned(),
        name: Some(format!("{name}:{}", case.flow.tuple.dst.port())),
        text: Some(format!("targetPort {want}")),
        listening: serving.to_vec(),
        ..Component::default()
    };
    let mut commands = vec![format!(
        "kubectl -n {} get service {} -o jsonpath='{{.spec.ports}}'",
        name.namespace, name.name
    )];
    let index = service.ports.iter().position(|one| one == port);
    if let (Some(index), [only]) = (index, serving) {
        let value = match only.parse::<u16>() {
            Ok(number) => number.to_string(),
            Err(_) => format!("\"{only}\""),
        };
        commands.push(format!(
            "kubectl -n {} patch service {} --type=json -p '[{{\"op\":\"replace\",\"path\":\"/spec/ports/{index}/targetPort\",\"value\":{value}}}]'",
            name.namespace, name.name
        ));
    }
    finding
        .component(component)
        .evidence(
            "service",
            None,
            format!("{name} wants targetPort {want}; served there: {there}"),
        )
        .remedy(
            format!(
                "Service {name} sends port {} to targetPort {want}, but its pods serve {there}",
                port.port
            ),
            commands,
        )
}

fn selects(service: &Service, pod: &crate::inventory::cluster::Pod) -> bool {
    let mut selector = service.selector.iter();
    pod.name.namespace == service.name.namespace
        && !service.selector.is_empty()
        && selector.all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// Ports that are served in the namespace; `None`: nothing is known to be, or this port is after all.
fn listening(case: &Case<'_>, netns: Netns, wanted: u16) -> Option<Vec<String>> {
    let proto = case.flow.tuple.proto;
    let sockets = case.inventory.listeners(netns).iter();
    let mut ports = BTreeSet::new();
    for socket in sockets.filter(|socket| socket.proto == proto) {
        if socket.address.port() == wanted {
            return None;
        }
        if !socket.address.ip().is_loopback() {
            ports.insert(socket.address.port());
        }
    }
    (!ports.is_empty()).then(|| ports.iter().take(8).map(ToString::to_string).collect())
}

/// Ports the pod's containers declare; `None`: there are none, or this is one of them.
fn declared(case: &Case<'_>, socket: std::net::SocketAddr) -> Option<Vec<String>> {
    let cluster = &case.inventory.cluster;
    let pod = cluster.pod_at(socket.ip(), case.flow.first)?;
    let proto = case.flow.tuple.proto;
    let ports = pod.ports.iter().filter(|one| one.proto == proto);
    let ports: BTreeSet<u16> = ports.map(|one| one.port).collect();
    let other = !ports.is_empty() && !ports.contains(&socket.port());
    other.then(|| ports.iter().take(8).map(ToString::to_string).collect())
}
