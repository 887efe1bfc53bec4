//! Who inside a netfilter hook says no: tables of either back end, connection tracking, NAT.
//!
//! All of these are functions of modules, so they are probed by name. The entry of a table function only notes its
//! arguments; its return, which those of the others equal, looks at the verdict and leaves a [`Refusal`] behind when it is
//! one. [`super::netfilter`] picks that up when the hook itself returns, a moment later on the same CPU.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::macros::{kprobe, kretprobe, map};
use aya_ebpf::maps::PerCpuArray;
use aya_ebpf::programs::{ProbeContext, RetProbeContext};
use netdiag_common::event::{BY_CONFIRM, BY_CONNTRACK, BY_LEGACY, BY_NAT, BY_NFT, BY_UNKNOWN};

use crate::maps::setting;
use crate::skb::{field, netns_at};

const NF_DROP: u32 = 0;
const NF_STOLEN: u32 = 2;
/// The low byte of a verdict is what to do, the upper half an errno for a packet the function has freed itself.
const VERDICT: u32 = 0xff;
const ERRNO_SHIFT: u32 = 16;
/// Hooks of the IP families are numbered from 0 to 4.
const NF_INET_NUMHOOKS: u8 = 5;

/// Between the function that refuses and the return of its hook lie microseconds, under emulation a few hundred.
const FRESH: u64 = 5_000_000;

/// The last refusal on this CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Refusal {
    pub at: u64,
    /// `struct sk_buff *` of the refused packet, freed by now; 0: the function does not tell.
    pub skb: u64,
    /// `struct nft_chain *` or `struct xt_table *`, or 0.
    pub object: u64,
    /// `BY_*`; [`BY_UNKNOWN`]: none, or picked up.
    pub by: u32,
    pub _pad: u32,
}

/// Arguments of the table function that runs on this CPU.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entered {
    arguments: [u64; 3],
}

const SLOT_NFT: u32 = 0;
const SLOT_IPT: u32 = 1;
const SLOT_IP6T: u32 = 2;

/// A softirq may overwrite what the task it interrupts has noted: the skb tells, and then nothing is said.
#[map]
static ENTERED: PerCpuArray<Entered> = PerCpuArray::with_max_entries(3, 0);

#[map]
static REFUSAL: PerCpuArray<Refusal> = PerCpuArray::with_max_entries(1, 0);

#[kprobe]
pub fn nft_do_chain_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, SLOT_NFT)
}

#[kprobe]
pub fn ipt_do_table_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, SLOT_IPT)
}

#[kprobe]
pub fn ip6t_do_table_entry(ctx: ProbeContext) -> u32 {
    enter(&ctx, SLOT_IP6T)
}

#[kretprobe]
pub fn nft_do_chain(ctx: RetProbeContext) -> u32 {
    if refused(ctx.ret())
        && let Some([packet, chain, _]) = entered(SLOT_NFT)
    {
        // The packet information lies on the stack of the caller, which has not returned yet.
        let skb: usize = field(packet as usize, setting!(offsets.nft_pkt_skb));
        leave(BY_NFT, skb as u64, chain);
    }
    0
}

#[kretprobe]
pub fn ipt_do_table(ctx: RetProbeContext) -> u32 {
    legacy(ctx.ret(), SLOT_IPT)
}

#[kretprobe]
pub fn ip6t_do_table(ctx: RetProbeContext) -> u32 {
    legacy(ctx.ret(), SLOT_IP6T)
}

/// No room for a new entry, or no memory. What is merely invalid is accepted here.
#[kretprobe]
pub fn nf_conntrack_in(ctx: RetProbeContext) -> u32 {
    plain(ctx.ret(), BY_CONNTRACK)
}

/// Another entry has the tuple.
#[kretprobe]
pub fn nf_conntrack_confirm(ctx: RetProbeContext) -> u32 {
    plain(ctx.ret(), BY_CONFIRM)
}

/// The one caller of `nf_nat_setup_info` and of the null binding that has a packet to refuse. It runs the tables of NAT
/// as well, and what they have refused stays theirs.
#[kretprobe]
pub fn nf_nat_inet_fn(ctx: RetProbeContext) -> u32 {
    if refused(ctx.ret()) && pending().is_none() {
        leave(BY_NAT, 0, 0);
    }
    0
}

#[inline(always)]
fn enter(ctx: &ProbeContext, slot: u32) -> u32 {
    if let Some(entered) = ENTERED.get_ptr_mut(slot) {
        let argument = |n| ctx.arg::<u64>(n).unwrap_or(0);
        // SAFETY: a live map value of this CPU.
        unsafe { (*entered).arguments = [argument(0), argument(1), argument(2)] };
    }
    0
}

#[inline(always)]
fn entered(slot: u32) -> Option<[u64; 3]> {
    let entered = ENTERED.get_ptr_mut(slot)?;
    // SAFETY: a live map value of this CPU.
    Some(unsafe { (*entered).arguments })
}

/// `NF_DROP`, or freed by the function itself with an error, which newer kernels do to give the reason.
#[inline(always)]
const fn refused(verdict: u32) -> bool {
    match verdict & VERDICT {
        NF_DROP => true,
        NF_STOLEN => verdict >> ERRNO_SHIFT != 0,
        _ => false,
    }
}

/// Since it became a hook function (5.16) the table comes first and the hook's state last; before, the other way round.
#[inline(always)]
fn legacy(verdict: u32, slot: u32) -> u32 {
    if refused(verdict)
        && let Some([first, second, third]) = entered(slot)
    {
        if is_state(third) {
            leave(BY_LEGACY, second, first);
        } else if is_state(second) {
            leave(BY_LEGACY, first, third);
        }
    }
    0
}

/// Only a `struct nf_hook_state` leads to a network namespace with a number from there.
#[inline(always)]
fn is_state(address: u64) -> bool {
    let hook: u8 = field(address as usize, setting!(offsets.nf_state_hook));
    hook < NF_INET_NUMHOOKS && netns_at(address as usize, setting!(offsets.nf_state_net)) != 0
}

#[inline(always)]
fn plain(verdict: u32, by: u32) -> u32 {
    if refused(verdict) {
        leave(by, 0, 0);
    }
    0
}

#[inline(always)]
fn leave(by: u32, skb: u64, object: u64) {
    if let Some(slot) = REFUSAL.get_ptr_mut(0) {
        // SAFETY: a live map value of this CPU.
        unsafe {
            *slot = Refusal {
                at: bpf_ktime_get_ns(),
                skb,
                object,
                by,
                _pad: 0,
            };
        }
    }
}

/// A fresh refusal nobody has picked up.
#[inline(always)]
fn pending() -> Option<Refusal> {
    let slot = REFUSAL.get_ptr_mut(0)?;
    // SAFETY: a live map value of this CPU; the helper takes no argument.
    let (refusal, now) = unsafe { (*slot, bpf_ktime_get_ns()) };
    (refusal.by != BY_UNKNOWN && now.wrapping_sub(refusal.at) < FRESH).then_some(refusal)
}

/// Picks up who refused this packet, if anybody said so.
#[inline(always)]
pub fn take(skb: u64) -> Option<Refusal> {
    let refusal = pending();
    if let Some(slot) = REFUSAL.get_ptr_mut(0) {
        // SAFETY: a live map value of this CPU.
        unsafe { (*slot).by = BY_UNKNOWN };
    }
    refusal.filter(|refusal| refusal.skb == 0 || refusal.skb == skb)
}
