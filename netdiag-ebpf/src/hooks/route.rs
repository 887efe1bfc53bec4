//! Routing lookups that found no way. There is no packet here, only the flow looked up.

use aya_ebpf::helpers::generated::bpf_get_current_task;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use netdiag_common::hook::HookId;
use netdiag_common::settings::{FOLLOW_ANY, NETNS_TRACED};
use netdiag_common::tuple::{Tuple, mapped};

use super::pointer;
use crate::emit::{self, Report};
use crate::follow::{followed, has_address, is_target, opens, paced};
use crate::maps::setting;
use crate::scratch::with_sighting;
use crate::skb::{AF_INET, Sighting, address, field, netns_at, netns_flags};

/// Every lookup for an address of somebody else misses the local table first; that says nothing.
const RT_TABLE_LOCAL: u32 = 255;
/// `LOOPBACK_IFINDEX`, where lookups for a packet this node sends come from.
const LOOPBACK: u32 = 1;
const RTN_UNREACHABLE: u8 = 7;
const RTN_BLACKHOLE: u8 = 6;
const RTN_PROHIBIT: u8 = 8;
/// First byte of ff00::/8.
const MULTICAST_V6: u8 = 0xff;
const EACCES: u32 = 13;
const EINVAL: u32 = 22;
const ENETUNREACH: u32 = 101;
const AF_INET6: u16 = 10;

#[btf_tracepoint(function = "fib_table_lookup")]
pub fn fib_table_lookup(ctx: BtfTracePointContext) -> i32 {
    let error = ctx.arg::<i32>(3);
    if error == 0 || ctx.arg::<u32>(0) == RT_TABLE_LOCAL {
        return 0;
    }
    let flow = pointer(&ctx, 1);
    with_sighting(HookId::FibTableLookup, |seen| {
        // A lookup for a received packet says by which interface; the process that runs is then a bystander.
        let iif: u32 = field(flow, setting!(offsets.flowi4_iif));
        if iif > LOOPBACK {
            seen.ifindex = iif;
        } else {
            seen.netns = caller_netns();
        }
        seen.packet.tuple = Tuple {
            saddr: address(flow, setting!(offsets.flowi4_saddr), AF_INET),
            daddr: address(flow, setting!(offsets.flowi4_daddr), AF_INET),
            ..flow_ports(
                flow,
                setting!(offsets.flowi4_ports),
                setting!(offsets.flowi4_proto),
            )
        };
        report(HookId::FibTableLookup, seen, error.unsigned_abs());
    });
    0
}

#[btf_tracepoint(function = "fib6_table_lookup")]
pub fn fib6_table_lookup(ctx: BtfTracePointContext) -> i32 {
    // The null entry that stands for "no route" has the type of an unreachable route.
    let error = match field::<u8>(pointer(&ctx, 1), setting!(offsets.fib6_result_type)) {
        RTN_UNREACHABLE => ENETUNREACH,
        RTN_BLACKHOLE => EINVAL,
        RTN_PROHIBIT => EACCES,
        _ => return 0,
    };
    if field::<u32>(pointer(&ctx, 2), setting!(offsets.fib6_table_id)) == RT_TABLE_LOCAL {
        return 0;
    }
    let flow = pointer(&ctx, 3);
    let inum = field(pointer(&ctx, 0), setting!(offsets.net_inum));
    if netns_flags(inum) == 0 {
        return 0;
    }
    with_sighting(HookId::Fib6TableLookup, |seen| {
        seen.netns = inum;
        let iif: u32 = field(flow, setting!(offsets.flowi6_iif));
        if iif > LOOPBACK {
            seen.ifindex = iif;
        }
        seen.packet.tuple = Tuple {
            saddr: address(flow, setting!(offsets.flowi6_saddr), AF_INET6),
            daddr: address(flow, setting!(offsets.flowi6_daddr), AF_INET6),
            ..flow_ports(
                flow,
                setting!(offsets.flowi6_ports),
                setting!(offsets.flowi6_proto),
            )
        };
        report(HookId::Fib6TableLookup, seen, error);
    });
    0
}

/// The namespace of whoever runs now. Right for a process that connects; for a forwarded packet it is a bystander's.
#[inline(always)]
fn caller_netns() -> u32 {
    // SAFETY: takes no argument.
    let task = unsafe { bpf_get_current_task() } as usize;
    let nsproxy: usize = field(task, setting!(offsets.task_nsproxy));
    netns_at(nsproxy, setting!(offsets.nsproxy_net))
}

/// `union flowi_uli` holds ports as headers do. Forwarding leaves it empty.
#[inline(always)]
fn flow_ports(flow: usize, ports: u32, proto: u32) -> Tuple {
    let [a, b, c, d]: [u8; 4] = field(flow, ports);
    Tuple {
        // `struct flowi_uli.ports` is destination first.
        dport: u16::from_be_bytes([a, b]),
        sport: u16::from_be_bytes([c, d]),
        proto: field(flow, proto),
        ..Tuple::ZERO
    }
}

#[inline(always)]
fn report(hook: HookId, seen: &mut Sighting, errno: u32) {
    // Neighbour discovery and membership: the stack asks, nobody's flow does.
    if seen.packet.tuple.daddr[0] == MULTICAST_V6 {
        return;
    }
    let flags = netns_flags(seen.netns);
    // A process of a namespace that is not watched; 0 is a packet on its way, in a namespace IPv4 does not tell.
    if seen.netns != 0 && flags == 0 {
        return;
    }
    let tuple = &seen.packet.tuple;
    // A process that connects has no source address yet: the namespace stands for it.
    let unbound = tuple.saddr == [0; 16] || tuple.saddr == mapped([0; 4]);
    let connecting = unbound
        && flags != 0
        && (flags & NETNS_TRACED != 0 || setting!(any_address) == FOLLOW_ANY)
        && (setting!(targets) == 0 || is_target(&tuple.daddr, tuple.dport));
    // Forwarding looks up addresses only, so there is no port to compare with the targets'.
    let forwarded = tuple.dport == 0 && has_address(tuple);
    if !connecting && !forwarded && !followed(tuple) && !opens(tuple, 0) {
        return;
    }
    if paced(hook, seen) {
        emit::event(
            hook,
            seen,
            Report {
                value: errno,
                location: 0,
            },
        );
    }
}
