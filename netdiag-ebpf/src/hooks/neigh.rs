//! Neighbour resolution. Rare, so every change in a watched namespace is reported.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use netdiag_common::hook::HookId;

use super::pointer;
use crate::emit::{self, Report};
use crate::maps::setting;
use crate::scratch::with_sighting;
use crate::skb::{address, field, netns_flags, netns_of_device};

#[btf_tracepoint(function = "neigh_update")]
pub fn neigh_update(ctx: BtfTracePointContext) -> i32 {
    neighbour(
        HookId::NeighUpdate,
        pointer(&ctx, 0),
        Some(ctx.arg::<u32>(2) & 0xff),
    )
}

#[btf_tracepoint(function = "neigh_timer_handler")]
pub fn neigh_timer_handler(ctx: BtfTracePointContext) -> i32 {
    neighbour(HookId::NeighTimerHandler, pointer(&ctx, 0), None)
}

#[btf_tracepoint(function = "neigh_event_send_done")]
pub fn neigh_event_send_done(ctx: BtfTracePointContext) -> i32 {
    neighbour(HookId::NeighEventSendDone, pointer(&ctx, 0), None)
}

/// The address resolved stands in `packet.daddr`; there is no packet, so no protocol.
#[inline(always)]
fn neighbour(hook: HookId, neigh: usize, new_state: Option<u32>) -> i32 {
    let dev: usize = field(neigh, setting!(offsets.neigh_dev));
    let inum = netns_of_device(dev);
    if netns_flags(inum) == 0 {
        return 0;
    }
    with_sighting(hook, |seen| {
        seen.dev = dev;
        seen.netns = inum;
        let table: usize = field(neigh, setting!(offsets.neigh_table));
        let family = field::<u32>(table, setting!(offsets.neigh_table_family)) as u16;
        seen.packet.tuple.daddr = address(neigh, setting!(offsets.neigh_key), family);
        let value = new_state
            .unwrap_or_else(|| u32::from(field::<u8>(neigh, setting!(offsets.neigh_state))));
        emit::event(hook, seen, Report { value, location: 0 });
    });
    0
}
