//! Every map, with its size and what happens when it is full. All are bounded.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap, LruPerCpuHashMap, PerCpuArray, RingBuf};
use netdiag_common::event::{FlowKey4, FlowKey6, FlowStats, Pace, PaceKey};
use netdiag_common::hook::HOOK_SLOTS;
use netdiag_common::settings::{NetnsFlags, Settings, Target};
use netdiag_common::tuple::Tuple;

/// Read-only after load: the verifier sees constants and drops what this kernel does not have.
#[unsafe(no_mangle)]
pub static SETTINGS: Settings = Settings::EMPTY;

/// One field of [`SETTINGS`].
macro_rules! setting {
    ($($field:ident).+) => {
        $crate::maps::constant(&$crate::maps::SETTINGS.$($field).+)
    };
}
pub(crate) use setting;

/// Volatile, or the compiler would fold the value it was compiled with.
#[inline(always)]
pub fn constant<T: Copy>(field: &T) -> T {
    // SAFETY: a reference is valid and aligned.
    unsafe { core::ptr::read_volatile(field) }
}

/// Events, 4 MiB: some 15 000 of them. Full: the event is counted in `LOST`.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(4 << 20, 0);

/// Events that passed every filter, per hook. Always the sum of the emitted and `LOST`.
#[map]
pub static SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOK_SLOTS, 0);

/// Failed ring reservations, per hook.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOK_SLOTS, 0);

/// Failed map insertions, per hook.
#[map]
pub static MAP_FULL: PerCpuArray<u64> = PerCpuArray::with_max_entries(HOOK_SLOTS, 0);

/// Namespaces whose events are wanted. Written by user space, which reports a full map.
#[map]
pub static NETNS: HashMap<u32, NetnsFlags> = HashMap::with_max_entries(4096, 0);

/// Addresses whose flows are wanted. Written by user space.
#[map]
pub static ADDRESSES: HashMap<[u8; 16], u32> = HashMap::with_max_entries(4096, 0);

/// Destinations the user asked for. Written by user space.
#[map]
pub static TARGETS: HashMap<Target, u32> = HashMap::with_max_entries(1024, 0);

/// Followed flows: canonical tuple → ktime of its first sighting. Full: the flow unused for longest is forgotten.
#[map]
pub static FOLLOW: LruHashMap<Tuple, u64> = LruHashMap::with_max_entries(65536, 0);

/// Initial sequence numbers of followed TCP flows: they survive every NAT. Full: oldest forgotten.
#[map]
pub static FOLLOW_ISN: LruHashMap<u32, u32> = LruHashMap::with_max_entries(16384, 0);

/// Per-flow counters at TC; each entry has 24 bytes per CPU. Full: the flow unused for longest starts again from zero.
#[map]
pub static FLOW_STATS_4: LruPerCpuHashMap<FlowKey4, FlowStats> =
    LruPerCpuHashMap::with_max_entries(16384, 0);

/// The same for IPv6.
#[map]
pub static FLOW_STATS_6: LruPerCpuHashMap<FlowKey6, FlowStats> =
    LruPerCpuHashMap::with_max_entries(16384, 0);

/// Packets a netfilter hook may be about to answer for: address of the freed skb → its tuple. Full: oldest forgotten.
#[map]
pub static DOOMED: LruHashMap<u64, Tuple> = LruHashMap::with_max_entries(4096, 0);

/// When a repeated sighting was last looked at. Full: a forgotten flow's next packets are looked at again.
#[map]
pub static PACE: LruHashMap<PaceKey, Pace> = LruHashMap::with_max_entries(32768, 0);
