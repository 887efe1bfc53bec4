//! The path of a flow: what was seen, what was changed on the way, where it ended, what it should have reached.

use super::case::Case;
use super::finding::Finding;
use super::types::{Action, Component, Hop, HopName, Outcome};
use crate::flow::place::{Leg, Spot, Stage};
use crate::flow::record::{Direction, DropGroup, Sighting};
use crate::inventory::NamespaceKind;

/// A hop with its place in the order of the way.
struct Placed {
    order: (Direction, Leg, Stage),
    hop: Hop,
}

/// The hops of a case in the order a packet meets them, request first.
pub fn of(case: &Case<'_>, finding: &Finding) -> Vec<Hop> {
    let mut placed: Vec<Placed> = case.flow.sightings.iter().map(seen).collect();
    begin(case, &mut placed);
    translate(case, &mut placed);
    let fatal = finding.drop.and_then(|index| case.flow.drops.get(index));
    if let Some(group) = fatal {
        placed.push(dropped(group, finding.component.clone()));
        // What the packet met behind the place of its death was met by an earlier one.
        placed.extend(expected(case, group.direction, Some(&group.spot)));
    } else if let Some(name) = finding.refused_at {
        refuse(case, finding, name, &mut placed);
    } else if finding.outcome.is_failing() {
        silence(case, &mut placed);
    }
    // What comes out of a tunnel came in by the uplink first.
    placed.sort_by_key(|placed| (placed.order, placed.hop.name == HopName::TunnelDecap));
    let mut hops = merge(placed);
    if fatal.is_none() && finding.refused_at.is_none() {
        left_by_rule(&mut hops, finding);
    }
    hops
}

/// A rule that neither dropped nor refused decided on the source address: it stands where that was changed, or where
/// the packet left without a change.
fn left_by_rule(hops: &mut [Hop], finding: &Finding) {
    let Some(component) = &finding.component else {
        return;
    };
    let at =
        |name, action| move |hop: &Hop| (hop.name, hop.action, hop.reply) == (name, action, false);
    let translated = hops
        .iter()
        .position(at(HopName::NfPostrouting, Action::Translated));
    let left = hops.iter().position(at(HopName::NicEgress, Action::Seen));
    if let Some(hop) = translated.or(left).and_then(|index| hops.get_mut(index)) {
        hop.component = Some(component.clone());
    }
}

/// Last hop seen before the death; first expected one that was not, or else the one that dropped it.
pub fn died_between(hops: &[Hop]) -> Option<(HopName, HopName)> {
    let at = |action| hops.iter().position(|hop| hop.action == action);
    let dropped = at(Action::Dropped);
    let end = at(Action::NotSeen).or(dropped)?;
    let before = dropped.unwrap_or(end).min(end);
    let last = hops[..before]
        .iter()
        .rev()
        .find(|hop| hop.action == Action::Seen)?;
    Some((last.name, hops[end].name))
}

fn empty(name: HopName, action: Action, direction: Direction) -> Hop {
    Hop {
        name,
        action,
        reply: direction == Direction::Reply,
        interface: None,
        ifindex: None,
        netns: None,
        at: None,
        count: 0,
        component: None,
    }
}

fn seen(sighting: &Sighting) -> Placed {
    let spot = &sighting.spot;
    Placed {
        order: (sighting.direction, spot.leg, spot.stage),
        hop: Hop {
            interface: sighting.ifname.clone(),
            ifindex: spot.ifindex,
            netns: spot.netns,
            at: Some(sighting.first),
            count: sighting.packets(),
            ..empty(spot.hop, Action::Seen, sighting.direction)
        },
    }
}

fn dropped(group: &DropGroup, component: Option<Component>) -> Placed {
    let spot = &group.spot;
    Placed {
        order: (group.direction, spot.leg, spot.stage),
        hop: Hop {
            interface: group.ifname.clone(),
            ifindex: spot.ifindex,
            netns: spot.netns,
            at: Some(group.first),
            count: group.count,
            component,
            ..empty(spot.hop, Action::Dropped, group.direction)
        },
    }
}

/// A packet that died inside the namespace it was made in did leave its socket.
fn begin(case: &Case<'_>, placed: &mut Vec<Placed>) {
    let died_at_source = case.flow.drops.iter().find(|group| {
        group.direction == Direction::Original
            && group.spot.leg == Leg::Source
            && group.packet.is_some()
    });
    let Some(group) = died_at_source else { return };
    if placed.iter().any(|p| p.hop.name == HopName::PodSocket) {
        return;
    }
    placed.push(Placed {
        order: (Direction::Original, Leg::Source, Stage::Receive),
        hop: Hop {
            netns: group.spot.netns,
            at: Some(group.first),
            count: group.count,
            ..empty(HopName::PodSocket, Action::Seen, Direction::Original)
        },
    });
}

