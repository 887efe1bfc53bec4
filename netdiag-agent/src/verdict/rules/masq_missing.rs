//! `MASQ_MISSING`: the pod's own address left the node where SNAT was due, and nothing came back.

use std::net::IpAddr;

use super::no_answer::{is_public, unanswered};
use super::{Page, Rule, ip};
use crate::flow::Flow;
use crate::flow::place::Leg;
use crate::flow::record::{Direction, Sighting};
use crate::inventory::{MasqueradeConfig, NamespaceKind};
use crate::ruleset::Owner;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::masquerade::{Masquerade, Named};
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
            how_we_know: "PROVEN where the NAT rules themselves show it: the packet, walked through POSTROUTING, meets one rule that lets this destination go while the node translates others, or one that had to translate it. INFERRED from the company it keeps: it was seen at the uplink with the pod's source, untranslated and unanswered, while every other connection of a pod to the same kind of destination left by that uplink with a translated source.",
            what_else: "A destination exempt on purpose (nonMasqueradeCIDRs, an IP pool without natOutgoing) looks the same; then it is the route back to the pods that is missing. That a rule let it go is proven; that this is why nothing came back is not: the peer may be silent for reasons of its own.",
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
        let translated = translated_peers(case, left, to);
        let masquerade = Masquerade::of(case);
        let spared = masquerade.as_ref().and_then(Masquerade::spared);
        let due = masquerade.as_ref().and_then(Masquerade::due);
        let config = spared
            .as_ref()
            .and_then(|rule| contradicting(case, rule, to));
        let uplink = left.ifname.as_deref().unwrap_or("the uplink");
        let mut finding = match (&spared, &due) {
            (Some(rule), _) if translated.is_some() || config.is_some() => {
                by_rule(self.cause(), rule)
            }
            (None, Some(rule)) => by_rule(self.cause(), rule),
            _ if translated.is_some() => by_peers(self.cause(), uplink),
            _ => return None,
        };
        if let Some(count) = translated {
            let said = format!(
                "{count} other connection(s) of pods left by {uplink} translated, none untranslated"
            );
            finding = finding.evidence("conntrack", None, said);
        }
        if let Some(config) = config {
            let said = format!(
                "{} does not name {to} among nonMasqueradeCIDRs",
                config.file
            );
            finding = finding.evidence("ip_masq_agent", None, said);
        }
        let source = case.flow.tuple.src.ip();
        if spared.is_none() && due.is_none() {
            let why = format!(
                "a rule lets {to} out of {uplink} before MASQUERADE or SNAT; the nat table's counters decide"
            );
            finding = finding.suspect("masquerade_exemption", why);
        }
        let route =
            format!("if {to} is exempt on purpose, the other side needs a route back to {source}");
        let dead = format!("{to} may be down; a trace or capture there decides");
        let finding = finding
            .suspect("return_route", route)
            .suspect("dead_peer", dead);
        let left = format!("{source} left by {uplink} untranslated towards {to}");
        Some(remedy(
            finding,
            &left,
            spared.as_ref(),
            due.as_ref(),
            (source, to),
        ))
    }
}

/// How many other connections say that SNAT is due: all that there are, and at least one.
fn translated_peers(case: &Case<'_>, left: &Sighting, to: IpAddr) -> Option<usize> {
    let others = case.others.iter();
    let peers: Vec<_> = others
        .filter(|other| is_peer(case, other, left, to))
        .collect();
    let all = peers.iter().all(|peer| is_translated(peer));
    (all && !peers.is_empty()).then_some(peers.len())
}

/// The configuration of ip-masq-agent, where its own rule spares what that does not exempt.
fn contradicting(case: &Case<'_>, spared: &Named, to: IpAddr) -> Option<MasqueradeConfig> {
    if spared.owner != Owner::IpMasqAgent {
        return None;
    }
    let config = case.inventory.masquerade_config()?;
    (!config.exempts(to)).then_some(config)
}

fn by_rule(cause: Cause, rule: &Named) -> Finding {
    Finding::new(Outcome::LeftNodeNoAnswer, cause, Confidence::Proven)
        .component(rule.component.clone())
        .evidence("nat_rules", None, rule.place.clone())
}

fn by_peers(cause: Cause, uplink: &str) -> Finding {
    let component = Component {
        kind: "snat".to_owned(),
        name: Some(uplink.to_owned()),
        ..Component::default()
    };
    Finding::new(Outcome::LeftNodeNoAnswer, cause, Confidence::Inferred).component(component)
}

fn remedy(
    finding: Finding,
    left: &str,
    spared: Option<&Named>,
    due: Option<&Named>,
    (source, to): (IpAddr, IpAddr),
) -> Finding {
    let tool = if to.is_ipv6() {
        "ip6tables"
    } else {
        "iptables"
    };
    let look = format!("{tool} -t nat -nvL POSTROUTING --line-numbers");
    match (spared, due) {
        (Some(rule), _) => {
            let what = rule.destinations.clone().unwrap_or_else(|| to.to_string());
            let how = match rule.owner {
                Owner::IpMasqAgent => {
                    format!("take {what} out of nonMasqueradeCIDRs of ip-masq-agent")
                }
                Owner::Plain => format!("take {what} out of the exemption"),
                owner => format!("take {what} out of what {} exempts", owner.name()),
            };
            let mut commands = rule.undo.clone();
            if rule.owner == Owner::IpMasqAgent {
                commands.push("kubectl -n kube-system edit configmap ip-masq-agent".to_owned());
            }
            commands.push(look);
            finding.remedy(format!("{left}: {}; {how}", rule.place), commands)
        }
        (None, Some(rule)) => finding.remedy(
            format!(
                "{left} although {}: the connection is older than the rule, or is not tracked",
                rule.place
            ),
            [format!("conntrack -D -d {to}"), look],
        ),
        (None, None) => {
            let back = format!(
                "{} route get {to} from {source} # on the other side: the way back",
                ip(to)
            );
            finding.remedy(format!("{left}: SNAT seems to be missing"), [look, back])
        }
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
