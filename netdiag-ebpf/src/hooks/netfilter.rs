//! Which netfilter hook gave a packet up, seen when the hook returns.
//!
//! The packet is freed by then: [`super::drop`] has noted its tuple. So only drops of followed flows cost more than a look
//! at the return value.

use aya_ebpf::helpers::bpf_probe_read_kernel_str_bytes;
use aya_ebpf::macros::{fexit, kprobe, kretprobe, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::{FExitContext, ProbeContext, RetProbeContext};
use core::ffi::c_void;
use netdiag_common::event::{BY_LEGACY, BY_NFT, BY_UNKNOWN, NF_NAME, NetfilterRecord};
use netdiag_common::hook::HookId;
use netdiag_common::offsets::ABSENT;

use super::refusal::{self, Refusal};
use crate::emit::{self, Report};
use crate::maps::{DOOMED, setting};
use crate::scratch::with_sighting;
use crate::skb::{field, netns_at, netns_flags};

/// The bit field `nft_table.family` has six bits.
const FAMILY_BITS: u8 = 0x3f;

/// What is needed of `struct nf_hook_state`, which lies on the stack of the function that runs the hook.
#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    /// Namespace of the packet.
    netns: u32,
    hook: u8,
    pf: u8,
    _pad: u16,
    /// `struct net_device *`: where the packet came in, else where it leaves.
    dev: usize,
}

impl State {
    #[inline(always)]
    fn read(address: usize) -> Self {
        let came_by: usize = field(address, setting!(offsets.nf_state_in));
        Self {
            netns: netns_at(address, setting!(offsets.nf_state_net)),
            hook: field(address, setting!(offsets.nf_state_hook)),
            pf: field(address, setting!(offsets.nf_state_pf)),
            _pad: 0,
            dev: if came_by == 0 {
                field(address, setting!(offsets.nf_state_out))
            } else {
                came_by
            },
        }
    }
}

/// `int nf_hook_slow(skb, state, entries, index)`: 1 when the packet may go on, a negative errno when it was refused.
#[fexit(function = "nf_hook_slow")]
pub fn nf_hook_slow_exit(ctx: FExitContext) -> i32 {
    // Behind the arguments the context holds what the function returned; the helper for it is younger than 5.10.
    if ctx.arg::<i32>(4) < 0 {
        let state = State::read(ctx.arg::<*const c_void>(1) as usize);
        let skb = ctx.arg::<*const c_void>(0) as usize as u64;
        report(HookId::NfHookSlowExit, skb, &state);
    }
    0
}

/// A call of `nf_hook_slow` under way on this CPU.
#[repr(C)]
#[derive(Clone, Copy)]
struct Call {
    skb: u64,
    state: State,
}

/// A hook of the bridge runs those of IP inside it, and a softirq may interrupt a task's.
const DEPTH: u32 = 4;

#[map]
static CALLS: PerCpuArray<Call> = PerCpuArray::with_max_entries(DEPTH, 0);

/// Calls under way, so the index of the next.
#[map]
static CALL_DEPTH: PerCpuArray<u32> = PerCpuArray::with_max_entries(1, 0);

#[kprobe]
pub fn nf_hook_slow_entry(ctx: ProbeContext) -> u32 {
    let Some(depth) = CALL_DEPTH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a live map value of this CPU.
    let index = unsafe { *depth } & (DEPTH - 1);
    if let (Some(call), Some(skb), Some(state)) = (
        CALLS.get_ptr_mut(index),
        ctx.arg::<*const c_void>(0),
        ctx.arg::<*const c_void>(1),
    ) {
        // SAFETY: live map values of this CPU.
        unsafe {
            *call = Call {
                skb: skb as u64,
                state: State::read(state as usize),
            };
            *depth = index + 1;
        }
    }
    0
}

/// The kernel may run out of return probes and then a call never ends here: the packet says which call it was, the
/// counter only where to look first.
#[kretprobe]
pub fn nf_hook_slow_return(ctx: RetProbeContext) -> u32 {
    let Some(depth) = CALL_DEPTH.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: a live map value of this CPU.
    let top = unsafe {
        let top = (*depth).wrapping_sub(1) & (DEPTH - 1);
        *depth = top;
        top
    };
    if ctx.ret::<i32>() >= 0 {
        return 0;
    }
    for step in 0..DEPTH {
        let index = top.wrapping_sub(step) & (DEPTH - 1);
        let Some(call) = CALLS.get_ptr_mut(index) else {
            return 0;
        };
        // SAFETY: a live map value of this CPU.
        let call = unsafe { *call };
        if DOOMED.get_ptr(call.skb).is_some() {
            report(HookId::NfHookSlowReturn, call.skb, &call.state);
            return 0;
        }
    }
    0
}

#[inline(always)]
fn report(hook: HookId, skb: u64, state: &State) {
    let refusal = refusal::take(skb);
    if netns_flags(state.netns) == 0 {
        return;
    }
    let Some(tuple) = DOOMED.get_ptr(skb) else {
        return;
    };
    with_sighting(hook, |seen| {
        // SAFETY: a live map value; entries are replaced, not changed.
        seen.packet.tuple = unsafe { *tuple };
        seen.netns = state.netns;
        seen.dev = state.dev;
        let location = Report {
            value: 0,
            location: skb,
        };
        emit::event_with_netfilter(hook, seen, location, |record| {
            // SAFETY: the caller's reservation.
            unsafe {
                (*record).hook = state.hook;
                (*record).pf = state.pf;
                (*record).by = refusal.map_or(BY_UNKNOWN, |refusal| refusal.by);
                (*record).table_family = 0;
                if let Some(refusal) = refusal {
                    names(record, &refusal);
                }
            }
        });
    });
    // One answer for each packet: the address will be another packet's.
    let _ = DOOMED.remove(skb);
}

/// Tables and chains outlive the packets they refuse by a grace period.
///
/// # Safety
/// `record` must be valid for writes.
#[inline(always)]
unsafe fn names(record: *mut NetfilterRecord, refusal: &Refusal) {
    let object = refusal.object as usize;
    // SAFETY: the caller's promise.
    unsafe {
        match refusal.by {
            BY_NFT => {
                let table: usize = field(object, setting!(offsets.nft_chain_table));
                let name: usize = field(table, setting!(offsets.nft_table_name));
                let family: u8 = field(table, setting!(offsets.nft_table_family));
                (*record).table_family = family & FAMILY_BITS;
                text(name, 0, &raw mut (*record).table);
                let name: usize = field(object, setting!(offsets.nft_chain_name));
                text(name, 0, &raw mut (*record).chain);
            }
            BY_LEGACY => text(
                object,
                setting!(offsets.xt_table_name),
                &raw mut (*record).table,
            ),
            _ => {}
        }
    }
}

/// Copies a string; what cannot be read stays empty.
///
/// # Safety
/// `to` must be valid for writes.
#[inline(always)]
unsafe fn text(base: usize, offset: u32, to: *mut [u8; NF_NAME]) {
    if base != 0 && offset != ABSENT {
        // SAFETY: the caller's promise; the helper checks the address.
        unsafe {
            let _ =
                bpf_probe_read_kernel_str_bytes((base + offset as usize) as *const u8, &mut *to);
        }
    }
}
