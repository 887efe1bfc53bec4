//! What is known of the packet a hook dropped.

use std::net::IpAddr;

use super::model::ct;
use crate::event::{IcmpKind, Proto, TcpFlags, Tuple};

/// A packet as it stood at the hook. What is not known makes the matches that ask for it undecidable.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketFacts {
    pub proto: Proto,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// `None` for a protocol without ports and for later fragments.
    pub sport: Option<u16>,
    pub dport: Option<u16>,
    /// As the IP hooks see them: for a bridged packet both are the bridge; at POSTROUTING a forwarded packet still has
    /// the interface it came in by (since Linux 5.7).
    pub iif: Interface,
    pub oif: Interface,
    /// Entered `FORWARD` from a bridge (`br_netfilter`); bridge tables see it too, with the ports below.
    pub bridged: bool,
    pub bridge_in: Interface,
    pub bridge_out: Interface,
    /// When the packet was dropped: rules of the same hook may have changed it on the way.
    pub mark: Option<u32>,
    /// When the packet entered the hook.
    pub mark_before: Option<u32>,
    pub ct: CtFacts,
    pub tcp_flags: Option<TcpFlags>,
    pub icmp: Option<IcmpKind>,
    /// Layer 3 length in bytes.
    pub length: Option<u32>,
    pub ttl: Option<u8>,
    /// A later fragment.
    pub fragment: Option<bool>,
    pub src_type: Option<AddressType>,
    pub dst_type: Option<AddressType>,
    /// The ends before this hook's own NAT, when it translated: chains in front of it saw these.
    pub before_nat: Option<Tuple>,
}

impl PacketFacts {
    /// Only the ends are known.
    pub fn of(tuple: &Tuple) -> Self {
        let ports = matches!(tuple.proto, Proto::TCP | Proto::UDP | Proto(33 | 132 | 136));
        Self {
            proto: tuple.proto,
            src: tuple.src.ip(),
            dst: tuple.dst.ip(),
            sport: ports.then(|| tuple.src.port()),
            dport: ports.then(|| tuple.dst.port()),
            iif: Interface::Unknown,
            oif: Interface::Unknown,
            bridged: false,
            bridge_in: Interface::Unknown,
            bridge_out: Interface::Unknown,
            mark: None,
            mark_before: None,
            ct: CtFacts::default(),
            tcp_flags: None,
            icmp: None,
            length: None,
            ttl: None,
            fragment: None,
            src_type: None,
            dst_type: None,
            before_nat: None,
        }
    }

    pub const fn is_ipv6(&self) -> bool {
        matches!(self.src, IpAddr::V6(_))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    #[default]
    Unknown,
    /// The hook has none on this side: `oif` at PREROUTING, `iif` of what the node itself sends.
    None,
    Named(String),
}

/// What conntrack said of the packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CtFacts {
    pub state: Option<CtState>,
    /// `nf_conn.status`.
    pub status: Option<u32>,
    pub reply: Option<bool>,
    pub original: Option<Tuple>,
    pub mark: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtState {
    New,
    Established,
    Related,
    Invalid,
    Untracked,
}

impl CtState {
    pub const fn bit(self) -> u128 {
        match self {
            Self::New => ct::NEW,
            Self::Established => ct::ESTABLISHED,
            Self::Related => ct::RELATED,
            Self::Invalid => ct::INVALID,
            Self::Untracked => ct::UNTRACKED,
        }
    }
}

/// What the node's routing makes of an address; the numbers are `RTN_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    Unicast = 1,
    Local = 2,
    Broadcast = 3,
    Anycast = 4,
    Multicast = 5,
    Blackhole = 6,
    Unreachable = 7,
    Prohibit = 8,
}

impl AddressType {
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "unicast" => Self::Unicast,
            "local" => Self::Local,
            "broadcast" => Self::Broadcast,
            "anycast" => Self::Anycast,
            "multicast" => Self::Multicast,
            "blackhole" => Self::Blackhole,
            "unreachable" => Self::Unreachable,
            "prohibit" => Self::Prohibit,
            _ => return None,
        })
    }
}
