//! Where the kernel frees a packet because it will not deliver it.

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use netdiag_common::hook::HookId;

use super::pointer;
use crate::emit::{self, Report};
use crate::follow::wanted;
use crate::maps::{DOOMED, setting};
use crate::scratch::with_sighting;
use crate::skb::{Header, Sighting, origin};

#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    let skb = pointer(&ctx, 0);
    let has_reason = setting!(kfree_skb_args) >= 3;
    let value = if has_reason { ctx.arg::<u32>(2) } else { 0 };
    let report = Report {
        value,
        location: pointer(&ctx, 1) as u64,
    };
    let Some(origin) = origin(skb) else { return 0 };
    with_sighting(HookId::KfreeSkb, |seen| {
        if !seen.read(skb, origin, Header::Set) {
            return;
        }
        seen.read_conntrack();
        if !wanted(HookId::KfreeSkb, seen) {
            return;
        }
        // A stack costs more than the rest of the event, and only these reasons do not say where they come from.
        let unclear =
            value == setting!(reason_not_specified) || value == setting!(reason_netfilter_drop);
        if !has_reason || unclear {
            doomed(seen);
            emit::event_with_stack(ctx.as_ptr(), HookId::KfreeSkb, seen, report);
        } else {
            emit::event(HookId::KfreeSkb, seen, report);
        }
    });
    0
}

/// The hook that made it happen is still to return, and will say who it was.
#[inline(always)]
fn doomed(seen: &Sighting) {
    if setting!(netfilter) != 0 {
        let key = seen.skb as u64;
        if DOOMED.insert(&key, &seen.packet.tuple, 0).is_err() {
            emit::map_full(HookId::KfreeSkb);
        }
    }
}
