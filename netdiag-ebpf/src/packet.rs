//! From header bytes to a [`Packet`]. Where the bytes come from is the caller's business ([`Bytes`]).

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_skb_load_bytes_relative};
use aya_ebpf::programs::TcContext;
use core::mem::MaybeUninit;
use netdiag_common::event::{FLAG_DF, FLAG_FRAGMENT, FLAG_INNER, FLAG_TUNNEL};
use netdiag_common::tuple::{
    IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, Tuple,
};
use network_types::eth::EthHdr;
use network_types::icmp::Icmpv4Hdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;
use network_types::vxlan::VxlanHdr;

use crate::maps::setting;
use crate::words;

pub const TCP_FIN: u8 = 0x01;
pub const TCP_SYN: u8 = 0x02;
pub const TCP_RST: u8 = 0x04;
pub const TCP_ACK: u8 = 0x10;
pub const DNS_PORT: u16 = 53;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

/// Real packets carry at most four IPv6 extension headers; a bound keeps the verifier's walk short.
const MAX_EXTENSIONS: u32 = 6;

/// What the headers of one packet say.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Packet {
    pub tuple: Tuple,
    /// Valid with `FLAG_INNER`.
    pub inner: Tuple,
    pub net: Network,
    pub tcp_seq: u32,
    pub tcp_ack: u32,
    /// Where the bytes behind the transport header start.
    pub payload: u32,
    pub tcp_flags: u8,
    pub icmp_type: u8,
    pub icmp_code: u8,
    pub _pad: u8,
}

/// What the network header says besides addresses.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Network {
    /// Start of the network and of the transport header.
    pub start: u32,
    pub transport: u32,
    /// Layer 3 length in bytes.
    pub len: u32,
    pub ip_id: u16,
    /// `FLAG_*` of the wire.
    pub flags: u16,
    pub ttl: u8,
    pub _pad: [u8; 3],
}

impl Network {
    const EMPTY: Self = Self {
        start: 0,
        transport: 0,
        len: 0,
        ip_id: 0,
        flags: 0,
        ttl: 0,
        _pad: [0; 3],
    };
}

impl Packet {
    pub const fn has_inner(&self) -> bool {
        self.net.flags & FLAG_INNER != 0
    }

    /// `inner` is what a tunnel carries, and so are the TCP fields.
    pub const fn is_tunnel(&self) -> bool {
        self.net.flags & FLAG_TUNNEL != 0
    }

    pub const fn is_icmp(&self) -> bool {
        matches!(self.tuple.proto, IPPROTO_ICMP | IPPROTO_ICMPV6)
    }

    pub const fn is_dns(&self) -> bool {
        matches!(self.tuple.proto, IPPROTO_UDP | IPPROTO_TCP)
            && (self.tuple.sport == DNS_PORT || self.tuple.dport == DNS_PORT)
    }

    /// Packets that change what is known of a flow; all others only say that it goes on.
    pub const fn is_milestone(&self) -> bool {
        self.tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST) != 0 || self.is_icmp() || self.is_dns()
    }
}

/// A place header bytes can be read from. What cannot be read is zero: no header is valid then, and code without a branch
/// for it is a path less for the verifier.
pub trait Bytes: Copy {
    fn read<T: Copy>(self, at: u32) -> T;
}

/// Reads kernel memory; a bad address gives zeros.
#[inline(always)]
pub fn kernel<T: Copy>(address: usize) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address, and zeroes the value when it is bad. Only types of integers are read.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        );
        value.assume_init()
    }
}

/// Kernel memory, from this address on.
#[derive(Clone, Copy)]
pub struct Kernel(pub usize);

impl Bytes for Kernel {
    #[inline(always)]
    fn read<T: Copy>(self, at: u32) -> T {
        kernel(self.0 + at as usize)
    }
}

/// The packet of a TC program, from its network header on: the same on Ethernet and on layer 3 devices.
#[derive(Clone, Copy)]
pub struct Skb(pub *mut aya_ebpf::bindings::__sk_buff);

impl Skb {
    #[inline(always)]
    pub fn of(ctx: &TcContext) -> Self {
        Self(ctx.as_ptr().cast())
    }
}

impl Bytes for Skb {
    #[inline(always)]
    fn read<T: Copy>(self, at: u32) -> T {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the helper writes all bytes, zeros when the packet is too short. Only types of integers are read.
        unsafe {
            bpf_skb_load_bytes_relative(
                self.0.cast(),
                at,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
                BPF_HDR_START_NET,
            );
            value.assume_init()
        }
    }
}

/// Reads the headers of the packet whose network header (or VLAN tag before it) is at `at`.
///
/// False for what is no flow: no IP, neighbour discovery, multicast membership, protocols without ports.
#[inline(always)]
pub fn parse<B: Bytes>(bytes: B, at: u32, protocol: u16, packet: &mut Packet) -> bool {
    let at = skip_tags(bytes, at, protocol);
    network(bytes, at, &mut packet.tuple, &mut packet.net) && transport(bytes, packet)
}

