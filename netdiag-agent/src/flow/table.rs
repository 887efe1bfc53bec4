//! Finds the flow of a packet.
//!
//! In this order of trust: the conntrack entry the packet carries, the tuples seen so far, the tuple inside an ICMP error,
//! the TCP initial sequence number. Every tuple a flow is seen with is remembered with its direction, so that a packet
//! without conntrack (before PREROUTING, in another namespace, freed late) still finds its flow.

use std::collections::{BTreeMap, HashMap};

use super::record::{Direction, Flow, FlowId};
use crate::event::{Conntrack, Ktime, Packet, Proto, Tuple};

/// A flow and the direction of the packet asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub id: FlowId,
    pub direction: Direction,
    /// Only the ISN told: the kernel knows of no translation between the two tuples.
    pub by_isn: bool,
}

#[derive(Debug, Default)]
struct Names {
    tuples: Vec<Tuple>,
    isns: Vec<u32>,
}

/// All flows of a trace; bounded: the oldest flow makes room.
#[derive(Debug)]
pub struct FlowTable {
    flows: BTreeMap<FlowId, Flow>,
    tuples: HashMap<Tuple, (FlowId, Direction)>,
    isns: HashMap<u32, FlowId>,
    /// What `tuples` and `isns` hold of each flow, to forget it without a walk through them.
    names: HashMap<FlowId, Names>,
    next: u64,
    limit: usize,
    /// Flows that had to make room.
    pub evicted: u64,
}

impl FlowTable {
    pub fn new(limit: usize) -> Self {
        Self {
            flows: BTreeMap::new(),
            tuples: HashMap::new(),
            isns: HashMap::new(),
            names: HashMap::new(),
            next: 1,
            limit,
            evicted: 0,
        }
    }

