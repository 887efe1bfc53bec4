//! Where this node answers a packet with an ICMP error.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use netdiag_common::hook::HookId;

use super::{packet, pointer};
use crate::emit::Report;

/// The packet is the one complained about, not the complaint.
#[btf_tracepoint(function = "icmp_send")]
pub fn icmp_send(ctx: BtfTracePointContext) -> i32 {
    let value = (ctx.arg::<u32>(1) & 0xff) << 8 | (ctx.arg::<u32>(2) & 0xff);
    packet(
        HookId::IcmpSend,
        pointer(&ctx, 0),
        Report { value, location: 0 },
    )
}
