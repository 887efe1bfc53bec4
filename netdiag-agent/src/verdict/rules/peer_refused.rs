//! `PEER_REFUSED`: somebody beyond this node said no.

use std::net::IpAddr;

use super::{Page, Rule};
use crate::event::IcmpKind;
use crate::flow::record::Reset;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, HopName, Outcome};

#[derive(Debug)]
pub struct PeerRefused;

impl Rule for PeerRefused {
    fn cause(&self) -> Cause {
        Cause("PEER_REFUSED")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The request left this node and was answered with a TCP RST or an ICMP error from beyond it: the peer, or a device on the way, refused it.",
            how_we_know: "The RST or ICMP error was seen arriving from off the node; no packet was dropped here.",
            what_else: "A firewall that rejects instead of dropping looks like the peer itself. The sender of an ICMP error is named; the TTL of a RST hints at how far away it was made.",
            what_to_do: "Check on the destination whether the port is open; if it is, ask who on the way sends the refusal.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        if case.established() || case.answered() || case.death().is_some() || !case.left_node() {
            return None;
        }
        let finding = Finding {
            refused_at: Some(HopName::Fabric),
            ..Finding::new(Outcome::Refused, self.cause(), Confidence::Proven)
        };
        match case.reset().filter(|reset| reset.spot.is_some()) {
            Some(reset) => Some(by_reset(finding, case, reset)),
            None => by_icmp(finding, case),
        }
    }
}

fn by_reset(finding: Finding, case: &Case<'_>, reset: &Reset) -> Finding {
    let tuple = case.flow.tuple;
    let peer = case.responder_address();
    let ttl = reset
        .ttl
        .map_or_else(String::new, |ttl| format!(", TTL {ttl} on arrival"));
    finding
        .evidence(
            "tc:ingress",
            Some(reset.count),
            format!("RST from {peer}{ttl}"),
        )
        .component(component(peer, "RST".to_owned()))
        .remedy(
            format!("{peer} answers {tuple} with RST: is the port open there?"),
            [sockets("-ltn", tuple.dst.port(), peer)],
        )
}

/// `None`: no such error came from beyond this node.
fn by_icmp(finding: Finding, case: &Case<'_>) -> Option<Finding> {
    let tuple = case.flow.tuple;
    let peer = case.responder_address();
    let error = case.icmp_refusal()?;
    let from = error.from?;
    if case.inventory.owner_of(from).is_some() {
        return None;
    }
    let said = format!("ICMP {}/{}", error.kind.kind, error.kind.code);
    let command = if is_port_unreachable(error.kind, from) {
        let protocol = if case.flow.is_tcp() { "-ltn" } else { "-lun" };
        sockets(protocol, tuple.dst.port(), peer)
    } else {
        format!(
            "{} route get {peer} # on {from}: is there a route, and no filter?",
            super::ip(peer)
        )
    };
    Some(
        finding
            .evidence(
                "tc:ingress",
                Some(error.count),
                format!("{said} from {from}"),
            )
            .component(component(from, said.clone()))
            .remedy(format!("{from} answers {tuple} with {said}"), [command]),
    )
}

fn component(who: IpAddr, said: String) -> Component {
    Component {
        kind: "peer".to_owned(),
        name: Some(who.to_string()),
        verdict: Some(said),
        ..Component::default()
    }
}

/// Whether anybody listens there.
fn sockets(options: &str, port: u16, host: IpAddr) -> String {
    format!("ss {options} sport = :{port} # on {host}")
}

/// RFC 792 and RFC 4443 §3.1: all other codes speak of the way, not of the socket.
fn is_port_unreachable(kind: IcmpKind, from: IpAddr) -> bool {
    let expected = if from.is_ipv6() { (1, 4) } else { (3, 3) };
    (kind.kind, kind.code) == expected
}
