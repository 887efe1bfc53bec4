//! `PORT_NOT_LISTENING`: nothing listens at the port, on this node.

use super::{Page, Rule, inside, unexplained_at_socket};
use crate::event::{Netns, Proto};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, HopName, NatKind, Outcome};

#[derive(Debug)]
pub struct PortNotListening;

impl Rule for PortNotListening {
    fn cause(&self) -> Cause {
        Cause("PORT_NOT_LISTENING")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet reached its destination on this node (a pod or the node itself) and no socket was open for it: TCP answers RST, UDP 'port unreachable'.",
            how_we_know: "The kernel freed the packet with reason NO_SOCKET in the destination's namespace, or its TCP was seen to send the RST there.",
            what_else: "The program listens on 127.0.0.1 only, on another port (Service targetPort), on the other IP family, or has not started yet.",
            what_to_do: "Compare the port with what does listen in that namespace; the verdict lists it.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        if case.established() || case.answered() {
            return None;
        }
        let no_socket = case
            .death_of(|kind| kind == DropKind::NoSocket)
            .or_else(|| told_unreachable(case));
        // Kernels that report no reset for want of a socket let it be seen on its way; a firewall can make one as well.
        let by_reset = case
            .reset()
            .filter(|reset| reset.spot.is_none() || case.responder().is_some());
        let relayed = no_socket.is_none() && by_reset.is_some_and(|reset| reset.spot.is_some());
        let netns = no_socket.map(|death| death.group.spot.netns).or_else(|| {
            by_reset.map(|reset| match reset.spot {
                None => reset.netns,
                Some(_) => case.responder().map(|namespace| namespace.netns),
            })
        })?;
        if no_socket.is_none() && case.death().is_some() {
            return None;
        }
        let dnat = case.flow.nat.iter().find(|nat| nat.kind == NatKind::Dnat);
        let socket = dnat.map_or(case.flow.tuple.dst, |nat| nat.after);
        let proto = case.flow.tuple.proto;
        let listening = netns.map_or_else(Vec::new, |netns| listening(case, netns, proto));
        let known = if listening.is_empty() {
            String::new()
        } else {
            format!("; what does listen there: {}", listening.join(", "))
        };
        let component = Component {
            kind: "socket".to_owned(),
            name: Some(format!("{proto} {socket}")),
            listening,
            ..Component::default()
        };
        let mut finding = Finding {
            drop: no_socket.map(|death| death.index),
            refused_at: Some(HopName::Socket),
            ..Finding::new(Outcome::Refused, self.cause(), Confidence::Proven)
        };
        if let Some(reset) = by_reset {
            let (source, what) = if relayed {
                finding.confidence = Confidence::Inferred;
                ("tc", "RST that comes from there")
            } else {
                ("tp_btf:tcp_send_reset", "RST sent by this node's TCP")
            };
            finding = finding.evidence(source, Some(reset.count), what);
        }
        if let Some(error) = case.icmp_refusal() {
            finding = finding.evidence("tp_btf:icmp_send", Some(error.count), "port unreachable");
        }
        let namespace = netns.and_then(|netns| case.inventory.namespace(netns));
        let where_ = namespace
            .and_then(|namespace| namespace.name.clone())
            .map_or_else(|| "on the node".to_owned(), |name| format!("in {name}"));
        let flag = if proto == Proto::UDP { "u" } else { "t" };
        let summary = format!("nothing listens on {proto} {socket} {where_}{known}");
        let look = inside(namespace, &format!("ss -l{flag}np"));
        Some(
            finding
                .component(component)
                .remedy_placed(summary, [format!("{look} # {where_}")]),
        )
    }
}

fn listening(case: &Case<'_>, netns: Netns, proto: Proto) -> Vec<String> {
    let sockets = case
        .inventory
        .listeners(netns)
        .iter()
        .filter(|socket| socket.proto == proto);
    sockets
        .map(|socket| socket.address.to_string())
        .take(16)
        .collect()
}

/// A datagram freed by UDP for no reason given, in the moment its sender was told that the port is unreachable.
fn told_unreachable<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = unexplained_at_socket(case)?;
    let told = case.icmp_refusal()?.kind;
    let port = if case.flow.tuple.is_ipv6() {
        (1, 4)
    } else {
        (3, 3)
    };
    ((told.kind, told.code) == port).then_some(found)
}
