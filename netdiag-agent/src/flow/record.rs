//! What was seen of one flow: grouped, counted, bounded.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::drops::DropKind;
use super::place::{Leg, Spot, Stage};
use super::tcp::Progress;
use crate::event::{
    Conntrack, Drop, Event, HookId, IcmpKind, IfIndex, Ktime, Netns, Packet, Proto, Ruled, Tuple,
};
use crate::verdict::types::{HopName, Nat};

/// Groups kept of each kind; a flow that has more is counted, not grown.
const MAX_GROUPS: usize = 48;
/// Events kept word for word for `-v`.
const MAX_HISTORY: usize = 200;
/// DNS queries kept per flow.
const MAX_QUERIES: usize = 32;

/// Identity of a flow within one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the initiator.
    Original,
    Reply,
}

impl Direction {
    #[must_use]
    pub const fn flipped(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// Packets of one direction at one spot.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub direction: Direction,
    pub spot: Spot,
    pub ifname: Option<Arc<str>>,
    pub first: Ktime,
    pub last: Ktime,
    /// Packets by hook: several hooks may watch one spot, and each counts every packet.
    counts: BTreeMap<HookId, Count>,
    /// Headers of the first packet here.
    pub tuple: Tuple,
    /// Lowest and highest TTL seen: a packet that comes round again has a lower one.
    pub ttl: (u8, u8),
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    packets: u64,
    syns: u32,
}

impl Sighting {
    pub fn packets(&self) -> u64 {
        self.counts
            .values()
            .map(|count| count.packets)
            .max()
            .unwrap_or(0)
    }

    fn syns(&self) -> u32 {
        self.counts
            .values()
            .map(|count| count.syns)
            .max()
            .unwrap_or(0)
    }

    /// An answer here is with the initiator: behind its veth, or at the uplink it is reached by.
    pub fn is_with_initiator(&self, initiator_is_pod: bool) -> bool {
        match self.spot.leg {
            Leg::Source => false,
            Leg::Node if initiator_is_pod => {
                self.spot.hop == HopName::PodVeth && self.spot.stage == Stage::Transmit
            }
            Leg::Node | Leg::Destination => true,
        }
    }

    pub fn hooks(&self) -> impl Iterator<Item = HookId> {
        self.counts.keys().copied()
    }
}

/// Equal drops: same direction, spot, reason and place in the kernel.
#[derive(Clone, Debug)]
pub struct DropGroup {
    pub direction: Direction,
    pub spot: Spot,
    pub ifname: Option<Arc<str>>,
    /// Interface by which it had entered the namespace.
    pub iif: Option<IfIndex>,
    pub kind: DropKind,
    pub drop: Drop,
    /// `None` for a routing failure before there was a packet.
    pub packet: Option<Packet>,
    pub conntrack: Option<Conntrack>,
    pub hook: HookId,
    pub count: u64,
    /// TCP segments dropped last, each once.
    pub segments: Vec<Segment>,
    pub first: Ktime,
    pub last: Ktime,
}

impl DropGroup {
    fn note_segment(&mut self, new: Segment) {
        let mut known = self.segments.iter_mut();
        if let Some(old) = known.find(|old| old.seq == new.seq) {
            old.times += new.times;
            return;
        }
        if self.segments.len() == MAX_SEGMENTS {
            self.segments.remove(0);
        }
        self.segments.push(new);
    }
}

/// Segments of a group that are told apart: more than a sender has on its way after the first losses.
const MAX_SEGMENTS: usize = 16;

/// A TCP segment, which may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub seq: u32,
    pub times: u64,
    pub first: Ktime,
}

/// An ICMP error about this flow.
#[derive(Clone, Debug)]
pub struct IcmpError {
    pub kind: IcmpKind,
    /// Who sent it; `None` when this node did and the packet itself was not seen.
    pub from: Option<IpAddr>,
    /// Direction of the packet it complains about.
    pub about: Direction,
    /// Where it was first seen; `None` for one this node was seen to generate.
    pub spot: Option<Spot>,
    pub netns: Option<Netns>,
    pub count: u64,
    pub first: Ktime,
    pub last: Ktime,
}

