//! A finding becomes a verdict.

use uuid::Uuid;

use super::case::Case;
use super::finding::Finding;
use super::rules::inside;
use super::types::{FlowKey, Outcome, TrafficDirection, Verdict};
use super::{ends, hops, words};
use crate::event::{IcmpKind, TcpFlags};
use crate::flow::record::Direction;
use crate::flow::{Flow, nat};
use crate::inventory::{Inventory, NamespaceKind};

/// Name space of the uuids of flows.
const FLOWS: Uuid = Uuid::from_u128(0x6e65_7464_6961_6750_8000_666c_6f77_7331);

pub fn verdict(case: &Case<'_>, mut finding: Finding, revision: u32) -> Verdict {
    let flow = case.flow;
    let fatal = finding.drop.and_then(|index| flow.drops.get(index));
    let is_reply = fatal.map_or(finding.outcome == Outcome::ReplyLost, |group| {
        group.direction == Direction::Reply
    });
    if let Some(group) = fatal {
        finding.evidence.insert(0, words::drop_evidence(group));
    }
    if let (Some(group), Some(remediation)) = (fatal, &mut finding.remediation) {
        let died_in = group
            .spot
            .netns
            .and_then(|netns| case.inventory.namespace(netns));
        if let Some(pod) = died_in.filter(|namespace| namespace.kind == NamespaceKind::Pod) {
            let name = pod.name.as_deref().unwrap_or("the pod");
            let place = format!(" (inside {name}, not on the node)");
            remediation.summary.push_str(&place);
            let unplaced = remediation.commands.iter_mut().filter(|_| !finding.placed);
            unplaced.for_each(|command| *command = inside(Some(pod), command));
        }
    }
    finding.evidence.extend(words::sightings(case, &finding));
    finding.caveats.extend(words::blind_spots(case));
    finding.caveats.extend(words::redirection(case));
    let path = hops::of(case, &finding);
    Verdict {
        uuid: uuid(case.inventory, flow),
        revision,
        at: case.now,
        outcome: finding.outcome,
        confidence: finding.confidence,
        cause: finding.cause,
        drop_reason: fatal.and_then(|group| group.drop.reason.clone()),
        direction: direction(case),
        is_reply,
        tuple: flow.tuple,
        tcp_flags: (flow.is_tcp() && flow.tcp.syn.is_some()).then_some(TcpFlags(TcpFlags::SYN)),
        icmp: icmp(case),
        source: ends::source(case),
        destination: ends::destination(case),
        key: FlowKey {
            isn: flow.tcp.initial_seq,
            first_seen: flow.first,
            last_seen: flow.last,
            syn_count: flow.syn_count(),
        },
        died_between: if finding.outcome.is_failing() {
            hops::died_between(&path)
        } else {
            None
        },
        hops: path,
        nat: flow.nat.clone(),
        conntrack: flow.conntrack.as_ref().map(nat::state),
        evidence: finding.evidence,
        suspects: finding.suspects,
        caveats: finding.caveats,
        lost_events: case.lost,
        remediation: finding.remediation,
        history: words::history(case),
    }
}

/// Of the first packet in the initiator's direction.
fn icmp(case: &Case<'_>) -> Option<IcmpKind> {
    let packets = case
        .flow
        .history
        .iter()
        .filter_map(|event| event.packet.as_ref());
    packets
        .filter(|packet| packet.tuple.src.ip() == case.flow.tuple.src.ip())
        .find_map(|packet| packet.icmp)
}

/// The same flow has the same uuid in every replay of its recording.
pub fn uuid(inventory: &Inventory, flow: &Flow) -> String {
    let node = inventory.node.as_ref();
    let name = format!(
        "{}|{}|{}|{}",
        node.map_or("", |node| node.name.as_str()),
        node.map_or(0, |node| node.wall_offset),
        flow.tuple,
        flow.id.0,
    );
    Uuid::new_v5(&FLOWS, name.as_bytes()).to_string()
}

fn direction(case: &Case<'_>) -> Option<TrafficDirection> {
    case.inventory.node.as_ref()?;
    Some(if case.initiator().is_some() {
        TrafficDirection::Egress
    } else {
        TrafficDirection::Ingress
    })
}
