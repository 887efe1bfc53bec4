//! The filter: is this packet part of a flow we watch?
//!
//! A flow is opened by an address and a destination the user asked for; from then on it is followed by its tuples.
//! Whenever a wanted packet carries conntrack, the tuples on both sides of the translation are followed too, so the
//! flow stays in sight after NAT. The TCP initial sequence number does the same where conntrack says nothing.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use netdiag_common::event::{Pace, PaceKey};
use netdiag_common::hook::HookId;
use netdiag_common::settings::{FOLLOW_ANY, NETNS_TRACED, Target};
use netdiag_common::tuple::Tuple;

use crate::emit::map_full;
use crate::maps::{ADDRESSES, FOLLOW, FOLLOW_ISN, PACE, TARGETS, setting};
use crate::packet::{Packet, TCP_ACK, TCP_SYN};
use crate::skb::{Sighting, netns_flags};

/// Sightings of one repeating kind reported in full before pacing starts …
const PACE_FREE: u32 = 4;
/// … and the nanoseconds between two from then on.
const PACE_INTERVAL: u64 = 250_000_000;

/// Is the packet wanted? If so, both sides of its NAT are followed from here on.
#[inline(always)]
pub fn wanted(hook: HookId, seen: &Sighting) -> bool {
    let packet = &seen.packet;
    let conntrack = &seen.conntrack;
    // The connection of a tunnel's packets is that of the tunnel.
    let has_conntrack = conntrack.present != 0 && !packet.is_tunnel();
    let has_inner = packet.has_inner();
    let by_packet = followed(&packet.tuple);
    let by_inner = has_inner && followed(&packet.inner);
    let by_orig = has_conntrack && followed(&conntrack.orig);
    let by_answer = has_conntrack && followed(&conntrack.answer);
    let known = by_packet || by_inner || by_orig || by_answer;
    if !known && !opens_any(seen) && !known_isn(packet) {
        return false;
    }
    // An ICMP error is part of the flow it is about, a tunnel's packet of the flow it carries; their own addresses are not a flow.
    if has_inner && !by_inner {
        follow(hook, &packet.inner);
    }
    if !has_inner && !by_packet && packet.tuple.sport != 0 {
        follow(hook, &packet.tuple);
    }
    if has_conntrack && !by_orig {
        follow(hook, &conntrack.orig);
    }
    if has_conntrack && !by_answer {
        follow(hook, &conntrack.answer);
    }
    if let Some(isn) = isn(packet) {
        follow_isn(hook, isn);
    }
    true
}

/// Is the connection of a socket wanted? Nothing is followed for it: its packets will say more.
#[inline(always)]
pub fn wanted_tuple(tuple: &Tuple) -> bool {
    followed(tuple) || opens(tuple, 0)
}

#[inline(always)]
fn opens_any(seen: &Sighting) -> bool {
    let traced = netns_flags(seen.netns) & NETNS_TRACED;
    opens(&seen.packet.tuple, traced)
        || (seen.packet.has_inner() && opens(&seen.packet.inner, traced))
        || (seen.conntrack.present != 0 && opens(&seen.conntrack.orig, traced))
}

#[inline(never)]
pub fn followed(tuple: &Tuple) -> bool {
    let key = tuple.canonical();
    FOLLOW.get_ptr(&key).is_some()
}

#[inline(never)]
fn follow(hook: HookId, tuple: &Tuple) -> u32 {
    let key = tuple.canonical();
    // SAFETY: takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    if FOLLOW.insert(&key, now, 0).is_err() {
        map_full(hook);
    }
    0
}

/// One of the watched addresses, or whatever is in the traced pod (`traced` not 0), talks to one of the destinations
/// asked for, in either direction.
#[inline(never)]
pub fn opens(tuple: &Tuple, traced: u32) -> bool {
    if setting!(any_address) != FOLLOW_ANY && traced == 0 && !has_address(tuple) {
        return false;
    }
    setting!(targets) == 0
        || is_target(&tuple.daddr, tuple.dport)
        || is_target(&tuple.saddr, tuple.sport)
}