fn translate(case: &Case<'_>, placed: &mut Vec<Placed>) {
    let inside = case.redirected().is_some();
    for nat in &case.flow.nat {
        let (leg, netns) = if inside && nat.hop == HopName::NfOutput {
            (Leg::Source, case.initiator().map(|pod| pod.netns))
        } else {
            (Leg::Node, case.inventory.node_netns())
        };
        let stage = match nat.hop {
            HopName::NfOutput => Stage::Output,
            HopName::NfPostrouting => Stage::Postrouting,
            _ => Stage::Prerouting,
        };
        placed.push(Placed {
            order: (Direction::Original, leg, stage),
            hop: Hop {
                netns,
                ..empty(nat.hop, Action::Translated, Direction::Original)
            },
        });
    }
}

/// Where a packet of this direction should have been seen next.
fn expected(case: &Case<'_>, direction: Direction, beyond: Option<&Spot>) -> Option<Placed> {
    let kind = match direction {
        Direction::Original => case.responder(),
        Direction::Reply => case.initiator(),
    }
    .map(|namespace| namespace.kind);
    let past_node = beyond.is_some_and(|spot| spot.leg == Leg::Destination);
    let from_pod = || case.initiator().map(|namespace| namespace.kind) == Some(NamespaceKind::Pod);
    let in_pod = direction == Direction::Original
        && beyond.is_some_and(|spot| spot.leg == Leg::Source)
        && from_pod();
    let (name, leg, stage) = match kind {
        _ if in_pod => (HopName::PodVeth, Leg::Node, Stage::Receive),
        Some(NamespaceKind::Pod) if past_node => (HopName::Socket, Leg::Destination, Stage::Socket),
        Some(NamespaceKind::Pod) => (HopName::PodVeth, Leg::Node, Stage::Transmit),
        Some(NamespaceKind::Node) => (HopName::Socket, Leg::Node, Stage::Socket),
        None => (HopName::NicEgress, Leg::Node, Stage::Transmit),
    };
    // The socket is where it died, not where it should have got to.
    let there = beyond.is_some_and(|spot| (spot.leg, spot.stage) >= (leg, stage));
    (!there).then(|| Placed {
        order: (direction, leg, stage),
        hop: empty(name, Action::NotSeen, direction),
    })
}

fn refuse(case: &Case<'_>, finding: &Finding, name: HopName, placed: &mut Vec<Placed>) {
    if name == HopName::Fabric {
        placed.push(Placed {
            order: (Direction::Original, Leg::Destination, Stage::Socket),
            hop: Hop {
                component: finding.component.clone(),
                ..empty(HopName::Fabric, Action::NotObservable, Direction::Original)
            },
        });
        return;
    }
    let (direction, leg) = match case.responder().map(|namespace| namespace.kind) {
        // An answer that the node refused is one it took for its own.
        _ if finding.outcome == Outcome::ReplyLost => (Direction::Reply, Leg::Node),
        Some(NamespaceKind::Node) => (Direction::Original, Leg::Node),
        _ => (Direction::Original, Leg::Destination),
    };
    placed.push(Placed {
        order: (direction, leg, Stage::Socket),
        hop: Hop {
            component: finding.component.clone(),
            ..empty(name, Action::Dropped, direction)
        },
    });
}

/// No drop, no refusal: the request went out of sight, or the answer did.
fn silence(case: &Case<'_>, placed: &mut Vec<Placed>) {
    let replied = case.flow.of(Direction::Reply).next().is_some();
    if replied {
        placed.extend(expected(case, Direction::Reply, None));
    } else if case.left_node() {
        let tunnel = case.left_by(HopName::TunnelEncap);
        let back = if tunnel {
            HopName::TunnelDecap
        } else {
            HopName::NicIngress
        };
        placed.push(Placed {
            order: (Direction::Original, Leg::Destination, Stage::Socket),
            hop: empty(HopName::Fabric, Action::NotObservable, Direction::Original),
        });
        placed.push(Placed {
            order: (Direction::Reply, Leg::Source, Stage::Receive),
            hop: empty(back, Action::NotSeen, Direction::Reply),
        });
    } else if case.reached_responder() {
        placed.push(Placed {
            order: (Direction::Original, Leg::Destination, Stage::Socket),
            hop: empty(HopName::Socket, Action::NotSeen, Direction::Original),
        });
    } else {
        placed.extend(expected(case, Direction::Original, None));
    }
}

/// The two ends of one veth pair are one hop; so are the two hooks at one interface.
fn merge(placed: Vec<Placed>) -> Vec<Hop> {
    let mut hops: Vec<Hop> = Vec::with_capacity(placed.len());
    for Placed { hop, .. } in placed {
        match hops.last_mut() {
            Some(last)
                if last.name == hop.name
                    && last.reply == hop.reply
                    && last.action == hop.action =>
            {
                last.count = last.count.max(hop.count);
                last.at = match (last.at, hop.at) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
            // TC sees a packet before the queue of that interface drops it.
            Some(last)
                if last.action == Action::Dropped
                    && hop.action == Action::Seen
                    && (last.name, last.reply, last.ifindex)
                        == (hop.name, hop.reply, hop.ifindex) => {}
            // A hop that saw an earlier packet and dropped a later one is the place of death.
            Some(last)
                if last.name == hop.name
                    && last.reply == hop.reply
                    && hop.action == Action::NotSeen => {}
            _ => hops.push(hop),
        }
    }
    hops
}
