//! The programs' own debug lines. Off unless the loader sets aya's log level; the verifier then removes them.

use aya_log_ebpf::debug;
use netdiag_common::hook::HookId;

use crate::emit::Report;
use crate::skb::Sighting;

/// A wanted event, before it is known whether the ring has room for it.
#[inline(always)]
pub fn event(hook: HookId, seen: &Sighting, report: Report) {
    line(hook as u32, seen.netns, seen.ifindex, report.value);
}

/// Not inlined: the text of a line is built on the stack.
#[inline(never)]
fn line(hook: u32, netns: u32, ifindex: u32, value: u32) -> u32 {
    debug!(
        (),
        "hook {} netns {} ifindex {} value {}", hook, netns, ifindex, value
    );
    0
}
