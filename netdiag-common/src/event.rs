//! What a program puts into the ring.
//!
//! One fixed header for every hook ([`Record`]), followed by a tail in two cases: the kernel stack of a drop
//! ([`StackRecord`]) and the start of a DNS message ([`DnsRecord`]). The agent tells them apart by `tail`.
//! Where the packets themselves were asked for, the first bytes of one follow each of the three ([`Snapped`]).

use crate::tuple::Tuple;

/// `flags`: `packet` holds the tuple of the packet.
pub const FLAG_TUPLE: u16 = 1 << 0;
/// `flags`: the skb carried a conntrack entry; `ct_*` are valid.
pub const FLAG_CT: u16 = 1 << 1;
/// `flags`: the packet is an ICMP error; `inner` is the tuple of the packet it complains about.
pub const FLAG_INNER: u16 = 1 << 2;
/// `flags`: the skb had a route (`dst_*` are valid).
pub const FLAG_DST: u16 = 1 << 3;
/// `flags`: a fragment with offset > 0: no ports in it.
pub const FLAG_FRAGMENT: u16 = 1 << 4;
/// `flags`: may not be fragmented on the way: the IPv4 bit, and all of IPv6.
pub const FLAG_DF: u16 = 1 << 5;

/// `flags`: the packet is a tunnel's; `inner`, with `tcp_*`, is the packet it carries.
pub const FLAG_TUNNEL: u16 = 1 << 7;

/// `flags`: a [`Snap`] follows the record and its tail.
pub const FLAG_SNAP: u16 = 1 << 6;

pub const TAIL_NONE: u8 = 0;
pub const TAIL_STACK: u8 = 1;
pub const TAIL_DNS: u8 = 2;
pub const TAIL_NETFILTER: u8 = 3;

/// `NetfilterRecord::by`: which function inside the hook refused the packet.
pub const BY_UNKNOWN: u32 = 0;
pub const BY_NFT: u32 = 1;
pub const BY_LEGACY: u32 = 2;
pub const BY_CONNTRACK: u32 = 3;
pub const BY_CONFIRM: u32 = 4;
pub const BY_NAT: u32 = 5;

/// Return addresses kept of a drop's stack.
pub const STACK_DEPTH: usize = 20;
/// Bytes kept of a DNS message: header, one name of usual length, type and class.
pub const DNS_BYTES: usize = 128;

/// Bytes kept of the name of a table or chain.
pub const NF_NAME: usize = 64;

/// Bytes kept of a packet: IPv6, an extension header or two, and TCP with all its options.
pub const SNAP_BYTES: usize = 128;

/// One sighting or state change.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// `bpf_ktime_get_ns`: nanoseconds of CLOCK_MONOTONIC.
    pub ktime: u64,
    /// Address of the skb: identity of a packet within one pass through the stack. 0 at TC.
    pub skb: u64,
    /// `kfree_skb`: return address of the caller that dropped the packet.
    pub location: u64,
    /// `skb_dst(skb)->input` and `->output`, addresses of kernel functions.
    pub dst_input: u64,
    pub dst_output: u64,
    /// `nf_conn.status`, the IPS_* bits.
    pub ct_status: u32,
    /// Inode of the network namespace (`net.ns.inum`); 0 when it could not be read.
    pub netns: u32,
    pub ifindex: u32,
    /// `skb->skb_iif`: where the packet entered this namespace; 0 for locally generated ones.
    pub iif: u32,
    /// Meaning by hook: drop reason, `type << 8 | code` of an ICMP error sent, errno (positive),
    /// `old << 16 | new` TCP state, NUD state.
    pub value: u32,
    /// Layer 3 length in bytes.
    pub len: u32,
    /// `skb->mark`.
    pub mark: u32,
    pub tcp_seq: u32,
    pub tcp_ack: u32,
    pub cpu: u32,
    /// [`crate::hook::HookId`] as number.
    pub hook: u16,
    pub flags: u16,
    /// IPv4 identification.
    pub ip_id: u16,
    /// `dst_entry.error` (negative or positive errno by kernel and family; take the absolute value).
    pub dst_error: i16,
    /// TTL or hop limit.
    pub ttl: u8,
    pub tcp_flags: u8,
    /// Type and code of an ICMP or `ICMPv6` packet.
    pub icmp_type: u8,
    pub icmp_code: u8,
    /// `enum ip_conntrack_info` (`skb->_nfct & 7`): 0..=2 original direction, 3..=4 reply.
    pub ct_info: u8,
    /// `nf_conn.proto.tcp.state` (`enum tcp_conntrack`); meaningful for TCP only.
    pub ct_tcp_state: u8,
    pub tail: u8,
    pub _pad: u8,
    pub ct_zone: u16,
    pub _pad2: [u8; 2],
    /// Index of `skb_dst(skb)->dev`: the interface the packet is to leave by (or the one it came in by, for local delivery).
    pub dst_ifindex: u32,
    pub ifname: [u8; 16],
    pub packet: Tuple,
    pub inner: Tuple,
    pub ct_orig: Tuple,
    pub ct_reply: Tuple,
}

