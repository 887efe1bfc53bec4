//! The packets of the flows, each with the hop that saw it.

use std::collections::HashMap;

use super::comment;
use crate::engine::Engine;
use crate::event::{Detail, Drop, Event, HookId, Ktime, Netns, Packet, Pass, Span};
use crate::export::words::hop_name;
use crate::flow::drops;
use crate::flow::{DropGroup, Flow, Spot};
use crate::verdict::{Action, HopName, Outcome, Verdict};

/// Two hooks at one spot report a packet within this time, if they mean the same one.
const SAME: Span = Span::millis(1);

/// What the file calls an interface: a hop in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Interface {
    /// `POD_VETH vp1`, `NF_FORWARD drop`.
    pub name: String,
    pub netns: Option<Netns>,
}

/// One packet at one hop.
#[derive(Debug)]
pub(super) struct Shot<'a> {
    pub at: Ktime,
    pub interface: Interface,
    pub pass: Option<Pass>,
    pub bytes: &'a [u8],
    /// On the wire, without the link layer.
    pub len: u32,
    pub comments: Vec<String>,
    hop: Option<HopName>,
    hook: Option<HookId>,
    /// The drop it died of, if it did.
    drop: Option<&'a Drop>,
    packet: &'a Packet,
}

/// The packets that go into a section, in order of time.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    pub shots: Vec<Shot<'a>>,
    pub flows: usize,
    pub left_out: usize,
    /// Events that flows with more of them than are kept did not remember.
    pub forgotten: u64,
}

/// All packets, or of as many flows as fit into `limit` bytes; failing flows first.
pub(super) fn of<'a>(
    engine: &'a Engine,
    verdicts: &HashMap<String, Verdict>,
    limit: usize,
    overhead: usize,
) -> Seen<'a> {
    let mut flows: Vec<(Option<&Verdict>, &Flow)> = engine
        .flows()
        .map(|(uuid, flow)| (verdicts.get(&uuid), flow))
        .collect();
    // Stable: within either kind the older flow comes first.
    flows.sort_by_key(|(verdict, _)| !verdict.is_some_and(|verdict| verdict.outcome.is_failing()));
    let mut seen = Seen::default();
    let mut room = limit;
    for (verdict, flow) in flows {
        let mut shots = of_flow(engine, flow);
        let size: usize = shots.iter().map(|shot| shot.bytes.len() + overhead).sum();
        if shots.is_empty() {
            continue;
        }
        let Some(rest) = room.checked_sub(size) else {
            seen.left_out += shots.len();
            continue;
        };
        room = rest;
        seen.flows += 1;
        seen.forgotten += flow.history_overflow;
        if let Some(verdict) = verdict
            && let Some(decisive) = decisive(verdict, &mut shots)
        {
            decisive.comments.push(comment::verdict(verdict));
        }
        seen.shots.extend(shots);
    }
    seen.shots.sort_by_key(|shot| shot.at);
    seen
}

fn of_flow<'a>(engine: &'a Engine, flow: &'a Flow) -> Vec<Shot<'a>> {
    let mut shots: Vec<Shot<'a>> = Vec::new();
    for event in &flow.history {
        let Some(shot) = of_event(engine, event) else {
            continue;
        };
        match shots
            .iter_mut()
            .rev()
            .find(|earlier| is_same(earlier, &shot))
        {
            Some(earlier) => {
                earlier.comments.extend(shot.comments);
                if shot.bytes.len() > earlier.bytes.len() {
                    earlier.bytes = shot.bytes;
                }
            }
            None => shots.push(shot),
        }
    }
    // A long flow has forgotten its later events, but never its losses.
    let forgotten = |group: &&DropGroup| {
        let remembered =
            |event: &Event| event.at == group.first && matches!(event.detail, Detail::Dropped(_));
        !flow.history.iter().any(remembered)
    };
    shots.extend(flow.drops.iter().filter(forgotten).filter_map(of_group));
    shots
}

