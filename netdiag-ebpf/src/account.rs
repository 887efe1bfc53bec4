//! Per-flow counters at TC: what most packets are met with.
//!
//! Direct access to the headers of the plainest frames, one map lookup, two additions. The key is built from 32-bit words,
//! because that is how the kernel reads it back when it hashes: from smaller stores the processor would have to wait.

use aya_ebpf::maps::LruPerCpuHashMap;
use aya_ebpf::programs::TcContext;
use netdiag_common::event::{FlowKey, FlowKey4, FlowKey6, FlowStats};
use netdiag_common::hook::HookId;
use netdiag_common::tuple::{IPPROTO_TCP, IPPROTO_UDP};

use crate::emit::map_full;
use crate::maps::{FLOW_STATS_4, FLOW_STATS_6};
use crate::packet::{DNS_PORT, TCP_FIN, TCP_RST, TCP_SYN};
use crate::skb::Sighting;

const ETH_LEN: usize = 14;
const ETH_P_IP: u16 = 0x0800_u16.to_be();
const ETH_P_IPV6: u16 = 0x86dd_u16.to_be();
/// More-fragments and the offset; don't-fragment may be set.
const FRAGMENT: u16 = 0x3fff_u16.to_be();
/// How many packets of a flow nobody asked for pass before it is asked again whether somebody does.
const RECHECK: u64 = 64;

/// Headers without options or extensions, as they stand in an Ethernet frame. Two-byte fields: that is the alignment
/// Ethernet gives them.
#[repr(C)]
struct Ipv4Frame {
    ethernet: [u16; 6],
    protocol: u16,
    version: u8,
    tos: u8,
    len_id: [u16; 2],
    fragment: u16,
    ttl: u8,
    proto: u8,
    check: u16,
    source: [u16; 2],
    destination: [u16; 2],
    ports: Ports,
}

#[repr(C)]
struct Ipv6Frame {
    ethernet: [u16; 6],
    protocol: u16,
    version: u8,
    flow: [u8; 3],
    len: u16,
    proto: u8,
    hop_limit: u8,
    source: [u16; 8],
    destination: [u16; 8],
    ports: Ports,
}

/// As much of the transport header as UDP has.
#[repr(C)]
struct Ports {
    source: u16,
    destination: u16,
    rest: [u16; 2],
}

const _: () = assert!(size_of::<Ipv4Frame>() == ETH_LEN + 20 + 8);
const _: () = assert!(size_of::<Ipv6Frame>() == ETH_LEN + 40 + 8);

/// Counts the packet and says whether that was all there is to do with it.
#[inline(always)]
pub fn is_routine(ctx: &TcContext, egress: bool) -> bool {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<Ipv4Frame>() > end {
        return false;
    }
    // SAFETY: the context of a TC program.
    let ifindex = unsafe { (*ctx.skb.skb).ifindex };
    let frame = start as *const Ipv4Frame;
    // SAFETY: in bounds, as checked above.
    let (protocol, version) = unsafe { ((*frame).protocol, (*frame).version) };
    if protocol == ETH_P_IP && version == 0x45 {
        // SAFETY: in bounds, as checked above.
        let frame = unsafe { &*frame };
        if frame.fragment & FRAGMENT != 0 {
            return false;
        }
        let (saddr, daddr) = (word(frame.source), word(frame.destination));
        let key = key(saddr, daddr, &frame.ports, frame.proto, ifindex, egress);
        is_data(&key, start + ETH_LEN + 20, end) && count(&FLOW_STATS_4, &key, ctx.len())
    } else if protocol == ETH_P_IPV6 && version >> 4 == 6 {
        if start + size_of::<Ipv6Frame>() > end {
            return false;
        }
        // SAFETY: in bounds, as just checked.
        let frame = unsafe { &*(start as *const Ipv6Frame) };
        let (saddr, daddr) = (words(frame.source), words(frame.destination));
        let key = key(saddr, daddr, &frame.ports, frame.proto, ifindex, egress);
        is_data(&key, start + ETH_LEN + 40, end) && count(&FLOW_STATS_6, &key, ctx.len())
    } else {
        false
    }
}

