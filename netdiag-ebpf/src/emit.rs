//! The only place that reserves, fills and submits ring memory. Every event that comes here is counted as seen, every
//! failed reservation as lost, so that seen is always emitted plus lost.

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_get_stack};
use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_probe_read_kernel_buf};
use aya_ebpf::maps::PerCpuArray;
use core::ffi::c_void;
use netdiag_common::event::{
    DnsRecord, FLAG_CT, FLAG_DST, FLAG_SNAP, FLAG_TUPLE, NetfilterRecord, Record, SNAP_BYTES,
    STACK_DEPTH, Snap, Snapped, StackRecord, TAIL_DNS, TAIL_NETFILTER, TAIL_NONE, TAIL_STACK,
};
use netdiag_common::hook::HookId;
use netdiag_common::offsets::ABSENT;

use crate::log;
use crate::maps::{EVENTS, LOST, MAP_FULL, SEEN, setting};
use crate::skb::{Sighting, dst, field};
use crate::words;

/// Where a program runs: one at TC may not be allowed to read kernel memory.
const TC: bool = true;
const KERNEL: bool = false;

/// What differs from hook to hook.
#[derive(Clone, Copy, Default)]
pub struct Report {
    /// See [`Record::value`].
    pub value: u32,
    pub location: u64,
}

/// A sighting without a tail.
#[inline(always)]
pub fn event(hook: HookId, seen: &Sighting, report: Report) {
    log::event(hook, seen, report);
    entry(
        hook,
        // SAFETY: the reservation is as large as a record.
        |record: *mut Record| unsafe { fill::<KERNEL>(record, hook, seen, report, TAIL_NONE) },
        |snap| kernel_snap(seen, snap),
    );
}

/// A sighting by a TC program, which reads its packet by a way of its own: `snap` does.
#[inline(always)]
pub fn event_at_tc(hook: HookId, seen: &Sighting, snap: impl FnOnce(*mut Snap)) {
    log::event(hook, seen, Report::default());
    entry(
        hook,
        // SAFETY: the reservation is as large as a record.
        |record: *mut Record| unsafe {
            fill::<TC>(record, hook, seen, Report::default(), TAIL_NONE);
        },
        snap,
    );
}

/// A sighting with the kernel stack that led to it.
#[inline(always)]
pub fn event_with_stack(ctx: *mut c_void, hook: HookId, seen: &Sighting, report: Report) {
    log::event(hook, seen, report);
    let write = |record: *mut StackRecord| {
        // SAFETY: the reservation is as large as the record; the helper is told the size of the stack field.
        unsafe {
            fill::<KERNEL>(&raw mut (*record).record, hook, seen, report, TAIL_STACK);
            let stack = &raw mut (*record).stack;
            words::zero(stack);
            bpf_get_stack(ctx, stack.cast(), (8 * STACK_DEPTH) as u32, 0);
        }
    };
    entry(hook, write, |snap| kernel_snap(seen, snap));
}

/// A DNS message; `payload` fills the bytes and returns how many it wrote.
#[inline(always)]
pub fn event_with_dns(
    hook: HookId,
    seen: &Sighting,
    payload: impl FnOnce(*mut u8) -> u32,
    snap: impl FnOnce(*mut Snap),
) {
    log::event(hook, seen, Report::default());
    let write = |record: *mut DnsRecord| {
        // SAFETY: the reservation is as large as the record.
        unsafe {
            fill::<TC>(
                &raw mut (*record).record,
                hook,
                seen,
                Report::default(),
                TAIL_DNS,
            );
            let bytes = &raw mut (*record).payload;
            words::zero(bytes);
            (*record)._pad = 0;
            (*record).payload_len = payload(bytes.cast());
        }
    };
    entry(hook, write, snap);
}

