//! The eBPF programs of netdiag: parse, filter, stamp, emit. All policy is in the agent.
//!
//! | file | holds |
//! |---|---|
//! | `maps` | every map and the load-time settings |
//! | `packet` | header bytes → tuple and flags |
//! | `skb`, `sock` | kernel structs → what an event says, at offsets resolved for the running kernel |
//! | `follow` | the filter: is this packet part of a flow we watch? |
//! | `scratch` | the memory for it |
//! | `emit` | the only place that reserves, fills and submits |
//! | `hooks/*` | the programs, one kernel subsystem per file |
//!
//! Programs on tracepoints see the whole machine, so each asks for the namespace first.
#![no_std]
#![no_main]
#![expect(
    clippy::inline_always,
    reason = "stack and verifier budgets decide what is a function of its own"
)]

mod emit;
mod follow;
mod hooks;
mod maps;
mod packet;
mod scratch;
mod skb;
mod sock;

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