    pub fn get(&self, id: FlowId) -> Option<&Flow> {
        self.flows.get(&id)
    }

    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Flow> {
        self.flows.get_mut(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    /// Looks up the flow of a packet; learns nothing.
    pub fn find(&self, packet: &Packet, conntrack: Option<&Conntrack>) -> Option<Found> {
        let by_tuple = |tuple: &Tuple| {
            self.tuples.get(tuple).map(|&(id, direction)| Found {
                id,
                direction,
                by_isn: false,
            })
        };
        if let Some(inner) = &packet.inner {
            // An error travels against the packet it is about.
            return by_tuple(inner).map(|found| Found {
                direction: found.direction.flipped(),
                ..found
            });
        }
        if let Some(ct) = conntrack
            && let Some(found) = by_tuple(&ct.orig).or_else(|| by_tuple(&ct.answer.reversed()))
        {
            let direction = if ct.reply {
                found.direction.flipped()
            } else {
                found.direction
            };
            return Some(Found { direction, ..found });
        }
        let found = by_tuple(&packet.tuple).or_else(|| self.by_isn(packet))?;
        // From an address to itself, request and answer have one tuple.
        let direction = if packet.is_echo_reply() && packet.tuple.src.ip() == packet.tuple.dst.ip()
        {
            Direction::Reply
        } else {
            found.direction
        };
        Some(Found { direction, ..found })
    }

    /// The one flow that a fragment without ports can be a part of; `None` where several can be meant.
    pub fn of_fragment(&self, packet: &Packet) -> Option<Found> {
        let found = self.flows.values().filter_map(|flow| {
            let ends = (flow.tuple.src.ip(), flow.tuple.dst.ip());
            let direction = match (packet.tuple.src.ip(), packet.tuple.dst.ip()) {
                travels if travels == ends => Direction::Original,
                (src, dst) if (dst, src) == ends => Direction::Reply,
                _ => return None,
            };
            (flow.tuple.proto == packet.tuple.proto).then_some(Found {
                id: flow.id,
                direction,
                by_isn: false,
            })
        });
        let mut found = found.take(2);
        found.next().filter(|_| found.next().is_none())
    }

    fn by_isn(&self, packet: &Packet) -> Option<Found> {
        let tcp = packet.tcp?;
        let (isn, direction) = if tcp.flags.is_syn() {
            (tcp.seq, Direction::Original)
        } else if tcp.flags.is_syn_ack() {
            (tcp.ack.wrapping_sub(1), Direction::Reply)
        } else {
            return None;
        };
        self.isns.get(&isn).map(|&id| Found {
            id,
            direction,
            by_isn: true,
        })
    }

    /// Opens a flow for a packet that belongs to none. Returns it and the flow that had to make room.
    pub fn open(
        &mut self,
        packet: &Packet,
        conntrack: Option<&Conntrack>,
        at: Ktime,
    ) -> (Found, Option<Flow>) {
        let evicted = if self.flows.len() >= self.limit {
            self.evict()
        } else {
            None
        };
        let id = FlowId(self.next);
        self.next += 1;
        let (tuple, direction) = orientation(packet, conntrack);
        self.flows.insert(id, Flow::new(id, tuple, at));
        (
            Found {
                id,
                direction,
                by_isn: false,
            },
            evicted,
        )
    }

    fn evict(&mut self) -> Option<Flow> {
        let oldest = *self.flows.keys().next()?;
        self.evicted += 1;
        self.remove(oldest)
    }

    /// Forgets a flow and every tuple it was known by.
    pub fn remove(&mut self, id: FlowId) -> Option<Flow> {
        if let Some(names) = self.names.remove(&id) {
            for tuple in names.tuples {
                self.tuples.remove(&tuple);
            }
            for isn in names.isns {
                self.isns.remove(&isn);
            }
        }
        self.flows.remove(&id)
    }

    /// Remembers the tuples under which a packet of this flow travels.
    pub fn learn(&mut self, found: Found, packet: &Packet, conntrack: Option<&Conntrack>) {
        if packet.inner.is_none() {
            self.name(packet.tuple, found.id, found.direction);
            if let Some(tcp) = packet.tcp
                && tcp.flags.is_syn()
                && self.isns.insert(tcp.seq, found.id).is_none()
            {
                self.names.entry(found.id).or_default().isns.push(tcp.seq);
            }
        }
        if let Some(ct) = conntrack.filter(|ct| !ct.related) {
            let original = if ct.reply {
                found.direction.flipped()
            } else {
                found.direction
            };
            self.name(ct.orig, found.id, original);
            self.name(ct.answer, found.id, original.flipped());
        }
    }

    fn name(&mut self, tuple: Tuple, id: FlowId, direction: Direction) {
        for (tuple, direction) in [(tuple, direction), (tuple.reversed(), direction.flipped())] {
            self.tuples.entry(tuple).or_insert_with(|| {
                self.names.entry(id).or_default().tuples.push(tuple);
                (id, direction)
            });
        }
    }
}

/// The tuple as the initiator sends it, and the direction of this packet.
fn orientation(packet: &Packet, conntrack: Option<&Conntrack>) -> (Tuple, Direction) {
    if let Some(inner) = packet.inner {
        return (inner, Direction::Reply);
    }
    if let Some(ct) = conntrack {
        return (
            ct.orig,
            if ct.reply {
                Direction::Reply
            } else {
                Direction::Original
            },
        );
    }
    // ICMP echo reply, SYN-ACK, and an answer from a well-known port: the other end began.
    let answer = match packet.tuple.proto {
        Proto::TCP => packet.tcp.is_some_and(|tcp| {
            tcp.flags.is_syn_ack() || (!tcp.flags.is_syn() && from_service(&packet.tuple))
        }),
        proto if proto.is_icmp() => packet.is_echo_reply(),
        _ => packet.tuple.src.port() == 53 && packet.tuple.dst.port() != 53,
    };
    if answer {
        (packet.tuple.reversed(), Direction::Reply)
    } else {
        (packet.tuple, Direction::Original)
    }
}

/// A connection that began before the trace: the lower port is the likelier service.
fn from_service(tuple: &Tuple) -> bool {
    tuple.src.port() < 1024 && tuple.dst.port() >= 1024
}
