//! What the core understands of the world: decoded, owned, symbolised.
//!
//! An [`Event`] is one sighting or state change reported by a hook. Kernel numbers that mean something only on the
//! kernel they came from (drop reasons, return addresses) are already names here, so a recording replays anywhere.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub use netdiag_common::hook::HookId;

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of `bpf_ktime_get_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ktime(pub u64);

impl Ktime {
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// A length of time in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(pub u64);

impl Span {
    pub const fn millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    #[must_use]
    pub const fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

/// Inode of a network namespace: what `stat -L /proc/PID/ns/net` shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Netns(pub u32);

impl fmt::Display for Netns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Index of an interface within its namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfIndex(pub u32);

/// IP protocol number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proto(pub u8);

impl Proto {
    pub const ICMP: Self = Self(1);
    pub const TCP: Self = Self(6);
    pub const UDP: Self = Self(17);
    pub const ICMPV6: Self = Self(58);

    pub const fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ICMP => f.pad("icmp"),
            Self::TCP => f.pad("tcp"),
            Self::UDP => f.pad("udp"),
            Self::ICMPV6 => f.pad("icmpv6"),
            Self(n) => write!(f, "proto {n}"),
        }
    }
}

/// Both ends of one direction of a flow. For ICMP echo both ports are the echo identifier; other ICMP has ports 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    pub proto: Proto,
    pub src: SocketAddr,
    pub dst: SocketAddr,
}

impl Tuple {
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            proto: self.proto,
            src: self.dst,
            dst: self.src,
        }
    }

    /// One value for both directions.
    #[must_use]
    pub fn canonical(&self) -> Self {
        if self.src <= self.dst {
            *self
        } else {
            self.reversed()
        }
    }

    pub const fn is_ipv6(&self) -> bool {
        matches!(self.src, SocketAddr::V6(_))
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.proto.is_icmp() {
            write!(
                f,
                "{} {} > {} id {}",
                self.proto,
                self.src.ip(),
                self.dst.ip(),
                self.src.port()
            )
        } else {
            write!(f, "{} {} > {}", self.proto, self.src, self.dst)
        }
    }
}

/// One sighting or state change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Ktime,
    pub cpu: u32,
    /// `None`: reported by a hook this build does not know, or by none: the kernel's rule trace.
    pub hook: Option<HookId>,
    pub place: Place,
    pub packet: Option<Packet>,
    pub conntrack: Option<Conntrack>,
    pub detail: Detail,
}

/// Where in the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// `None` when the kernel pointer chain to it was broken.
    pub netns: Option<Netns>,
    pub ifindex: Option<IfIndex>,
    pub ifname: Option<Arc<str>>,
    /// Interface by which the packet entered this namespace; `None` for locally generated packets
    /// and before the stack has noted it.
    pub iif: Option<IfIndex>,
}

/// The headers of the packet an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub tuple: Tuple,
    /// For an ICMP error: the tuple of the packet it complains about, as its sender sent it to this point.
    pub inner: Option<Tuple>,
    /// The packet travels in a tunnel: the tuple around it. All else here but `ttl`, `ip_id` and `len` is its own.
    pub outer: Option<Tuple>,
    pub tcp: Option<TcpHeader>,
    /// Type and code of an ICMP or `ICMPv6` packet.
    pub icmp: Option<IcmpKind>,
    pub ttl: u8,
    pub ip_id: u16,
    /// Layer 3 length in bytes.
    pub len: u32,
    pub dont_fragment: bool,
    /// A later fragment: carries no ports.
    pub fragment: bool,
    pub mark: u32,
    /// Address of the skb, the packet's identity within one pass through the stack; `None` at TC.
    pub skb: Option<u64>,
    /// Its first bytes from the network header on, where the packets themselves were asked for. No verdict rests on them.
    pub snap: Option<Arc<[u8]>>,
}

impl Packet {
    /// Nothing is known of it but its tuple.
    pub const fn of(tuple: Tuple) -> Self {
        Self {
            tuple,
            inner: None,
            outer: None,
            tcp: None,
            icmp: None,
            ttl: 64,
            ip_id: 0,
            len: 60,
            dont_fragment: false,
            fragment: false,
            mark: 0,
            skb: None,
            snap: None,
        }
    }

    /// RFC 792 type 0, RFC 4443 type 129.
    pub fn is_echo_reply(&self) -> bool {
        let answer = match self.tuple.proto {
            Proto::ICMP => 0,
            Proto::ICMPV6 => 129,
            _ => return false,
        };
        self.icmp.is_some_and(|icmp| icmp.kind == answer)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpHeader {
    pub flags: TcpFlags,
    pub seq: u32,
    pub ack: u32,
}

/// The flags byte of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const ACK: u8 = 0x10;

    pub const fn is_syn(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN
    }

    pub const fn is_syn_ack(self) -> bool {
        self.0 & (Self::SYN | Self::ACK) == Self::SYN | Self::ACK
    }

    pub const fn is_rst(self) -> bool {
        self.0 & Self::RST != 0
    }

    pub const fn is_fin(self) -> bool {
        self.0 & Self::FIN != 0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IcmpKind {
    pub kind: u8,
    pub code: u8,
}

/// The conntrack entry the packet carried (`skb->_nfct`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conntrack {
    pub status: CtStatus,
    /// The packet travels in the reply direction of this entry.
    pub reply: bool,
    /// The packet is an ICMP error about this connection.
    pub related: bool,
    pub orig: Tuple,
    /// As the answer is expected to arrive, so with both translations in it.
    pub answer: Tuple,
    /// Index into [`CT_TCP_STATES`].
    pub tcp_state: u8,
    pub zone: u16,
}

/// `enum tcp_conntrack` of `linux/netfilter/nf_conntrack_tcp.h`, by number.
pub const CT_TCP_STATES: &[&str] = &[
    "NONE",
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "SYN_SENT2",
];

/// `nf_conn.status`; UAPI bits of `linux/netfilter/nf_conntrack_common.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CtStatus(pub u32);

