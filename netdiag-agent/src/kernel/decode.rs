//! Ring bytes → [`Event`]. Total: any bytes give an event, at worst one that says `Unknown`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use netdiag_common::event::{
    BY_CONFIRM, BY_CONNTRACK, BY_LEGACY, BY_NAT, BY_NFT, DNS_BYTES, DnsRecord, FLAG_CT, FLAG_DF,
    FLAG_DST, FLAG_FRAGMENT, FLAG_INNER, FLAG_SNAP, FLAG_TUNNEL, FLAG_TUPLE, NetfilterRecord,
    Record, SNAP_BYTES, Snap, StackRecord, TAIL_DNS, TAIL_NETFILTER, TAIL_STACK,
};
use netdiag_common::tuple as wire;

use super::symbols::Symbols;
use crate::event::{
    Conntrack, CtStatus, Detail, Drop, Event, HookId, IcmpKind, IfIndex, Ktime, Netns, NfFamily,
    NfHook, NudState, Packet, Pass, Place, Proto, Refusal, Refuser, Route, TcpFlags, TcpHeader,
    Tuple,
};

/// Symbols asked for again and again are few; the cap is against a kernel that unloads and loads modules for days.
const MAX_CACHED: usize = 4096;

/// Gives kernel numbers their names. Owned by the decoder's user, so tests can bring their own.
#[derive(Debug, Default)]
pub struct Names {
    /// Empty on kernels without drop reasons.
    pub reasons: HashMap<u32, Arc<str>>,
    pub symbols: Symbols,
    /// Watched interfaces: where TC programs may not read kernel memory, the interface index has to tell the rest.
    pub interfaces: HashMap<u32, (Netns, Arc<str>)>,
    cache: HashMap<u64, Option<Arc<str>>>,
}

impl Names {
    pub fn new(reasons: HashMap<u32, Arc<str>>, symbols: Symbols) -> Self {
        Self {
            reasons,
            symbols,
            ..Self::default()
        }
    }

    fn reason(&self, value: u32) -> Option<Arc<str>> {
        if self.reasons.is_empty() {
            return None;
        }
        // Subsystems number their own reasons in the upper half; their names are in modules.
        let unnamed = || Arc::from(format!("REASON_{value}"));
        Some(self.reasons.get(&value).cloned().unwrap_or_else(unnamed))
    }

    fn symbol(&mut self, address: u64) -> Option<Arc<str>> {
        if address == 0 {
            return None;
        }
        if self.cache.len() >= MAX_CACHED {
            self.cache.clear();
        }
        let symbols = &self.symbols;
        self.cache
            .entry(address)
            .or_insert_with(|| symbols.lookup(address).map(Arc::from))
            .clone()
    }
}

/// Understands one ring entry.
pub fn decode(bytes: &[u8], names: &mut Names) -> Event {
    let Some(record) = read::<Record>(bytes) else {
        return Event {
            at: Ktime(0),
            cpu: 0,
            hook: None,
            place: Place::default(),
            packet: None,
            conntrack: None,
            detail: Detail::Unknown,
        };
    };
    let hook = HookId::from_u16(record.hook);
    Event {
        at: Ktime(record.ktime),
        cpu: record.cpu,
        hook,
        place: place(&record, names),
        packet: packet(&record, hook, bytes),
        conntrack: conntrack(&record),
        detail: hook.map_or(Detail::Unknown, |hook| detail(hook, &record, bytes, names)),
    }
}

/// A wire struct from the start of `bytes`; `None` when they are too few.
fn read<T: Wire>(bytes: &[u8]) -> Option<T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough, and every bit pattern is a valid `T`.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// Structs of integers only, without implicit padding.
trait Wire: Copy {}
impl Wire for Record {}
impl Wire for StackRecord {}
impl Wire for DnsRecord {}
impl Wire for Snap {}
impl Wire for NetfilterRecord {}

fn place(record: &Record, names: &Names) -> Place {
    let known = names.interfaces.get(&record.ifindex);
    let netns = match record.netns {
        0 => known.map(|(netns, _)| *netns),
        inum => Some(Netns(inum)),
    };
    let end = record
        .ifname
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(record.ifname.len());
    let ifname = match std::str::from_utf8(&record.ifname[..end]) {
        Ok("") | Err(_) => known.map(|(_, name)| name.clone()),
        Ok(name) => Some(Arc::from(name)),
    };
    Place {
        netns,
        ifindex: index(record.ifindex),
        ifname,
        iif: index(record.iif),
    }
}

