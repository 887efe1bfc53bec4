//! The eBPF programs of netdiag: parse, filter, stamp, emit. All policy is in the agent.
//!
//! | file | holds |
//! |---|---|
//! | `maps` | every map and the load-time settings |
//! | `packet` | header bytes → tuple and flags |
//! | `skb`, `sock` | kernel structs → what an event says, at offsets resolved for the running kernel |
//! | `follow` | the filter: is this packet part of a flow we watch? |
//! | `scratch` | the memory for it |
//! | `account` | per-flow counters, the fast path of TC |
//! | `emit` | the only place that reserves, fills and submits |
//! | `log` | debug lines |
//! | `hooks/*` | the programs, one kernel subsystem per file |
//!
//! Programs on tracepoints see the whole machine, so each asks for the namespace first.
#![no_std]
#![no_main]
#![expect(
    clippy::needless_pass_by_value,
    reason = "aya's macros hand programs their context by value"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a map key given by value is copied once more, on a stack of 512 bytes"
)]

mod account;
mod emit;
mod follow;
mod hooks;
mod log;
mod maps;
mod packet;
mod scratch;
mod skb;
mod sock;
mod words;

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No code path panics; the verifier would refuse the loop.
    loop {}
}

/// `bpf_probe_read_kernel`, `bpf_get_stack` and the ring buffer are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
