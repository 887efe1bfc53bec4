//! Packets at the watched interfaces: the host side of pods, and the uplinks.
//!
//! Both programs only look: they return "next program", never a verdict.
//!
//! Most packets are data of a flow already known: [`account`] deals with them. Everything else (handshakes, resets, ICMP,
//! DNS, fragments, tags, options, the first packet of each flow) goes through [`packet::parse`].

use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use netdiag_common::event::{DNS_BYTES, FLAG_FRAGMENT, SNAP_BYTES, Snap};
use netdiag_common::hook::HookId;
use netdiag_common::tuple::IPPROTO_TCP;

use crate::account;
use crate::emit;
use crate::follow::wanted;
use crate::maps::setting;
use crate::packet::{self, Packet, Skb};
use crate::scratch::with_sighting;
use crate::skb::{Sighting, field, netns_of_device};

/// `TC_ACT_UNSPEC`, which is also `TCX_NEXT`: the packet goes on as if we were not there.
const NEXT: i32 = -1;

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
    if !account::is_routine(ctx, is_egress(hook)) {
        slow(Skb::of(ctx), hook as u32);
    }
    NEXT
}

#[inline(always)]
const fn is_egress(hook: HookId) -> bool {
    matches!(hook, HookId::TcEgress)
}

/// Everything that is not the next piece of a known flow.
#[inline(never)]
fn slow(skb: Skb, hook: u32) -> u32 {
    let hook = if hook == HookId::TcEgress as u32 {
        HookId::TcEgress
    } else {
        HookId::TcIngress
    };
    // SAFETY: the context of a TC program.
    let (protocol, ifindex) = unsafe { (u16::from_be((*skb.0).protocol as u16), (*skb.0).ifindex) };
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
        seen.read_conntrack();
    }
    let followed = wanted(hook, seen);
    let news =
        seen.packet.is_milestone() || account::remember(hook, seen, is_egress(hook), followed);
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