impl CtStatus {
    pub const SEEN_REPLY: u32 = 1 << 1;
    pub const ASSURED: u32 = 1 << 2;
    pub const CONFIRMED: u32 = 1 << 3;
    pub const SRC_NAT: u32 = 1 << 4;
    pub const DST_NAT: u32 = 1 << 5;
    pub const SRC_NAT_DONE: u32 = 1 << 7;
    pub const DST_NAT_DONE: u32 = 1 << 8;
    pub const DYING: u32 = 1 << 9;

    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }
}

/// What the hook reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The packet passed this interface.
    Seen(Pass),
    Dropped(Drop),
    /// A netfilter hook gave up the packet that was dropped a moment before; `packet.skb` is that one's.
    Refused(Refusal),
    /// This node answered the packet in `packet` with an ICMP error (IPv4 only: the tracepoint is).
    IcmpSent(IcmpKind),
    /// This node's TCP answered the packet with a RST. Where the kernel gives no packet, `packet` is the answered tuple.
    ResetSent,
    /// A socket on this node got a RST; `packet` is the RST as the socket sees it.
    ResetReceived,
    Retransmitted,
    /// `enum tcp_state` numbers, old and new.
    TcpState {
        old: u8,
        new: u8,
    },
    /// `sk->sk_err`, positive errno.
    SocketError(u32),
    BadChecksum,
    Neighbour {
        address: IpAddr,
        state: NudState,
    },
    /// A routing lookup failed with this (positive) errno for `packet`; in process context `place.netns` is the caller's.
    FibError(u32),
    /// A datagram was refused by its socket's receive queue with this (positive) errno.
    UdpQueueFull(u32),
    /// A DNS message passed this interface; the bytes from its header on, possibly cut.
    Dns {
        pass: Pass,
        message: Vec<u8>,
    },
    /// The kernel's rule trace: this rule or policy dropped the packet.
    Ruled(Ruled),
    Unknown,
}

