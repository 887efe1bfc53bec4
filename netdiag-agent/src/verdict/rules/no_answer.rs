//! `NO_ANSWER`: it left this node, and nothing came back.

use std::net::{IpAddr, SocketAddr};

use super::{Page, Rule};
use crate::event::Proto;
use crate::flow::record::Direction;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::masquerade::Masquerade;
use crate::verdict::types::{Cause, Confidence, NatKind, Outcome};

#[derive(Debug)]
pub struct NoAnswer;

impl Rule for NoAnswer {
    fn cause(&self) -> Cause {
        Cause("NO_ANSWER")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The request left this node through its uplink and nothing came back in time: no answer, no RST, no ICMP error.",
            how_we_know: "It was seen at the uplink on its way out, and no packet of the flow was seen coming in. This node dropped nothing of it.",
            what_else: "What happened beyond the uplink cannot be seen from here; the suspects are ranked by what is known and each says what would decide.",
            what_to_do: "Trace on the destination node at the same time; if the SYN does not arrive there, the fabric (security group, firewall, route) has it.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        if !unanswered(case) {
            return None;
        }
        let tuple = case.flow.tuple;
        let seen_as = case
            .flow
            .nat
            .iter()
            .find(|nat| nat.kind == NatKind::Snat)
            .map_or(tuple.src, |nat| nat.after);
        let finding = Finding::new(
            Outcome::LeftNodeNoAnswer,
            self.cause(),
            Confidence::Inferred,
        );
        // An echo's id is no port.
        let spell = |end: SocketAddr| match tuple.proto {
            proto if proto.is_icmp() => end.ip().to_string(),
            _ => end.to_string(),
        };
        let summary = format!(
            "left this node as {} after {} attempt(s), nothing came back in {} s: look beyond this node",
            spell(seen_as),
            case.flow.syn_count().max(case.flow.tcp.resent).max(1),
            case.no_answer.as_millis() as f64 / 1000.0,
        );
        let destination = case.responder_address();
        let commands = [
            format!(
                "netdiag trace --interface UPLINK --to {} # on the destination's node",
                spell(tuple.dst)
            ),
            format!(
                "{} neigh show; {0} route get {destination}",
                super::ip(destination)
            ),
        ];
        Some(suspects(case, finding, seen_as.ip(), destination).remedy(summary, commands))
    }
}

/// A request that wants an answer left this node, and the time for one has passed.
pub(super) fn unanswered(case: &Case<'_>) -> bool {
    let proto = case.flow.tuple.proto;
    let expects_answer = proto == Proto::TCP || proto.is_icmp();
    let silent = case.flow.of(Direction::Reply).next().is_none() && case.flow.resets.is_empty();
    let refused = || case.death().is_some() || case.icmp_refusal().is_some();
    expects_answer
        && silent
        && case.left_node()
        && (!case.established() || case.fell_silent())
        && case.deadline_passed()
        && !refused()
}

/// Most likely first, by what this node can know: who else gets an answer from there, and from which source we ask.
fn suspects(case: &Case<'_>, mut finding: Finding, source: IpAddr, destination: IpAddr) -> Finding {
    let what = match case.flow.tuple.proto {
        proto if proto.is_icmp() => "echo requests".to_owned(),
        _ => format!("port {}", case.flow.tuple.dst.port()),
    };
    let answered = |other: &crate::flow::Flow| other.of(Direction::Reply).next().is_some();
    let alive = case.others.iter().any(|flow| {
        flow.id != case.flow.id && flow.tuple.dst.ip() == case.flow.tuple.dst.ip() && answered(flow)
    });
    let untranslated = case
        .initiator()
        .is_some_and(|n| n.kind == crate::inventory::NamespaceKind::Pod)
        && case.flow.nat.iter().all(|nat| nat.kind != NatKind::Snat);
    if alive {
        finding = finding.suspect(
            "firewall",
            format!("{destination} answers something else in this trace, so {what} is filtered: security group, firewall or policy beyond this node"),
        );
    }
    if untranslated {
        finding = finding.suspect(
            "return_route",
            format!("the packet left with the pod's own address {source}: the other side needs a route back to it, or SNAT is missing here"),
        );
    }
    if untranslated && let Some(rule) = Masquerade::of(case).and_then(|m| m.spared()) {
        finding = finding.suspect(
            "masquerade_exemption",
            format!(
                "{}; if the other side knows no way back to pods, that is why",
                rule.place
            ),
        );
    }
    if !alive {
        finding = finding
            .suspect("dead_peer", format!("{destination} may be down or not exist; a trace or capture there decides"))
            .suspect("network_security_group", format!("a security group, network ACL or firewall may drop {what} or source {source}; its flow log decides"));
    }
    if is_public(destination) {
        finding = finding.suspect(
            "snat_ports",
            "a cloud load balancer or NAT gateway out of SNAT ports drops new connections to public addresses in silence; its SNAT metric decides",
        );
    }
    if !untranslated {
        finding = finding.suspect(
            "return_route",
            format!("the other side may have no route back to {source}"),
        );
    }
    finding
}

/// Not private (RFC 1918, RFC 6598, RFC 4193), link-local or loopback.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            !(v4.is_private() || v4.is_link_local() || v4.is_loopback() || shared)
        }
        IpAddr::V6(v6) => !(v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback()),
    }
}