/// A refusal by a netfilter hook; `names` fills in the table and chain, which are zero until then.
#[inline(always)]
pub fn event_with_netfilter(
    hook: HookId,
    seen: &Sighting,
    report: Report,
    names: impl FnOnce(*mut NetfilterRecord),
) {
    log::event(hook, seen, report);
    let write = |record: *mut NetfilterRecord| {
        // SAFETY: the reservation is as large as the record.
        unsafe {
            fill::<KERNEL>(
                &raw mut (*record).record,
                hook,
                seen,
                report,
                TAIL_NETFILTER,
            );
            (*record)._pad = 0;
            words::zero(&raw mut (*record).table);
            words::zero(&raw mut (*record).chain);
        }
        names(record);
    };
    entry(hook, write, |snap| kernel_snap(seen, snap));
}

/// Reserves, fills and submits. Which of the two sizes is a constant for the verifier, so it walks one way only.
#[inline(always)]
fn entry<T: 'static>(hook: HookId, write: impl FnOnce(*mut T), snap: impl FnOnce(*mut Snap)) {
    bump(&SEEN, hook);
    if setting!(snap) == 0 {
        let Some(mut entry) = EVENTS.reserve::<T>(0) else {
            bump(&LOST, hook);
            return;
        };
        write(entry.as_mut_ptr());
        entry.submit(0);
    } else {
        let Some(mut entry) = EVENTS.reserve::<Snapped<T>>(0) else {
            bump(&LOST, hook);
            return;
        };
        let whole = entry.as_mut_ptr();
        // SAFETY: the reservation is as large as both.
        unsafe {
            write(&raw mut (*whole).entry);
            snap(&raw mut (*whole).snap);
        }
        entry.submit(0);
    }
}

/// Copies the start of the packet. Always the same number of bytes: behind an skb's data lies `struct skb_shared_info`,
/// larger than that, so the read stays inside the allocation. A hook without an skb reads address 0, which gives none.
#[inline(always)]
fn kernel_snap(seen: &Sighting, snap: *mut Snap) {
    let head: usize = field(seen.skb, setting!(offsets.skb_head));
    let tail: u32 = field(seen.skb, setting!(offsets.skb_tail));
    let start = seen.packet.net.start;
    // SAFETY: the callers' reservation; the helper checks the address and zeroes the target when it is bad.
    unsafe {
        (*snap).len = tail.saturating_sub(start).min(seen.packet.net.len);
        (*snap)._pad = 0;
        let bytes: *mut [u8; SNAP_BYTES] = &raw mut (*snap).bytes;
        let _ = bpf_probe_read_kernel_buf((head + start as usize) as *const u8, &mut *bytes);
    }
}

/// Counts an event for which there was not even working memory; it is seen and lost.
#[inline(always)]
pub fn no_room(hook: HookId) {
    bump(&SEEN, hook);
    bump(&LOST, hook);
}

/// Counts an insertion the kernel refused.
#[inline(always)]
pub fn map_full(hook: HookId) {
    bump(&MAP_FULL, hook);
}