const _: () = assert!(size_of::<Record>() == 280);

/// A drop with the kernel stack that led to it, innermost first.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct StackRecord {
    pub record: Record,
    /// Return addresses; unused slots are 0.
    pub stack: [u64; STACK_DEPTH],
}

const _: () = assert!(size_of::<StackRecord>() == 280 + 8 * STACK_DEPTH);

/// A DNS message seen at TC.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DnsRecord {
    pub record: Record,
    /// Bytes of `payload` that are valid.
    pub payload_len: u32,
    pub _pad: u32,
    /// The message from its 12-byte header on (TCP length prefix removed).
    pub payload: [u8; DNS_BYTES],
}

const _: () = assert!(size_of::<DnsRecord>() == 288 + DNS_BYTES);

/// A netfilter hook that refused a packet. `location` is the skb's address: the packet itself is gone by then, and
/// `packet` was noted when it was freed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct NetfilterRecord {
    pub record: Record,
    /// `BY_*`.
    pub by: u32,
    /// `enum nf_inet_hooks`, or the hook number of another family.
    pub hook: u8,
    /// `NFPROTO_*` of the hook.
    pub pf: u8,
    /// `NFPROTO_*` of the nft table; 0 when not known.
    pub table_family: u8,
    pub _pad: u8,
    /// Names, cut at this length, ended by a zero; empty when not known.
    pub table: [u8; NF_NAME],
    pub chain: [u8; NF_NAME],
}

const _: () = assert!(size_of::<NetfilterRecord>() == 288 + 2 * NF_NAME);

/// The start of a packet, from its network header on.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Snap {
    /// Bytes that are the packet's; whatever lay behind them in memory follows. 0: the hook has no packet.
    pub len: u32,
    pub _pad: u32,
    pub bytes: [u8; SNAP_BYTES],
}

const _: () = assert!(size_of::<Snap>() == 8 + SNAP_BYTES);

/// A [`Record`], [`StackRecord`] or [`DnsRecord`] with the start of its packet.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Snapped<T> {
    pub entry: T,
    pub snap: Snap,
}

const _: () = assert!(size_of::<Snapped<Record>>() == size_of::<Record>() + size_of::<Snap>());

/// Per-flow counters kept at TC for packets that are not events.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FlowStats {
    pub packets: u64,
    pub bytes: u64,
    /// 1: a flow we follow. Other flows are counted as well, so that their next packet costs one lookup.
    pub followed: u64,
}

const _: () = assert!(size_of::<FlowStats>() == 24);

/// Key of the per-flow counters: one direction at one interface. A map per family, because hashing the key is most of
/// what a packet costs. Addresses as they stand in the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey<A> {
    pub saddr: A,
    pub daddr: A,
    /// Source and destination port as they stand in the packet.
    pub ports: u32,
    pub ifindex: u32,
    pub proto: u32,
    /// 0 ingress, 1 egress.
    pub egress: u32,
}

pub type FlowKey4 = FlowKey<u32>;
pub type FlowKey6 = FlowKey<[u32; 4]>;

const _: () = assert!(size_of::<FlowKey4>() == 24);
const _: () = assert!(size_of::<FlowKey6>() == 48);

/// Key of the pacing map: one direction of a flow at one interface, as seen by one hook.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PaceKey {
    pub tuple: Tuple,
    /// Address of the device, or the namespace.
    pub place: u64,
    pub hook: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<PaceKey>() == 56);

/// How often a paced event was reported, and when last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    pub last_ktime: u64,
    pub count: u32,
    pub _pad: u32,
}

const _: () = assert!(size_of::<Pace>() == 16);

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), only integers, padding explicit.
    unsafe impl aya::Pod for super::FlowStats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKey4 {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::FlowKey6 {}
}