fn index(value: u32) -> Option<IfIndex> {
    (value != 0).then_some(IfIndex(value))
}

fn packet(record: &Record, hook: Option<HookId>, bytes: &[u8]) -> Option<Packet> {
    // A routing lookup for a forwarded packet has addresses, but no protocol.
    let lookup = matches!(hook, Some(HookId::FibTableLookup | HookId::Fib6TableLookup));
    if record.flags & FLAG_TUPLE == 0 && !lookup {
        return None;
    }
    let inner = (record.flags & FLAG_INNER != 0).then(|| tuple(&record.inner));
    let tunnel = record.flags & FLAG_TUNNEL != 0;
    let own = tuple(&record.packet);
    // What travels in a tunnel is what the flow is made of.
    let (tuple, inner, outer) = match inner {
        Some(carried) if tunnel => (carried, None, Some(own)),
        inner => (own, inner, None),
    };
    let fragment = record.flags & FLAG_FRAGMENT != 0;
    // Socket hooks know the tuple but no header.
    let has_header = record.ttl != 0 || record.len != 0;
    let transport = has_header && !fragment;
    Some(Packet {
        tuple,
        inner,
        outer,
        tcp: (transport && tuple.proto == Proto::TCP).then_some(TcpHeader {
            flags: TcpFlags(record.tcp_flags),
            seq: record.tcp_seq,
            ack: record.tcp_ack,
        }),
        icmp: (transport && outer.is_none() && tuple.proto.is_icmp()).then_some(IcmpKind {
            kind: record.icmp_type,
            code: record.icmp_code,
        }),
        ttl: record.ttl,
        ip_id: record.ip_id,
        len: record.len,
        dont_fragment: record.flags & FLAG_DF != 0,
        fragment,
        mark: record.mark,
        skb: address_of(record),
        snap: snap(record, bytes),
    })
}

/// A packet that is gone is known by the address it had.
fn address_of(record: &Record) -> Option<u64> {
    let skb = if record.tail == TAIL_NETFILTER {
        record.location
    } else {
        record.skb
    };
    (skb != 0).then_some(skb)
}

/// The packet's first bytes: behind the record and its tail.
fn snap(record: &Record, bytes: &[u8]) -> Option<Arc<[u8]>> {
    if record.flags & FLAG_SNAP == 0 {
        return None;
    }
    let at = match record.tail {
        TAIL_STACK => size_of::<StackRecord>(),
        TAIL_DNS => size_of::<DnsRecord>(),
        TAIL_NETFILTER => size_of::<NetfilterRecord>(),
        _ => size_of::<Record>(),
    };
    let snap = read::<Snap>(bytes.get(at..)?)?;
    let len = (snap.len as usize).min(SNAP_BYTES);
    (len != 0).then(|| Arc::from(&snap.bytes[..len]))
}

fn conntrack(record: &Record) -> Option<Conntrack> {
    // The connection of a tunnel's packet is that of the tunnel, not of the flow it carries.
    let own = record.flags & FLAG_CT != 0 && record.flags & FLAG_TUNNEL == 0;
    own.then(|| Conntrack {
        status: CtStatus(record.ct_status),
        // IP_CT_ESTABLISHED_REPLY and IP_CT_RELATED_REPLY.
        reply: matches!(record.ct_info, 3 | 4),
        related: matches!(record.ct_info, 1 | 4),
        orig: tuple(&record.ct_orig),
        answer: tuple(&record.ct_reply),
        tcp_state: record.ct_tcp_state,
        zone: record.ct_zone,
    })
}

fn tuple(wire: &wire::Tuple) -> Tuple {
    Tuple {
        proto: Proto(wire.proto),
        src: SocketAddr::new(address(wire.saddr), wire.sport),
        dst: SocketAddr::new(address(wire.daddr), wire.dport),
    }
}

fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

