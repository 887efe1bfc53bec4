//! Where a program keeps what it knows of its packet: too much for the stack, and on the stack the verifier would walk
//! the rest of the program once for every way the headers can be put together.
//!
//! One slot per CPU is not enough. A program in a system call can be interrupted by one in a softirq, and that one by one
//! in an interrupt. A slot is marked while it is used and the next one is taken; whoever interrupts is done before the
//! interrupted goes on, so marking needs no atomics.

use aya_ebpf::macros::map;
use aya_ebpf::maps::PerCpuArray;
use netdiag_common::hook::HookId;

use crate::emit;
use crate::skb::Sighting;
use crate::words;

/// Task, softirq, interrupt, and one for kernels that let tasks preempt each other here.
const SLOTS: u32 = 4;

#[repr(C)]
struct Slot {
    seen: Sighting,
    /// 0: free; else its own index plus one.
    busy: u64,
}

/// All slots taken: the event is counted as lost.
#[map]
static SCRATCH: PerCpuArray<Slot> = PerCpuArray::with_max_entries(SLOTS, 0);

/// Runs `body` with an empty sighting.
#[inline(always)]
pub fn with_sighting(hook: HookId, body: impl FnOnce(&mut Sighting)) {
    let index = acquire();
    let Some(slot) = SCRATCH.get_ptr_mut(index) else {
        emit::no_room(hook);
        return;
    };
    // SAFETY: a live map value of this CPU, ours until it is marked free.
    unsafe {
        // Of numbers alone: all zeros is an empty one.
        words::zero(&raw mut (*slot).seen);
        body(&mut (*slot).seen);
        (&raw mut (*slot).busy).write_volatile(0);
    }
}

/// Index of a slot now marked as used; an invalid one when all are.
#[inline(never)]
fn acquire() -> u32 {
    for index in 0..SLOTS {
        let Some(slot) = SCRATCH.get_ptr_mut(index) else {
            break;
        };
        // SAFETY: a live map value of this CPU.
        let busy = unsafe { &raw mut (*slot).busy };
        // SAFETY: as above.
        unsafe {
            if busy.read_volatile() == 0 {
                busy.write_volatile(u64::from(index) + 1);
                // Read back, for the verifier does not know what is in a map: since Linux 6.15 it follows constant
                // keys of arrays, and would walk the rest of the program once for every slot.
                return (busy.read_volatile() as u32).wrapping_sub(1);
            }
        }
    }
    SLOTS
}