/// A tag the hardware did not strip stands where `skb->network_header` points after reception.
#[inline(always)]
fn skip_tags<B: Bytes>(bytes: B, mut at: u32, protocol: u16) -> u32 {
    if !is_tag(protocol) {
        return at;
    }
    // QinQ has two, a provider backbone three; from TC on the outermost is in `skb->vlan_tci`.
    for _ in 0..3 {
        let [_, _, high, low] = bytes.read::<[u8; 4]>(at);
        match u16::from_be_bytes([high, low]) {
            ETH_P_IP | ETH_P_IPV6 => return at + 4,
            inner if is_tag(inner) => at += 4,
            // Sent by a VLAN device: the network header is behind the tag already.
            _ => return at,
        }
    }
    at
}

#[inline(always)]
const fn is_tag(protocol: u16) -> bool {
    matches!(protocol, ETH_P_8021Q | ETH_P_8021AD)
}

/// Addresses, protocol and where the transport header is. Not inlined: used for outer and inner headers.
#[inline(never)]
fn network<B: Bytes>(bytes: B, at: u32, tuple: &mut Tuple, net: &mut Network) -> bool {
    net.start = at;
    // One read for the family and, most of the time, the whole header.
    let header = bytes.read::<Ipv4Hdr>(at);
    match header.vihl >> 4 {
        4 => ipv4(&header, at, tuple, net),
        6 => ipv6(bytes, at, tuple, net),
        _ => false,
    }
}

#[inline(always)]
fn ipv4(header: &Ipv4Hdr, at: u32, tuple: &mut Tuple, net: &mut Network) -> bool {
    let header_len = u32::from(header.vihl & 0x0f) * 4;
    if header_len < 20 {
        return false;
    }
    // SAFETY: addresses in a tuple are aligned to words.
    unsafe {
        words::mapped(header.src_addr, &raw mut tuple.saddr);
        words::mapped(header.dst_addr, &raw mut tuple.daddr);
    }
    tuple.proto = header.proto;
    net.transport = at + header_len;
    net.len = u32::from(u16::from_be_bytes(header.tot_len));
    net.ip_id = u16::from_be_bytes(header.id);
    net.ttl = header.ttl;
    let frags = u16::from_be_bytes(header.frags);
    if frags & 0x4000 != 0 {
        net.flags |= FLAG_DF;
    }
    if frags & 0x1fff != 0 {
        net.flags |= FLAG_FRAGMENT;
    }
    true
}

#[inline(always)]
fn ipv6<B: Bytes>(bytes: B, at: u32, tuple: &mut Tuple, net: &mut Network) -> bool {
    let header = bytes.read::<Ipv6Hdr>(at);
    tuple.saddr = header.src_addr;
    tuple.daddr = header.dst_addr;
    net.len = u32::from(u16::from_be_bytes(header.payload_len)) + 40;
    net.ttl = header.hop_limit;
    // IPv6 has no DF bit because every packet has it.
    net.flags |= FLAG_DF;
    let mut following = header.next_hdr;
    let mut here = at + 40;
    for _ in 0..MAX_EXTENSIONS {
        match following {
            // Hop-by-hop, routing, destination options.
            0 | 43 | 60 => {
                let [upper, len] = bytes.read::<[u8; 2]>(here);
                following = upper;
                here += (u32::from(len) + 1) * 8;
            }
            // Fragment.
            44 => {
                let fragment = bytes.read::<[u8; 8]>(here);
                following = fragment[0];
                here += 8;
                if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8 != 0 {
                    net.flags |= FLAG_FRAGMENT;
                    break;
                }
            }
            // Authentication header: its length counts 4-byte words.
            51 => {
                let [upper, len] = bytes.read::<[u8; 2]>(here);
                following = upper;
                here += (u32::from(len) + 2) * 4;
            }
            _ => break,
        }
    }
    tuple.proto = following;
    net.transport = here;
    true
}

#[inline(always)]
fn transport<B: Bytes>(bytes: B, packet: &mut Packet) -> bool {
    let at = packet.net.transport;
    if packet.net.flags & FLAG_FRAGMENT != 0 {
        // No ports in it; addresses and protocol are still worth knowing.
        return true;
    }
    match packet.tuple.proto {
        IPPROTO_TCP => tcp(bytes, at, packet),
        IPPROTO_UDP | IPPROTO_SCTP => {
            packet.payload = at + size_of::<UdpHdr>() as u32;
            ports(bytes, at, &mut packet.tuple);
            let vxlan = setting!(vxlan_port);
            if vxlan != 0 && u32::from(packet.tuple.dport) == vxlan {
                unwrap(bytes, packet);
            }
            true
        }
        IPPROTO_ICMP | IPPROTO_ICMPV6 => icmp(bytes, at, packet),
        _ => false,
    }
}