#[inline(always)]
fn key<A>(saddr: A, daddr: A, ports: &Ports, proto: u8, ifindex: u32, egress: bool) -> FlowKey<A> {
    FlowKey {
        saddr,
        daddr,
        ports: word([ports.source, ports.destination]),
        ifindex,
        proto: u32::from(proto),
        egress: u32::from(egress),
    }
}

/// TCP data, and UDP other than DNS.
#[inline(always)]
fn is_data<A>(key: &FlowKey<A>, transport: usize, end: usize) -> bool {
    const DNS: u16 = DNS_PORT.to_be();
    if key.ports & 0xffff == u32::from(DNS) || key.ports >> 16 == u32::from(DNS) {
        return false;
    }
    if key.proto == u32::from(IPPROTO_UDP) {
        return true;
    }
    let flags = transport + 13;
    if key.proto != u32::from(IPPROTO_TCP) || flags >= end {
        return false;
    }
    // SAFETY: in bounds, as just checked.
    let flags = unsafe { *(flags as *const u8) };
    flags & (TCP_SYN | TCP_FIN | TCP_RST) == 0
}

/// Counts a packet of a known flow. False: first packet, or time to look again.
#[inline(always)]
fn count<K>(map: &LruPerCpuHashMap<K, FlowStats>, key: &K, len: u32) -> bool {
    let Some(stats) = map.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live map value of this CPU.
    unsafe {
        (*stats).packets += 1;
        (*stats).bytes += u64::from(len);
        (*stats).followed != 0 || (*stats).packets % RECHECK != 0
    }
}

/// Remembers a flow for next time. True when it was not followed before: values are per CPU, so once on each.
#[inline(always)]
pub fn remember(hook: HookId, seen: &Sighting, egress: bool, followed: bool) -> bool {
    let tuple = &seen.packet.tuple;
    let ports = word([tuple.sport.to_be(), tuple.dport.to_be()]);
    let (proto, ifindex, egress) = (u32::from(tuple.proto), seen.ifindex, u32::from(egress));
    let (saddr, daddr) = (parts(&tuple.saddr), parts(&tuple.daddr));
    let (known, full) = if is_v4(&saddr) {
        let (saddr, daddr) = (saddr[3], daddr[3]);
        let key: FlowKey4 = FlowKey {
            saddr,
            daddr,
            ports,
            ifindex,
            proto,
            egress,
        };
        enter(&FLOW_STATS_4, &key, seen.packet.net.len, followed)
    } else {
        let key: FlowKey6 = FlowKey {
            saddr,
            daddr,
            ports,
            ifindex,
            proto,
            egress,
        };
        enter(&FLOW_STATS_6, &key, seen.packet.net.len, followed)
    };
    if full {
        map_full(hook);
    }
    !known
}

/// Whether the flow was known to be followed, and whether the map was full.
#[inline(always)]
fn enter<K>(
    map: &LruPerCpuHashMap<K, FlowStats>,
    key: &K,
    len: u32,
    followed: bool,
) -> (bool, bool) {
    let followed = u64::from(followed);
    if let Some(stats) = map.get_ptr_mut(key) {
        // SAFETY: a live map value of this CPU.
        unsafe {
            let known = (*stats).followed != 0;
            (*stats).followed = followed;
            return (known, false);
        }
    }
    let stats = FlowStats {
        packets: 1,
        bytes: u64::from(len),
        followed,
    };
    (false, map.insert(key, stats, 0).is_err())
}

/// An IPv4 address stands in a tuple as v4-mapped.
#[inline(always)]
const fn is_v4([a, b, c, _]: &[u32; 4]) -> bool {
    *a == 0 && *b == 0 && *c == 0xffff_u32.to_be()
}

/// Two fields as the one word they are in memory.
#[inline(always)]
const fn word([a, b]: [u16; 2]) -> u32 {
    #[cfg(target_endian = "little")]
    return a as u32 | (b as u32) << 16;
    #[cfg(target_endian = "big")]
    return (a as u32) << 16 | b as u32;
}

#[inline(always)]
const fn words([a, b, c, d, e, f, g, h]: [u16; 8]) -> [u32; 4] {
    [word([a, b]), word([c, d]), word([e, f]), word([g, h])]
}

/// The words of an address, as they are in memory.
#[inline(always)]
fn parts(address: &[u8; 16]) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
        u32::from_ne_bytes([i, j, k, l]),
        u32::from_ne_bytes([m, n, o, p]),
    ]
}