/// The sighting of another hook at the same spot. Both see the same bytes, but TC programs see more of a packet whose
/// data lies in pages.
fn is_same(earlier: &Shot<'_>, later: &Shot<'_>) -> bool {
    later.at.since(earlier.at) < SAME
        && earlier.hook != later.hook
        && earlier.interface == later.interface
        && earlier.pass == later.pass
        && earlier.len == later.len
        && (earlier.bytes.starts_with(later.bytes) || later.bytes.starts_with(earlier.bytes))
}

fn of_event<'a>(engine: &'a Engine, event: &'a Event) -> Option<Shot<'a>> {
    let packet = event.packet.as_ref()?;
    let bytes = packet.snap.as_deref()?;
    let spot = engine.spot_of(event);
    let (what, comment, pass, drop) = match &event.detail {
        Detail::Seen(pass) | Detail::Dns { pass, .. } => {
            let name = event.place.ifname.as_deref().unwrap_or("?");
            (name, None, Some(*pass), None)
        }
        Detail::Dropped(drop) => {
            if drops::kind(drop, packet).is_usual() {
                return None;
            }
            ("drop", Some(comment::drop(drop)), None, Some(drop))
        }
        Detail::IcmpSent(kind) => ("answer", Some(comment::icmp(*kind)), None, None),
        Detail::ResetSent => {
            let text = "answered by this node with a RST".to_owned();
            ("answer", Some(text), None, None)
        }
        Detail::BadChecksum => ("drop", Some("wrong checksum".to_owned()), None, None),
        Detail::UdpQueueFull(_) => {
            let text = "refused by the socket's receive queue".to_owned();
            ("drop", Some(text), None, None)
        }
        _ => return None,
    };
    Some(Shot {
        at: event.at,
        interface: Interface {
            name: format!("{} {what}", place(spot, event.hook)),
            netns: event.place.netns,
        },
        pass,
        bytes,
        len: packet.len,
        comments: comment.into_iter().collect(),
        hop: spot.map(|spot| spot.hop),
        hook: event.hook,
        drop,
        packet,
    })
}

fn of_group(group: &DropGroup) -> Option<Shot<'_>> {
    if group.kind.is_usual() {
        return None;
    }
    let packet = group.packet.as_ref()?;
    Some(Shot {
        at: group.first,
        interface: Interface {
            name: format!("{} drop", hop_name(group.spot.hop)),
            netns: group.spot.netns,
        },
        pass: None,
        bytes: packet.snap.as_deref()?,
        len: packet.len,
        comments: vec![comment::drop(&group.drop)],
        hop: Some(group.spot.hop),
        hook: Some(group.hook),
        drop: Some(&group.drop),
        packet,
    })
}

/// The hop's name, or the hook's where no hop is: an answer of this node is an act, not a place.
fn place(spot: Option<Spot>, hook: Option<HookId>) -> String {
    match (spot, hook) {
        (Some(spot), _) => hop_name(spot.hop),
        (None, Some(hook)) => hook.name().to_owned(),
        (None, None) => "?".to_owned(),
    }
}

/// The packet the verdict is about: the one that was lost, the refusal, else the last where the flow was last seen.
fn decisive<'s, 'a>(verdict: &Verdict, shots: &'s mut [Shot<'a>]) -> Option<&'s mut Shot<'a>> {
    let lost = |shot: &Shot<'_>| {
        let at = verdict
            .hops
            .iter()
            .find(|hop| hop.action == Action::Dropped);
        verdict.outcome.is_failing()
            && shot
                .drop
                .is_some_and(|drop| drop.reason == verdict.drop_reason)
            && at.is_some_and(|hop| shot.hop == Some(hop.name))
    };
    let refusal = |shot: &Shot<'_>| {
        let reset = shot.packet.tcp.is_some_and(|tcp| tcp.flags.is_rst());
        let error = shot.packet.inner.is_some();
        verdict.outcome == Outcome::Refused && (reset || error)
    };
    let at_the_end = |shot: &Shot<'_>| {
        let end = verdict.died_between.map(|(end, _)| end);
        end.is_some() && shot.hop == end
    };
    let index = shots
        .iter()
        .position(lost)
        .or_else(|| shots.iter().position(refusal))
        .or_else(|| shots.iter().rposition(at_the_end))
        .or_else(|| shots.len().checked_sub(1))?;
    shots.get_mut(index)
}
