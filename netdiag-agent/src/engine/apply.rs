//! One event, in order of time, becomes part of its flow.

use std::net::IpAddr;

use super::{Engine, MAX_NEIGHBOURS};
use crate::event::{Conntrack, Detail, Event, HookId, Ktime, Netns, Packet, Proto, Span};
use crate::flow::drops::{self, DropKind};
use crate::flow::place::{self, Spot, Stage};
use crate::flow::record::{DropGroup, IcmpError, Reset, Ruling, Segment};
use crate::flow::table::Found;
use crate::flow::{Direction, Flow, FlowId, nat};
use crate::inventory::{NamespaceKind, Role};
use crate::verdict::{Neighbour, Verdict};

/// Within this time a packet and its next lookup belong to one run of the stack.
const SAME_BREATH: Span = Span::millis(5);

/// A DNS header: id, flags, four counts (RFC 1035 §4.1.1).
const DNS_HEADER: usize = 12;

impl Engine {
    pub(super) fn apply(&mut self, event: &Event, verdicts: &mut Vec<Verdict>) {
        if let Detail::Neighbour { address, state } = event.detail {
            self.neighbour(event, address, state);
            return;
        }
        let Some((packet, netns)) = self.completed(event) else {
            return;
        };
        let corrected;
        let event = if netns == event.place.netns {
            event
        } else {
            corrected = Self::moved(event, netns);
            &corrected
        };
        let older = self.older_connection(event, &packet);
        let carried = event.conntrack.or(older);
        let Some(found) = self.find(event, &packet, carried.as_ref(), verdicts) else {
            return;
        };
        if !packet.fragment {
            self.flows.learn(found, &packet, carried.as_ref());
        }
        let entry = self.entry(event);
        let spot = self.spot(event, &packet);
        let local = self.starts_on_node(found.id);
        let Some(flow) = self.flows.get_mut(found.id) else {
            return;
        };
        flow.first = flow.first.min(event.at);
        flow.last = flow.last.max(event.at);
        flow.remember(event);
        // What the table held when it was read is older than what any packet carried since.
        let older = older.filter(|_| flow.conntrack.is_none());
        if let Some((entry, inside)) = entry.or(older.map(|entry| (entry, false))) {
            note_conntrack(flow, entry, local || inside, event.at);
        }
        note(flow, event, &packet, found, spot);
        // A tunnel whose packets we can read needs no guess.
        if packet.outer.is_none()
            && let (Detail::Seen(pass), Some(spot)) = (&event.detail, spot)
        {
            self.join_tunnel(event, &packet, found, spot, *pass);
        }
        self.reopen(found.id, event.at);
    }

    /// The connection of a packet that carries none, when it began before the trace.
    fn older_connection(&mut self, event: &Event, packet: &Packet) -> Option<Conntrack> {
        if packet.tcp.is_some_and(|tcp| tcp.flags.is_syn()) {
            // A SYN that was lost to a clash has another connection's tuple.
            if event.conntrack.is_none() && matches!(event.detail, Detail::Seen(_)) {
                self.inventory.forget_connection(&packet.tuple);
            }
            return None;
        }
        if event.conntrack.is_some() || packet.inner.is_some() {
            return None;
        }
        self.inventory.connection(&packet.tuple)
    }

    fn neighbour(&mut self, event: &Event, address: IpAddr, state: crate::event::NudState) {
        let Some(netns) = event.place.netns else {
            return;
        };
        let known = self.neighbours.contains_key(&(netns, address));
        if known || self.neighbours.len() < MAX_NEIGHBOURS {
            self.neighbours.insert(
                (netns, address),
                Neighbour {
                    state,
                    at: event.at,
                },
            );
        }
    }

