//! The programs. One kernel subsystem per file; a program has the name of its tracepoint.

mod device;
mod drop;
mod icmp;
mod neigh;
mod netfilter;
mod refusal;
mod route;
mod tc;
mod tcp;
mod udp;

use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;
use netdiag_common::hook::HookId;

use crate::emit::{self, Report};
use crate::follow::{wanted, wanted_tuple};
use crate::scratch::with_sighting;
use crate::skb::{Header, origin};
use crate::sock::{Direction, sock_netns};

/// The `n`th argument of a tracepoint, a kernel pointer, as an address.
#[inline(always)]
fn pointer(ctx: &BtfTracePointContext, n: usize) -> usize {
    ctx.arg::<*const c_void>(n) as usize
}

/// Reports a packet, if it is wanted.
#[inline(always)]
fn packet(hook: HookId, skb: usize, report: Report) -> i32 {
    let Some(origin) = origin(skb) else { return 0 };
    with_sighting(hook, |seen| {
        if !seen.read(skb, origin, Header::Set) {
            return;
        }
        seen.read_conntrack();
        if wanted(hook, seen) {
            emit::event(hook, seen, report);
        }
    });
    0
}

/// Reports something about the connection of a socket, if it is wanted.
#[inline(always)]
fn connection(hook: HookId, sk: usize, direction: Direction, value: u32) -> i32 {
    let Some(netns) = sock_netns(sk) else {
        return 0;
    };
    with_sighting(hook, |seen| {
        seen.read_sock(sk, netns, direction);
        if wanted_tuple(&seen.packet.tuple) {
            emit::event(hook, seen, Report { value, location: 0 });
        }
    });
    0
}