#[inline(always)]
fn tcp<B: Bytes>(bytes: B, at: u32, packet: &mut Packet) -> bool {
    let header = bytes.read::<TcpHdr>(at);
    // SAFETY: both are 20 bytes without padding; the flags byte has no field of its own.
    let raw: [u8; 20] = unsafe { core::mem::transmute(header) };
    packet.tuple.sport = u16::from_be_bytes(header.source);
    packet.tuple.dport = u16::from_be_bytes(header.dest);
    packet.tcp_seq = u32::from_be_bytes(header.seq);
    packet.tcp_ack = u32::from_be_bytes(header.ack_seq);
    packet.tcp_flags = raw[13];
    packet.payload = at + u32::from(raw[12] >> 4) * 4;
    true
}

/// What a VXLAN packet carries: 8 bytes of its own header (RFC 7348 §5), then an Ethernet frame.
#[inline(always)]
fn unwrap<B: Bytes>(bytes: B, packet: &mut Packet) {
    let mut inner = Network::EMPTY;
    let frame = packet.payload + size_of::<VxlanHdr>() as u32 + EthHdr::LEN as u32;
    // Whatever else is sent to that port carries no frame.
    let [high, low] = bytes.read::<[u8; 2]>(frame - 2);
    if !matches!(u16::from_be_bytes([high, low]), ETH_P_IP | ETH_P_IPV6) {
        return;
    }
    if !network(bytes, frame, &mut packet.inner, &mut inner) {
        return;
    }
    if inner.flags & FLAG_FRAGMENT == 0 {
        ports(bytes, inner.transport, &mut packet.inner);
    }
    // Neither an error about yet another packet nor neighbour discovery is a flow.
    if packet.inner.sport == 0 && matches!(packet.inner.proto, IPPROTO_ICMP | IPPROTO_ICMPV6) {
        return;
    }
    packet.net.flags |= FLAG_INNER | FLAG_TUNNEL;
    if packet.inner.proto == IPPROTO_TCP && inner.flags & FLAG_FRAGMENT == 0 {
        let [_, _, _, _, a, b, c, d, e, f, g, h, _, flags] =
            bytes.read::<[u8; 14]>(inner.transport);
        packet.tcp_seq = u32::from_be_bytes([a, b, c, d]);
        packet.tcp_ack = u32::from_be_bytes([e, f, g, h]);
        packet.tcp_flags = flags;
    }
}

#[inline(always)]
fn icmp<B: Bytes>(bytes: B, at: u32, packet: &mut Packet) -> bool {
    let header = bytes.read::<Icmpv4Hdr>(at);
    let kind = header.type_;
    packet.icmp_type = kind;
    packet.icmp_code = header.code;
    let v6 = packet.tuple.proto == IPPROTO_ICMPV6;
    if is_echo(v6, kind) {
        let id = u16::from_be_bytes([header.data[0], header.data[1]]);
        packet.tuple.sport = id;
        packet.tuple.dport = id;
        return true;
    }
    if !is_error(v6, kind) {
        return false;
    }
    let mut inner = Network::EMPTY;
    if network(bytes, at + 8, &mut packet.inner, &mut inner) {
        packet.net.flags |= FLAG_INNER;
        if inner.flags & FLAG_FRAGMENT == 0 {
            // Ports that were cut off stay 0.
            ports(bytes, inner.transport, &mut packet.inner);
        }
    }
    true
}

#[inline(always)]
const fn is_echo(v6: bool, kind: u8) -> bool {
    if v6 {
        matches!(kind, 128 | 129)
    } else {
        matches!(kind, 0 | 8)
    }
}

#[inline(always)]
const fn is_error(v6: bool, kind: u8) -> bool {
    if v6 {
        matches!(kind, 1..=4)
    } else {
        matches!(kind, 3 | 4 | 5 | 11 | 12)
    }
}

/// Ports, or the echo identifier on both sides.
#[inline(always)]
fn ports<B: Bytes>(bytes: B, at: u32, tuple: &mut Tuple) -> bool {
    match tuple.proto {
        IPPROTO_TCP | IPPROTO_UDP | IPPROTO_SCTP => {
            let [a, b, c, d] = bytes.read::<[u8; 4]>(at);
            tuple.sport = u16::from_be_bytes([a, b]);
            tuple.dport = u16::from_be_bytes([c, d]);
            true
        }
        IPPROTO_ICMP | IPPROTO_ICMPV6 => {
            let header = bytes.read::<Icmpv4Hdr>(at);
            if is_echo(tuple.proto == IPPROTO_ICMPV6, header.type_) {
                let id = u16::from_be_bytes([header.data[0], header.data[1]]);
                tuple.sport = id;
                tuple.dport = id;
            }
            true
        }
        _ => false,
    }
}
