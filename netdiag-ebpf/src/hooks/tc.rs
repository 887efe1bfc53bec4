//! Packets at the watched interfaces: the host side of pods, and the uplinks.
//!
//! Both programs only look: they return "next program", never a verdict.
//!
//! Most packets are data of a flow already known. For those there is a fast path: direct access to the headers, one map
//! lookup, two additions. Everything else (handshakes, resets, ICMP, DNS, fragments, tags, options, the first packet of
//! each flow) takes the slow path through [`packet::parse`].

use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use netdiag_common::event::{
    DNS_BYTES, FLAG_FRAGMENT, FlowStats, FlowStatsKey, SNAP_BYTES, Snap,
};
use netdiag_common::hook::HookId;
use netdiag_common::tuple::{IPPROTO_TCP, IPPROTO_UDP, Tuple};

use crate::emit::{self, map_full};
use crate::follow::wanted;
use crate::maps::{FLOW_STATS, setting};
use crate::packet::{self, DNS_PORT, Packet, Skb, TCP_FIN, TCP_RST, TCP_SYN};
use crate::scratch::with_sighting;
use crate::skb::{Sighting, conntrack, field, netns_of_device};

/// `TC_ACT_UNSPEC`, which is also `TCX_NEXT`: the packet goes on as if we were not there.
const NEXT: i32 = -1;

const ETH_LEN: usize = 14;
/// How many packets of a flow nobody asked for pass before it is asked again whether somebody does.
const RECHECK: u64 = 64;

#[classifier]
pub fn netdiag_ingress(ctx: TcContext) -> i32 {
    run(&ctx, HookId::TcIngress)
}

#[classifier]
pub fn netdiag_egress(ctx: TcContext) -> i32 {
    run(&ctx, HookId::TcEgress)
}

#[inline(always)]
fn run(ctx: &TcContext, hook: HookId) -> i32 {
    let mut key = FlowStatsKey {
        tuple: Tuple::ZERO,
        // SAFETY: the context of a TC program.
        ifindex: unsafe { (*ctx.skb.skb).ifindex },
        egress: u32::from(hook as u16 == HookId::TcEgress as u16),
    };
    if !plain_data(ctx, &mut key.tuple) || !account(&key, ctx.len()) {
        slow(Skb::of(ctx), hook as u32, key.ifindex);
    }
    NEXT
}

/// Counts a packet of a known flow. False: first packet, or time to look again.
#[inline(always)]
fn account(key: &FlowStatsKey, len: u32) -> bool {
    let Some(stats) = FLOW_STATS.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: a live map value of this CPU.
    unsafe {
        (*stats).packets += 1;
        (*stats).bytes += u64::from(len);
        (*stats).followed != 0 || (*stats).packets % RECHECK != 0
    }
}

/// Headers without options or extensions, as they stand in an Ethernet frame. Two-byte fields: that is the alignment
/// Ethernet gives them.
#[repr(C)]
struct Ipv4Frame {
    ethernet: [u16; 6],
    protocol: u16,
    version: u8,
    _tos: u8,
    _len_id: [u16; 2],
    fragment: u16,
    _ttl: u8,
    proto: u8,
    _check: u16,
    source: [u16; 2],
    destination: [u16; 2],
    sport: u16,
    dport: u16,
    /// UDP ends here.
    _rest: [u16; 2],
}

#[repr(C)]
struct Ipv6Frame {
    ethernet: [u16; 6],
    protocol: u16,
    version: u8,
    _flow: [u8; 3],
    _len: u16,
    proto: u8,
    _hop_limit: u8,
    source: [u16; 8],
    destination: [u16; 8],
    sport: u16,
    dport: u16,
    _rest: [u16; 2],
}

const _: () = assert!(size_of::<Ipv4Frame>() == ETH_LEN + 20 + 8);
const _: () = assert!(size_of::<Ipv6Frame>() == ETH_LEN + 40 + 8);

/// True, with the tuple, for TCP data and UDP other than DNS in the plainest of frames.
#[inline(always)]
fn plain_data(ctx: &TcContext, tuple: &mut Tuple) -> bool {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + size_of::<Ipv4Frame>() > end {
        return false;
    }
    let frame = start as *const Ipv4Frame;
    // SAFETY: bounds checked above and again before each larger read.
    unsafe {
        let transport = match ((*frame).protocol, (*frame).version) {
            (protocol, 0x45) if protocol == 0x0800_u16.to_be() => {
                // Don't-fragment may be set; more-fragments and an offset may not.
                if (*frame).fragment & 0x3fff_u16.to_be() != 0 {
                    return false;
                }
                tuple.saddr = words(0, mapped_word((*frame).source));
                tuple.daddr = words(0, mapped_word((*frame).destination));
                tuple.sport = u16::from_be((*frame).sport);
                tuple.dport = u16::from_be((*frame).dport);
                tuple.proto = (*frame).proto;
                ETH_LEN + 20
            }
            (protocol, 0x60..=0x6f) if protocol == 0x86dd_u16.to_be() => {
                if start + size_of::<Ipv6Frame>() > end {
                    return false;
                }
                let frame = start as *const Ipv6Frame;
                tuple.saddr = address((*frame).source);
                tuple.daddr = address((*frame).destination);
                tuple.sport = u16::from_be((*frame).sport);
                tuple.dport = u16::from_be((*frame).dport);
                tuple.proto = (*frame).proto;
                ETH_LEN + 40
            }
            _ => return false,
        };
        if tuple.sport == DNS_PORT || tuple.dport == DNS_PORT {
            return false;
        }
        match tuple.proto {
            IPPROTO_UDP => true,
            IPPROTO_TCP => {
                let flags = start + transport + 13;
                flags < end && *(flags as *const u8) & (TCP_SYN | TCP_FIN | TCP_RST) == 0
            }
            _ => false,
        }
    }
}