fn detail(hook: HookId, record: &Record, bytes: &[u8], names: &mut Names) -> Detail {
    match hook {
        HookId::TcIngress | HookId::NetifReceiveSkb => seen(Pass::Received, record, bytes),
        HookId::TcEgress | HookId::NetDevStartXmit => seen(Pass::Sent, record, bytes),
        HookId::KfreeSkb => Detail::Dropped(dropped(record, bytes, names)),
        HookId::IcmpSend => Detail::IcmpSent(IcmpKind {
            kind: (record.value >> 8) as u8,
            code: record.value as u8,
        }),
        HookId::TcpSendReset => Detail::ResetSent,
        HookId::TcpReceiveReset => Detail::ResetReceived,
        HookId::TcpRetransmitSkb => Detail::Retransmitted,
        HookId::InetSockSetState => Detail::TcpState {
            old: (record.value >> 16) as u8,
            new: record.value as u8,
        },
        HookId::InetSkErrorReport => Detail::SocketError(record.value),
        HookId::TcpBadCsum => Detail::BadChecksum,
        HookId::NeighUpdate | HookId::NeighTimerHandler | HookId::NeighEventSendDone => {
            Detail::Neighbour {
                address: address(record.packet.daddr),
                state: NudState(record.value as u8),
            }
        }
        HookId::FibTableLookup | HookId::Fib6TableLookup => Detail::FibError(record.value),
        HookId::UdpFailQueueRcvSkb => Detail::UdpQueueFull(record.value),
        HookId::NfHookSlowExit | HookId::NfHookSlowReturn => {
            match (record.tail, read::<NetfilterRecord>(bytes)) {
                (TAIL_NETFILTER, Some(tail)) => Detail::Refused(refusal(&tail)),
                _ => Detail::Unknown,
            }
        }
        // These only leave a note for the one above.
        HookId::NftDoChain
        | HookId::IptDoTable
        | HookId::Ip6tDoTable
        | HookId::NfConntrackIn
        | HookId::NfConntrackConfirm
        | HookId::NfNatInetFn => Detail::Unknown,
    }
}

fn seen(pass: Pass, record: &Record, bytes: &[u8]) -> Detail {
    match (record.tail, read::<DnsRecord>(bytes)) {
        (TAIL_DNS, Some(dns)) => {
            let len = (dns.payload_len as usize).min(DNS_BYTES);
            Detail::Dns {
                pass,
                message: dns.payload[..len].to_vec(),
            }
        }
        _ => Detail::Seen(pass),
    }
}

fn dropped(record: &Record, bytes: &[u8], names: &mut Names) -> Drop {
    let stack = match (record.tail, read::<StackRecord>(bytes)) {
        (TAIL_STACK, Some(tail)) => stack(&tail, names),
        _ => Vec::new(),
    };
    Drop {
        reason: names.reason(record.value),
        location: names.symbol(record.location),
        stack,
        route: (record.flags & FLAG_DST != 0).then(|| Route {
            input: names.symbol(record.dst_input),
            output: names.symbol(record.dst_output),
            error: record.dst_error.unsigned_abs(),
            oif: (record.dst_ifindex != 0).then_some(IfIndex(record.dst_ifindex)),
        }),
        refusal: None,
    }
}

fn refusal(tail: &NetfilterRecord) -> Refusal {
    Refusal {
        hook: NfHook(tail.hook),
        family: NfFamily(tail.pf),
        by: match tail.by {
            BY_NFT => Refuser::Nft,
            BY_LEGACY => Refuser::Legacy,
            BY_CONNTRACK => Refuser::Conntrack,
            BY_CONFIRM => Refuser::Confirm,
            BY_NAT => Refuser::Nat,
            _ => Refuser::Unknown,
        },
        table_family: (tail.table_family != 0).then_some(NfFamily(tail.table_family)),
        table: text(&tail.table),
        chain: text(&tail.chain),
    }
}

/// Up to the first zero; `None` when there is nothing before it.
fn text(bytes: &[u8]) -> Option<Arc<str>> {
    let name = bytes.split(|byte| *byte == 0).next()?;
    let name = String::from_utf8_lossy(name);
    (!name.is_empty()).then(|| Arc::from(name.as_ref()))
}

/// Callers of the function that freed the packet, innermost first, without the frames of tracing itself.
fn stack(tail: &StackRecord, names: &mut Names) -> Vec<Arc<str>> {
    let frames: Vec<_> = tail
        .stack
        .iter()
        .take_while(|address| **address != 0)
        .filter_map(|address| names.symbol(*address))
        .collect();
    // The first frames are our own program's. It was loaded after the symbols were read: any name may stand there.
    let ours = frames
        .iter()
        .position(|name| name.starts_with("bpf_trace_run"))
        .unwrap_or(0);
    let callers = frames.into_iter().skip(ours);
    callers.skip_while(|name| is_plumbing(name)).collect()
}

fn is_plumbing(name: &str) -> bool {
    name.starts_with("bpf_")
        || name.starts_with("__bpf_")
        || name.starts_with("__traceiter_")
        || name.starts_with("trace_")
        || name.contains("kfree_skb")
        || name == "sk_skb_reason_drop"
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