/// A TCP reset of this flow.
#[derive(Clone, Debug)]
pub struct Reset {
    /// Direction the RST travels in.
    pub direction: Direction,
    /// Where it was first seen; `None` for one a socket of this node was seen to send.
    pub spot: Option<Spot>,
    pub netns: Option<Netns>,
    pub ttl: Option<u8>,
    pub count: u64,
    pub first: Ktime,
}

/// The kernel's own word on what dropped packets of this flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub direction: Direction,
    pub netns: Option<Netns>,
    pub rule: Ruled,
    pub count: u64,
    /// Of the news; the drop was a moment earlier.
    pub first: Ktime,
    pub last: Ktime,
}

/// One DNS question and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    pub asked: Ktime,
    /// Time and RCODE of the answer.
    pub answered: Option<(Ktime, u8)>,
}

/// All that is known of one conversation.
#[derive(Clone, Debug)]
pub struct Flow {
    pub id: FlowId,
    /// As the initiator sent it.
    pub tuple: Tuple,
    pub first: Ktime,
    pub last: Ktime,
    pub sightings: Vec<Sighting>,
    pub drops: Vec<DropGroup>,
    pub errors: Vec<IcmpError>,
    /// Where a netfilter hook of this machine last dropped an ICMP error about a packet of each direction.
    pub errors_dropped: BTreeMap<Direction, Spot>,
    pub resets: Vec<Reset>,
    pub rulings: Vec<Ruling>,
    pub tcp: Progress,
    /// The entry of the node's table, as last seen.
    pub conntrack: Option<Conntrack>,
    pub nat: Vec<Nat>,
    /// When the established connection was first seen with another translation than before.
    pub translated_anew: Option<Ktime>,
    pub queries: Vec<Query>,
    /// Datagrams a socket's receive queue refused.
    pub queue_full: u64,
    pub bad_checksums: u64,
    /// Packets whose group did not fit.
    pub overflow: u64,
    pub history: Vec<Event>,
    pub history_overflow: u64,
}

impl Flow {
    pub fn new(id: FlowId, tuple: Tuple, at: Ktime) -> Self {
        Self {
            id,
            tuple,
            first: at,
            last: at,
            sightings: Vec::new(),
            drops: Vec::new(),
            errors: Vec::new(),
            errors_dropped: BTreeMap::new(),
            resets: Vec::new(),
            rulings: Vec::new(),
            tcp: Progress::default(),
            conntrack: None,
            nat: Vec::new(),
            translated_anew: None,
            queries: Vec::new(),
            queue_full: 0,
            bad_checksums: 0,
            overflow: 0,
            history: Vec::new(),
            history_overflow: 0,
        }
    }

    pub fn is_tcp(&self) -> bool {
        self.tuple.proto == Proto::TCP
    }

    /// SYNs sent by the initiator, counted where most of them were seen.
    pub fn syn_count(&self) -> u32 {
        let seen = self
            .of(Direction::Original)
            .map(Sighting::syns)
            .max()
            .unwrap_or(0);
        let dropped: u64 = self
            .drops
            .iter()
            .filter(|group| {
                group.direction == Direction::Original && group.packet.as_ref().is_some_and(is_syn)
            })
            .map(|group| group.count)
            .max()
            .unwrap_or(0);
        seen.max(dropped as u32)
    }

    pub fn of(&self, direction: Direction) -> impl Iterator<Item = &Sighting> {
        self.sightings
            .iter()
            .filter(move |sighting| sighting.direction == direction)
    }

    /// A packet of this direction was at a later spot than `spot` after `at`.
    pub fn advanced(&self, direction: Direction, spot: &Spot, at: Ktime) -> bool {
        self.of(direction)
            .any(|sighting| sighting.last > at && sighting.spot.beyond(spot))
    }

    /// Something other than an error came back from the responder: where it got to.
    pub fn answer(&self) -> impl Iterator<Item = &Sighting> {
        self.of(Direction::Reply)
    }

