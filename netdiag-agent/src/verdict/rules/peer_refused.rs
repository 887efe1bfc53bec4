//! `PEER_REFUSED`: somebody beyond this node said no.

use std::net::IpAddr;

use super::{Page, Rule};
use crate::event::IcmpKind;
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
        let tuple = case.flow.tuple;
        let finding = Finding {
            refused_at: Some(HopName::Fabric),
            ..Finding::new(Outcome::Refused, self.cause(), Confidence::Proven)
        };
        if let Some(reset) = case.reset().filter(|reset| reset.spot.is_some()) {
            let ttl = reset
                .ttl
                .map_or_else(String::new, |ttl| format!(", TTL {ttl} on arrival"));
            let component = Component {
                kind: "peer".to_owned(),
                name: Some(case.responder_address().to_string()),
                verdict: Some("RST".to_owned()),
                ..Component::default()
            };
            let summary = format!(
                "{} answers {} with RST: is the port open there?",
                case.responder_address(),
                tuple
            );
            return Some(
                finding
                    .evidence(
                        "tc:ingress",
                        Some(reset.count),
                        format!("RST from {}{ttl}", case.responder_address()),
                    )
                    .component(component)
                    .remedy(
                        summary,
                        [format!(
                            "ss -ltn sport = :{} # on {}",
                            tuple.dst.port(),
                            case.responder_address()
                        )],
                    ),
            );
        }
        let error = case.icmp_refusal().filter(|error| {
            error
                .from
                .is_some_and(|from| case.inventory.owner_of(from).is_none())
        })?;
        let from = error.from?;
        let component = Component {
            kind: "peer".to_owned(),
            name: Some(from.to_string()),
            verdict: Some(format!("ICMP {}/{}", error.kind.kind, error.kind.code)),
            ..Component::default()
        };
        let summary = format!(
            "{from} answers {tuple} with ICMP {}/{}",
            error.kind.kind, error.kind.code
        );
        let command = if is_port_unreachable(error.kind, from) {
            let sockets = if case.flow.is_tcp() { "-ltn" } else { "-lun" };
            let port = tuple.dst.port();
            format!(
                "ss {sockets} sport = :{port} # on {}",
                case.responder_address()
            )
        } else {
            let to = case.responder_address();
            format!(
                "{} route get {to} # on {from}: is there a route, and no filter?",
                super::ip(to)
            )
        };
        Some(
            finding
                .evidence(
                    "tc:ingress",
                    Some(error.count),
                    format!("ICMP {}/{} from {from}", error.kind.kind, error.kind.code),
                )
                .component(component)
                .remedy(summary, [command]),
        )
    }
}

/// RFC 792 and RFC 4443 §3.1: all other codes speak of the way, not of the socket.
fn is_port_unreachable(kind: IcmpKind, from: IpAddr) -> bool {
    let expected = if from.is_ipv6() { (1, 4) } else { (3, 3) };
    (kind.kind, kind.code) == expected
}