/// One end is a watched address.
#[inline(always)]
pub fn has_address(tuple: &Tuple) -> bool {
    ADDRESSES.get_ptr(&tuple.saddr).is_some() || ADDRESSES.get_ptr(&tuple.daddr).is_some()
}

#[inline(never)]
pub fn is_target(addr: &[u8; 16], port: u16) -> bool {
    let mut key = Target {
        addr: *addr,
        port,
        _pad: [0; 2],
    };
    if TARGETS.get_ptr(&key).is_some() {
        return true;
    }
    key.port = 0;
    if TARGETS.get_ptr(&key).is_some() {
        return true;
    }
    key.addr = [0; 16];
    key.port = port;
    TARGETS.get_ptr(&key).is_some()
}

/// The initial sequence number of the initiator, as its SYN or the answer to it carries it.
#[inline(always)]
const fn isn(packet: &Packet) -> Option<u32> {
    match packet.tcp_flags & (TCP_SYN | TCP_ACK) {
        TCP_SYN => Some(packet.tcp_seq),
        flags if flags == TCP_SYN | TCP_ACK => Some(packet.tcp_ack.wrapping_sub(1)),
        _ => None,
    }
}

#[inline(always)]
fn known_isn(packet: &Packet) -> bool {
    isn(packet).is_some_and(|isn| FOLLOW_ISN.get_ptr(isn).is_some())
}

#[inline(always)]
fn follow_isn(hook: HookId, isn: u32) {
    if FOLLOW_ISN.get_ptr(isn).is_none() && FOLLOW_ISN.insert(isn, 1, 0).is_err() {
        map_full(hook);
    }
}

/// May this repeating sighting be reported now? The first few are, then a few per second: a bulk transfer has
/// nothing new to say.
#[inline(always)]
pub fn paced(hook: HookId, seen: &Sighting) -> bool {
    if resting(hook, seen) {
        return false;
    }
    reported(hook, seen, true);
    true
}

/// This sighting was reported, or found to be nobody's, a moment ago.
#[inline(always)]
pub fn resting(hook: HookId, seen: &Sighting) -> bool {
    is_resting(hook as u32, seen) != 0
}

/// Remembers that it was looked at; `wanted`: and reported.
#[inline(always)]
pub fn reported(hook: HookId, seen: &Sighting, wanted: bool) {
    if remember(hook as u32, seen, u32::from(wanted)) != 0 {
        map_full(hook);
    }
}

#[inline(always)]
const fn pace_key(hook: u32, seen: &Sighting) -> PaceKey {
    PaceKey {
        tuple: seen.packet.tuple,
        // The device is unique on the machine; without one the namespace has to do.
        place: if seen.dev == 0 {
            seen.netns as u64
        } else {
            seen.dev as u64
        },
        hook,
        _pad: 0,
    }
}

#[inline(never)]
fn is_resting(hook: u32, seen: &Sighting) -> u32 {
    let key = pace_key(hook, seen);
    let Some(pace) = PACE.get_ptr(&key) else {
        return 0;
    };
    // SAFETY: a live map value; another CPU's half-written update costs one report too many.
    let (count, last) = unsafe { ((*pace).count, (*pace).last_ktime) };
    // SAFETY: takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    u32::from(count >= PACE_FREE && now.wrapping_sub(last) < PACE_INTERVAL)
}

/// Not 0 when the map refused.
#[inline(never)]
fn remember(hook: u32, seen: &Sighting, wanted: u32) -> u32 {
    let key = pace_key(hook, seen);
    // SAFETY: takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(pace) = PACE.get_ptr_mut(&key) {
        // SAFETY: a live map value. Two CPUs may race here; the worst is one report too many.
        unsafe {
            (*pace).count = if wanted == 0 {
                PACE_FREE
            } else {
                (*pace).count.saturating_add(1)
            };
            (*pace).last_ktime = now;
        }
        return 0;
    }
    // What nobody wants rests at once.
    let count = if wanted == 0 { PACE_FREE } else { 1 };
    let first = Pace {
        last_ktime: now,
        count,
        _pad: 0,
    };
    u32::from(PACE.insert(&key, first, 0).is_err())
}