    pub fn remember(&mut self, event: &Event) {
        if self.history.len() < MAX_HISTORY {
            self.history.push(event.clone());
        } else {
            self.history_overflow += 1;
        }
    }

    pub fn saw(
        &mut self,
        at: Ktime,
        hook: HookId,
        direction: Direction,
        spot: Spot,
        ifname: Option<&Arc<str>>,
        packet: &Packet,
    ) {
        let same = |s: &Sighting| s.direction == direction && s.spot == spot;
        let index = match self.sightings.iter().position(same) {
            Some(index) => index,
            None if self.sightings.len() < MAX_GROUPS => {
                self.sightings.push(Sighting {
                    direction,
                    spot,
                    ifname: ifname.cloned(),
                    first: at,
                    last: at,
                    counts: BTreeMap::new(),
                    tuple: packet.outer.unwrap_or(packet.tuple),
                    ttl: (packet.ttl, packet.ttl),
                });
                self.sightings.len() - 1
            }
            None => {
                self.overflow += 1;
                return;
            }
        };
        let sighting = &mut self.sightings[index];
        sighting.last = sighting.last.max(at);
        sighting.ttl = (
            sighting.ttl.0.min(packet.ttl),
            sighting.ttl.1.max(packet.ttl),
        );
        let count = sighting.counts.entry(hook).or_default();
        count.packets += 1;
        count.syns += u32::from(is_syn(packet));
    }

    pub fn dropped(&mut self, new: DropGroup) {
        let same = |g: &DropGroup| {
            g.direction == new.direction
                && g.spot == new.spot
                && g.kind == new.kind
                && g.drop.reason == new.drop.reason
                && g.drop.location == new.drop.location
        };
        if let Some(group) = self.drops.iter_mut().find(|group| same(group)) {
            group.count += new.count;
            for segment in new.segments {
                group.note_segment(segment);
            }
            group.last = group.last.max(new.last);
        } else if self.drops.len() < MAX_GROUPS {
            self.drops.push(new);
        } else {
            self.overflow += 1;
        }
    }

    pub fn icmp_error(&mut self, new: IcmpError) {
        let same = |e: &IcmpError| {
            e.kind == new.kind && e.about == new.about && (e.from.is_none() == new.from.is_none())
        };
        if let Some(error) = self.errors.iter_mut().find(|error| same(error)) {
            error.count += 1;
            error.last = new.last;
        } else if self.errors.len() < MAX_GROUPS {
            self.errors.push(new);
        } else {
            self.overflow += 1;
        }
    }

    pub fn reset(&mut self, new: Reset) {
        let same =
            |r: &Reset| r.direction == new.direction && r.spot == new.spot && r.netns == new.netns;
        if let Some(reset) = self.resets.iter_mut().find(|reset| same(reset)) {
            reset.count += 1;
        } else if self.resets.len() < MAX_GROUPS {
            self.resets.push(new);
        } else {
            self.overflow += 1;
        }
    }

    pub fn ruled(&mut self, new: Ruling) {
        let same =
            |r: &Ruling| r.direction == new.direction && r.netns == new.netns && r.rule == new.rule;
        if let Some(ruling) = self.rulings.iter_mut().find(|ruling| same(ruling)) {
            ruling.count += 1;
            ruling.last = new.last;
        } else if self.rulings.len() < MAX_GROUPS {
            self.rulings.push(new);
        } else {
            self.overflow += 1;
        }
    }

    pub fn asked(&mut self, id: u16, at: Ktime) {
        if self.queries.iter().any(|query| query.id == id) {
            return;
        }
        if self.queries.len() < MAX_QUERIES {
            self.queries.push(Query {
                id,
                asked: at,
                answered: None,
            });
        } else {
            self.overflow += 1;
        }
    }

    pub fn answered(&mut self, id: u16, at: Ktime, rcode: u8) {
        if let Some(query) = self.queries.iter_mut().find(|query| query.id == id) {
            query.answered.get_or_insert((at, rcode));
        }
    }
}

fn is_syn(packet: &Packet) -> bool {
    packet.tcp.is_some_and(|tcp| tcp.flags.is_syn())
}