    /// The packet of an event, and the namespace it happened in. A routing failure before there is a packet has no source
    /// yet: it is the namespace's own address.
    fn completed(&self, event: &Event) -> Option<(Packet, Option<Netns>)> {
        let mut packet = event.packet.clone()?;
        let Detail::FibError(_) = event.detail else {
            return Some((packet, event.place.netns));
        };
        // A failed IPv4 lookup for a packet on its way does not tell its namespace; that packet's drop will.
        let netns = event.place.netns?;
        // The softirq of another namespace borrows the caller's: a namespace always knows its own addresses.
        let to_itself = self.inventory.owner_of(packet.tuple.dst.ip());
        if to_itself.is_some_and(|owner| owner.netns == netns) {
            return self.answer_lookup(packet);
        }
        let mut own = self
            .inventory
            .links()
            .filter(|link| link.netns == netns && link.role != Role::Loopback)
            .flat_map(|link| link.addresses.iter().copied());
        let source = packet.tuple.src.ip();
        if source.is_unspecified() {
            let same_family = |address: &IpAddr| address.is_ipv4() == source.is_ipv4();
            packet.tuple.src.set_ip(own.find(same_family)?);
        } else if !own.any(|address| address == source) {
            // A reset or error the stack makes in softirq, in whatever process's time: not that process's packet.
            return self.answer_lookup(packet);
        }
        // What has just left here found its way: somebody else, at the other end of a veth, looked for the next.
        let found = self.flows.find(&packet, None);
        let left_just_now = found
            .and_then(|found| Some((self.flows.get(found.id)?, found.direction)))
            .is_some_and(|(flow, direction)| {
                let mut seen = flow.of(direction);
                seen.any(|sighting| event.at.since(sighting.last) < SAME_BREATH)
            });
        (!left_just_now).then_some((packet, Some(netns)))
    }

    /// A lookup for an answer of somebody else on this node, made while the asker's process was current: the address it
    /// would be sent from says whose it is.
    fn answer_lookup(&self, packet: Packet) -> Option<(Packet, Option<Netns>)> {
        let owner = self.inventory.owner_of(packet.tuple.src.ip())?.netns;
        let with_ports = packet.tuple.proto == Proto::TCP && packet.tuple.dst.port() != 0;
        with_ports.then_some((packet, Some(owner)))
    }

    fn moved(event: &Event, netns: Option<Netns>) -> Event {
        let mut event = event.clone();
        event.place.netns = netns;
        (event.place.ifindex, event.place.ifname) = (None, None);
        event
    }

    /// The event's conntrack entry where it is the node's: a pod may track connections as well, without our NAT. What a
    /// pod translates for itself goes over its loopback; true: so did this.
    fn entry(&self, event: &Event) -> Option<(Conntrack, bool)> {
        let node = self.inventory.node_netns();
        let entry = event.conntrack.filter(|ct| !ct.related)?;
        if node.is_none() || event.place.netns == node {
            return Some((entry, false));
        }
        let link = self
            .inventory
            .link(event.place.netns?, event.place.ifindex?)?;
        (link.role == Role::Loopback).then_some((entry, true))
    }

    fn find(
        &mut self,
        event: &Event,
        packet: &Packet,
        conntrack: Option<&Conntrack>,
        verdicts: &mut Vec<Verdict>,
    ) -> Option<Found> {
        if packet.fragment && matches!(event.detail, Detail::Dropped(_)) {
            return self.flows.of_fragment(packet);
        }
        let found = self.flows.find(packet, conntrack);
        if let Some(found) = found
            && !self.is_new_connection(found, packet)
        {
            return Some(found);
        }
        if let Some(old) = found {
            self.retire(old.id, event.at, verdicts);
        } else if !opens_flow(event, packet) {
            return None;
        }
        let (found, evicted) = self.flows.open(packet, conntrack, event.at);
        if let Some(evicted) = evicted {
            self.open.remove(&evicted.id);
            self.decided.remove(&evicted.id);
            self.bury(evicted);
        }
        Some(found)
    }

    /// A SYN with another sequence number on a tuple we know: the port is used again.
    fn is_new_connection(&self, found: Found, packet: &Packet) -> bool {
        let syn = packet.tcp.filter(|tcp| tcp.flags.is_syn());
        let known = self
            .flows
            .get(found.id)
            .and_then(|flow| flow.tcp.initial_seq);
        match (syn, known) {
            (Some(syn), Some(known)) => {
                syn.seq != known && found.direction == Direction::Original && !found.by_isn
            }
            _ => false,
        }
    }

    fn starts_on_node(&self, id: FlowId) -> bool {
        let Some(flow) = self.flows.get(id) else {
            return false;
        };
        let owner = self.inventory.owner_of(flow.tuple.src.ip());
        owner.is_some_and(|namespace| namespace.kind == NamespaceKind::Node)
    }