#[inline(always)]
fn bump(counters: &PerCpuArray<u64>, hook: HookId) {
    if let Some(counter) = counters.get_ptr_mut(hook as u32) {
        // SAFETY: a live map value of this CPU.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}

/// Writes every byte of a record: ring memory holds whatever was there before.
///
/// # Safety
/// `record` must be valid for writes.
#[inline(always)]
unsafe fn fill<const PLACE: bool>(
    record: *mut Record,
    hook: HookId,
    seen: &Sighting,
    report: Report,
    tail: u8,
) {
    let packet = &seen.packet;
    let conntrack = &seen.conntrack;
    let mut flags = packet.net.flags;
    if packet.tuple.proto != 0 {
        flags |= FLAG_TUPLE;
    }
    if conntrack.present != 0 {
        flags |= FLAG_CT;
    }
    if setting!(snap) != 0 {
        flags |= FLAG_SNAP;
    }
    // SAFETY: the caller's promise.
    unsafe {
        (*record).ktime = bpf_ktime_get_ns();
        (*record).cpu = bpf_get_smp_processor_id();
        (*record).hook = hook as u16;
        (*record).tail = tail;
        (*record)._pad = 0;
        (*record)._pad2 = [0; 2];
        (*record).skb = if PLACE == TC { 0 } else { seen.skb as u64 };
        (*record).location = report.location;
        (*record).value = report.value;
        (*record).netns = seen.netns;
        (*record).len = packet.net.len;
        (*record).tcp_seq = packet.tcp_seq;
        (*record).tcp_ack = packet.tcp_ack;
        (*record).ip_id = packet.net.ip_id;
        (*record).ttl = packet.net.ttl;
        (*record).tcp_flags = packet.tcp_flags;
        (*record).icmp_type = packet.icmp_type;
        (*record).icmp_code = packet.icmp_code;
        (*record).ct_status = conntrack.status;
        (*record).ct_info = conntrack.info;
        (*record).ct_tcp_state = conntrack.tcp_state;
        (*record).ct_zone = conntrack.zone;
        words::copy(&packet.tuple, &raw mut (*record).packet);
        words::copy(&packet.inner, &raw mut (*record).inner);
        words::copy(&conntrack.orig, &raw mut (*record).ct_orig);
        words::copy(&conntrack.answer, &raw mut (*record).ct_reply);
        // Not even the call may be left in a program that is not allowed to make it.
        let more = if PLACE == TC && setting!(tc_kernel_read) == 0 {
            fill_unknown(record, seen)
        } else {
            fill_known(record, seen)
        };
        (*record).flags = flags | more;
    }
}

/// What only kernel memory tells. Returns flags.
///
/// # Safety
/// `record` must be valid for writes.
#[inline(always)]
unsafe fn fill_known(record: *mut Record, seen: &Sighting) -> u16 {
    // SAFETY: the caller's promise.
    unsafe {
        (*record).ifindex = match seen.ifindex {
            0 => field(seen.dev, setting!(offsets.dev_ifindex)),
            known => known,
        };
        (*record).iif = field(seen.skb, setting!(offsets.skb_iif));
        (*record).mark = field(seen.skb, setting!(offsets.skb_mark));
        fill_name(record, seen.dev);
        fill_route(record, dst(seen.skb))
    }
}

/// The same where it cannot be read.
///
/// # Safety
/// `record` must be valid for writes.
#[inline(always)]
unsafe fn fill_unknown(record: *mut Record, seen: &Sighting) -> u16 {
    // SAFETY: the caller's promise.
    unsafe {
        (*record).ifindex = seen.ifindex;
        (*record).iif = 0;
        (*record).mark = 0;
        words::zero(&raw mut (*record).ifname);
        (*record).dst_input = 0;
        (*record).dst_output = 0;
        (*record).dst_error = 0;
        (*record).dst_ifindex = 0;
    }
    0
}

/// # Safety
/// `record` must be valid for writes.
#[inline(always)]
unsafe fn fill_route(record: *mut Record, dst: usize) -> u16 {
    // SAFETY: the caller's promise.
    unsafe {
        (*record).dst_input = field(dst, setting!(offsets.dst_input));
        (*record).dst_output = field(dst, setting!(offsets.dst_output));
        (*record).dst_error = field(dst, setting!(offsets.dst_error));
        let dev: usize = field(dst, setting!(offsets.dst_dev));
        (*record).dst_ifindex = field(dev, setting!(offsets.dev_ifindex));
    }
    if dst == 0 { 0 } else { FLAG_DST }
}

/// # Safety
/// `record` must be valid for writes.
#[inline(always)]
unsafe fn fill_name(record: *mut Record, dev: usize) {
    let offset = setting!(offsets.dev_name);
    // SAFETY: the caller's promise; the helper checks the address and zeroes the target when it is bad.
    unsafe {
        let name = &raw mut (*record).ifname;
        words::zero(name);
        if dev != 0 && offset != ABSENT {
            let _ = bpf_probe_read_kernel_buf((dev + offset as usize) as *const u8, &mut *name);
        }
    }
}