/// A rule of nftables, or the policy of a base chain, by the names the kernel has for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruled {
    /// `ip`, `inet` …
    pub family: Arc<str>,
    pub table: Arc<str>,
    pub chain: Arc<str>,
    /// `None`: the policy of the chain.
    pub handle: Option<u64>,
    /// Its place in the chain, from 1, where that could be asked.
    pub number: Option<u32>,
}

/// Direction in which a packet passed an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    Received,
    Sent,
}

/// `kfree_skb` said so. A drop is not yet a death: see `flow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Name from the kernel's BTF without `SKB_DROP_REASON_`; `None` on kernels without reasons.
    pub reason: Option<Arc<str>>,
    /// Symbol of the function that dropped it.
    pub location: Option<Arc<str>>,
    /// Symbols of the callers, innermost first; empty when no stack was taken.
    pub stack: Vec<Arc<str>>,
    /// The packet's route when it had one.
    pub route: Option<Route>,
    /// What the hook said that dropped it, where hooks are seen (Tier 1). The engine puts it here.
    pub refusal: Option<Refusal>,
}

/// What a netfilter hook tells of a packet it gave up: exact where a stack is a guess.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub hook: NfHook,
    /// Of the hook.
    pub family: NfFamily,
    pub by: Refuser,
    /// Of the nft table.
    pub table_family: Option<NfFamily>,
    /// Names may be cut at 63 bytes; absent where the kernel's type information does not cover the module.
    pub table: Option<Arc<str>>,
    /// The base chain, not the one it jumped to.
    pub chain: Option<Arc<str>>,
}

/// `enum nf_inet_hooks` of `linux/netfilter.h`, which bridges number alike; netdev has a numbering of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NfHook(pub u8);

impl NfHook {
    pub const PREROUTING: Self = Self(0);
    pub const INPUT: Self = Self(1);
    pub const FORWARD: Self = Self(2);
    pub const OUTPUT: Self = Self(3);
    pub const POSTROUTING: Self = Self(4);
}

/// `NFPROTO_*` of `linux/netfilter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NfFamily(pub u8);

impl NfFamily {
    pub const INET: Self = Self(1);
    pub const IPV4: Self = Self(2);
    pub const NETDEV: Self = Self(5);
    pub const BRIDGE: Self = Self(7);
    pub const IPV6: Self = Self(10);

    /// As nft spells it; `None` for a family without packets of ours.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::INET => Some("inet"),
            Self::IPV4 => Some("ip"),
            Self::NETDEV => Some("netdev"),
            Self::BRIDGE => Some("bridge"),
            Self::IPV6 => Some("ip6"),
            _ => None,
        }
    }
}

/// Which function inside a hook refused a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refuser {
    /// None of those that are watched.
    Unknown,
    /// `nft_do_chain`: a rule or policy of nftables, iptables on nft included.
    Nft,
    /// `ipt_do_table`, `ip6t_do_table`: a rule or policy of iptables on xtables.
    Legacy,
    /// `nf_conntrack_in`: no entry could be made.
    Conntrack,
    /// `__nf_conntrack_confirm`: the entry could not be inserted.
    Confirm,
    /// `nf_nat_inet_fn`: no translation could be set up.
    Nat,
}

/// What the kernel had decided about a packet's way (`skb_dst`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Symbol of `dst->input`: `ip_forward`, `ip_local_deliver`, `ip_error`, `dst_discard` …
    pub input: Option<Arc<str>>,
    pub output: Option<Arc<str>>,
    /// Positive errno of an error route, 0 for a usable one.
    pub error: u16,
    /// Interface it leads out by; for local delivery the one the packet came in by.
    pub oif: Option<IfIndex>,
}

/// Neighbour states, `NUD_*` of `linux/neighbour.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NudState(pub u8);

impl NudState {
    pub const INCOMPLETE: Self = Self(0x01);
    pub const FAILED: Self = Self(0x20);

    pub const fn is_valid(self) -> bool {
        // NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_PROBE | NUD_STALE | NUD_DELAY
        self.0 & 0xde != 0
    }
}
