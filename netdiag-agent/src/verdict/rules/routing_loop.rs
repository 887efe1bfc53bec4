//! `ROUTING_LOOP`: the packet goes round between this node and its neighbour.

use super::{Page, Rule, ip};
use crate::flow::drops::DropKind;
use crate::flow::place::Leg;
use crate::flow::record::Direction;
use crate::inventory::NamespaceKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, HopName, Outcome};

/// So many hops between two sightings of one flow at one interface are no path change.
const LAPS: u8 = 2;

#[derive(Debug)]
pub struct RoutingLoop;

impl Rule for RoutingLoop {
    fn cause(&self) -> Cause {
        Cause("ROUTING_LOOP")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet passes the same interface of this node again and again, each time with a lower TTL, until the TTL runs out.",
            how_we_know: "Packets of one flow were seen leaving by one interface with falling TTLs; nothing answered.",
            what_else: "Typical: the node routes a dead pod's or Service's address to its gateway, and the gateway routes it back to the node.",
            what_to_do: "Make the address end here: a blackhole route for the pod CIDR, or the missing pod route; then repair the gateway's route.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        if case.answered() || case.established() {
            return None;
        }
        let expired = case.death_of(|kind| kind == DropKind::TtlExpired);
        if expired.is_none() && (!case.deadline_passed() || case.death().is_some()) {
            return None;
        }
        if let Some(finding) = self.reply_turned_back(case) {
            return Some(finding);
        }
        let lap = case.flow.of(Direction::Original).find(|sighting| {
            sighting.spot.hop == HopName::NicEgress
                && sighting.ttl.1.saturating_sub(sighting.ttl.0) >= LAPS
        })?;
        let interface = lap.ifname.as_deref().unwrap_or("the uplink");
        let to = case.responder_address();
        let (high, low) = (lap.ttl.1, lap.ttl.0);
        let component = Component {
            kind: "route".to_owned(),
            name: Some(interface.to_owned()),
            ..Component::default()
        };
        let finding = Finding {
            drop: expired.map(|death| death.index),
            ..Finding::new(Outcome::DroppedHere, self.cause(), Confidence::Proven)
        };
        let summary = format!("{to} is routed out of {interface} and comes back");
        let ip = ip(to);
        Some(
            finding
                .evidence(
                    "tp_btf:net_dev_start_xmit",
                    Some(lap.packets()),
                    format!("left by {interface} with TTL {high} down to {low}"),
                )
                .component(component)
                .remedy(
                    summary,
                    [
                        format!("{ip} route get {to}"),
                        format!("{ip} route add blackhole {to}"),
                    ],
                ),
        )
    }
}

impl RoutingLoop {
    /// The answer came in by an uplink and went out by one, instead of to the pod.
    fn reply_turned_back(&self, case: &Case<'_>) -> Option<Finding> {
        let at = |hop| {
            let mut seen = case.flow.of(Direction::Reply);
            seen.find(|s| s.spot.leg == Leg::Node && s.spot.hop == hop)
        };
        let (_, out) = (at(HopName::NicIngress)?, at(HopName::NicEgress)?);
        let initiator = case.initiator()?;
        if initiator.kind != NamespaceKind::Pod {
            return None;
        }
        let interface = out.ifname.as_deref().unwrap_or("the uplink");
        let to = case.flow.tuple.src.ip();
        let circles = out.ttl.1.saturating_sub(out.ttl.0) >= LAPS;
        let confidence = if circles {
            Confidence::Proven
        } else {
            Confidence::Inferred
        };
        let expired = case.death_of(|kind| kind == DropKind::TtlExpired);
        let finding = Finding {
            drop: expired.map(|death| death.index),
            ..Finding::new(Outcome::ReplyLost, self.cause(), confidence)
        };
        let component = Component {
            kind: "route".to_owned(),
            name: Some(interface.to_owned()),
            ..Component::default()
        };
        let (high, low) = (out.ttl.1, out.ttl.0);
        let told = format!("the answer left again by {interface} with TTL {high} down to {low}");
        let ip = ip(to);
        Some(
            finding
                .evidence("tp_btf:net_dev_start_xmit", Some(out.packets()), told)
                .component(component)
                .remedy(
                    format!("answers to {to} are routed out of {interface} instead of to the pod"),
                    [format!("{ip} route get {to}"), format!("{ip} route show")],
                ),
        )
    }
}
