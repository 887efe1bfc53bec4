//! Where a packet enters and leaves an interface: the sightings that carry conntrack.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use netdiag_common::hook::HookId;

use super::pointer;
use crate::emit::{self, Report};
use crate::follow::{reported, resting, wanted};
use crate::scratch::with_sighting;
use crate::skb::{Header, origin};

#[btf_tracepoint(function = "net_dev_start_xmit")]
pub fn net_dev_start_xmit(ctx: BtfTracePointContext) -> i32 {
    sighting(HookId::NetDevStartXmit, pointer(&ctx, 0), Header::Set)
}

#[btf_tracepoint(function = "netif_receive_skb")]
pub fn netif_receive_skb(ctx: BtfTracePointContext) -> i32 {
    sighting(HookId::NetifReceiveSkb, pointer(&ctx, 0), Header::Data)
}

#[inline(always)]
fn sighting(hook: HookId, skb: usize, header: Header) -> i32 {
    let Some(origin) = origin(skb) else { return 0 };
    with_sighting(hook, |seen| {
        if !seen.read(skb, origin, header) {
            return;
        }
        // Asked before anything else that costs: most packets are more of the same.
        let milestone = seen.packet.is_milestone();
        if !milestone && resting(hook, seen) {
            return;
        }
        seen.read_conntrack();
        let wanted = wanted(hook, seen);
        if !milestone {
            reported(hook, seen, wanted);
        }
        if wanted {
            emit::event(hook, seen, Report::default());
        }
    });
    0
}