    pub(super) fn spot(&self, event: &Event, packet: &Packet) -> Option<Spot> {
        match &event.detail {
            Detail::Seen(pass) | Detail::Dns { pass, .. } => {
                place::of_pass(&self.inventory, &event.place, *pass)
            }
            Detail::Dropped(drop) => {
                let kind = drops::kind(drop, packet);
                Some(place::of_stage(
                    &self.inventory,
                    event,
                    drops::stage(event, drop, kind),
                ))
            }
            Detail::FibError(_) => Some(place::of_stage(&self.inventory, event, Stage::Fib)),
            Detail::UdpQueueFull(_) | Detail::BadChecksum => {
                Some(place::of_stage(&self.inventory, event, Stage::Socket))
            }
            _ => None,
        }
    }
}

/// What may begin a flow. Late news of a connection we never saw, and errors about it, may not.
fn opens_flow(event: &Event, packet: &Packet) -> bool {
    let ours = match &event.detail {
        Detail::Seen(_) | Detail::Dns { .. } => true,
        Detail::Dropped(drop) => !drops::kind(drop, packet).is_usual(),
        Detail::FibError(_) => is_lookup_of_sender(packet),
        _ => false,
    };
    let error = packet.inner.is_some() || (packet.tuple.proto.is_icmp() && !is_echo(packet));
    let reset = packet.tcp.is_some_and(|tcp| tcp.flags.is_rst());
    ours && !error && !reset && !packet.fragment
}

/// A lookup made to send something, not one for a packet on its way (which knows no ports and has its own drop). glibc
/// sorts addresses by connecting UDP sockets to each of them: a failure there means nothing.
fn is_lookup_of_sender(packet: &Packet) -> bool {
    let (proto, port) = (packet.tuple.proto, packet.tuple.dst.port());
    if proto.is_icmp() {
        // A lookup has type and code where ports stand (`struct flowi_uli`). Answers and errors the kernel makes itself, in
        // the time of whatever process is current: IPv4 does not tell for which namespace.
        return matches!((proto, port >> 8), (Proto::ICMP, 8) | (Proto::ICMPV6, 128));
    }
    proto == Proto::TCP && port != 0
}

fn is_echo(packet: &Packet) -> bool {
    packet.icmp.is_none_or(|icmp| match packet.tuple.proto {
        Proto::ICMP => matches!(icmp.kind, 0 | 8),
        _ => matches!(icmp.kind, 128 | 129),
    })
}

/// Keeps the entry that says most: a confirmed one over a fresh one, a translated one over a plain one.
fn note_conntrack(flow: &mut Flow, entry: Conntrack, local: bool, at: Ktime) {
    let about_us = entry.orig == flow.tuple;
    if !about_us && flow.conntrack.is_some() {
        return;
    }
    if about_us {
        let found = nat::translations(&entry, local);
        let living = flow.tcp.established.is_some() && flow.tcp.closing.is_none();
        if living && found.len() == flow.nat.len() && found != flow.nat {
            flow.translated_anew.get_or_insert(at);
        }
        if found.len() >= flow.nat.len() {
            flow.nat = found;
        }
    }
    flow.conntrack = Some(entry);
}

