//! What an event says about a packet, read from the kernel's `sk_buff` at offsets resolved for this kernel.

use netdiag_common::offsets::ABSENT;
use netdiag_common::tuple::{IPPROTO_ICMP, IPPROTO_ICMPV6, Tuple, mapped};

use crate::maps::{NETNS, setting};
use crate::packet::{self, Kernel, Packet};

pub const AF_INET: u16 = 2;

/// Everything known of one packet at one place.
#[repr(C)]
pub struct Sighting {
    /// `struct sk_buff *`; 0 where the kernel gives none.
    pub skb: usize,
    /// `struct net_device *`.
    pub dev: usize,
    pub netns: u32,
    /// Where it is known without asking `dev`; otherwise 0.
    pub ifindex: u32,
    pub packet: Packet,
    pub conntrack: Conntrack,
}

/// The conntrack entry a packet carries.
#[repr(C)]
pub struct Conntrack {
    pub orig: Tuple,
    pub answer: Tuple,
    pub status: u32,
    pub zone: u16,
    pub info: u8,
    pub tcp_state: u8,
    pub present: u32,
}

impl Sighting {
    /// Fills in place and headers of `skb`. False: no packet of a flow.
    #[inline(always)]
    pub fn read(&mut self, skb: usize, origin: Origin, header: Header) -> bool {
        self.skb = skb;
        self.dev = origin.dev;
        self.netns = origin.netns;
        read_packet(skb, header as u32, &mut self.packet)
    }

    /// Fills in the conntrack entry, if the packet carries one.
    #[inline(always)]
    pub fn read_conntrack(&mut self) {
        conntrack(self.skb, &mut self.conntrack);
    }
}

/// Where a packet is.
#[derive(Clone, Copy)]
pub struct Origin {
    dev: usize,
    netns: u32,
}

/// `None`: in a namespace that is not watched. Asked first, for every packet of the machine.
#[inline(always)]
pub fn origin(skb: usize) -> Option<Origin> {
    let dev = field(skb, setting!(offsets.skb_dev));
    let netns = netns(skb, dev);
    (netns_flags(netns) != 0).then_some(Origin { dev, netns })
}

/// Where the network header is.
#[derive(Clone, Copy)]
pub enum Header {
    /// `skb->network_header`.
    Set = 0,
    /// `skb->data`: at `netif_receive_skb` the stack has not set the network header yet.
    Data = 1,
}

/// Integers and arrays of them: all zeros is a value.
pub trait Zero: Copy {
    const ZERO: Self;
}

macro_rules! zero {
    ($($ty:ty = $zero:expr),*) => { $(impl Zero for $ty { const ZERO: Self = $zero; })* };
}
zero!(
    u8 = 0,
    u16 = 0,
    i16 = 0,
    u32 = 0,
    u64 = 0,
    usize = 0,
    [u8; 4] = [0; 4],
    [u8; 16] = [0; 16]
);

/// Reads a `T` at `base + offset`; zero where this kernel has no such field or the address is bad.
#[inline(always)]
pub fn field<T: Zero>(base: usize, offset: u32) -> T {
    if offset == ABSENT {
        return T::ZERO;
    }
    packet::kernel(base + offset as usize)
}

/// Bits of `NETNS` for this namespace; 0: not watched.
#[inline(always)]
pub fn netns_flags(inum: u32) -> u32 {
    // SAFETY: the value is one word, read once.
    unsafe { NETNS.get(inum) }.copied().unwrap_or(0)
}

/// `net.ns.inum` of a device's namespace; 0 when unknown.
#[inline(always)]
pub fn netns_of_device(dev: usize) -> u32 {
    netns_at(dev, setting!(offsets.dev_net))
}

/// `net.ns.inum` of a socket's namespace.
#[inline(always)]
pub fn netns_of_sock(sk: usize) -> u32 {
    netns_at(sk, setting!(offsets.sock_net))
}

/// Follows the `possible_net_t` at `offset`.
#[inline(always)]
pub fn netns_at(base: usize, offset: u32) -> u32 {
    let net: usize = field(base, offset);
    field(net, setting!(offsets.net_inum))
}

/// Locally generated packets have no device before they are routed, and queued ones keep other data in its place.
#[inline(never)]
fn netns(skb: usize, dev: usize) -> u32 {
    let inum = netns_of_device(dev);
    if inum != 0 {
        return inum;
    }
    let inum = netns_of_device(field(dst(skb), setting!(offsets.dst_dev)));
    if inum != 0 {
        return inum;
    }
    netns_of_sock(field(skb, setting!(offsets.skb_sk)))
}

/// `skb_dst`: the lowest bit of `_skb_refdst` is a flag.
#[inline(always)]
pub fn dst(skb: usize) -> usize {
    field::<usize>(skb, setting!(offsets.skb_refdst)) & !1
}

#[inline(never)]
fn read_packet(skb: usize, header: u32, packet: &mut Packet) -> bool {
    let head: usize = field(skb, setting!(offsets.skb_head));
    let at = if header == Header::Data as u32 {
        let data: usize = field(skb, setting!(offsets.skb_data));
        data.wrapping_sub(head) as u32
    } else {
        u32::from(field::<u16>(skb, setting!(offsets.skb_network_header)))
    };
    // Header room is reserved in every skb: 0 is a header that was never set, 0xffff likewise.
    if head == 0 || at == 0 || at >= 0xffff {
        return false;
    }
    let protocol = u16::from_be(field(skb, setting!(offsets.skb_protocol)));
    packet::parse(Kernel(head), at, protocol, packet)
}

/// Reads `skb->_nfct`: pointer and, in its low three bits, `enum ip_conntrack_info`.
#[inline(never)]
fn conntrack(skb: usize, out: &mut Conntrack) -> u32 {
    let size = setting!(tuplehash_size);
    if size == 0 {
        return 0;
    }
    let nfct: usize = field(skb, setting!(offsets.skb_nfct));
    let entry = nfct & !7;
    if entry == 0 {
        return 0;
    }
    let first = entry
        + setting!(offsets.ct_tuplehash) as usize
        + setting!(offsets.tuplehash_tuple) as usize;
    ct_tuple(first, &mut out.orig);
    ct_tuple(first + size as usize, &mut out.answer);
    out.status = field::<usize>(entry, setting!(offsets.ct_status)) as u32;
    out.zone = field(entry, setting!(offsets.ct_zone));
    out.tcp_state = field(entry, setting!(offsets.ct_tcp_state));
    out.info = (nfct & 7) as u8;
    out.present = 1;
    1
}

#[inline(never)]
fn ct_tuple(at: usize, out: &mut Tuple) -> u32 {
    let family = field::<u16>(at, setting!(offsets.tuple_family));
    out.saddr = address(at, setting!(offsets.tuple_saddr), family);
    out.daddr = address(at, setting!(offsets.tuple_daddr), family);
    let proto: u8 = field(at, setting!(offsets.tuple_proto));
    out.proto = proto;
    let sport = u16::from_be(field(at, setting!(offsets.tuple_sport)));
    out.sport = sport;
    // For ICMP the source "port" is the echo identifier and the destination one type and code.
    out.dport = if matches!(proto, IPPROTO_ICMP | IPPROTO_ICMPV6) {
        sport
    } else {
        u16::from_be(field(at, setting!(offsets.tuple_dport)))
    };
    0
}

/// An address of the given family as it stands in kernel structs.
#[inline(always)]
pub fn address(base: usize, offset: u32, family: u16) -> [u8; 16] {
    if family == AF_INET {
        mapped(field(base, offset))
    } else {
        field(base, offset)
    }
}