/// The second half of a v4-mapped address, as it lies in memory.
#[inline(always)]
fn mapped_word([a, b]: [u16; 2]) -> u64 {
    let [c, d, e, f] = (u32::from(a.to_le()) | u32::from(b.to_le()) << 16).to_le_bytes();
    u64::from_ne_bytes([0, 0, 0xff, 0xff, c, d, e, f])
}

#[inline(always)]
fn address(parts: [u16; 8]) -> [u8; 16] {
    let word = |at: usize| {
        u64::from(parts[at].to_le())
            | u64::from(parts[at + 1].to_le()) << 16
            | u64::from(parts[at + 2].to_le()) << 32
            | u64::from(parts[at + 3].to_le()) << 48
    };
    words(word(0).to_le(), word(4).to_le())
}

/// Two stores; the compiler would make sixteen of a byte array.
#[inline(always)]
fn words(first: u64, second: u64) -> [u8; 16] {
    // SAFETY: same size, all bit patterns valid.
    unsafe { core::mem::transmute([first, second]) }
}

/// Everything that is not the next piece of a known flow.
#[inline(never)]
fn slow(skb: Skb, hook: u32, ifindex: u32) -> u32 {
    let hook = if hook == HookId::TcEgress as u32 {
        HookId::TcEgress
    } else {
        HookId::TcIngress
    };
    // SAFETY: the context of a TC program.
    let protocol = u16::from_be(unsafe { (*skb.0).protocol } as u16);
    with_sighting(hook, |seen| {
        seen.ifindex = ifindex;
        if packet::parse(skb, 0, protocol, &mut seen.packet) {
            sighting(skb, hook, seen);
        }
    });
    0
}

#[inline(always)]
fn sighting(skb: Skb, hook: HookId, seen: &mut Sighting) {
    if setting!(tc_kernel_read) != 0 {
        // At run time the context of a TC program is the `sk_buff` itself; the verifier only forbids to look into it
        // directly.
        seen.skb = skb.0 as usize;
        seen.dev = field(seen.skb, setting!(offsets.skb_dev));
        seen.netns = netns_of_device(seen.dev);
        conntrack(seen.skb, &mut seen.conntrack);
    }
    let followed = wanted(hook, seen);
    let news = seen.packet.is_milestone() || first(hook, seen, followed);
    if !followed || !news {
        return;
    }
    let (at, len) = dns_start(&seen.packet);
    let net = seen.packet.net;
    let snap = |to| snap(skb, net.start, net.len, to);
    if seen.packet.is_dns() && len != 0 {
        emit::event_with_dns(hook, seen, |to| load::<DNS_BYTES>(skb, at, len, to), snap);
    } else {
        emit::event_at_tc(hook, seen, snap);
    }
}

/// Remembers a flow for the fast path. True when it was not followed before: values are per CPU, so once on each.
#[inline(always)]
fn first(hook: HookId, seen: &Sighting, followed: bool) -> bool {
    let key = FlowStatsKey {
        tuple: seen.packet.tuple,
        ifindex: seen.ifindex,
        egress: u32::from(hook as u16 == HookId::TcEgress as u16),
    };
    if let Some(stats) = FLOW_STATS.get_ptr_mut(&key) {
        // SAFETY: a live map value of this CPU.
        unsafe {
            let known = (*stats).followed != 0;
            (*stats).followed = u64::from(followed);
            return !known;
        }
    }
    let stats = FlowStats {
        packets: 1,
        bytes: u64::from(seen.packet.net.len),
        followed: u64::from(followed),
    };
    if FLOW_STATS.insert(&key, stats, 0).is_err() {
        map_full(hook);
    }
    true
}

/// Where the DNS message starts and how many of its bytes there are; 0 for a packet without one.
#[inline(always)]
fn dns_start(packet: &Packet) -> (u32, u32) {
    if packet.net.flags & FLAG_FRAGMENT != 0 {
        return (0, 0);
    }
    // Over TCP each message has its length before it.
    let at = packet.payload
        + if packet.tuple.proto == IPPROTO_TCP {
            2
        } else {
            0
        };
    let end = packet.net.start + packet.net.len;
    (at, end.saturating_sub(at))
}

/// Copies the start of the packet, which is `len` bytes long, from its network header on.
#[inline(always)]
fn snap(skb: Skb, at: u32, len: u32, to: *mut Snap) {
    // SAFETY: the caller's reservation.
    unsafe {
        (*to)._pad = 0;
        (*to).len = load::<SNAP_BYTES>(skb, at, len, (&raw mut (*to).bytes).cast());
    }
}

/// Copies up to `N` bytes of the packet to `to`; returns how many. `N` is a power of two.
#[inline(always)]
fn load<const N: usize>(skb: Skb, at: u32, len: u32, to: *mut u8) -> u32 {
    let len = len.min(N as u32);
    // In the form the verifier understands as 1..=N.
    let len = (len.wrapping_sub(1) & (N as u32 - 1)) + 1;
    // SAFETY: `to` has room for `N` bytes.
    let done =
        unsafe { bpf_skb_load_bytes_relative(skb.0.cast(), at, to.cast(), len, BPF_HDR_START_NET) };
    if done == 0 { len } else { 0 }
}