fn note(flow: &mut Flow, event: &Event, packet: &Packet, found: Found, spot: Option<Spot>) {
    let at = event.at;
    let hook = event.hook.unwrap_or(HookId::KfreeSkb);
    match &event.detail {
        Detail::Seen(_) | Detail::Dns { .. } => {
            if let Some(spot) = spot {
                passed(flow, event, hook, packet, found, spot);
            }
            if let Detail::Dns { message, .. } = &event.detail {
                dns(flow, at, message);
            }
        }
        Detail::Dropped(drop) => {
            let Some(spot) = spot else { return };
            if packet.inner.is_some() {
                if matches!(drops::kind(drop, packet), DropKind::Netfilter(_)) {
                    let about = found.direction.flipped();
                    flow.errors_dropped.insert(about, spot);
                }
                return;
            }
            flow.dropped(DropGroup {
                direction: found.direction,
                spot,
                ifname: event.place.ifname.clone(),
                iif: event.place.iif,
                kind: drops::kind(drop, packet),
                drop: drop.clone(),
                packet: Some(packet.clone()),
                conntrack: event.conntrack,
                hook,
                count: 1,
                segments: Vec::from_iter(packet.tcp.map(|tcp| Segment {
                    seq: tcp.seq,
                    times: 1,
                    first: at,
                })),
                first: at,
                last: at,
            });
            note_syn(flow, at, found, packet);
        }
        Detail::IcmpSent(kind) => flow.icmp_error(IcmpError {
            kind: *kind,
            from: None,
            about: found.direction,
            spot: None,
            netns: event.place.netns,
            count: 1,
            first: at,
            last: at,
        }),
        Detail::ResetSent => flow.reset(Reset {
            direction: found.direction.flipped(),
            spot: None,
            netns: event.place.netns,
            ttl: None,
            count: 1,
            first: at,
        }),
        Detail::Retransmitted => flow.tcp.resends(),
        Detail::TcpState { old, new } => flow.tcp.state(at, found.direction, *old, *new),
        Detail::BadChecksum => flow.bad_checksums += 1,
        Detail::FibError(errno) => fib_error(flow, event, found, spot, *errno),
        Detail::UdpQueueFull(_) => flow.queue_full += 1,
        Detail::Ruled(rule) => flow.ruled(Ruling {
            direction: found.direction,
            netns: event.place.netns,
            rule: rule.clone(),
            count: 1,
            first: at,
            last: at,
        }),
        Detail::ResetReceived
        | Detail::SocketError(_)
        | Detail::Refused(_)
        | Detail::Neighbour { .. }
        | Detail::Unknown => {}
    }
}

fn note_syn(flow: &mut Flow, at: Ktime, found: Found, packet: &Packet) {
    if let Some(tcp) = packet.tcp {
        flow.tcp.packet(at, found.direction, tcp);
    }
}

fn passed(flow: &mut Flow, event: &Event, hook: HookId, packet: &Packet, found: Found, spot: Spot) {
    let at = event.at;
    if let Some(icmp) = packet.icmp
        && packet.inner.is_some()
    {
        flow.icmp_error(IcmpError {
            kind: icmp,
            from: Some(packet.tuple.src.ip()),
            about: found.direction.flipped(),
            spot: Some(spot),
            netns: event.place.netns,
            count: 1,
            first: at,
            last: at,
        });
        return;
    }
    if let Some(tcp) = packet.tcp {
        flow.tcp.packet(at, found.direction, tcp);
        if tcp.flags.is_rst() {
            flow.reset(Reset {
                direction: found.direction,
                spot: Some(spot),
                netns: event.place.netns,
                ttl: Some(packet.ttl),
                count: 1,
                first: at,
            });
            return;
        }
    }
    if found.by_isn && flow.nat.is_empty() && found.direction == Direction::Original {
        flow.nat = nat::between(&flow.tuple, &packet.tuple, false, "isn");
    }
    flow.saw(
        at,
        hook,
        found.direction,
        spot,
        event.place.ifname.as_ref(),
        packet,
    );
}

/// A failed lookup is the loss of a packet that never came to be.
fn fib_error(flow: &mut Flow, event: &Event, found: Found, spot: Option<Spot>, errno: u32) {
    let Some(spot) = spot else { return };
    let kind = match errno {
        22 => DropKind::Blackhole,
        13 => DropKind::Prohibit,
        _ => DropKind::NoRoute,
    };
    flow.dropped(DropGroup {
        direction: found.direction,
        spot,
        ifname: None,
        iif: None,
        kind,
        drop: crate::event::Drop {
            reason: None,
            location: None,
            stack: Vec::new(),
            route: None,
            refusal: None,
        },
        packet: None,
        conntrack: None,
        hook: event.hook.unwrap_or(HookId::FibTableLookup),
        count: 1,
        segments: Vec::new(),
        first: event.at,
        last: event.at,
    });
}

fn dns(flow: &mut Flow, at: Ktime, message: &[u8]) {
    let Some(header) = message.first_chunk::<DNS_HEADER>() else {
        return;
    };
    let id = u16::from_be_bytes([header[0], header[1]]);
    let (response, rcode) = (header[2] & 0x80 != 0, header[3] & 0x0f);
    if response {
        flow.answered(id, at, rcode);
    } else {
        flow.asked(id, at);
    }
}
