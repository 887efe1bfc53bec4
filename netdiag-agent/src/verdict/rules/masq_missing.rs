//! `MASQ_MISSING`: the pod's own address left the node where SNAT was due, and nothing came back.

use std::net::IpAddr;

use super::no_answer::{is_public, unanswered};
use super::{Page, Rule, ip};
use crate::flow::Flow;
use crate::flow::place::Leg;
use crate::flow::record::{Direction, Sighting};
use crate::inventory::NamespaceKind;
use crate::verdict::case::{Case, Finding};
use crate::verdict::types::{Cause, Component, Confidence, HopName, NatKind, Outcome};

#[derive(Debug)]
pub struct MasqMissing;

impl Rule for MasqMissing {
    fn cause(&self) -> Cause {
        Cause("MASQ_MISSING")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet left the node with the pod's own address, although the node translates other connections of its pods to such destinations; the other side has no way back to a pod address.",
            how_we_know: "It was seen at the uplink with the pod's source, untranslated and unanswered, while every other connection of a pod to the same kind of destination left by that uplink with a translated source.",
            what_else: "A destination exempt on purpose (nonMasqueradeCIDRs, an IP pool without natOutgoing) looks the same; then it is the route back to the pods that is missing. A silent peer looks the same, too: this is inferred, never proven.",
            what_to_do: "Look in the nat table's POSTROUTING (and IP-MASQ-AGENT, cali-nat-outgoing, CNI-*) for the rule that lets this destination out untranslated; take it out of the exemption, or give the other side a route to the pods.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let from_pod = case
            .initiator()
            .is_some_and(|namespace| namespace.kind == NamespaceKind::Pod);
        if !unanswered(case) || !from_pod || case.responder().is_some() {
            return None;
        }
        let left = untranslated(case.flow)?;
        let to = case.responder_address();
        let peers: Vec<_> = case
            .others
            .iter()
            .filter(|other| is_peer(case, other, left, to))
            .collect();
        let translated = peers.iter().filter(|peer| is_translated(peer)).count();
        if translated == 0 || translated < peers.len() {
            return None;
        }
        let source = case.flow.tuple.src.ip();
        let uplink = left.ifname.as_deref().unwrap_or("the uplink");
        let component = Component {
            kind: "snat".to_owned(),
            name: Some(uplink.to_owned()),
            ..Component::default()
        };
        let finding = Finding::new(Outcome::LeftNodeNoAnswer, self.cause(), Confidence::Inferred)
            .component(component)
            .evidence(
                "conntrack",
                None,
                format!("{translated} other connection(s) of pods left by {uplink} translated, none untranslated"),
            )
            .suspect("masquerade_exemption", format!("a rule lets {to} out of {uplink} before MASQUERADE or SNAT; the nat table's counters decide"))
            .suspect("return_route", format!("if {to} is exempt on purpose, the other side needs a route back to {source}"))
            .suspect("dead_peer", format!("{to} may be down; a trace or capture there decides"));
        let tool = if source.is_ipv6() {
            "ip6tables"
        } else {
            "iptables"
        };
        let commands = [
            format!("{tool} -t nat -nvL POSTROUTING --line-numbers"),
            format!(
                "{} route get {to} from {source} # on the other side: the way back",
                ip(to)
            ),
        ];
        Some(finding.remedy(
            format!(
                "{source} left by {uplink} untranslated towards {to}: SNAT seems to be missing"
            ),
            commands,
        ))
    }
}

/// Where the pod's own address was seen leaving the node.
fn untranslated(flow: &Flow) -> Option<&Sighting> {
    if is_translated(flow) {
        return None;
    }
    exits(flow).find(|sighting| sighting.tuple.src.ip() == flow.tuple.src.ip())
}

fn exits(flow: &Flow) -> impl Iterator<Item = &Sighting> {
    flow.of(Direction::Original)
        .filter(|s| s.spot.leg == Leg::Node && s.spot.hop == HopName::NicEgress)
}

fn is_translated(flow: &Flow) -> bool {
    flow.nat.iter().any(|nat| nat.kind == NatKind::Snat)
}

/// Another connection of a pod out of the same uplink, to a destination that would be treated alike.
fn is_peer(case: &Case<'_>, other: &Flow, left: &Sighting, to: IpAddr) -> bool {
    let from_pod = case
        .inventory
        .owner_of(other.tuple.src.ip())
        .is_some_and(|n| n.kind == NamespaceKind::Pod);
    // A flow that is lost in the same way proves nothing about what is due.
    let counts = is_translated(other) || other.of(Direction::Reply).next().is_some();
    let there =
        exits(other).any(|s| s.spot.ifindex == left.spot.ifindex && alike(s.tuple.dst.ip(), to));
    other.id != case.flow.id && from_pod && counts && there
}

/// Private networks are exempt from SNAT one by one, the Internet as a whole is not.
fn alike(a: IpAddr, b: IpAddr) -> bool {
    match (a, b) {
        (IpAddr::V4(x), IpAddr::V4(y)) if !is_public(a) || !is_public(b) => {
            x.octets()[..3] == y.octets()[..3]
        }
        (IpAddr::V6(x), IpAddr::V6(y)) if !is_public(a) || !is_public(b) => {
            x.segments()[..4] == y.segments()[..4]
        }
        _ => a.is_ipv4() == b.is_ipv4(),
    }
}
