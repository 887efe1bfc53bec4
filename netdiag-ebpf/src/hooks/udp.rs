//! Where UDP on this node refuses a datagram.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use netdiag_common::hook::HookId;
use netdiag_common::settings::NETNS_POD;

use super::{packet, pointer};
use crate::emit::{self, Report};
use crate::follow::{paced, wanted_tuple};
use crate::maps::setting;
use crate::scratch::with_sighting;
use crate::skb::netns_flags;
use crate::sock::{Direction, sock_netns};

/// Kernels before 6.10 give the socket but not the packet, and a server's socket does not know its clients.
#[btf_tracepoint(function = "udp_fail_queue_rcv_skb")]
pub fn udp_fail_queue_rcv_skb(ctx: BtfTracePointContext) -> i32 {
    let hook = HookId::UdpFailQueueRcvSkb;
    let report = Report {
        value: ctx.arg::<i32>(0).unsigned_abs(),
        location: 0,
    };
    if setting!(udp_fail_args) >= 3 {
        return packet(hook, pointer(&ctx, 2), report);
    }
    let sk = pointer(&ctx, 1);
    let Some(netns) = sock_netns(sk) else {
        return 0;
    };
    with_sighting(hook, |seen| {
        seen.read_sock(sk, netns, Direction::Received);
        if (wanted_tuple(&seen.packet.tuple) || netns_flags(netns) & NETNS_POD != 0)
            && paced(hook, seen)
        {
            emit::event(hook, seen, report);
        }
    });
    0
}
