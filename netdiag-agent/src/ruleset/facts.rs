//! What is known of the packet a hook dropped.

use std::net::IpAddr;

use super::model::{Hook, ct};
use crate::event::{Conntrack, CtStatus, IcmpKind, Packet, Proto, TcpFlags, Tuple};

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
    /// Which machinery dropped it, where the kernel's stack shows: xtables, else nftables. The other let it pass.
    pub by_legacy: Option<bool>,
    /// No rule's drop: it was to be queued for a program, and no queue took it.
    pub queued: bool,
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
            by_legacy: None,
            queued: false,
        }
    }

    /// What an event at `hook` tells; interfaces and address types are for the caller to add.
    pub fn of_event(hook: Hook, packet: &Packet, conntrack: Option<&Conntrack>) -> Self {
        let mut facts = Self::of(&packet.tuple);
        if packet.fragment {
            (facts.sport, facts.dport) = (None, None);
        }
        facts.mark = Some(packet.mark);
        facts.tcp_flags = packet.tcp.map(|tcp| tcp.flags);
        facts.icmp = packet.icmp;
        facts.length = Some(packet.len);
        facts.ttl = Some(packet.ttl);
        facts.fragment = Some(packet.fragment);
        facts.ct = conntrack.map_or_else(CtFacts::no_entry, CtFacts::of);
        facts.before_nat = conntrack
            .filter(|ct| !ct.related)
            .and_then(|ct| before_nat(hook, &packet.tuple, ct));
        facts
    }

    pub const fn is_ipv6(&self) -> bool {
        matches!(self.src, IpAddr::V6(_))
    }
}

/// The ends the packet entered the hook with, when this hook's NAT has changed them: destinations change at
/// PREROUTING and OUTPUT, sources at INPUT and POSTROUTING.
fn before_nat(hook: Hook, now: &Tuple, ct: &Conntrack) -> Option<Tuple> {
    let sent = if ct.reply { ct.answer } else { ct.orig };
    let before = match hook {
        Hook::Prerouting | Hook::Output => Tuple {
            dst: sent.dst,
            ..*now
        },
        Hook::Input | Hook::Postrouting => Tuple {
            src: sent.src,
            ..*now
        },
        _ => return None,
    };
    (before != *now).then_some(before)
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

impl CtFacts {
    /// The packet carried no entry.
    pub fn no_entry() -> Self {
        Self {
            state: Some(CtState::NoEntry),
            ..Self::default()
        }
    }

    /// Of the entry the packet carried.
    pub fn of(ct: &Conntrack) -> Self {
        // IPS_EXPECTED is bit 0: the first packets of such a connection are RELATED.
        let state = if ct.related || (ct.status.has(1) && !ct.status.has(CtStatus::SEEN_REPLY)) {
            CtState::Related
        } else if ct.reply || ct.status.has(CtStatus::SEEN_REPLY) {
            CtState::Established
        } else {
            CtState::New
        };
        Self {
            state: Some(state),
            status: Some(ct.status.0),
            reply: Some(ct.reply),
            original: Some(ct.orig),
            mark: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtState {
    New,
    Established,
    Related,
    Invalid,
    Untracked,
    /// Invalid or untracked: in neither case does the packet carry an entry.
    NoEntry,
}

impl CtState {
    pub const fn has_entry(self) -> bool {
        matches!(self, Self::New | Self::Established | Self::Related)
    }

    /// The bit it is; for [`Self::NoEntry`] those it can be.
    pub const fn bit(self) -> u128 {
        match self {
            Self::NoEntry => ct::INVALID | ct::UNTRACKED,
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
